"""Parquet and Feather files as tables of numbers, read by pyarrow in small batches."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from veil.data.core.columns import CELLS
from veil.data.core.numbers import row_index, unique
from veil.data.core.packages import needed
from veil.data.formats.roles import Table

GROUP = 1 << 20  # numbers in the row groups that `write` makes
ROWS = 4096


def pyarrow_for(path: Path) -> Any:
    """The pyarrow package, which reads all tables but numpy's own."""
    return needed(f"{path}: {path.suffix[1:]} files need pyarrow", "tables", "pyarrow.parquet", "pyarrow.csv")


def stacked(table: Any, kinds: Sequence[Any]) -> np.ndarray:
    """Columns of these types side by side, nulls NaN: float32 if that holds all of them, and float64."""
    pyarrow = needed("tables need pyarrow", "tables", "pyarrow")
    out = np.empty((table.num_rows, len(kinds)), np.result_type(*(_float_type(pyarrow.types, kind) for kind in kinds)))
    kind = pyarrow.from_numpy_dtype(out.dtype)
    columns = [np.asarray(column.cast(kind, safe=False)) for column in table.columns]
    for start in range(0, len(out), ROWS):  # rows that stay in the processor's cache while all columns are written
        rows = slice(start, start + ROWS)
        for place, column in enumerate(columns):
            out[rows, place] = column[rows]
    return out


def _float_type(types: Any, kind: Any) -> type[np.floating[Any]]:
    small = types.is_boolean(kind) or types.is_float16(kind) or types.is_float32(kind) or types.is_null(kind)
    return np.float32 if small or (types.is_integer(kind) and kind.bit_width <= 16) else np.float64


@lru_cache(maxsize=16)  # parsed once for the many groups of a file, but not kept for each of many files
def _footer(path: Path, size: int, time: int) -> Any:
    with pyarrow_for(path).parquet.ParquetFile(path) as file:
        return file.metadata


class ArrowTable(Table):
    """The columns of a Parquet or Feather file.

    Integers, floats, decimals and booleans are numbers.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._pyarrow = path, pyarrow_for(path)
        types = self._pyarrow.types
        with self._open() as file:
            if self._parquet:
                schema, about = file.schema_arrow, file.metadata
                self._groups = [int(about.row_group(i).num_rows) for i in range(about.num_row_groups)]
            else:
                schema = file.schema
                self._groups = [int(file.get_batch(i).num_rows) for i in range(file.num_record_batches)]
        self.names, self._types = unique(tuple(schema.names), path), list(schema.types)
        self.count = sum(self._groups)
        self.unnamed = row_index(self.names)
        if not self.count or not self.names:
            raise ValueError(
                f"{path} has {self.count} rows and {len(self.names)} columns; at least one of each is needed"
            )
        tests = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null)
        self.numeric = tuple(any(test(kind) for test in tests) for kind in self._types)

    def chunks(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        yield from self._read(wanted, range(len(self._groups)))

    def parts(self, start: int, stop: int, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        yield from self._read(wanted, [int(np.searchsorted(np.cumsum(self._groups), start, side="right"))])

    def cells(self, column: int) -> np.ndarray:
        batches = list(self._batches([self.names[column]], range(len(self._groups))))
        found: np.ndarray = self._pyarrow.Table.from_batches(batches).column(0).to_numpy()
        return found

    def ranges(self, rows: int) -> list[tuple[int, int]]:
        """The rows of each row group: what can be read on its own, whatever `rows` asks for."""
        ends = np.cumsum([0, *self._groups]).tolist()
        return [(start, stop) for start, stop in pairwise(ends) if stop > start]

    def _read(self, wanted: Sequence[int], groups: Sequence[int]) -> Iterator[np.ndarray]:
        names, kinds = self._numbers(wanted)
        yield from (stacked(batch, kinds) for batch in self._batches(names, groups) if batch.num_rows)

    def _batches(self, names: list[str], groups: Sequence[int]) -> Iterator[Any]:
        """Row groups in small batches."""
        size = max(1, CELLS // len(names))
        with self._open() as file:
            if self._parquet:
                # Threads and whole row groups read ahead would make memory grow with the file, not with the batch.
                rows = 0
                for batch in file.iter_batches(size, row_groups=groups, columns=names, use_threads=False):
                    rows += batch.num_rows
                    yield batch.select(names)
                expected = sum(self._groups[group] for group in groups)
                if rows != expected:  # pyarrow ends in silence where a page of a column says that it has fewer
                    raise ValueError(f"{self.path} is damaged: {rows} of {expected} rows can be read; get it again")
                return
            for batch in (file.get_batch(group).select(names) for group in groups):
                yield from (batch.slice(place, size) for place in range(0, batch.num_rows, size))

    @property
    def _parquet(self) -> bool:
        return self.path.suffix.lower() == ".parquet"

    def _open(self) -> Any:
        arrow = self._pyarrow
        try:
            if not self._parquet:
                return arrow.ipc.open_file(arrow.memory_map(str(self.path)))
            found = self.path.stat()
            about = _footer(self.path, found.st_size, found.st_mtime_ns)
            return arrow.parquet.ParquetFile(self.path, metadata=about, pre_buffer=False, buffer_size=1 << 16)
        except arrow.ArrowInvalid as error:
            kind = "Parquet" if self._parquet else "Feather"
            raise ValueError(f"{self.path} is not a readable {kind} file: {error}") from None

    def _numbers(self, wanted: Sequence[int]) -> tuple[list[str], list[Any]]:
        """The names and types of the wanted columns, all of which must hold numbers."""
        for i in wanted:
            if not self.numeric[i]:
                cells = self.cells(i)
                row = next((row for row, cell in enumerate(cells) if cell is not None and cell == cell), None)
                raise ValueError(
                    f"{self.path}, column {self.names[i]!r} holds {self._types[i]}, not numbers"
                    + ("" if row is None else f"; row {row} (from 0) holds {cells[row]!r}")
                    + ". Columns that are used must be numeric: leave this one out by naming the query columns, or "
                    "encode it as numbers"
                )
        return [self.names[i] for i in wanted], [self._types[i] for i in wanted]
