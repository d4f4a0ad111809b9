"""The tour: every family of models on data that come with the library, one page."""

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from veil.host.progress import Progress
from veil.report import style
from veil.report.page import page
from veil.report.station import Station, Visit, stations, visit

LEAD = (
    "A latent variable model says how a <em>query</em> y comes about given <em>evidence</em> x, by way of something "
    "unseen, the <em>latent</em> z, which is summed or integrated out: "
    "<i>p</i>(<i>y</i> | <i>x</i>) = ∫ <i>p</i>(<i>y</i> | <i>x</i>, <i>z</i>) <i>p</i>(<i>z</i> | <i>x</i>) "
    "d<i>z</i>. Each part below is one choice of who plays which role.",
    "Every number was computed when this page was written. Log-likelihoods are natural logarithms (nats), larger is "
    "better.",
)


def tour(
    out: str | os.PathLike[str] = "tour",
    progress: bool | None = None,
    quick: bool = False,
    only: Sequence[str] | None = None,
) -> Path:
    """Visit the stations, print a table of what they found, write ``out/index.html`` and ``out/plots/*.png``.

    Arguments:
        out: a directory, made if need be.
        progress: show a bar (default: on a terminal, elsewhere a line after each station); False: print nothing at all.
        quick: fewer data and steps, for a first look and for tests; the numbers are rougher.
        only: the names of the stations to visit (default: all).

    Returns the path of the page.

    Raises:
        ValueError: ``only`` has a name that no station has.
        ModuleNotFoundError: matplotlib is not installed.
    """
    from rich.console import Console

    style.matplotlib()
    chosen = choose(only)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(quiet=progress is False)
    if not console.is_terminal:
        console.width = 130
    visits: list[Visit] = []
    begin = time.perf_counter()
    bar_wanted = console.is_terminal if progress is None else progress
    with Progress(bar_wanted, "tour") as bar:
        for i, station in enumerate(chosen):
            say = lambda words, i=i, station=station: bar.update(i, len(chosen), f"{station.name}: {words}")  # noqa: E731
            say("")
            visits.append(visit(station, quick, say))
            if progress is None and not bar_wanted:
                console.print(f"{i + 1}/{len(chosen)} {station.name} {visits[-1].seconds:.1f} s", highlight=False)
    seconds = time.perf_counter() - begin
    console.print(summary(visits))
    for done in visits:
        kept: list[Any] = [] if done.findings is None else [*done.findings.pictures, *done.findings.films]
        for shown in kept:
            shown.save(folder / "plots")
    path = folder / "index.html"
    path.write_text(write(visits, seconds, quick), encoding="utf-8")
    return path


def choose(only: Sequence[str] | None) -> tuple[Station, ...]:
    """The stations of these names, in the order of the tour; all of them for None."""
    everything = stations()
    known = [station.name for station in everything]
    for name in only or ():
        if name not in known:
            raise ValueError(f"only: there is no station {name!r}; there are {', '.join(known)}")
    return tuple(station for station in everything if not only or station.name in only)


def summary(visits: Sequence[Visit]) -> object:
    """The table of all findings, for the terminal."""
    from rich.table import Table

    table = Table(title="What the tour found", title_justify="left")
    for column in ("station", "quantity", "measured", "unit", "reference"):
        table.add_column(column, justify="right" if column in ("measured", "reference") else "left")
    for done in visits:
        if done.findings is None:
            table.add_row(done.station.name, f"left out: needs {', '.join(done.station.missing())}", "", "", "")
        for i, row in enumerate(() if done.findings is None else done.findings.rows):
            table.add_row(done.station.name if i == 0 else "", row.what, row.value, row.unit, row.reference)
        table.add_section()
    return table


def write(visits: Sequence[Visit], seconds: float, quick: bool) -> str:
    """The page of the tour."""
    device = jax.devices()[0].platform
    machine = f"{os.cpu_count()} cores, {device}, jax {jax.__version__}, Python {platform.python_version()}"
    size = "Small version (quick): rougher numbers. " if quick else ""
    footer = (
        f"{size}Computed in {seconds:.0f} s on {machine}. Command: veil tour{' --quick' if quick else ''} --out tour"
    )
    title = "A tour of latent variable models"
    return page(title, LEAD, [done.section() for done in visits], footer, "To run this part alone:")
