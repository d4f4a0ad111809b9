"""Ways to hand a `Sheet` over: files of every format, whole or damaged, and what is like an array in memory.

Each makes an `Input`: a function that reads it with veil, and what it has to give (`Truth`), known from the cells, or,
of a file that was damaged, read by other means. Where none may be given, `refuse` says why.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

import veil
from whole_way.mutations import make
from whole_way.sheets import Column, Sheet, Truth, is_numeric, numbers, refused, told_apart, truth


@dataclass
class Input:
    """``refuse``: why reading or fitting has to fail; ``may``: whether it can, with words; ``told``: what was done."""

    family: str
    read: Callable[[], veil.data.Data]
    truth: Truth | None
    refuse: str = ""
    may: bool = False
    told: tuple[str, ...] = ()
    stream: Callable[[], veil.data.Stream] | None = None  # of a file of rows: the same in blocks


def chance(rng, p=0.15):
    return bool(rng.random() < p)


def pick(rng, *some):
    return some[rng.integers(len(some))]


def arguments(sheet: Sheet) -> dict:
    """What a reader is told of the roles."""
    if not sheet.named:
        return {}
    found: dict = {"query": [column.name for column in sheet.of("query")]}
    if sheet.of("evidence"):
        found["evidence"] = [column.name for column in sheet.of("evidence")]
    for role in ("weight", "episode", "time"):
        if sheet.of(role):
            found[role] = sheet.of(role)[0].name
    return found


def readers(path: Path, given: dict) -> tuple[Callable, Callable | None]:
    """A file as a whole, and in blocks."""
    whole, blocks = (lambda: veil.data.read(path, **given)), (lambda: veil.data.stream(path, **given))
    return whole, None if {"episode", "time"} & {*given} else blocks


def from_file(sheet: Sheet, path: Path, told: list[str], may: bool = False) -> Input:
    """What a whole file has to give."""
    why, (read, stream) = refused(sheet), readers(path, arguments(sheet))
    found = None if why else truth(sheet)
    return Input(sheet.family, read, found, why, may or sheet.may, (*sheet.told, *told), stream)


def damaged(rng, content: bytes) -> tuple[bytes, str]:
    """Cut off, or some of its bytes changed."""
    if chance(rng, 0.5):
        return content[: rng.integers(len(content))], "cut off"
    changed = bytearray(content)
    for place in rng.integers(0, len(changed), rng.integers(1, 4)):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed), "bits changed"


# -- Arrow -------------------------------------------------------------------------------------------------------------


def in_arrow(rng, folder: Path) -> Input:
    """Parquet or Feather, the columns of any types."""
    return as_arrow(make(rng), rng, folder)


def as_arrow(sheet: Sheet, rng, folder: Path) -> Input:
    told: list[str] = []
    arrays = [arrow_array(column, rng, told) for column in sheet.columns]
    if sheet.named is False:  # its type says what a column is
        mixed = [c for c in sheet.of("query") if not is_numeric(c)]
        for column in mixed:
            column.role = "other"
    table = pa.Table.from_arrays(arrays, [column.name for column in sheet.columns])
    rows = pick(rng, 5, 100)
    if chance(rng, 0.5):
        path = folder / "table.parquet"
        pq.write_table(table, path, row_group_size=rows, compression=pick(rng, "none", "zstd", "snappy"))
    else:
        path = folder / "table.feather"
        feather.write_feather(table, path, chunksize=rows, compression=pick(rng, "uncompressed", "zstd", "lz4"))
    may = not len(sheet.columns)
    if chance(rng, 0.1):
        content, how = damaged(rng, path.read_bytes())
        path.write_bytes(content)
        given = arguments(sheet)
        found = _as_pyarrow_reads(path, sheet) if how != "cut off" else None
        why = "" if found is not None else how
        read, stream = readers(path, given)
        return Input(sheet.family, read, found, why, True, (*sheet.told, how), stream)
    return from_file(sheet, path, told, may)


def arrow_array(column: Column, rng, told: list[str]):
    cells = column.cells
    kinds = {type(cell) for cell in cells} - {type(None)}
    if kinds <= {float} and chance(rng, 0.3) and not any(c is not None and 0 < abs(c) < 1e-30 for c in cells):
        with np.errstate(over="ignore"):
            small = np.array([np.nan if c is None else c for c in cells], np.float32)
        column.cells = [None if np.isnan(x) else float(x) for x in small]
        told.append("float32")
        return (
            pa.array(small) if chance(rng, 0.5) else pa.array([None if np.isnan(x) else x for x in small], pa.float32())
        )
    if kinds <= {float} and chance(rng, 0.3):
        return pa.array([np.nan if c is None else c for c in cells], pa.float64())  # NaN and no null
    if kinds == {int} and all(c is None or abs(c) < 100 for c in cells) and chance(rng, 0.4):
        told.append("small integers")
        return pa.array(cells, pick(rng, pa.int8(), pa.int16(), pa.int32(), pa.float32(), pa.decimal128(6, 2)))
    if not kinds:
        return pa.nulls(len(cells), pick(rng, pa.null(), pa.float64(), pa.int64(), pa.bool_()))
    if kinds == {str} and chance(rng, 0.3):
        return pa.array(cells).dictionary_encode()
    if kinds <= {float, int, bool} and len(kinds) > 1:
        return pa.array([None if c is None else float(c) for c in cells])
    return pa.array(cells if len(kinds) == 1 else [None if c is None else str(c) for c in cells])


def _as_pyarrow_reads(path: Path, sheet: Sheet) -> Truth | None:
    """A file with some bits changed, if pyarrow itself reads it and nothing but numbers changed."""
    try:
        table = pq.read_table(path) if path.suffix == ".parquet" else feather.read_table(path)
        roles = {c.name: c.role for c in sheet.columns}
        plain = lambda x: None if x is None or x != x else float(x) if isinstance(x, Decimal) else x  # noqa: E731
        cells = [[plain(x) for x in column.to_pylist()] for column in table.columns]
        spare = "other" if sheet.named else "query"
        same = [Column(n, each, roles.get(n, spare)) for n, each in zip(table.column_names, cells, strict=True)]
        changed = Sheet(sheet.family, same, sheet.named)
        lost = sheet.named and {c.name for c in sheet.columns if c.role != "other"} - set(table.column_names)
        return None if lost or refused(changed) else truth(changed)
    except Exception:
        return None


# -- numpy's own -------------------------------------------------------------------------------------------------------


def in_numpy(rng, folder: Path) -> Input:
    """A .npy, or a .npz of roles or of columns."""
    sheet = make(rng)
    for column in [column for column in sheet.columns if column.role == "other" and not is_numeric(column)]:
        sheet.columns.remove(column)  # text is of no use there
    told: list[str] = []
    kind = pick(rng, "npy", "roles", "roles", "columns")
    if kind == "columns":
        names = [c.name for c in sheet.columns]
        arrays = {c.name: typed([c], rng, told)[:, 0] for c in sheet.columns if is_numeric(c)}
        if len(arrays) < len(names) or not arrays:
            kind = "roles"
        else:
            path = folder / "columns.npz"
            (np.savez_compressed if chance(rng, 0.3) else np.savez)(path, **arrays)
            # An .npz of one column, or of some names, is one of roles; names that a file cannot have are mended.
            may = len(arrays) == 1 or any(n in ("", "query", "weight", "file") or "/" in n for n in names)
            made = from_file(sheet, path, [*told, "columns"], may)
            if len(arrays) == 1 and made.truth is not None and not sheet.named:
                made.truth.query_names, made.truth.left = None, ()
            return hurt(made, path, rng)
    if not all(is_numeric(c) for c in sheet.columns):
        kind = "roles"
    query, evidence, weight = (typed(sheet.of(role), rng, told) for role in ("query", "evidence", "weight"))
    sheet.named, sheet.columns = True, sheet.of("query", "evidence", "weight")
    why = refused(told_apart(sheet))
    found = None if why else truth(sheet)
    if found is not None:
        found.query_names = found.evidence_names = None
    if kind == "npy" and evidence is None and weight is None:
        path = folder / "array.npy"
        np.save(path, query if chance(rng, 0.7) else np.asfortranarray(query))
        if found is not None:
            found.query_names = tuple(f"column{i}" for i in range(query.shape[1]))
    else:
        path = folder / "arrays.npz"
        arrays = {"query": query, "evidence": evidence, "weight": None if weight is None else weight[:, 0]}
        if found is not None and chance(rng, 0.2):
            hidden = rng.random(query.shape) < 0.2
            arrays["observed"] = pick(rng, ~hidden, (~hidden).astype(int), (~hidden).astype(float))
            found.query = np.where(hidden, np.nan, found.query)
            why = "nothing is observed" if np.isnan(found.query).all() else ""
            told.append("observed")
        elif query.shape[1] == 2 and chance(rng, 0.2):
            arrays = {**arrays, "query": None, "query/a": query[:, 0], "query/b": query[:, 1]}
            told.append("a tree")
        arrays = {name: array for name, array in arrays.items() if array is not None}
        if len(arrays) > 1 and chance(rng, 0.05):
            name = pick(rng, *arrays)
            arrays[name], why = arrays[name][:-1], "arrays of other lengths"
        (np.savez_compressed if chance(rng, 0.3) else np.savez)(path, **arrays)
    read, stream = readers(path, {})
    found = None if why else found
    return hurt(Input(sheet.family, read, found, why, sheet.may, (*sheet.told, *told), stream), path, rng)


def typed(columns: list[Column], rng, told: list[str]):
    """Columns side by side, of some type that holds them (what it does not hold is the truth from then on)."""
    if not columns:
        return None
    if not all(is_numeric(column) for column in columns):
        return np.array([[str(cell) for cell in c.cells] for c in columns]).T.reshape(-1, len(columns))
    array = numbers(columns)
    whole = array.size and np.isfinite(array).all() and (array == np.round(array)).all() and np.abs(array).max() < 100
    kinds = ["f8", "f8", "f4", ">f8", "g"]
    kinds += ["i1", "i2", ">i4", "i8", "f2"] if whole else []
    kinds += ["u1", "u8"] if whole and array.min() >= 0 else []
    kinds += ["?"] if whole and np.isin(array, (0, 1)).all() else []
    kind = str(rng.choice(kinds))
    told.append(kind)
    with np.errstate(over="ignore", under="ignore"):
        made = array.astype(kind)
    for place, column in enumerate(columns):
        column.cells = [None if x != x else float(x) for x in made[:, place].astype(np.float64)]
    return made


def hurt(made: Input, path: Path, rng) -> Input:
    """Sometimes the file is damaged."""
    if not chance(rng, 0.1):
        return made
    content, how = damaged(rng, path.read_bytes())
    before = _as_numpy_reads(path)
    path.write_bytes(content)
    made.told, made.may = (*made.told, how), True
    after = _as_numpy_reads(path)
    same = after is not None and before is not None and list(before) == list(after)
    if not same or not all(_alike(before[n], after[n]) for n in before):
        made.truth, made.refuse = None, made.refuse or ("" if after is not None else how)
    return made


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def _as_numpy_reads(path: Path) -> dict | None:
    try:
        with path.open("rb") as file:
            found = np.load(file)
            return {"": found} if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except Exception:
        return None
