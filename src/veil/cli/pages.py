"""``veil report`` and ``veil tour``: pages to look at."""

from contextlib import nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import typer

from veil.cli import options
from veil.cli.program import Refusal, notes
from veil.cli.waiting import waiting

MOST_ROWS = 200_000  # data of more rows are not read again for pictures
DRAWN = 3000  # rows of a stream that are


def report(run: options.RunToUse, quiet: options.Quiet = False) -> None:
    """Write RUN/report.html.

    One page with tables and pictures, which needs nothing else.
    """
    import jax

    from veil.saved import runs

    opened = runs.read(run)
    from veil.report.run import write_report

    with notes(quiet), waiting("report", quiet), jax.enable_x64(opened.precision == "float64"):
        data, missing = _data(opened)
        path = write_report(run, data, missing=missing)
    if not quiet:
        typer.echo(str(path))


def _data(run: Any) -> tuple[Any, str]:
    """The data of a run, if they are where they were, or some of them; else why not."""
    from veil.cli import reading
    from veil.data import Stream

    record, asked = run.config["data"], run.config.get("fit")
    source, rows = record.get("source"), record.get("rows")
    streamed = isinstance(asked, dict) and asked.get("stream") is True
    if not isinstance(source, str):
        return None, "config.json does not say where they are"
    if not streamed and isinstance(rows, int) and rows > MOST_ROWS:
        return None, f"{rows} rows are too many to read again"
    try:
        found = reading.like_run(run, source, None, None, False, reading.Blocks(DRAWN) if streamed else None)
        return (next(iter(found.blocks(DRAWN))) if isinstance(found, Stream) else found), ""
    except (OSError, ValueError, TypeError, ModuleNotFoundError, Refusal) as error:
        return None, f"they were not found again ({error})"


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
