"""Ways to hand a `Sheet` over without a file: arrays of all types, frames, tables, trees; and sequences."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow as pa

import veil
from whole_way.files import Input, arrow_array, as_arrow, chance, hurt, pick, typed
from whole_way.mutations import make
from whole_way.sheets import Column, Sheet, Truth, is_numeric, numbers, refused, told_apart, truth
from whole_way.text import as_text


def in_memory(rng, folder: Path) -> Input:
    """The fields of `Data`, each in a form of its own."""
    sheet = make(rng)
    used = sheet.of("query", "evidence", "weight")
    if all(column.role != "weight" for column in used) and chance(rng, 0.3):  # all of a frame is the query
        return _frame(sheet, rng)
    sheet.columns, sheet.named = used, True
    told: list[str] = []
    made = {
        role: _like(sheet.of(role), rng, told, folder) for role in ("query", "evidence", "weight") if sheet.of(role)
    }
    why = refused(told_apart(sheet))
    found = None if why else truth(sheet)
    if found is not None:
        found.query_names = found.evidence_names = None
    if "weight" in made and chance(rng, 0.5) and isinstance(made["weight"], np.ndarray):
        made["weight"] = made["weight"][:, 0]
    if found is not None and not isinstance(made["query"], dict) and chance(rng, 0.1):
        hidden = rng.random(found.query.shape) < 0.2
        made["observed"] = pick(rng, ~hidden, (~hidden).tolist(), (~hidden).astype(np.float32), pd.DataFrame(~hidden))
        found.query = np.where(hidden, np.nan, found.query)
        why = "nothing is observed" if np.isnan(found.query).all() else ""
        told.append("observed")
    spoil = [("longer", 0.04), ("no array", 0.04)]
    what = next((name for name, p in spoil if chance(rng, p)), "")
    if what == "longer" and len(made) > 1 and len(sheet):
        made["evidence" if "evidence" in made else "weight"] = np.ones(len(sheet) + 1)
        why = "rows of other numbers"
    if what == "no array":
        odd = [
            None,
            "text",
            3.0,
            [],
            {},
            {"a": None},
            [[1.0], [2.0, 3.0]],
            [[]],
            iter([1.0]),
            np.zeros(3, complex),
            object(),
        ]
        odd += [np.array(["1", "2"]), np.array(["2026-01-01"], "M8[D]"), np.zeros(2, [("a", "f8")]), [1, "2"], [b"1"]]
        odd += [np.zeros((0, 2)), np.zeros((3, 0)), {1: [1.0]}, {"a": [1.0], "b": [1.0, 2.0]}, [1j], lambda: 1, pd.NA]
        odd += [pd.DataFrame(), pd.DataFrame({"a": ["x"]}), pd.Series([], dtype=float), float("nan"), {"a/b": [1.0]}]
        made["query"] = odd[rng.integers(len(odd))]
        why = f"no array: {made['query']!r:.40}"
    told += [what] * bool(what)
    read = lambda: veil.data.Data(**made)  # noqa: E731
    return Input(sheet.family, read, None if why else found, why, sheet.may, (*sheet.told, *told))


def _like(columns: list[Column], rng, told: list[str], folder: Path):
    """Something like an array [N, D]."""
    if not all(is_numeric(c) for c in columns):
        told.append("objects")
        cells = [[c.cells[i] for c in columns] for i in range(len(columns[0].cells))]
        return pick(rng, np.array(cells, object), cells)
    cells = lambda: [[c.cells[i] for c in columns] for i in range(len(columns[0].cells))]  # noqa: E731
    kind = pick(rng, "array", "array", "layout", "lists", "objects", "masked", "jax", "tree", "memmap", "series")
    kind = "array" if columns[0].role == "weight" and kind == "tree" else kind
    told.append(kind)
    if kind == "array":
        return typed(columns, rng, told)
    if kind == "layout":
        array = numbers(columns)
        if not array.size:
            return array
        backwards = array[::-1].copy()[::-1]
        frozen = array.copy()
        frozen.flags.writeable = False
        return pick(
            rng, np.asfortranarray(array), backwards, frozen, np.repeat(array, 2, 0)[::2], array.view(np.matrix)
        )
    if kind == "lists":
        nothing = pick(rng, None, float("nan"))
        rows = [[nothing if cell is None else cell for cell in row] for row in cells()]
        return pick(rng, rows, tuple(map(tuple, rows)), [np.array(row, object) for row in rows])
    if kind == "objects":
        exact = lambda c: c if isinstance(c, bool) or not np.isfinite(c) else pick(rng, Decimal, Fraction, float)(c)  # noqa: E731
        return np.array(
            [[pick(rng, None, pd.NA, pd.NaT, np.nan) if c is None else exact(c) for c in row] for row in cells()],
            object,
        ).reshape(-1, len(columns))
    if kind == "masked":
        array = numbers(columns)
        hidden = np.isnan(array)
        made = np.ma.masked_array(np.where(hidden, pick(rng, 0.0, 1e30, np.inf, np.nan), array), hidden)
        return pick(
            rng,
            made,
            list(made) if len(made) else made,
            np.ma.masked_invalid(array) if np.isfinite(array[~hidden]).all() else made,
        )
    if kind == "jax":
        small = jnp.asarray(numbers(columns), jnp.float32)
        for place, column in enumerate(columns):
            column.cells = [None if x != x else float(x) for x in np.asarray(small, np.float64)[:, place]]
        return small
    if kind == "tree":
        return {f"part{i}": numbers([c])[:, 0] if chance(rng, 0.5) else numbers([c]) for i, c in enumerate(columns)}
    if kind == "memmap" and columns[0].cells:
        name = folder / f"{columns[0].role}.npy"
        np.save(name, numbers(columns))
        return np.load(name, mmap_mode="r")
    if kind == "series" and len(columns) == 1:
        return pick(rng, pd.Series, pa.array)(numbers(columns)[:, 0])
    return numbers(columns)


def _pandas(column: Column, rng, told: list[str]):
    """A column of a frame, of some type that holds the cells."""
    cells, kinds = column.cells, {type(cell) for cell in column.cells} - {type(None)}
    if not is_numeric(column):
        return pd.array(cells, dtype=object) if chance(rng, 0.5) or kinds != {str} else pd.array(cells, dtype="string")
    some = ["object"]
    some += ["Int64", "Int32", "Float64"] if kinds == {int} and all(abs(c or 0) < 2**31 for c in cells) else []
    some += ["boolean"] if kinds == {bool} else []
    some += ["float64", "Float64", "double[pyarrow]"] if kinds == {float} else []
    some += ["int64"] if kinds == {int} and None not in cells else []
    kind = pick(rng, *some)
    told.append(kind)
    return (
        pd.array([np.nan if c is None else c for c in cells], dtype=kind)
        if kind == "float64"
        else pd.array(cells, dtype=kind)
    )


def _frame(sheet: Sheet, rng) -> Input:
    """A frame of pandas, or a table of Arrow: one for the query, another one for the evidence."""
    told: list[str] = []
    sheet.columns = sheet.of("query", "evidence", "index")
    arrow = chance(rng, 0.4)
    index = pick(rng, None, range(5, 5 + len(sheet)), [f"r{i}" for i in range(len(sheet))])

    def framed(columns):
        names = [column.name for column in columns]
        if arrow:
            return pa.Table.from_arrays([arrow_array(column, rng, told) for column in columns], names)
        made = pd.DataFrame({i: _pandas(column, rng, told) for i, column in enumerate(columns)}, index=index)
        made.columns = names
        return made

    told.append("arrow" if arrow else "pandas")
    inputs = sheet.of("evidence")
    query = [column for column in sheet.columns if column not in inputs]
    given = {"query": framed(query)} | ({"evidence": framed(inputs)} if inputs else {})
    other = {"query": query, "evidence": inputs}
    twice = any(len({c.name for c in each}) < len(each) for each in other.values())
    sheet.named = False
    found = None
    flat = Sheet(sheet.family, [*sheet.of("query", "index"), *inputs], False)
    left = truth(flat).left if not refused(flat) else ()
    why = "a name comes twice" if twice else refused(replace(flat, columns=_told_apart(flat.columns), named=True))
    if not why:
        found = replace(truth(replace(flat, named=True)), left=left)
    read = lambda: veil.data.Data(**given)  # noqa: E731
    return Input(sheet.family, read, found, why, sheet.may, (*sheet.told, *told))


def _told_apart(columns: list[Column]) -> list[Column]:
    """Query and evidence may have the same names."""
    return [replace(column, name=f"{column.role} {column.name}") for column in columns]


# -- sequences ---------------------------------------------------------------------------------------------------------


def in_sequences(rng, folder: Path) -> Input:
    """Rows that say which sequence they belong to, in files and in memory; padded; one after the other; as lists."""
    if chance(rng, 0.1):
        return _trajectories(rng)
    sheet = make(rng, sequences=True)
    kind = pick(rng, "text", "arrow", "grouped", "grouped", "ragged", "padded", "list", "list")
    if kind == "text":
        return as_text(sheet, rng, folder, pick(rng, ".csv", ".tsv"))
    if kind == "arrow":
        return as_arrow(sheet, rng, folder)
    told = [kind]
    sheet.columns = sheet.of("query", "evidence", "weight", "episode", "time")
    sheet = told_apart(sheet)
    roles = ("query", "evidence", "weight")
    if kind == "grouped" or refused(sheet):
        given = {role: _like(sheet.of(role), rng, told, folder) for role in roles if sheet.of(role)}
        marks = {role: _marks(sheet.of(role)[0].cells, rng, told) for role in ("episode", "time") if sheet.of(role)}
        why = refused(sheet)
        read = lambda: veil.data.grouped(veil.data.Data(**given), **marks)  # noqa: E731
        return _sequences(sheet, read, why, told)
    whole = truth(sheet)
    lengths, weight = [len(each) for each in whole.query], whole.weight
    if kind == "list":
        parts = {name: vars(whole)[name] for name in ("query", "evidence") if vars(whole)[name] is not None}
        form = pick(rng, lambda a: a, lambda a: a.tolist(), lambda a: a[:, 0], lambda a: np.ma.masked_invalid(a))
        given = {name: [form(each) for each in parts[name]] for name in parts}
        why = ""
        if chance(rng, 0.1):
            name = pick(rng, *given)
            spoils = [[*given[name], np.zeros((0, 1))], [*given[name], np.zeros((2, 3))], [], 3, [*given[name], "text"]]
            given[name], why = pick(rng, *spoils), "no list of sequences"
            told.append(why)
        return _sequences(sheet, lambda: veil.data.episodes(**given, weight=weight), why, told)
    if kind == "ragged":
        arrays = {name: np.concatenate(vars(whole)[name]) for name in roles[:2] if vars(whole)[name] is not None}
        arrays["lengths"] = np.array(lengths, pick(rng, "i8", "i4", "u1"))
        why = ""
        if chance(rng, 0.2):
            bad = [
                arrays["lengths"] + 1,
                arrays["lengths"] * 1.0,
                np.array([sum(lengths), 0]),
                np.array([[1]]),
                -arrays["lengths"].astype(int),
            ]
            arrays["lengths"], why = pick(rng, *bad), "lengths that do not fit"
    else:
        steps = max(lengths)
        padding = [np.full((steps - n, 1), pick(rng, 0.0, np.nan, 9.0)) for n in lengths]
        spread = {
            name: zip(vars(whole)[name], padding, strict=True) for name in roles[:2] if vars(whole)[name] is not None
        }
        arrays = {name: np.stack([np.concatenate(pair) for pair in pairs]) for name, pairs in spread.items()}
        arrays["mask"], why = np.arange(steps) < np.array(lengths)[:, None], ""
        if chance(rng, 0.2):
            bad = [arrays["mask"][:, ::-1].copy(), arrays["mask"][:-1], arrays["mask"] * 2, arrays["mask"] * 0]
            bad = [
                array
                for array in bad
                if array.shape != arrays["mask"].shape or not np.array_equal(array, arrays["mask"])
            ]
            arrays["mask"], why = pick(rng, *bad), "a mask that does not fit"
    if weight is not None:
        arrays["weight"] = weight
    told += [why] * bool(why)
    path = folder / "sequences.npz"
    (np.savez_compressed if chance(rng, 0.3) else np.savez)(path, **arrays)
    return hurt(_sequences(sheet, lambda: veil.data.read(path), why, told), path, rng)


def _sequences(sheet, read, why, told) -> Input:
    found = None if why else truth(sheet)
    if found is not None:
        found.query_names = found.evidence_names = None
    return Input(sheet.family, read, found, why, sheet.may, (*sheet.told, *told))


def _marks(cells, rng, told: list[str]):
    """Names or times as people hold them."""
    some = [cells, pd.Series(cells, dtype=object), np.array(cells, object)]
    kinds = {type(cell) for cell in cells} - {type(None)}
    if None not in cells and len(kinds) == 1 and kinds <= {int, str, float}:
        some += [np.array(cells), pd.Series(cells), [str(cell) for cell in cells] if kinds == {int} else cells]
    elif kinds == {int}:
        some += [pd.array(cells, "Int64"), np.ma.masked_array([c or 0 for c in cells], [c is None for c in cells])]
    elif len(kinds) == 1 and kinds.isdisjoint({int, str, float, bool}):  # dates
        days = np.array(["NaT" if cell is None else str(cell) for cell in cells], "M8[D]")
        some += [days, days.astype("M8[ns]"), pd.Series(days.astype("M8[s]")), pa.array(cells)]
    some = some[rng.integers(len(some))]
    told.append(type(some).__name__)
    return some


def _trajectories(rng) -> Input:
    """Observations o_0..o_T and actions; read as a world model has them, the action before each observation."""
    lengths = [4, *(int(n) for n in rng.integers(1, 5, 3))]
    seen = [rng.normal(size=(n + 1, 1)) for n in lengths]
    acted = [rng.normal(size=(n, 1)) for n in lengths]
    found = [
        {pick(rng, "observations", "obs"): o, pick(rng, "actions", "acts"): u} for o, u in zip(seen, acted, strict=True)
    ]
    why = ""
    if chance(rng, 0.3):
        number, keys = rng.integers(len(found)), list(found[0])
        some = [{}, 3, {keys[0]: seen[0]}, {**found[0], "other": 1}, {"obs": seen[0], "acts": acted[0][:-1]}]
        found[number], why = pick(rng, *some), "no trajectory"
    shifted = [np.concatenate([np.zeros((1, 1)), u]) for u in acted]
    whole = Truth(seen, shifted)
    read = lambda: veil.data.trajectories(found).data("observation", "action")  # noqa: E731
    return Input("chain", read, None if why else whole, why, told=("trajectories", why))
