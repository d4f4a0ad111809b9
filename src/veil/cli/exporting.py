"""``veil export``: a run's encoder, decoder or policy as a program."""

from pathlib import Path
from typing import Annotated, Any

import typer

from veil.cli import options, runs
from veil.cli.program import Refusal

What = Annotated[str, typer.Option("--what", help="encoder, decoder or policy.")]
Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write; FILE.json comes beside it.")]
Deterministic = Annotated[bool, typer.Option("--deterministic", help="A policy that does not draw: it takes no seed.")]
Platforms = Annotated[str, typer.Option("--platforms", help="Where it will run: cpu, cuda, rocm, tpu; commas between.")]
Check = Annotated[
    str | None,
    typer.Option("--data", metavar="DATA", help="Compare with the model on its rows; else on rows that are made up."),
]


def export(
    run: options.RunToUse,
    what: What,
    out: Out,
    deterministic: Deterministic = False,
    platforms: Platforms = "cpu",
    data: Check = None,
    query: options.OtherQuery = None,
    evidence: options.OtherEvidence = None,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Write a fitted model's encoder, decoder or policy as a program that needs no veil (StableHLO).

    It is written only if it agrees with the model, row by row. --seed is of the rows that are made up.
    """
    if data is None and (query is not None or evidence is not None):
        raise Refusal("--query, --evidence: they name columns of --data")
    if not out.parent.is_dir():
        raise Refusal(f"--out: the folder {out.parent} does not exist; create it first")
    with runs.opened(run, quiet) as (found, fit):
        from veil.saved.export import export as write
        from veil.saved.program import beside

        if data is None:
            rows = _made_up(found, fit.model, seed)
        else:
            rows = runs.data(found, data, query, evidence, False, False)
        more: Any = {"deterministic": deterministic, "name": found.model_name}
        names = [name.strip() for name in platforms.split(",")]
        result = write(fit, out, what=what, data=rows, platforms=names, **more)
    if not quiet:
        parity = result.record["parity"]
        taken, given = (", ".join(port.name for port in ports) for ports in (result.inputs, result.outputs))
        typer.echo(f"{found.model_name}: {what} ({taken}) -> ({given}), written to {out} and {beside(out).name}")
        typer.echo(
            f"differs from the model by {parity['largest_difference']:.3g} at most "
            f"({parity['allowed_difference']:.3g} is rounding), in calls of "
            f"{', '.join(map(str, parity['rows']))} rows"
        )


def _made_up(run: Any, model: Any, seed: int) -> Any:
    """A few rows for a run: evidence from a standard normal, the query from the model."""
    import jax
    import numpy as np

    from veil.data import Data
    from veil.data.core import trees
    from veil.verbs.prediction import sample

    columns, key = run.columns, jax.random.key(seed)
    evidence = None
    if columns.evidence:
        rng = np.random.default_rng(seed)
        evidence = trees.map(lambda shape: rng.normal(size=(8, *shape)), columns.evidence_shape)
        drawn = trees.map(lambda leaf: leaf[:, 0], sample(model, 1, key=key, evidence=evidence).query)
    else:
        drawn = sample(model, 8, key=key).query
    drawn = trees.map(lambda _, leaf: leaf, columns.query_shape, drawn)  # in the order of the names
    return Data(drawn, evidence, query_names=columns.query, evidence_names=columns.evidence)
