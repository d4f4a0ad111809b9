"""``veil certify``: whether a policy is multimodal where the demonstrations are."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from veil.cli import options, runs
from veil.cli.program import COMMAND, Refusal
from veil.cli.waiting import waiting

WORLDS = ("tree", "slalom")
Env = Annotated[str | None, typer.Option("--env", help="Where it is driven, too: tree or slalom.")]
Episodes = Annotated[int, typer.Option("--episodes", help="How many drives.", min=2)]
Rows = Annotated[int, typer.Option("--rows", help="Demonstrations that are looked at, at most.", min=64)]
Draws = Annotated[int, typer.Option("--draws", help="Actions drawn at each of them.", min=4)]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="A page with pictures: an .html file to write.")
]


def certify(
    run: options.RunToUse,
    data: options.DataSource,
    env: Env = None,
    episodes: Episodes = 200,
    rows: Rows = 2048,
    draws: Draws = 32,
    out: Out = None,
    as_json: options.AsJson = False,
    query: options.OtherQuery = None,
    evidence: options.OtherEvidence = None,
    episode: options.OtherEpisode = None,
    time: options.OtherTime = None,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Say whether a policy is multimodal where the demonstrations of DATA are, and what its latent contributes.

    DATA should be demonstrations that the run has not seen. Printed are the likelihood, how draws of actions lie beside
    demonstrated ones, and verdicts; with --env also what comes of it in that world.
    """
    import jax

    if env is not None and env not in WORLDS:
        raise Refusal(f"--env: expected {' or '.join(WORLDS)}; got {env!r}")
    if out is not None and out.suffix != ".html":
        raise Refusal(f"--out: expected a file that ends in .html; got {out.name!r}")
    if out is not None and not out.parent.is_dir():
        raise Refusal(f"--out: the folder {out.parent} does not exist; create it first")
    with runs.opened(run, quiet) as (opened, fit):
        from veil.cli.imitation import policy_of
        from veil.control.certificate import certify as measure
        from veil.control.worlds import Slalom, Tree

        if not opened.columns.evidence:
            raise Refusal("RUN: it was fitted without evidence; a policy is p(action | observation)")
        found = runs.data(opened, data, query, evidence, False, False, episode, time)
        world: Any = None if env is None else {"tree": Tree, "slalom": Slalom}[env]()
        more: Any = {"world": world, "drives": episodes, "rows": rows, "draws": draws, "name": opened.model_name}
        act = opened.config.get("act")  # of a run that was made by imitation: how it acts
        actor = fit if act is None else policy_of(fit, act)
        result = measure(actor, found, key=jax.random.key(seed), posterior=fit.posterior, **more)
    if out is not None:
        with waiting("drawing", quiet):
            from veil.report.certified import write_certificate

            write_certificate(out, result, command=" ".join(COMMAND.get()))
    if as_json:
        typer.echo(json.dumps({"run": str(run), **result.as_dict()}, allow_nan=False))
        return
    print_result(f"{result.policy} on {result.data}", result, result.verdicts)
    if out is not None and not quiet:
        typer.echo(f"written to {out}")


def print_result(title: str, result: Any, sentences: Sequence[Any]) -> None:
    """The numbers of a result as a table, then what is said of them, and its notes."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, box=None, show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for row in result.table():
        table.add_row(*row)
    Console().print(table)
    for each in sentences:
        typer.echo(str(each))
    for note in result.notes:
        typer.echo(f"note: {note}")
