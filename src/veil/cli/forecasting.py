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
    .npz has the arrays mean, low, high, truth [N, H, ...] and paths [N, samples, H, ...].
    """
    import jax
    import numpy as np

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
        from veil.verbs import forecasting

        columns = opened.columns
        if columns.sequences is None:
            raise Refusal(f"{opened.model_name} is a model of single rows, which have no future")
        images = len(columns.query_shape) > 2
        if film is not None and not images:
            raise Refusal("--film: the run's query is no image; draw a --picture")
        if picture is not None and images:
            raise Refusal("--picture: the run's query is an image; make a --film")
        found = runs.data(opened, data, query, evidence, False, False, episode, time)
        if after is not None and after >= found.query_shape[0]:
            raise Refusal(f"--after: the longest sequence has {found.query_shape[0]} steps; leave some as the truth")
        given = None if hold is None else _held(hold, columns)
        result = forecasting.forecast(
            fit,
            found,
            horizon,
            samples,
            key=jax.random.key(seed),
            after=after,
            evidence_future=given,
        )
        lengths = np.full(len(found), found.query_shape[0]) if found.mask is None else found.mask.sum(1)
        seen = lengths if after is None else np.full(len(found), after)
        past = [np.where(_observed(found, n), found.query[n], np.nan)[:count] for n, count in enumerate(seen)]
        if out is not None:
            known = runs.places(opened, data, False, episode, time)
            names = np.arange(len(found)) if known is None else known.sequence
            write_table(out, _table(result, columns.query, seen, names, out), quiet)
        with waiting("drawing", quiet):
            if picture is not None:
                from veil.report.forecasts import chart

                chart(picture, past, result, columns.query)
            if film is not None:
                from veil.report.forecasts import film as show

                show(film, np.nan_to_num(past[0]), result)
    for place in (picture, film):
        if place is not None and not quiet:
            typer.echo(f"written to {place}")


def _observed(data: Any, row: int) -> Any:
    return True if data.observed is None else data.observed[row]


def _held(text: str, columns: Any) -> list[float]:
    """The values of --hold, one for each column of the evidence."""
    if not columns.evidence:
        raise Refusal("--hold: this run was fitted without evidence; leave it out")
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise Refusal(f"--hold: expected numbers with commas between them, such as 0.5,1; got {text!r}") from None
    if len(columns.evidence_shape) != 2 or len(values) != columns.evidence_shape[1]:
        known = ", ".join(columns.evidence[:8])
        raise Refusal(
            f"--hold: the evidence of a step is {list(columns.evidence_shape[1:])} ({known}); got {len(values)}"
        )
    return values


def _table(found: Any, names: tuple[str, ...], seen: Any, sequences: Any, out: Path) -> list[tuple[str, Any]]:
    import numpy as np

    low, high = found.interval(0.9)
    arrays = {"mean": found.mean, "low": low, "high": high}
    if found.truth is not None:
        arrays["truth"] = found.truth
    if out.suffix == ".npz":
        return [*arrays.items(), ("paths", found.paths), ("begin", np.asarray(seen))]
    if found.mean.ndim > 3:
        raise Refusal(f"--out: {out.name} takes numbers in columns, and each step is an image; use .npz, or --film")
    horizon = found.mean.shape[1]
    columns = [
        ("sequence", np.repeat(sequences, horizon)),
        ("step", (np.asarray(seen)[:, None] + np.arange(horizon)[None]).ravel()),
    ]
    for i, name in enumerate(names):
        columns += [(f"{name}_{what}", array[:, :, i].ravel()) for what, array in arrays.items()]
        columns += [(f"{name}_{s}", found.paths[:, s, :, i].ravel()) for s in range(found.paths.shape[1])]
    return columns
