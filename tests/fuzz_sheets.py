"""Small tables as people have them, with what goes wrong in them, and what is in them by construction.

    make(rng, sequences)    a `Sheet`: columns of plain Python cells, each with a role, after a few `MUTATIONS`
    refused(sheet)          why it has to be refused, by a reader or a fit; "" if it has not
    truth(sheet)            otherwise: rows, columns, sequences and numbers, which a reader has to give back
"""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import numpy as np

FAMILIES = ("gaussian", "mixture", "regression", "poisson", "bernoulli", "categorical")
NUMERIC = (bool, int, float, type(None))
NAMES = [
    *("a b", "é", "日本", "x,y", 'say "hi"', "line\nbreak", " pad ", "A" * 300, "a/b", "a.b", "y0", "x0", "#c", "None"),
    *("true", "1_0", "weight", "query", "query/a", "a\tb", "'q'", "=1+1", "-", "Unnamed: 1", "column0", "\u200b", "½"),
]


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
    if all(cell is None for column in query for cell in column.cells):
        return "nothing is observed"
    for column in sheet.of("weight"):
        if min(column.cells) < 0 or not any(column.cells):
            return "a negative weight, or none that is positive"
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


# -- what a sheet begins as ----------------------------------------------------------------------------------------------


def make(rng: np.random.Generator, sequences: bool = False, families=FAMILIES) -> Sheet:
    """A sheet of one family of models with up to three mutations (often none or one)."""
    sheet = _sequences(rng) if sequences else _rows(rng, str(rng.choice(families)))
    some = SEQUENCES if sequences else MUTATIONS
    for _ in range(rng.choice([0, 1, 2, 3], p=[0.15, 0.5, 0.25, 0.1])):
        mutation = some[rng.integers(len(some))]
        with suppress(TypeError, ValueError, IndexError, OverflowError):  # of cells that an earlier one left, and it has no use for
            mutation(sheet, rng)
            sheet.told.append(mutation.__name__)
    return sheet


def _reals(rng, count):
    return [float(x) for x in np.round(rng.normal(size=count), int(rng.integers(2, 17)))]


def _rows(rng, family):
    count = int(rng.choice([12, 11]))
    draw = {
        "poisson": lambda: [int(x) for x in rng.poisson(3, count)],
        "bernoulli": lambda: [bool(x) for x in rng.random(count) < 0.4],
        "categorical": lambda: [*(0, 1, 2), *(int(x) for x in rng.integers(0, 3, count - 3))],
    }.get(family, lambda: _reals(rng, count))
    wide = 2 if family in ("gaussian", "mixture", "bernoulli") else 1
    columns = [Column(name, draw()) for name in ("left", "right")[:wide]]
    if family == "regression":
        columns = [Column("speed", _reals(rng, count), "evidence"), columns[0]]
        columns[1].cells = [2 * x + y for x, y in zip(columns[0].cells, columns[1].cells, strict=True)]
    named = family == "regression" or bool(rng.random() < 0.5)
    if named and rng.random() < 0.2:
        columns.append(Column("many", [float(w) for w in np.round(rng.random(count) + 0.1, 3)], "weight"))
    return Sheet(family, columns, named)


def _sequences(rng):
    """Four sequences of at most five steps, the longest five, in order."""
    lengths = [5, *(int(n) for n in rng.integers(1, 6, 3))]
    names = [["ann", "bob", "cyd", "dan"], [3, 1, 2, 10], [2**60 + i for i in range(4)], [0.5, 1.5, -1.0, 2.0]]
    names = names[rng.integers(len(names))]
    ids = [name for name, length in zip(names, lengths, strict=True) for _ in range(length)]
    times = [t for length in lengths for t in range(length)]
    kinds = [lambda t: t, lambda t: t * 0.5, lambda t: 2**60 + t, lambda t: date(2026, 11, 27) + timedelta(t)]
    clock = kinds[rng.integers(len(kinds))]
    columns = [Column("who", ids, "episode"), Column("when", [clock(t) for t in times], "time")]
    columns.append(Column("level", _reals(rng, len(ids))))
    if rng.random() < 0.3:
        columns.append(Column("push", _reals(rng, len(ids)), "evidence"))
    if rng.random() < 0.2:
        each = [float(w) for w in np.round(rng.random(4) + 0.1, 3)]
        columns.append(Column("many", [each[names.index(i)] for i in ids], "weight"))
    return Sheet("chain", columns)


