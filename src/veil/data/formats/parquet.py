"""Parquet files as a table of numbers, read in small batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from veil.data.core.columns import CELLS, unique
from veil.data.core.packages import needed

GROUP = 1 << 20  # numbers in the row groups that `write` makes
AT_ONCE = 1 << 21  # numbers of a row group that are read at once
ROWS = 4096


def pyarrow_for(path: Path) -> Any:
    """The pyarrow package, which only Parquet needs."""
    return needed(f"{path}: Parquet needs pyarrow", "tables", "pyarrow.parquet")


@lru_cache(maxsize=16)  # parsed once for the many groups of a file, but not kept for each of many files
def _footer(path: Path, size: int, time: int) -> Any:
    with pyarrow_for(path).parquet.ParquetFile(path) as file:
        return file.metadata


class ParquetTable:
    """The columns of a Parquet file, read anew at every call of `chunks`.

    Attributes:
        names: the column names.
        numeric: for each column, whether it holds numbers (integers, floats, decimals, booleans).
        count: the number of rows.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        ValueError: not a Parquet file, or one without rows or columns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pyarrow = pyarrow_for(path)
        types = self._pyarrow.types
        with self._open() as file:
            schema = file.schema_arrow
            groups = (file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups))
            self._groups = [int(count) for count in groups]
            self.names = unique(tuple(schema.names), path)
            self.count = int(file.metadata.num_rows)
            self._types = list(schema.types)
        if not self.count or not self.names:
            raise ValueError(
                f"{path} has {self.count} rows and {len(self.names)} columns; at least one of each is needed"
            )
        tests = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null)
        self.numeric = tuple(any(test(kind) for test in tests) for kind in self._types)

    def chunks(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """Consecutive rows of the wanted columns, each [n, len(wanted)], nulls NaN; float32 if that holds all of them.

        Raises:
            ValueError: a wanted column does not hold numbers: the column, its first row and value are named.
        """
        for i in wanted:
            if not self.numeric[i]:
                raise ValueError(self._not_numeric(i))
        names = [self.names[i] for i in wanted]
        with self._open() as file:
            # Threads and whole row groups read ahead would make memory grow with the file, not with the batch.
            for batch in file.iter_batches(batch_size=max(1, CELLS // len(names)), columns=names, use_threads=False):
                if batch.num_rows:
                    yield self._numbers(batch, wanted)

    def cells(self, column: int) -> np.ndarray:
        """One column as it stands: numbers, dates or text, in which a missing cell is None or NaN."""
        with self._open() as file:
            found: np.ndarray = file.read(columns=[self.names[column]], use_threads=False).column(0).to_numpy()
        return found

    def ranges(self, rows: int) -> list[tuple[int, int]]:
        """The rows of each row group: what can be read on its own, whatever `rows` asks for."""
        ends = np.cumsum([0, *self._groups]).tolist()
        return [(start, stop) for start, stop in pairwise(ends) if stop > start]

    def load(self, start: int, stop: int, wanted: Sequence[int]) -> np.ndarray:
        """The wanted columns of one of the `ranges`, as from `chunks`."""
        for i in wanted:
            if not self.numeric[i]:
                raise ValueError(self._not_numeric(i))
        ends = np.cumsum(self._groups)
        group = int(np.searchsorted(ends, start, side="right"))  # the one that ends after the first row
        found = self.path.stat()
        with self._open(_footer(self.path, found.st_size, found.st_mtime_ns)) as file:
            out = np.empty((stop - start, len(wanted)), self._dtype(wanted))
            # A few columns at a time, as otherwise a large group would be in memory twice.
            some = max(1, AT_ONCE // (stop - start))
            for first in range(0, len(wanted), some):
                now = wanted[first : first + some]
                table = file.read_row_group(group, columns=[self.names[i] for i in now], use_threads=False)
                self._fill(out[:, first : first + some], table, now)
            return out

    def _numbers(self, table: Any, wanted: Sequence[int]) -> np.ndarray:
        out = np.empty((table.num_rows, len(wanted)), self._dtype(wanted))
        self._fill(out, table, wanted)
        return out

    def _dtype(self, wanted: Sequence[int]) -> np.dtype[Any]:
        return np.result_type(*(self._float_type(self._types[i]) for i in wanted))

    def _fill(self, out: np.ndarray, table: Any, wanted: Sequence[int]) -> None:
        kind = self._pyarrow.from_numpy_dtype(out.dtype)
        columns = [np.asarray(table.column(self.names[i]).cast(kind, safe=False)) for i in wanted]
        for start in range(0, len(out), ROWS):  # rows that stay in the processor's cache while all columns are written
            rows = slice(start, start + ROWS)
            for place, column in enumerate(columns):
                out[rows, place] = column[rows]

    def _open(self, metadata: Any = None) -> Any:
        try:
            return self._pyarrow.parquet.ParquetFile(
                self.path, metadata=metadata, pre_buffer=False, buffer_size=1 << 16
            )
        except self._pyarrow.ArrowInvalid as error:
            raise ValueError(f"{self.path} is not a readable Parquet file: {error}") from None

    def _float_type(self, kind: Any) -> type[np.floating[Any]]:
        types = self._pyarrow.types
        small = types.is_boolean(kind) or types.is_float16(kind) or types.is_float32(kind)
        small = small or types.is_null(kind) or (types.is_integer(kind) and kind.bit_width <= 16)
        return np.float32 if small else np.float64

    def _not_numeric(self, column: int) -> str:
        found = ""
        with self._open() as file:
            row = 0
            for batch in file.iter_batches(batch_size=1024, columns=[self.names[column]], use_threads=False):
                for value in batch.column(0):
                    if value.is_valid:
                        found = f"; row {row} (from 0) holds {value.as_py()!r}"
                        break
                    row += 1
                if found:
                    break
        return (
            f"{self.path}, column {self.names[column]!r} holds {self._types[column]}, not numbers{found}. Columns that "
            "are used must be numeric: leave this one out by naming the query columns, or encode it as numbers"
        )
