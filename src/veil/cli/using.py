"""The commands that use a run: ``evaluate``, ``log-prob``, ``sample``, ``infer``."""

import json
from pathlib import Path
from typing import Any

import typer

from veil.cli import options, runs, tables
from veil.cli.program import Refusal


def evaluate(
    run: options.RunToUse,
    data: options.DataSource,
    as_json: options.AsJson = False,
    query: options.OtherQuery = None,
    evidence: options.OtherEvidence = None,
    unweighted: options.Unweighted = False,
    episode: options.OtherEpisode = None,
    time: options.OtherTime = None,
    stream: options.Stream = False,
    samples: options.BoundSamples = None,
    thorough: options.Thorough = False,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Print the log-likelihood of DATA (nats), BIC, AIC; of a bound, what it and the posterior are worth, too."""
    import jax

    from veil.host.files import plain

    with runs.opened(run, quiet) as (opened, fit):
        from veil.evaluation.likelihood import evaluate as measure

        found = runs.data(opened, data, query, evidence, not unweighted, stream, episode, time)
        more: Any = {
            "key": jax.random.key(seed),
            "samples": runs.draws(samples, fit.model, found),
            "thorough": thorough,
        }
        result = measure(fit, found, progress=False if quiet else None, **more)
    if as_json:
        names = {"run": str(run), "model": opened.model_name, "data": found.name, "unit": "nats"}
        typer.echo(json.dumps(plain({**result.as_dict(), **names}), allow_nan=False))
        return
    from rich.console import Console
    from rich.table import Table

    one = "datum" if opened.columns.sequences is None else "sequence"
    table = Table(title=f"{opened.model_name} on {found.name}", box=None, show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for name, *row in result.table():
        table.add_row(name.replace("datum", one), *row)
    known = result.approximation
    if known is not None:
        table.add_section()
        for row in known.rows():
            table.add_row(*row)
    Console().print(table)
    if known is not None and known.collapse is not None:
        typer.echo(known.collapse)


def log_prob(
    run: options.RunToUse,
    data: options.DataSource,
    out: options.FileToMake,
    query: options.OtherQuery = None,
    evidence: options.OtherEvidence = None,
    episode: options.OtherEpisode = None,
    time: options.OtherTime = None,
    stream: options.Stream = False,
    samples: options.BoundSamples = None,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Write log p(y|x) of each row of DATA.

    The columns are row (of sequences: sequence, as DATA call it) and log_prob (nats); of a model without an exact
    likelihood, a lower bound by importance weights.
    """
    import jax
    import numpy as np

    check_file(out, data)
    with runs.opened(run, quiet) as (opened, fit):
        from veil.evaluation.likelihood import log_prob as measure

        found = runs.data(opened, data, query, evidence, False, stream, episode, time)
        more: Any = {"key": jax.random.key(seed), "samples": runs.draws(samples, fit.model, found)}
        values = measure(fit, found, **more)
        known = runs.places(opened, data, stream, episode, time)
    name = "row" if opened.columns.sequences is None else "sequence"
    names = np.arange(len(values)) if known is None else known.sequence
    write_table(out, [(name, names), ("log_prob", values)], quiet)


def infer(
    run: options.RunToUse,
    data: options.DataSource,
    out: options.FileToMake,
    query: options.OtherQuery = None,
    evidence: options.OtherEvidence = None,
    episode: options.OtherEpisode = None,
    time: options.OtherTime = None,
    stream: options.Stream = False,
    filtered: options.Filtered = False,
    paths: options.Paths = None,
    samples: options.Particles = None,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Write p(z|y,x) of each row of DATA.

    The columns are row, component_0, component_1, ... and most_likely; of a continuous latent row, mean_0, ... and
    sd_0, ..., of codes their probabilities code_0_0, ... Of sequences they are sequence (as DATA call it), step (from
    0), time if DATA have it, and of each step given the whole sequence state_0, ..., most_likely and path (Viterbi),
    or mean_0, ... and sd_0, ...; with --paths draws of the whole path, path_0, ..., or path_0_0, ... of vectors. With
    --filtered each step is given those up to it, and log_prob is of it given those before it. A latent that is drawn
    once an episode has a row an episode, and with --filtered a row a step, what is known of it so far.
    """
    import jax
    import numpy as np

    check_file(out, data)
    with runs.opened(run, quiet) as (opened, fit):
        from veil.model import PerEpisode, Stepwise
        from veil.parts.gates import Single
        from veil.verbs.inference import infer as deduce
        from veil.zoo.mixture import Mixture

        model = fit.model
        if isinstance(model, Mixture) and isinstance(model.gate, Single):
            raise Refusal(f"{opened.model_name} has no latent variable to infer")
        more: dict[str, Any] = {}
        for option, value in (("--filtered", filtered or None), ("--paths", paths), ("--samples", samples)):
            if (
                value is None
                or isinstance(model, Stepwise)
                or (option == "--filtered" and isinstance(model, PerEpisode))
            ):
                continue
            what = "has one latent an episode" if isinstance(model, PerEpisode) else "is a model of single rows"
            raise Refusal(f"{option}: {opened.model_name} {what}; leave it out")
        if isinstance(model, PerEpisode):
            more = {"filtered": filtered}
        if isinstance(model, Stepwise):
            more = {"filtered": filtered, "paths": paths, "samples": samples or 1000, "key": jax.random.key(seed)}
        if filtered and paths is not None:
            raise Refusal("--filtered: a path is drawn given all of its sequence; leave out --filtered or --paths")
        rows = runs.data(opened, data, query, evidence, False, stream, episode, time)
        found = deduce(fit, rows, **more)
        known = runs.places(opened, data, stream, episode, time)
    if isinstance(model, Stepwise) or filtered:
        write_table(out, tables.inferred(found, tables.mask_of(rows), known), quiet)
        return
    if found.probabilities is None:
        write_table(out, _moments(found), quiet)
        return
    columns = [(f"component_{k}", column) for k, column in enumerate(found.probabilities.T)]
    rows = np.arange(len(found.probabilities))
    write_table(out, [("row", rows), *columns, ("most_likely", found.most_likely)], quiet)


def sample(
    run: options.RunToUse,
    out: options.FileToMake,
    count: options.Count,
    evidence_values: options.EvidenceValues = None,
    evidence: options.OtherEvidence = None,
    steps: options.SequenceSteps = None,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Draw from a fitted model.

    The columns are the query's; with --evidence-values they are row, the evidence's and the query's. Of a sequence
    model they begin with sequence and step (from 0), and an .npz holds query [count, steps, ...].
    """
    import jax
    import numpy as np

    from veil.cli import conditions, reading
    from veil.data.core import trees

    check_file(out, evidence_values)
    with runs.opened(run, quiet) as (opened, fit):
        from veil.verbs.prediction import sample as draw

        columns = opened.columns
        if columns.sequences is not None:
            long = _sequences(opened, fit.model, count, steps, evidence_values, out, jax.random.key(seed))
            write_table(out, long, quiet)
            return
        if steps is not None:
            raise Refusal(f"--steps: {opened.model_name} is a model of single rows; leave it out")
        if evidence is not None and evidence_values is None:
            raise Refusal("--evidence: it names columns of --evidence-values")
        if columns.evidence and evidence_values is None:
            known = ", ".join(columns.evidence[:8])
            raise Refusal(f"this run is p(y|x): give rows of its evidence ({known}) with --evidence-values FILE")
        if not columns.evidence and evidence_values is not None:
            raise Refusal("--evidence-values: this run was fitted without evidence; leave it out")
        given = None
        if evidence_values is not None:
            given = conditions.evidence_values(opened, evidence_values, reading.names(evidence, "--evidence"))
        drawn = draw(fit.model, count, key=jax.random.key(seed), evidence=given).query
    table: list[tuple[str, Any]] = []
    if given is not None:
        drawn = trees.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), drawn)
        table.append(("row", np.repeat(np.arange(len(trees.first(given))), count)))
        if trees.is_tree(given) or given.ndim != 2:
            found = [("/".join(("evidence", *path)), leaf) for path, leaf in trees.leaves(given)]
        else:
            found = [(name, given[:, i]) for i, name in enumerate(columns.evidence)]
        table += [(name, np.repeat(column, count, axis=0)) for name, column in found]
    if all(leaf.ndim == 2 for _, leaf in trees.leaves(drawn)):
        table += tables.named(drawn, columns.names)
    else:
        table.append(("query", drawn))
    write_table(out, table, quiet)


