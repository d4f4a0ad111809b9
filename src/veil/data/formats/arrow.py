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
AT_ONCE = 1 << 21  # numbers of a row group that are read at once
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
        """As `Table` has it."""
        names, kinds = self._numbers(wanted)
        for batch in self._batches(names, max(1, CELLS // len(names))):
            if batch.num_rows:
                yield stacked(batch, kinds)

    def cells(self, column: int) -> np.ndarray:
        batches = list(self._batches([self.names[column]], CELLS))
        found: np.ndarray = self._pyarrow.Table.from_batches(batches).column(0).to_numpy()
        return found

    def ranges(self, rows: int) -> list[tuple[int, int]]:
        """The rows of each row group: what can be read on its own, whatever `rows` asks for."""
        ends = np.cumsum([0, *self._groups]).tolist()
        return [(start, stop) for start, stop in pairwise(ends) if stop > start]

    def load(self, start: int, stop: int, wanted: Sequence[int]) -> np.ndarray:
        names, kinds = self._numbers(wanted)
        group = int(np.searchsorted(np.cumsum(self._groups), start, side="right"))  # the one that ends after `start`
        if not self._parquet:
            with self._open() as file:
                return stacked(file.get_batch(group).select(names), kinds)
        found = self.path.stat()
        with self._open(_footer(self.path, found.st_size, found.st_mtime_ns)) as file:
            # A few columns at a time, as otherwise a large group would be in memory twice.
            some = max(1, AT_ONCE // (stop - start))
            read = lambda now: file.read_row_group(group, columns=now, use_threads=False).select(now)  # noqa: E731
            parts = [stacked(read(names[i : i + some]), kinds[i : i + some]) for i in range(0, len(names), some)]
            self._check(len(parts[0]), stop - start)
            return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _batches(self, names: list[str], size: int) -> Iterator[Any]:
        with self._open() as file:
            if self._parquet:
                # Threads and whole row groups read ahead would make memory grow with the file, not with the batch.
                rows = 0
                for batch in file.iter_batches(batch_size=size, columns=names, use_threads=False):
                    rows += batch.num_rows
                    yield batch.select(names)
                self._check(rows, self.count)
                return
            for group, rows in enumerate(self._groups):
                batch = file.get_batch(group).select(names)
                yield from (batch.slice(start, size) for start in range(0, rows, size))

    def _check(self, rows: int, expected: int | None) -> None:
        if rows != expected:  # pyarrow ends in silence where a page of a column says that it has fewer
            raise ValueError(f"{self.path} is damaged: {rows} of {expected} rows can be read; get it again")

    @property
    def _parquet(self) -> bool:
        return self.path.suffix.lower() == ".parquet"

    def _open(self, metadata: Any = None) -> Any:
        arrow = self._pyarrow
        try:
            if not self._parquet:
                return arrow.ipc.open_file(arrow.memory_map(str(self.path)))
            return arrow.parquet.ParquetFile(self.path, metadata=metadata, pre_buffer=False, buffer_size=1 << 16)
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
