"""``veil forecast``: what a fitted sequence model says about the steps to come."""

from pathlib import Path
from typing import Annotated, Any

import typer

from veil.cli import options, runs
from veil.cli.program import Refusal
from veil.cli.using import check_file, write_table
from veil.cli.waiting import waiting

PICTURES, FILMS = (".png", ".svg", ".pdf"), (".gif", ".mp4")


def forecast(
    run: options.RunToUse,
    data: options.DataSource,
    horizon: Annotated[int, typer.Option("--horizon", help="How many steps ahead.", min=1)],
    samples: Annotated[int, typer.Option("--samples", help="Futures drawn for each sequence.", min=1)] = 100,
    after: Annotated[
        int | None,
        typer.Option("--after", help="See only so many steps of each sequence; the others are the truth.", min=1),
    ] = None,
    hold: Annotated[
        str | None,
        typer.Option("--hold", help="Evidence of the steps to come, held: 0.5,1. Default: what DATA has there."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="A .csv, .parquet, .npz or .npy file to write.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="A .png, .svg or .pdf: fan charts.")
    ] = None,
    film: Annotated[
        Path | None,
        typer.Option("--film", metavar="FILE", help="Of images a .gif or .mp4: truth, mean and two futures."),
    ] = None,
    query: options.OtherQuery = None,
    evidence: options.OtherEvidence = None,
    episode: options.OtherEpisode = None,
    time: options.OtherTime = None,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Draw the steps that follow the sequences of DATA.

    The columns of FILE are sequence (as DATA call it), step (from 0, counted on from the past), and for each column y
    of the query y_mean, y_low and y_high (the 90 % interval), y_truth with --after, and y_0, y_1, ..., the futures. An
    .npz has the arrays mean, low, high, truth [N, H, ...] and paths [N, samples, H, ...]. Of a query that is a
    dictionary a film is of its first image and a picture of what is none.
    """
    import jax

    if out is None and picture is None and film is None:
        raise Refusal("say what to write: --out FILE, --picture FILE or --film FILE")
    if out is not None:
        check_file(out, data)
    for option, place, endings in (("--picture", picture, PICTURES), ("--film", film, FILMS)):
        if place is not None and place.suffix not in endings:
            raise Refusal(f"{option}: expected a file that ends in {', '.join(endings)}; got {place.name!r}")
        if place is not None and not place.parent.is_dir():
            raise Refusal(f"{option}: the folder {place.parent} does not exist; create it first")
    with runs.opened(run, quiet) as (opened, fit):
        import numpy as np

        from veil.data.core import trees
        from veil.model.batching import there
        from veil.verbs import forecasting

        columns = opened.columns
        if columns.sequences is None:
            raise Refusal(f"{opened.model_name} is a model of single rows, which have no future")
        shapes = trees.leaves(columns.query_shape)
        images = [path for path, shape in shapes if len(shape) > 2]
        if film is not None and not images:
            raise Refusal("--film: the run's query is no image; draw a --picture")
        if picture is not None and len(images) == len(shapes):
            raise Refusal("--picture: the run's query is an image; make a --film")
        found = runs.data(opened, data, query, evidence, False, False, episode, time)
        longest = trees.first(found.query_shape)[0]
        if after is not None and after >= longest:
            raise Refusal(f"--after: the longest sequence has {longest} steps; leave some as the truth")
        given = None if hold is None else _held(hold, columns)
        result = forecasting.forecast(
            fit,
            found,
            horizon,
            samples,
            key=jax.random.key(seed),
            after=after,
            evidence_future=given,
            states=film is not None,
        )
        seen = there(found).sum(1) if after is None else np.full(len(found), after)
        if out is not None:
            known = runs.places(opened, data, False, episode, time)
            called = np.arange(len(found)) if known is None else known.sequence
            write_table(out, _table(result, columns.names, seen, called, out), quiet)
        with waiting("drawing", quiet):
            from veil.report import forecasts

            if picture is not None:
                numbers = [path for path, _ in shapes if path not in images]
                names = [name for path in numbers for name in columns.names[path]]
                past = _past(found, seen, *numbers)
                forecasts.chart(picture, past, forecasts.part(result, *numbers), names)
            if film is not None:
                past = _past(found, seen, images[0])
                clear = forecasts.part(forecasts.clear(fit.model, result), images[0])
                forecasts.film(film, np.nan_to_num(past[0]), clear)
    for place in (picture, film):
        if place is not None and not quiet:
            typer.echo(f"written to {place}")


def _past(data: Any, seen: Any, *paths: Any) -> list[Any]:
    """What was seen of each sequence [T_n, ...], of one array of the query or of several side by side; NaN: missing."""
    import numpy as np

    from veil.report.forecasts import picked

    query = picked(data.query, *paths)
    if data.observed is not None:
        query = np.where(picked(data.observed, *paths), query, np.nan)
    return [sequence[:count] for sequence, count in zip(query, seen, strict=True)]


def _held(text: str, columns: Any) -> list[float]:
    """The values of --hold, one for each column of the evidence."""
    from veil.data.core import trees

    if not columns.evidence:
        raise Refusal("--hold: this run was fitted without evidence; leave it out")
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise Refusal(f"--hold: expected numbers with commas between them, such as 0.5,1; got {text!r}") from None
    shape = trees.map(lambda each: list(each[1:]), columns.evidence_shape)
    if shape != [len(values)]:
        known = ", ".join(columns.evidence[:8])
        raise Refusal(f"--hold: the evidence of a step is {shape} ({known}); got {len(values)}")
    return values


def _table(
    found: Any, names: dict[Any, tuple[str, ...]], seen: Any, sequences: Any, out: Path
) -> list[tuple[str, Any]]:
    import numpy as np

    from veil.cli.tables import named
    from veil.data.core import trees

    low, high = found.interval(0.9)
    told = {"mean": found.mean, "low": low, "high": high}
    if found.truth is not None:
        told["truth"] = found.truth
    if out.suffix == ".npz":
        return [*told.items(), ("paths", found.paths), ("begin", np.asarray(seen))]
    if any(leaf.ndim > 3 for _, leaf in trees.leaves(found.mean)):
        raise Refusal(f"--out: {out.name} takes numbers in columns, and each step is an image; use .npz, or --film")
    arrays = {what: dict(named(tree, names)) for what, tree in told.items()}
    horizon = trees.first(found.mean).shape[1]
    columns = [
        ("sequence", np.repeat(sequences, horizon)),
        ("step", (np.asarray(seen)[:, None] + np.arange(horizon)[None]).ravel()),
    ]
    for name, paths in named(found.paths, names):
        columns += [(f"{name}_{what}", array[name].ravel()) for what, array in arrays.items()]
        columns += [(f"{name}_{s}", paths[:, s].ravel()) for s in range(paths.shape[1])]
    return columns