def _sequences(
    run: Any, model: Any, count: int, steps: int | None, source: str | None, out: Path, key: Any
) -> list[tuple[str, Any]]:
    """Draws of a sequence model, as a long table."""
    import numpy as np

    from veil.cli import conditions
    from veil.data.core import trees
    from veil.verbs.prediction import sample as draw

    columns = run.columns
    if not columns.evidence:
        if source is not None:
            raise Refusal("--evidence-values: this run was fitted without evidence; leave it out")
        if steps is None:
            raise Refusal("--steps: how long shall the sequences be? Say, for example, --steps 100")
        return tables.sequences(draw(model, count, key=key, steps=steps).query, columns.names, out)
    if source is None:
        known = ", ".join(columns.evidence[:8])
        raise Refusal(f"this run is p(y|x): give sequences of its evidence ({known}) with --evidence-values FILE")
    if steps is not None:
        raise Refusal("--steps: sequences are as long as their evidence; leave it out")
    given, mask = conditions.evidence_sequences(run, source)
    drawn = draw(model, count, key=key, evidence=given).query  # [N, count, T, ...]
    mask = None if mask is None else np.repeat(mask, count, 0)
    drawn = trees.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), drawn)
    return tables.sequences(drawn, columns.names, out, mask)


def _moments(found: Any) -> list[tuple[str, Any]]:
    """Columns for a continuous latent, or for codes [N, L, C]."""
    import numpy as np

    rows = ("row", np.arange(len(found.mean)))
    if found.mean.ndim == 3:
        places = np.ndindex(*found.mean.shape[1:])
        return [rows, *((f"code_{i}_{j}", found.mean[:, i, j]) for i, j in places)]
    means = [(f"mean_{i}", column) for i, column in enumerate(found.mean.reshape(len(found.mean), -1).T)]
    spread = found.standard_deviation.reshape(len(found.mean), -1).T
    return [rows, *means, *((f"sd_{i}", column) for i, column in enumerate(spread))]


def check_file(out: Path, source: str | None) -> None:
    """Refuse a place for results before working on them."""
    from veil.data.formats.writing import WRITTEN

    if out.suffix not in WRITTEN:
        raise Refusal(f"--out: expected a file that ends in {', '.join(WRITTEN)}; got {out.name!r}")
    if not out.parent.is_dir():
        raise Refusal(f"--out: the folder {out.parent} does not exist; create it first")
    if out.is_dir():
        raise Refusal(f"--out: {out} is a directory")
    if source is not None and out.exists() and Path(source).exists() and out.samefile(source):
        raise Refusal(f"--out: {out} is the data itself; choose another file")


def write_table(out: Path, columns: list[tuple[str, Any]], quiet: bool) -> None:
    from veil.data import write
    from veil.data.core import trees
    from veil.data.core.numbers import unique

    unique(tuple(name for name, _ in columns), out)
    write(out, dict(columns))
    if not quiet:
        typer.echo(f"{len(trees.first(columns[0][1]))} rows written to {out}")
