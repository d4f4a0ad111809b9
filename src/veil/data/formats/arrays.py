"""Numpy's own files as tables: .npy and plain .npz a part at a time, compressed .npz in step."""

import threading
import zipfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from veil.data.core import trees
from veil.data.core.checks import FIELDS
from veil.data.core.chunks import ranges
from veil.data.core.columns import CELLS
from veil.data.core.numbers import row_index, unique
from veil.data.core.trees import Tree
from veil.data.formats.roles import Table

# numpy parses a header with Python's compiler, which in Python 3.11 fails when threads use it at the same time
# ("AST constructor recursion depth mismatch"): one after the other.
_HEADERS = threading.Lock()
# Sequences one after the other: steps [M, ...], and [N] lengths or, for each step, the name of its episode.
RAGGED = {"query", "evidence", "weight", "observed", "lengths", "episode", "time"}


class Member(NamedTuple):
    """An array in a file: it begins at byte `offset`, None if it is compressed."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    offset: int | None


class ArrayTable(Table):
    """The array of a .npy file, or the arrays of a .npz file, as columns or by their roles.

    An [N] array is one column with its name; an [N, D] array named a is the columns a0, a1, ...; the only array of a
    file is column0, column1, ... Arrays by their roles are wanted as None, which gives the fields of `Data`.

    Attributes:
        members: each array by name, in the order of the file.
        roles: whether the arrays are the fields of `Data`, by name ("query", "query/frame"), rather than columns.
        ragged: whether the arrays are steps of sequences, with `lengths` or an `episode` for each.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.members = _npy(path) if path.suffix.lower() == ".npy" else _npz(path)
        fields = {name.split("/")[0] for name in self.members}  # query/frame is an array of the query
        self.ragged = "query" in fields and ("lengths" in fields) != ("episode" in fields) and fields <= RAGGED
        self.roles = self.ragged or ("query" in fields and fields <= set(FIELDS))
        # of sequences one after the other, what is not one a step
        others = ("lengths", "weight") if self.ragged and "lengths" in fields else ()
        rows = {name: one.shape[0] if one.shape else 0 for name, one in self.members.items() if name not in others}
        empty = any(0 in one.shape for one in self.members.values())
        if len(set(rows.values())) > 1 or not all(rows.values()) or empty:
            text = ", ".join(f"{name} {list(one.shape)}" for name, one in self.members.items())
            raise ValueError(f"{path}: its arrays must have the same, positive number of rows; got {text}")
        self.count = next(iter(rows.values()))
        self._places = [] if self.roles else self._columns()
        self.names = unique(tuple(name for name, _, _ in self._places), path)
        self.unnamed = row_index(self.names)
        self.numeric = tuple(self.members[name].dtype.kind in "biuf" for _, name, _ in self._places)
        if not self.names and not self.roles and len(self.members) > 1:
            large = next(name for name, one in self.members.items() if len(one.shape) > 2)
            raise ValueError(
                f"{path}: array {large!r} has shape {list(self.members[large].shape)}, which is not a column. Name "
                "the arrays by their roles: query and, if needed, evidence, weight, observed, index, mask, reset"
            )

    @property
    def like(self) -> Any:
        shapes = {name: one.shape[1:] for name, one in sorted(self.members.items())}
        return tuple(sorted(self.names)) or (shapes if self.roles else next(iter(shapes.values())))

    def width(self, wanted: Sequence[int] | None) -> int:
        if wanted is not None:
            return len(wanted)
        return sum(int(np.prod(one.shape[1:])) for one in self.members.values())

    def whole(self, wanted: Sequence[int] | None) -> Any:
        return self.load(0, self.rows(), wanted)

    def chunks(self, wanted: Sequence[int] | None) -> Iterator[Any]:
        names = self._used(wanted)
        size = max(1, CELLS // max(1, sum(int(np.prod(self.members[name].shape[1:])) for name in names)))
        with ExitStack() as opened:  # files are closed where the reading ends, not where Python notices
            readers = [opened.enter_context(closing(self._parts(name, size))) for name in names]
            for arrays in zip(*readers, strict=True):
                yield self._picked(dict(zip(names, arrays, strict=True)), wanted)

    def cells(self, column: int) -> np.ndarray:
        found: np.ndarray = self.whole([column])[:, 0]
        return found

    def ranges(self, rows: int) -> list[tuple[int, int]]:
        """Ranges of `rows` rows, each of which can be read on its own; compressed arrays only as a whole."""
        plain = all(one.offset is not None for one in self.members.values())
        return ranges(self.rows(), rows if plain else self.rows())

    def load(self, start: int, stop: int, wanted: Sequence[int] | None) -> Any:
        return self._picked({name: self._rows(name, start, stop) for name in self._used(wanted)}, wanted)

    def _used(self, wanted: Sequence[int] | None) -> list[str]:
        return list(self.members if wanted is None else dict.fromkeys(self._places[i][1] for i in wanted))

    def _picked(self, arrays: dict[str, np.ndarray], wanted: Sequence[int] | None) -> Any:
        if wanted is None:
            return by_role(arrays) if self.roles else {"query": next(iter(arrays.values()))}
        flat = {name: array.reshape(len(array), -1) for name, array in arrays.items()}
        if len(flat) == 1:
            return next(iter(flat.values()))[:, [self._places[i][2] for i in wanted]]
        return np.stack([flat[member][:, i] for _, member, i in (self._places[j] for j in wanted)], axis=1)

    def _rows(self, name: str, start: int, stop: int) -> np.ndarray:
        shape, fortran, dtype, offset = self.members[name]
        if offset is None:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as inside:
                _header(inside, self.path, name)  # by numpy.load it would be parsed without the lock
                whole = np.frombuffer(bytearray(inside.read()), dtype)
            return whole.reshape(shape, order="F" if fortran else "C")[start:stop]
        # Read and not mapped: a file that is written to in the meantime must not end the process.
        stop, width = min(stop, shape[0]), int(np.prod(shape[1:]))
        runs = [(start * width, (stop - start) * width)]
        if fortran and len(shape) > 1:  # column by column
            runs = [(column * shape[0] + start, stop - start) for column in range(width)]
        found = []
        with self.path.open("rb") as file:
            for first, count in runs:
                file.seek(offset + first * dtype.itemsize)
                found.append(np.fromfile(file, dtype, count))
                if len(found[-1]) < count:
                    raise ValueError(f"{self.path} is cut off: array {name!r} ends before row {stop}")
        if len(runs) == 1:
            return found[0].reshape(-1, *shape[1:])
        return np.stack(found, axis=1).reshape(-1, *shape[1:], order="F")

    def _parts(self, name: str, size: int) -> Generator[np.ndarray]:
        shape, fortran, dtype, offset = self.members[name]
        if offset is not None:
            yield from (self._rows(name, start, stop) for start, stop in ranges(shape[0], size))
            return
        if fortran and len(shape) > 1:
            raise ValueError(
                f"{self.path}: array {name!r} is in Fortran order and compressed, which cannot be streamed by rows; "
                "save numpy.ascontiguousarray of it, or read the file whole"
            )
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as file:
            _header(file, self.path, name)
            each = int(np.prod(shape[1:]))
            for start, stop in ranges(shape[0], size):
                data = file.read((stop - start) * each * dtype.itemsize)
                yield np.frombuffer(data, dtype, (stop - start) * each).reshape(-1, *shape[1:])

    def _columns(self) -> list[tuple[str, str, int]]:
        """(column, array, position in it) of each column."""
        if any(len(one.shape) > 2 for one in self.members.values()):
            return []
        only = len(self.members) == 1
        return [
            (f"column{i}" if only else name if len(one.shape) == 1 else f"{name}{i}", name, i)
            for name, one in self.members.items()
            for i in range(1 if len(one.shape) == 1 else one.shape[1])
        ]


def by_role(arrays: Mapping[str, Any]) -> dict[str, Tree]:
    """Arrays by the names that they have in a file as fields: "query/frame" is a leaf of the query."""
    fields: dict[str, Tree] = trees.nested({tuple(name.split("/")): array for name, array in arrays.items()})
    return fields


def _npy(path: Path) -> dict[str, Member]:
    with path.open("rb") as file:
        shape, fortran, dtype = _header(file, path, "")
        offset = file.tell()
    needed = offset + int(np.prod(shape)) * dtype.itemsize
    if path.stat().st_size < needed:
        raise ValueError(f"{path} is cut off: it has {path.stat().st_size} bytes of {needed}; get it again")
    return {"column": Member(shape, fortran, dtype, offset)}


def _npz(path: Path) -> dict[str, Member]:
    members = {}
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            for info in archive.infolist():
                name, offset = info.filename.removesuffix(".npy"), None
                with archive.open(info) as inside:
                    head = _header(inside, path, name)
                if info.compress_type == zipfile.ZIP_STORED:
                    # Where the array lies: the member's header has 30 bytes, a name and an extra field.
                    file.seek(info.header_offset)
                    local = file.read(30)
                    file.seek(int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little"), 1)
                    _header(file, path, name)
                    offset = file.tell()
                members[name] = Member(*head, offset)
    except zipfile.BadZipFile:
        raise ValueError(f"{path} is not a .npz file; save arrays with numpy.savez") from None
    if not members:
        raise ValueError(f"{path} holds no arrays; save arrays with numpy.savez")
    return members


def _header(file: Any, path: Path, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    what = f"{path}: array {name!r}" if name else str(path)
    try:
        with _HEADERS:
            shape, fortran, dtype = readers[np.lib.format.read_magic(file)](file)
    except Exception as error:  # whatever Python's compiler makes of a damaged header
        raise ValueError(f"{what} is not a numeric array of numpy's ({error}); save it with numpy.save") from None
    if dtype.hasobject:
        raise ValueError(f"{what} holds Python objects, which are never loaded; save a numeric array with numpy.save")
    return shape, fortran, dtype