# -- mutations: of cells -------------------------------------------------------------------------------------------------


def _one(sheet, rng, *roles):
    """A column of these roles."""
    some = sheet.of(*roles)
    return some[rng.integers(len(some))] if some else None


def _put(column, rng, value):
    column.cells[rng.integers(len(column.cells))] = value



def missing_cells(sheet, rng):
    for column in sheet.of("query"):
        column.cells = [None if rng.random() < 0.2 else cell for cell in column.cells]


def missing_row(sheet, rng):
    row = rng.integers(len(sheet))
    for column in sheet.of("query"):
        column.cells[row] = None


def missing_column(sheet, rng):
    column = _one(sheet, rng, "query")
    column.cells = [None] * len(sheet)
    sheet.may = sheet.may or sheet.named is False  # which holds no numbers


def missing_where_it_may_not_be(sheet, rng):
    column = _one(sheet, rng, "evidence", "weight", "episode", "time")
    if column is not None:
        _put(column, rng, None)


def infinite(sheet, rng):
    column = _one(sheet, rng, "query", "evidence", "weight")
    _put(column, rng, float(rng.choice([np.inf, -np.inf])))


def constant(sheet, rng):
    column = _one(sheet, rng, "query", "evidence")
    column.cells = [column.cells[0] if column.cells[0] is not None else 1.0] * len(sheet)


def size(sheet, rng):
    column = _one(sheet, rng, "query", "evidence")
    if sheet.family in ("gaussian", "mixture", "regression", "chain"):
        power = float(rng.choice([1e-300, 1e-38, 1e-30, 1e-12, 1e12, 1e30, 1e38, 1e300]))
        column.cells = [None if cell is None else float(cell) * power for cell in column.cells]
        sheet.may = True


def far(sheet, rng):
    column = _one(sheet, rng, "query", "evidence")
    if sheet.family in ("gaussian", "mixture", "regression", "chain"):
        column.cells = [None if cell is None else float(cell) + 1e6 for cell in column.cells]


def whole_numbers(sheet, rng):
    column = _one(sheet, rng, "query", "evidence")
    if all(type(cell) in (float, type(None)) and abs(cell or 0) < 1e15 for cell in column.cells):
        column.cells = [None if cell is None else round(10 * cell) for cell in column.cells]


def truth_values(sheet, rng):
    column = _one(sheet, rng, "query", "evidence")
    if sheet.family in ("gaussian", "mixture", "regression", "chain"):
        column.cells = [None if cell is None else bool(cell > 0) for cell in column.cells]


def long_numbers(sheet, rng):
    """Whole numbers that no float holds: each becomes the nearest one."""
    column = _one(sheet, rng, "query")
    if sheet.family in ("gaussian", "mixture"):
        column.cells = [None if cell is None else 2**53 + 2 * i + 1 for i, cell in enumerate(column.cells)]


def out_of_support(sheet, rng):
    wrong = {"poisson": [-1, 0.5, -0.0001], "bernoulli": [2, -1, 0.5], "categorical": [-1, 1.5]}.get(sheet.family)
    if wrong:
        column = _one(sheet, rng, "query")
        column.cells = [None if cell is None else int(cell) for cell in column.cells]
        _put(column, rng, wrong[rng.integers(len(wrong))])


def weights(sheet, rng):
    count = len(sheet)
    kinds = {
        "none": [0.0] * count,
        "negative": [-1.0] + [1.0] * (count - 1),
        "some": [float(i % 2) for i in range(count)],
        "small": [1e-38 * (1 + i) for i in range(count)],
        "large": [1e30] * count,
        "counts": [1 + i % 3 for i in range(count)],
        "truths": [i % 2 == 0 for i in range(count)],
    }
    kind = str(rng.choice(list(kinds)))
    if not sheet.of("weight"):
        sheet.columns.append(Column("many", [], "weight"))
        sheet.named = True
    (column,) = sheet.of("weight")
    column.cells = kinds[kind]
    sheet.may = sheet.may or kind in ("small", "large")


