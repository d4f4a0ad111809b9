"""Numpy's own files as tables: .npy by mapping a part at a time, .npz by reading its members in step."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from veil.data.core.chunks import ranges
from veil.data.core.columns import CELLS, unique

# numpy parses a header with Python's compiler, which in Python 3.11 fails when threads use it at the same time
# ("AST constructor recursion depth mismatch"): one after the other.
_HEADERS = threading.Lock()
ROLES = ("query", "evidence", "weight", "observed", "index", "mask", "reset")
# Sequences one after the other: steps [M, ...], and [N] lengths or, for each step, the name of its episode.
RAGGED = ("query", "evidence", "weight", "observed", "lengths", "episode", "time")


class NpyTable:
    """One array [N, ...] in a .npy file; its columns are called column0, column1, ...

    Attributes:
        shape: the array's shape, with [N] as [N, 1].
        names, numeric, count: the columns, all of them numeric, and N.

    Raises:
        ValueError: not a .npy file, Python objects in it (which are never loaded), or no rows.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        array = self._map()
        self.shape = array.shape if array.ndim > 1 else (*array.shape, 1)
        if array.ndim == 0 or array.size == 0:
            raise ValueError(f"{path} must hold an array [N, ...] with at least one row; its shape is {array.shape}")
        self.count: int = array.shape[0]
        self.names = tuple(f"column{i}" for i in range(self.shape[1])) if len(self.shape) == 2 else ()
        self.numeric = tuple(True for _ in self.names)

    def chunks(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """Consecutive rows of the wanted columns, each [n, len(wanted)], in the file's dtype."""
        for part in self.parts():
            yield part[:, list(wanted)]

    def parts(self) -> Iterator[np.ndarray]:
        """Consecutive rows of the whole array, each [n, ...], in the file's dtype."""
        size = max(1, CELLS // max(1, int(np.prod(self.shape[1:]))))
        for start in range(0, self.count, size):
            # Mapped anew for each part: the pages of one long-lived map would pile up until they are the whole file.
            yield np.array(self._map()[start : start + size], subok=False).reshape(-1, *self.shape[1:])

    def cells(self, column: int) -> np.ndarray:
        """One column as it stands."""
        return self.load(0, self.count, [column])[:, 0]

    def ranges(self, rows: int) -> list[tuple[int, int]]:
        """Ranges of `rows` rows, each of which can be read on its own."""
        return ranges(self.count, rows)

    def load(self, start: int, stop: int, wanted: Sequence[int]) -> np.ndarray:
        """The wanted columns of some rows."""
        return self.load_whole(start, stop)[:, list(wanted)]

    def load_whole(self, start: int, stop: int) -> np.ndarray:
        """Some rows of the whole array."""
        return np.array(self._map()[start:stop], subok=False).reshape(-1, *self.shape[1:])

    def _map(self) -> np.ndarray:
        try:
            with _HEADERS:
                array: np.ndarray = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(
                f"{self.path} is not a .npy file of numbers ({error}). Files with Python objects are never loaded: "
                "save a numeric array with numpy.save"
            ) from None
        return array


class NpzTable:
    """The arrays of a .npz file, whole (`load_all`) or in parts (`parts`), and as columns.

    An [N] array is one column with its name; an [N, D] array named a is the columns a0, a1, ...; a single array of the
    file is column0, column1, ...

    Attributes:
        members: the shape of each array by name, in the order of the file.
        roles: whether the arrays are the fields of `Data`, by name ("query", "query/frame"), rather than columns.
        ragged: whether the arrays are steps of sequences, with `lengths` or an `episode` for each.
        names, numeric, count: the columns (of arrays with roles: none), all numeric, and N.

    Raises:
        ValueError: not a .npz file, Python objects in it (which are never loaded), or arrays of different lengths.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._loaded: dict[str, np.ndarray] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                found = [name.removesuffix(".npy") for name in archive.namelist()]
        except zipfile.BadZipFile:
            raise ValueError(f"{path} is not a .npz file; save arrays with numpy.savez") from None
        if not found:
            raise ValueError(f"{path} holds no arrays; save arrays with numpy.savez")
        self.members: dict[str, tuple[int, ...]] = {}
        for name in found:
            with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
                self.members[name] = self._read_header(file, name)[0]
        fields = {name.split("/")[0] for name in found}  # query/frame is an array of the query
        self.ragged = "query" in fields and ("lengths" in fields) != ("episode" in fields) and fields <= set(RAGGED)
        self.roles = self.ragged or ("query" in fields and fields <= set(ROLES))
        # of sequences one after the other, what is not one a step
        others = ("lengths", "weight") if self.ragged and "lengths" in found else ()
        lengths = {name: shape[0] if shape else 0 for name, shape in self.members.items() if name not in others}
        if len(set(lengths.values())) > 1 or not all(lengths.values()):
            text = ", ".join(f"{name} {list(shape)}" for name, shape in self.members.items())
            raise ValueError(f"{path}: its arrays must have the same, positive number of rows; got {text}")
        self.count: int = next(iter(lengths.values()))
        self._places = [] if self.roles else self._columns()
        self.names = unique(tuple(name for name, _, _ in self._places), path)
        self.numeric = tuple(True for _ in self.names)

    def load_all(self) -> dict[str, np.ndarray]:
        """All arrays, in memory; `parts` and `chunks` take them from there afterwards."""
        with np.load(self.path, allow_pickle=False) as archive:
            self._loaded = {name: archive[name] for name in self.members}
        return self._loaded

    def chunks(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """Consecutive rows of the wanted columns, each [n, len(wanted)]."""
        places = [self._places[i][1:] for i in wanted]
        for part in self.parts(list(dict.fromkeys(member for member, _ in places))):
            yield np.stack([part[member].reshape(len(part[member]), -1)[:, i] for member, i in places], axis=1)

    def parts(self, members: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """Consecutive rows of some of the arrays, read in step.

        Raises:
            ValueError: an array that is not loaded and in Fortran order, whose rows are not together in the file.
        """
        if self._loaded:
            yield {name: self._loaded[name] for name in members}
            return
        width = sum(int(np.prod(self.members[name][1:])) for name in members)
        size = max(1, CELLS // max(1, width))
        readers = [self._rows(name, size) for name in members]
        for arrays in zip(*readers, strict=True):
            yield dict(zip(members, arrays, strict=True))

    def cells(self, column: int) -> np.ndarray:
        """One column as it stands."""
        _, member, place = self._places[column]
        array = self.load_all()[member] if member not in self._loaded else self._loaded[member]
        return array if array.ndim == 1 else np.asarray(array[:, place])

    def ranges(self, rows: int) -> list[tuple[int, int]]:
        """Ranges of `rows` rows, each of which can be read on its own; compressed arrays only as a whole."""
        with zipfile.ZipFile(self.path) as archive:
            plain = all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        return ranges(self.count, rows if plain else self.count)

    def load(self, start: int, stop: int, wanted: Sequence[int]) -> np.ndarray:
        """The wanted columns of one of the `ranges`."""
        places = [self._places[i][1:] for i in wanted]
        part = self.load_members(start, stop, list(dict.fromkeys(member for member, _ in places)))
        return np.stack([part[member].reshape(len(part[member]), -1)[:, i] for member, i in places], axis=1)

    def load_members(self, start: int, stop: int, members: Sequence[str]) -> dict[str, np.ndarray]:
        """Some of the arrays, in one of the `ranges`."""
        with zipfile.ZipFile(self.path) as archive:
            return {name: self._load(archive, name, start, stop) for name in members}

    def _load(self, archive: zipfile.ZipFile, name: str, start: int, stop: int) -> np.ndarray:
        info = archive.getinfo(f"{name}.npy")
        if info.compress_type != zipfile.ZIP_STORED:
            with archive.open(info) as file:
                shape, fortran, dtype = self._read_header(file, name)
                numbers = np.frombuffer(file.read(), dtype, int(np.prod(shape)))
            return numbers.reshape(shape, order="F" if fortran else "C")[start:stop]
        # Where the array lies in the file: the member's header has 30 bytes, a name and an extra field.
        with self.path.open("rb") as file:
            file.seek(info.header_offset)
            header = file.read(30)
            file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
            shape, fortran, dtype = self._read_header(file, name)
            if fortran and len(shape) > 1:
                raise ValueError(self._in_columns(name))
            each = int(np.prod(shape[1:]))
            file.seek(start * each * dtype.itemsize, 1)
            count = (stop - start) * each
            return np.frombuffer(file.read(count * dtype.itemsize), dtype, count).reshape(-1, *shape[1:])

    def _in_columns(self, name: str) -> str:
        return (
            f"{self.path}: array {name!r} is in Fortran order, which cannot be streamed by rows; "
            "save numpy.ascontiguousarray of it, or read the file whole"
        )

    def _rows(self, name: str, size: int) -> Iterator[np.ndarray]:
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as file:
            shape, fortran, dtype = self._read_header(file, name)
            if fortran and len(shape) > 1:
                raise ValueError(self._in_columns(name))
            each = int(np.prod(shape[1:]))
            for start in range(0, shape[0], size):
                count = min(size, shape[0] - start)
                data = file.read(count * each * dtype.itemsize)
                yield np.frombuffer(data, dtype, count * each).reshape(count, *shape[1:])

    def _read_header(self, file: Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        try:
            with _HEADERS:
                shape, fortran, dtype = readers[np.lib.format.read_magic(file)](file)
        except (KeyError, ValueError) as error:
            raise ValueError(f"{self.path}: {name!r} is not a numeric array in numpy's format ({error})") from None
        if dtype.hasobject:
            raise ValueError(f"{self.path}: array {name!r} holds Python objects, which are never loaded; save numbers")
        return shape, fortran, dtype

    def _columns(self) -> list[tuple[str, str, int]]:
        """(column, array, position in it) of each column."""
        places = []
        for member, shape in self.members.items():
            if len(shape) > 2:
                return []
            name = "column" if len(self.members) == 1 else member
            if len(shape) == 1:
                places.append(("column0" if len(self.members) == 1 else member, member, 0))
            else:
                places += [(f"{name}{i}", member, i) for i in range(shape[1])]
        return places
