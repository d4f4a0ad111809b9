"""Small tables as people have them, with what goes wrong in them, and what is in them by construction.

make(rng, sequences)    a `Sheet`: columns of plain Python cells, each with a role, after a few `MUTATIONS`
refused(sheet)          why it has to be refused, by a reader or a fit; "" if it has not
truth(sheet)            otherwise: rows, columns, sequences and numbers, which a reader has to give back
"""

from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import numpy as np

FAMILIES = ("gaussian", "mixture", "regression", "poisson", "bernoulli", "categorical")
NUMERIC = (bool, int, float, type(None))


@dataclass
class Column:
    """Cells are floats, integers, booleans, dates, text, or None where one is missing."""

    name: str
    cells: list
    role: str = "query"  # evidence, weight, episode, time; other: in the table only; index: a row index


@dataclass
class Sheet:
    """A table, whether its roles are named to the reader, and what was done to it."""

    family: str
    columns: list[Column]
    named: bool = True
    may: bool = False  # be refused, with words
    told: list[str] = field(default_factory=list)

    def of(self, *roles: str) -> list[Column]:
        return [column for column in self.columns if column.role in roles]

    def __len__(self) -> int:
        return len(self.columns[0].cells)

    def rows(self, order) -> None:
        for column in self.columns:
            column.cells = [column.cells[i] for i in order]


@dataclass
class Truth:
    """What is there: [N, D], or of sequences a list of [T, D]; NaN where a cell is missing. ``left``: columns that
    may be left out with a word."""

    query: object
    evidence: object = None
    weight: np.ndarray | None = None
    query_names: tuple[str, ...] | None = None
    evidence_names: tuple[str, ...] | None = None
    left: tuple[str, ...] = ()


def numbers(columns: list[Column]) -> np.ndarray | None:
    if not columns:
        return None
    cells = [[np.nan if cell is None else float(cell) for cell in column.cells] for column in columns]
    return np.array(cells, np.float64).T.reshape(len(columns[0].cells), len(columns))


def is_numeric(column: Column) -> bool:
    return all(type(cell) in NUMERIC for cell in column.cells)


def query_of(sheet: Sheet) -> tuple[list[Column], list[Column]]:
    """The columns of the query; and what is left out, with a word, where nobody named the query."""
    if sheet.named:
        return sheet.of("query"), []
    some = sheet.of("query", "other")
    return [c for c in some if is_numeric(c)], [*sheet.of("index"), *(c for c in some if not is_numeric(c))]


def refused(sheet: Sheet) -> str:
    """Why it has to be refused."""
    names, used = [column.name for column in sheet.columns], sheet.of("evidence", "weight")
    query, _ = query_of(sheet)
    if not len(sheet):
        return "no rows"
    if len(set(names)) < len(names):
        return "a name comes twice"
    if not query:
        return "no column of numbers"
    if not all(is_numeric(column) for column in (*query, *used)):
        return "text in place of a number"
    if any(cell is None for column in (*used, *sheet.of("episode", "time")) for cell in column.cells):
        return "a missing cell where none may be"
    if any(cell is not None and not abs(cell) < np.inf for column in (*query, *used) for cell in column.cells):
        return "an infinite number"
    for column in sheet.of("weight"):
        if min(column.cells) < 0 or not any(column.cells):
            return "a negative weight, or none that is positive"
    counts = [column.cells for column in sheet.of("weight")] or [[1] * len(sheet)]
    if not any(
        cell is not None and count for column in query for cell, count in zip(column.cells, *counts, strict=True)
    ):
        return "nothing is observed"
    steps = list(zip(*(c.cells for c in sheet.of("episode", "time")), strict=True))
    if sheet.of("time") and len(set(steps)) < len(steps):
        return "a time comes twice"
    for column in sheet.of("weight") if sheet.of("episode") else ():
        pairs = set(zip(sheet.of("episode")[0].cells, column.cells, strict=True))
        if len(pairs) > len({episode for episode, _ in pairs}):
            return "weights differ within a sequence"
    inside = {
        "poisson": lambda cell: cell >= 0 and cell == int(cell),
        "bernoulli": lambda cell: cell in (0, 1),
        "categorical": lambda cell: cell in (0, 1, 2),
    }.get(sheet.family, lambda cell: True)
    if not all(cell is None or inside(cell) for column in query for cell in column.cells):
        return "outside the support"
    return ""


