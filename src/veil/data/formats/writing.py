"""Columns to a file, which is either complete or not there."""

import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from veil.data.core import trees
from veil.data.core.numbers import unique
from veil.data.formats.arrow import GROUP, pyarrow_for


def write(path: str | os.PathLike[str], columns: Mapping[str, Any]) -> None:
    """Write named columns to .csv, .parquet, .npz or .npy, atomically: a failure leaves what was there before.

    Each column is [N]; an [N, D] array named a becomes the columns a0, a1, ... (an .npz keeps the arrays as they are,
    of any shape). The array b of a dictionary a is a.b, and a/b in an .npz: ``write("data.npz", data.fields())`` keeps
    data whole. NaN is an empty cell in a CSV, where numbers keep every digit. A .npy is one [N, columns] array without
    names.

    Raises:
        ValueError: no columns, columns of different lengths, names that come twice, or an unknown ending.
        TypeError: a column of Python objects, or of text in a .npy.
        FileNotFoundError: the folder does not exist.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "table.csv")
    ...     write(path, {"a": np.array([1.5, 2.0]), "b": np.array([[1, 2], [3, 4]])})
    ...     path.read_text().split()
    ['a,b0,b1', '1.5,1,2', '2.0,3,4']
    """
    path = Path(path)
    if path.suffix not in WRITTEN:
        raise ValueError(f"path must end in {', '.join(WRITTEN)}; got {path.name!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: the folder {path.parent} does not exist; create it first")
    arrays = _arrays(columns, path)
    with whole(path) as file:
        WRITERS[path.suffix](file, arrays, path)


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which is at `path` once it is complete: a failure leaves what was there before."""
    # In the same folder, since only a rename within one file system is atomic.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _arrays(columns: Mapping[str, Any], path: Path) -> dict[str, Any]:
    separator = "/" if path.suffix == ".npz" else "."
    given = [(separator.join([str(key) for key in keys]), np.asarray(leaf)) for keys, leaf in trees.leaves(columns)]
    if not given:
        raise ValueError(f"columns must have at least one column to write to {path}; got none")
    unique(tuple(name for name, _ in given), path)
    for name, array in given:
        if array.dtype == object:
            raise TypeError(f"columns: {name!r} holds Python objects; give an array of numbers or text")
        if array.ndim == 0:
            raise ValueError(f"columns: {name!r} is a single value; give one value per row, shape [N]")
        if array.ndim > 2 and path.suffix != ".npz":
            raise ValueError(f"columns: {name!r} has shape {array.shape}; a table takes [N] or [N, D]. Write an .npz")
    if len({len(array) for _, array in given}) > 1:
        lengths = ", ".join(f"{name} has {len(array)}" for name, array in given)
        raise ValueError(f"columns must have the same number of rows; {lengths}")
    if path.suffix != ".npz":
        given = [
            part
            for name, array in given
            for part in (
                [(name, array)] if array.ndim == 1 else [(f"{name}{i}", each) for i, each in enumerate(array.T)]
            )
        ]
        unique(tuple(name for name, _ in given), path)
    return dict(given)


def _csv(file: IO[bytes], arrays: dict[str, np.ndarray], path: Path) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(arrays)
    # In parts, as the text of all cells at once would be many times the size of the numbers.
    for start in range(0, len(next(iter(arrays.values()))), 8192):
        writer.writerows(zip(*(_cells(array[start : start + 8192]) for array in arrays.values()), strict=True))
    text.detach()


def _cells(array: np.ndarray) -> list[str]:
    array = array.astype(np.int8) if array.dtype.kind == "b" else array
    cells = array.astype(str)  # the shortest text that reads back as the same number
    found: list[str] = (np.where(np.isnan(array), "", cells) if array.dtype.kind == "f" else cells).tolist()
    return found


def _parquet(file: IO[bytes], arrays: dict[str, np.ndarray], path: Path) -> None:
    pyarrow = pyarrow_for(path)
    table = pyarrow.table({name: pyarrow.array(np.ascontiguousarray(array)) for name, array in arrays.items()})
    # Row groups are what can be read on their own: small enough to shuffle, and several even in a small file.
    rows = max(1, min(GROUP // len(arrays), -(-table.num_rows // 16)))
    pyarrow.parquet.write_table(table, file, row_group_size=rows)


def _npy(file: IO[bytes], arrays: dict[str, np.ndarray], path: Path) -> None:
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise TypeError(
                f"columns: {name!r} holds {array.dtype}, which a .npy of numbers cannot; write a .csv or .parquet"
            )
    np.save(file, np.stack(list(arrays.values()), axis=1), allow_pickle=False)


WRITERS: dict[str, Callable[[IO[bytes], dict[str, Any], Path], None]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".npz": lambda file, arrays, path: np.savez(file, **arrays),
    ".npy": _npy,
}
WRITTEN = tuple(WRITERS)
