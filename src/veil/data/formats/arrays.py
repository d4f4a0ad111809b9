"""Numpy's own files as tables: .npy and plain .npz a part at a time, compressed .npz in step."""

import threading
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from veil.data.core import trees
from veil.data.core.checks import FIELDS
from veil.data.core.chunks import ranges
from veil.data.core.columns import CELLS
from veil.data.core.numbers import row_index, unique
from veil.data.formats.roles import Table

# numpy parses a header with Python's compiler, which in Python 3.11 fails when threads use it at the same time
# ("AST constructor recursion depth mismatch"): one after the other.
_HEADERS = threading.Lock()
# Sequences one after the other: steps [M, ...], and [N] lengths or, for each step, the name of its episode.
RAGGED = {"query", "evidence", "weight", "observed", "lengths", "episode", "time"}


class Member(NamedTuple):
    """An array, whose numbers begin at byte `start` of the file or, if it is `packed`, of what is unpacked."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    start: int
    packed: bool = False

    @property
    def width(self) -> int:
        """The numbers of each row."""
        return int(np.prod(self.shape[1:]))

    @property
    def across(self) -> bool:
        """Whether the numbers of a row are not next to each other."""
        return self.fortran and len(self.shape) > 1


class ArrayTable(Table):
    """The array of a .npy file, or the arrays of a .npz file, as columns or by their roles.

    An [N] array is one column with its name; an [N, D] array named a is the columns a0, a1, ...; the only array of a
    file is column0, column1, ... Arrays by their roles are wanted as None, which gives the fields of `Data`.

    Attributes:
        members: each array by name, in the order of the file.
        roles: whether the arrays are the fields of `Data`, by name ("query", "query/frame"), rather than columns.
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
        return sum(one.width for one in self.members.values()) if wanted is None else len(wanted)

    def whole(self, wanted: Sequence[int] | None) -> Any:
        return self.load(0, self.rows(), wanted)

    def load(self, start: int, stop: int, wanted: Sequence[int] | None) -> Any:
        (found,) = self._read([(start, stop)], wanted)
        return found

    def parts(self, start: int, stop: int, wanted: Sequence[int] | None) -> Iterator[Any]:
        packed = [name for name in self._used(wanted) if self.members[name].packed]
        for name in packed:
            if self.members[name].across:
                raise ValueError(
                    f"{self.path}: array {name!r} is in Fortran order and compressed, which cannot be streamed by "
                    "rows; save numpy.ascontiguousarray of it, or read the file whole"
                )
        size = max(1, CELLS // self.width(wanted)) if packed else stop - start
        yield from self._read(((start + a, start + b) for a, b in ranges(stop - start, size)), wanted)

    def ranges(self, rows: int) -> list[tuple[int, int]]:
        """Ranges of `rows` rows, each of which can be read on its own; compressed arrays only as a whole."""
        packed = any(one.packed for one in self.members.values())
        return ranges(self.rows(), self.rows() if packed else rows)

    def _read(self, places: Iterable[tuple[int, int]], wanted: Sequence[int] | None) -> Iterator[Any]:
        """Ranges of rows one after the other, for which what is compressed is unpacked once."""
        with ExitStack() as opened:
            files: dict[str, Any] = {}
            for name in self._used(wanted):
                if self.members[name].packed:
                    archive = opened.enter_context(zipfile.ZipFile(self.path))
                    files[name] = opened.enter_context(archive.open(f"{name}.npy"))
                else:  # read and not mapped: a file that is written to in the meantime must not end the process
                    files[name] = opened.enter_context(self.path.open("rb"))
            for start, stop in places:
                yield self._picked({name: self._rows(file, name, start, stop) for name, file in files.items()}, wanted)

    def _rows(self, file: Any, name: str, start: int, stop: int) -> np.ndarray:
        one = self.members[name]
        count = min(stop, one.shape[0]) - start
        found = np.empty((one.width, count) if one.across else (1, count * one.width), one.dtype)
        for column, run in enumerate(found):
            first = column * one.shape[0] + (start if one.across else start * one.width)
            file.seek(one.start + first * one.dtype.itemsize)
            if file.readinto(run.view(np.uint8)) < run.nbytes:
                raise ValueError(f"{self.path} is cut off: array {name!r} ends before row {start + count}")
        return (found.T if one.across else found).reshape(count, *one.shape[1:], order="F" if one.across else "C")

    def _used(self, wanted: Sequence[int] | None) -> list[str]:
        return list(self.members if wanted is None else dict.fromkeys(self._places[i][1] for i in wanted))

    def _picked(self, arrays: dict[str, np.ndarray], wanted: Sequence[int] | None) -> Any:
        if wanted is None:
            if not self.roles:
                return {"query": next(iter(arrays.values()))}
            return trees.nested({tuple(name.split("/")): array for name, array in arrays.items()})
        flat = {name: array.reshape(len(array), -1) for name, array in arrays.items()}
        if len(flat) == 1:
            return next(iter(flat.values()))[:, [self._places[i][2] for i in wanted]]
        return np.stack([flat[member][:, i] for _, member, i in (self._places[j] for j in wanted)], axis=1)

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


def _npy(path: Path) -> dict[str, Member]:
    with path.open("rb") as file:
        one = _header(file, path, "")
    needed = one.start + int(np.prod(one.shape)) * one.dtype.itemsize
    if path.stat().st_size < needed:
        raise ValueError(f"{path} is cut off: it has {path.stat().st_size} bytes of {needed}; get it again")
    return {"column": one}


def _npz(path: Path) -> dict[str, Member]:
    members = {}
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                with archive.open(info) as inside:
                    one = _header(inside, path, name)._replace(packed=info.compress_type != zipfile.ZIP_STORED)
                if not one.packed:  # the header of what is in the archive has 30 bytes, a name and an extra field
                    file.seek(info.header_offset)
                    local = file.read(30)
                    sizes = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
                    one = one._replace(start=info.header_offset + 30 + sizes + one.start)
                members[name] = one
    except zipfile.BadZipFile:
        raise ValueError(f"{path} is not a .npz file; save arrays with numpy.savez") from None
    if not members:
        raise ValueError(f"{path} holds no arrays; save arrays with numpy.savez")
    return members


def _header(file: Any, path: Path, name: str) -> Member:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    what = f"{path}: array {name!r}" if name else str(path)
    try:
        with _HEADERS:
            shape, fortran, dtype = readers[np.lib.format.read_magic(file)](file)
    except Exception as error:  # whatever Python's compiler makes of a damaged header
        raise ValueError(f"{what} is not a numeric array of numpy's ({error}); save it with numpy.save") from None
    if dtype.hasobject:
        raise ValueError(f"{what} holds Python objects, which are never loaded; save a numeric array with numpy.save")
    return Member(shape, fortran, dtype, file.tell())
