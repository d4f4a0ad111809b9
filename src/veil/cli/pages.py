"""``veil report`` and ``veil tour``: pages to look at."""

from contextlib import nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Annotated

import typer

from veil.cli import options
from veil.cli.program import notes
from veil.cli.waiting import waiting


def report(
    run: options.RunToUse,
    quiet: options.Quiet = False,
) -> None:
    """Write RUN/report.html.

    One page with tables and pictures, which needs nothing else.
    """
    import jax

    from veil.saved import runs

    opened = runs.read(run)
    from veil.report.run import write_report

    with notes(quiet), waiting("report", quiet), jax.enable_x64(opened.precision == "float64"):
        path = write_report(run)
    if not quiet:
        typer.echo(str(path))


def tour(
    out: Annotated[Path, typer.Option("--out", help="Where the page and its pictures go.")] = Path("tour"),
    quick: Annotated[bool, typer.Option("--quick", help="A short one.")] = False,
    only: Annotated[str | None, typer.Option("--only", help="Only these stations: names, commas between.")] = None,
    quiet: options.Quiet = False,
) -> None:
    """Every family of models on bundled data, on one page."""
    from veil.report.tour import tour as show

    with notes(quiet), redirect_stdout(StringIO()) if quiet else nullcontext():
        path = show(out, progress=False if quiet else None, quick=quick, only=only.split(",") if only else None)
    if not quiet:
        typer.echo(str(path))
