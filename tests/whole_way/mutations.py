"""What goes wrong in tables, one function each: it changes a sheet's cells, columns or rows.

make(rng, sequences)    a `Sheet` after a few of them
"""

from contextlib import suppress
from datetime import date, timedelta

import numpy as np

from whole_way import sheets
from whole_way.sheets import FAMILIES, Column, Sheet, reals

NAMES = [
    *("a b", "é", "日本", "x,y", 'say "hi"', "line\nbreak", " pad ", "A" * 300, "a/b", "a.b", "y0", "x0", "#c", "None"),
    *("true", "1_0", "weight", "query", "query/a", "a\tb", "'q'", "=1+1", "-", "Unnamed: 1", "column0", "\u200b", "½"),
]


def make(rng: np.random.Generator, sequences: bool = False, families=FAMILIES) -> Sheet:
    """A sheet of one family of models with up to three mutations (often none or one)."""
    sheet = sheets.sequences(rng) if sequences else sheets.rows(rng, str(rng.choice(families)))
    some = SEQUENCES if sequences else MUTATIONS
    for _ in range(rng.choice([0, 1, 2, 3], p=[0.15, 0.5, 0.25, 0.1])):
        mutation = some[rng.integers(len(some))]
        with suppress(
            TypeError, ValueError, IndexError, OverflowError
        ):  # of cells that an earlier one left, and it has no use for
            mutation(sheet, rng)
            sheet.told.append(mutation.__name__)
    return sheet


# -- mutations: of cells -----------------------------------------------------------------------------------------------


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


# -- mutations: of columns and rows ------------------------------------------------------------------------------------


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
        sheet.columns.insert(int(rng.integers(len(sheet.columns))), Column("spare", reals(rng, len(sheet)), "other"))


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


# -- mutations: of sequences -------------------------------------------------------------------------------------------


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