def told_apart(sheet: Sheet) -> Sheet:
    """The sheet for a form that has no use for names."""
    return replace(sheet, columns=[replace(column, name=f"column {i}") for i, column in enumerate(sheet.columns)])


def truth(sheet: Sheet) -> Truth:
    """Of a sheet that need not be refused."""
    query, left = query_of(sheet)
    evidence, weight = sheet.of("evidence"), sheet.of("weight")
    names = [tuple(column.name for column in each) for each in (query, evidence, left)]
    found = Truth(numbers(query), numbers(evidence), None, names[0], names[1] or None, names[2])
    if weight:
        found.weight = numbers(weight)[:, 0]
    episode, time = sheet.of("episode"), sheet.of("time")
    if episode or time:
        parts: dict = {}
        for row in range(len(sheet)):
            parts.setdefault(episode[0].cells[row] if episode else "", []).append(row)
        if time:
            parts = {name: sorted(rows, key=lambda row: time[0].cells[row]) for name, rows in parts.items()}
        found.query = [found.query[rows] for rows in parts.values()]
        found.evidence = None if found.evidence is None else [found.evidence[rows] for rows in parts.values()]
        found.weight = None if found.weight is None else np.array([found.weight[rows[0]] for rows in parts.values()])
    return found


# -- what a sheet begins as --------------------------------------------------------------------------------------------


def reals(rng, count):
    return [float(x) for x in np.round(rng.normal(size=count), int(rng.integers(2, 17)))]


def rows(rng, family):
    count = int(rng.choice([12, 11]))
    draw = {
        "poisson": lambda: [int(x) for x in rng.poisson(3, count)],
        "bernoulli": lambda: [bool(x) for x in rng.random(count) < 0.4],
        "categorical": lambda: [*(0, 1, 2), *(int(x) for x in rng.integers(0, 3, count - 3))],
    }.get(family, lambda: reals(rng, count))
    wide = 2 if family in ("gaussian", "mixture", "bernoulli") else 1
    columns = [Column(name, draw()) for name in ("left", "right")[:wide]]
    if family == "regression":
        columns = [Column("speed", reals(rng, count), "evidence"), columns[0]]
        columns[1].cells = [2 * x + y for x, y in zip(columns[0].cells, columns[1].cells, strict=True)]
    named = family == "regression" or bool(rng.random() < 0.5)
    if named and rng.random() < 0.2:
        columns.append(Column("many", [float(w) for w in np.round(rng.random(count) + 0.1, 3)], "weight"))
    return Sheet(family, columns, named)


def sequences(rng):
    """Four sequences of at most five steps, the longest five, in order."""
    lengths = [5, *(int(n) for n in rng.integers(1, 6, 3))]
    names = [["ann", "bob", "cyd", "dan"], [3, 1, 2, 10], [2**60 + i for i in range(4)], [0.5, 1.5, -1.0, 2.0]]
    names = names[rng.integers(len(names))]
    ids = [name for name, length in zip(names, lengths, strict=True) for _ in range(length)]
    times = [t for length in lengths for t in range(length)]
    kinds = [lambda t: t, lambda t: t * 0.5, lambda t: 2**60 + t, lambda t: date(2026, 11, 27) + timedelta(t)]
    clock = kinds[rng.integers(len(kinds))]
    columns = [Column("who", ids, "episode"), Column("when", [clock(t) for t in times], "time")]
    columns.append(Column("level", reals(rng, len(ids))))
    if rng.random() < 0.3:
        columns.append(Column("push", reals(rng, len(ids)), "evidence"))
    if rng.random() < 0.2:
        each = [float(w) for w in np.round(rng.random(4) + 0.1, 3)]
        columns.append(Column("many", [each[names.index(i)] for i in ids], "weight"))
    return Sheet("chain", columns)