# -- mutations: of columns and rows --------------------------------------------------------------------------------------


def text_column(sheet, rng):
    words = [None if rng.random() < 0.2 else str(rng.choice(["yes", "no", "1 kg", "x,y", 'a"b', "-", "é", "#"]))]
    words += ["text", *(str(rng.choice(["b", "7up", "?"])) for _ in range(len(sheet) - 2))]
    place = int(rng.integers(len(sheet.columns) + 1))
    sheet.columns.insert(place, Column("words", words[: len(sheet)], "other"))


def date_column(sheet, rng):
    days = [date(2026, 1, 1) + timedelta(int(d)) for d in rng.integers(0, 300, len(sheet))]
    sheet.columns.append(Column("day", days, "other"))


def another_column(sheet, rng):
    if sheet.named:
        sheet.columns.insert(int(rng.integers(len(sheet.columns))), Column("spare", _reals(rng, len(sheet)), "other"))


def row_index(sheet, rng):
    name = str(rng.choice(["", "Unnamed: 0", "__index_level_0__"]))
    sheet.columns.insert(0, Column(name, list(range(len(sheet))), "index"))


def text_in_a_number(sheet, rng):
    column = _one(sheet, rng, "query", "evidence", "weight")
    if len(column.cells) > 1:
        column.cells[0] = 1.0 if column.cells[0] is None else column.cells[0]
        words = ["?", "1,5", "1_000", "0x10", "1 2", "one", "--", "1e", "None", "1.2.3", "$5", "5%", "true!"]
        column.cells[rng.integers(1, len(column.cells))] = str(rng.choice(words))


def odd_names(sheet, rng):
    for column in sheet.columns:
        if column.role != "index" and rng.random() < 0.6:
            column.name = str(rng.choice([name for name in NAMES if all(name != c.name for c in sheet.columns)]))


def same_name(sheet, rng):
    if len(sheet.columns) > 1:
        first, second = rng.choice(len(sheet.columns), 2, replace=False)
        sheet.columns[first].name = sheet.columns[second].name


def other_order(sheet, rng):
    sheet.columns = [sheet.columns[i] for i in rng.permutation(len(sheet.columns))]
    sheet.columns.sort(key=lambda column: column.name != "")  # a row index without a name is the first column


def few_rows(sheet, rng):
    count = int(rng.choice([0, 1, 1, 2]))
    sheet.rows(range(count))


def same_rows(sheet, rng):
    sheet.rows([0] * len(sheet))


# -- mutations: of sequences ---------------------------------------------------------------------------------------------


def shuffled(sheet, rng):
    """Without times that is the order: each sequence keeps its own, and they interleave."""
    sheet.rows(rng.permutation(len(sheet)))


def same_time(sheet, rng):
    (time,) = sheet.of("time") or (None,)
    episode = sheet.of("episode")[0].cells
    pairs = [(i, j) for i in range(len(sheet)) for j in range(i) if episode[i] == episode[j]]
    if time is not None and pairs:
        i, j = pairs[rng.integers(len(pairs))]
        time.cells[i] = time.cells[j]


def no_time(sheet, rng):
    sheet.columns = [column for column in sheet.columns if column.role != "time"]


def one_sequence(sheet, rng):
    names = sheet.of("episode")[0].cells
    sheet.rows([i for i, name in enumerate(names) if name == names[0]])


def uneven_weight(sheet, rng):
    names = sheet.of("episode")[0].cells
    if sheet.of("weight") and names.count(names[0]) > 1:
        column = sheet.of("weight")[0]
        column.cells[names.index(names[0])] = 17.5


CELLS = (
    *(missing_cells, missing_cells, missing_row, missing_column, missing_where_it_may_not_be, infinite, constant, size),
    *(far, whole_numbers, truth_values),
)
COLUMNS = (text_column, date_column, another_column, row_index, text_in_a_number, odd_names, same_name, other_order)
MUTATIONS = (*CELLS, long_numbers, out_of_support, weights, few_rows, same_rows, *COLUMNS)
SEQUENCES = (*CELLS, *COLUMNS, shuffled, shuffled, same_time, no_time, one_sequence, uneven_weight)
