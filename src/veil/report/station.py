"""What a station of the tour is, and where they are found: one file each in ``veil.report.stations``."""

import importlib
import pkgutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from veil.report.page import Film, Picture, Section, Table


@dataclass(frozen=True)
class Row:
    """One measured number: ``reference`` is the exact or published value, or empty; ``remark`` says where from."""

    what: str
    value: str
    unit: str
    reference: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Findings:
    """What a station found: pictures, films, numbers, and paragraphs of HTML about them."""

    rows: Sequence[Row]
    pictures: Sequence[Picture]
    text: Sequence[str] = ()
    films: Sequence[Film] = ()


Say = Callable[[str], None]


@dataclass(frozen=True)
class Station:
    """One stop of the tour.

    Fields:
        name: a word, for the command line.
        order: stations are visited in this order.
        title, question: what it is about, plain text.
        equation: the model in words and symbols, HTML.
        run: ``run(quick, say)`` computes and draws; ``quick`` for a small version, ``say`` for a word on the way.
        packages: what it needs besides the library, as importable names.
    """

    name: str
    order: int
    title: str
    question: str
    equation: str
    run: Callable[[bool, Say], Findings]
    packages: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """What runs this station alone."""
        return f"veil tour --only {self.name} --out tour"

    def missing(self) -> tuple[str, ...]:
        """The packages it needs that are not installed."""
        return tuple(package for package in self.packages if find_spec(package) is None)


def stations() -> tuple[Station, ...]:
    """All stations, in order: the ``STATION`` of each module in ``veil.report.stations``.

    >>> [station.name for station in stations()][0]
    'faithful'
    """
    from veil.report import stations as package

    modules = [
        importlib.import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)
    ]
    return tuple(sorted((module.STATION for module in modules), key=lambda station: station.order))


@dataclass(frozen=True)
class Visit:
    """A station visited: its findings and the seconds it took, or the packages that were missing."""

    station: Station
    findings: Findings | None
    seconds: float

    def section(self) -> Section:
        """This visit as a part of the page."""
        station, found = self.station, self.findings
        if found is None:
            notes = [f"Left out: this part needs {', '.join(station.missing())}, which is not installed."]
            return Section(
                station.title, station.question, equation=station.equation, notes=notes, command=station.command
            )
        rows = [(row.what, row.value, row.unit, row.reference, row.remark) for row in found.rows]
        numbers = Table(("quantity", "measured", "unit", "reference", "remark"), rows)
        return Section(
            station.title,
            station.question,
            found.text,
            station.equation,
            found.pictures,
            (numbers,),
            f"{station.command}",
            films=found.films,
        )


def visit(station: Station, quick: bool, say: Say) -> Visit:
    """Run a station, if what it needs is there."""
    if station.missing():
        return Visit(station, None, 0.0)
    begin = time.perf_counter()
    found = station.run(quick, say)
    return Visit(station, found, time.perf_counter() - begin)
