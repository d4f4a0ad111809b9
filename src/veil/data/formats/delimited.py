"""Comma-separated text as a table of numbers, with the standard library alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from veil.data.core.chunks import CHUNK, ranges
from veil.data.core.columns import CELLS, unique

MARKS = 4096
MISSING = frozenset({"", "na", "n/a", "nan", "null"})


class DelimitedTable:
    """The columns of a CSV file (UTF-8, quoted fields allowed), read anew at every call of `chunks`.

    The first row is the header if no cell of it is a number. If all of them are, there is no header and the columns are
    called column0, column1, ... Cells that are empty, NA, N/A, NaN or null (in any case) are missing. A column is
    numeric if its first cell that is not missing is a number.

    Attributes:
        names: the column names.
        numeric: for each column, whether it holds numbers.
        count: None, as the number of rows is not known before the end.

    Raises:
        ValueError: no rows, an ambiguous or repeated header, a row of another length, text that is not UTF-8 CSV.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = None
        self._index: Index | None = None
        first = self._first_record()
        self.names, self._header = _header(first, path)
        sample = self._sample()
        if not sample:
            raise ValueError(f"{path} has no rows of data; only the header {', '.join(self.names)!r} is there")
        self.numeric = tuple(_is_numeric([record[i] for record in sample]) for i in range(len(self.names)))

    def chunks(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """Consecutive rows of the wanted columns, each [n, len(wanted)], missing cells NaN.

        Raises:
            ValueError: a cell that is not a number: the column, the line and the cell are named.
        """
        for records, lines in self._records():
            yield np.stack([self._convert(i, [record[i] for record in records], lines) for i in wanted], axis=1)

    def cells(self, column: int) -> np.ndarray:
        """One column as it stands: numbers, or text, in which a missing cell is None."""
        texts = [record[column].strip() for records, _ in self._records() for record in records]
        numbers = [_number(text) for text in texts]
        if None not in numbers:
            return np.array(numbers, np.float64)
        return np.array([None if text.lower() in MISSING else text for text in texts], object)

    def ranges(self, rows: int) -> list[tuple[int, int]]:
        """Ranges of about `rows` rows, each of which can be read on its own, after a first look through the file."""
        index = self.index()
        return ranges(index.rows, -(-rows // index.every) * index.every)

    def index(self) -> Index:
        """Where rows begin in the file; made once."""
        if self._index is None:
            self._index = _index(self.path, self._header, len(self.names))
        return self._index

    def load(self, start: int, stop: int, wanted: Sequence[int]) -> np.ndarray:
        """The wanted columns of one of the `ranges`, as from `chunks`."""
        records, lines = self._between(start, stop, "strict")
        for record, line in zip(records, lines, strict=True):
            if len(record) != len(self.names):
                raise ValueError(self._other_length(record, line))
        return np.stack([self._convert(i, [record[i] for record in records], lines) for i in wanted], axis=1)

    def salvage(
        self, start: int, stop: int, wanted: Sequence[int]
    ) -> tuple[np.ndarray, list[int], list[tuple[int, str]]]:
        """The rows of one of the `ranges` that can be read, their lines, and the lines that cannot and why."""
        good, lines, bad = [], [], []
        for record, line in zip(*self._between(start, stop, "surrogateescape"), strict=True):
            cells: list[float] = []
            if len(record) != len(self.names):
                bad.append((line, f"{len(record)} cells in place of {len(self.names)}"))
                continue
            for i in wanted:
                number = _number(record[i])
                if number is None:
                    bad.append((line, f"column {self.names[i]!r}: {record[i]!r} is not a number"))
                    break
                cells.append(number)
            else:
                good.append(cells)
                lines.append(line)
        return np.array(good, np.float64).reshape(len(good), len(wanted)), lines, bad

    def _between(self, start: int, stop: int, errors: str) -> tuple[list[list[str]], list[int]]:
        index = self.index()
        begin, first = index.marks[start // index.every]
        end, _ = index.marks[-(-stop // index.every)]
        with self.path.open("rb") as file:
            file.seek(begin)
            text = file.read(end - begin)
        try:
            lines = io.StringIO(text.decode("utf-8", errors), newline="")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{self.path}, in or after line {first + 1}: not UTF-8 text ({error.reason}); convert it"
            ) from None
        found = [(record, first + line) for record, line in self._parsed(lines) if record]
        return [record for record, _ in found], [line for _, line in found]

    def _other_length(self, record: list[str], line: int) -> str:
        return (
            f"{self.path}, line {line}: the row has {len(record)} cells, but there are {len(self.names)} columns; "
            "correct the row, or quote cells that contain a comma"
        )

    def _convert(self, column: int, cells: list[str], lines: list[int]) -> np.ndarray:
        try:
            if "_" not in "".join(cells):  # Python reads 1_000 as a number; in a table it is a label
                return np.array(list(map(float, cells)))
        except ValueError:
            pass
        out = np.empty(len(cells))
        for i, cell in enumerate(cells):
            number = _number(cell)
            if number is None:
                raise ValueError(
                    f"{self.path}, column {self.names[column]!r}, line {lines[i]}: {cell!r} is not a number. Columns "
                    "that are used must be numeric: leave this one out by naming the query columns, or correct it"
                )
            out[i] = number
        return out

    def _open(self, errors: str = "strict") -> IO[str]:
        return self.path.open(newline="", encoding="utf-8-sig", errors=errors)

    def _first_record(self) -> list[str]:
        with self._open("surrogateescape") as file:
            first = next((record for record, _ in self._parsed(file) if record), None)
        if first is None:
            raise ValueError(f"{self.path} is empty; expected a CSV file with a header and rows of numbers")
        if any("\ud800" <= letter <= "\udfff" for cell in first for letter in cell):
            raise ValueError(f"{self.path} is not UTF-8 text, as its first row shows; convert it, or check the format")
        return first

    def _sample(self) -> list[list[str]]:
        """The first rows, without those that a pass would refuse."""
        size, header = max(1, CELLS // len(self.names)), self._header
        sample: list[list[str]] = []
        with self._open("surrogateescape") as file, suppress(csv.Error):
            for record in csv.reader(file):
                if record and header:
                    header = False
                elif len(record) == len(self.names):
                    sample.append(record)
                    if len(sample) == size:
                        break
        return sample

    def _records(self) -> Iterator[tuple[list[list[str]], list[int]]]:
        """Chunks of records (without the header and blank lines) and the lines on which they end."""
        width, size = len(self.names), max(1, CELLS // len(self.names))
        with self._open() as file:
            records: list[list[str]] = []
            lines: list[int] = []
            skip = self._header
            for record, line in self._parsed(file):
                if not record:
                    continue
                if skip:
                    skip = False
                    continue
                if len(record) != width:
                    raise ValueError(self._other_length(record, line))
                records.append(record)
                lines.append(line)
                if len(records) == size:
                    yield records, lines
                    records, lines = [], []
            if records:
                yield records, lines

    def _parsed(self, file: Iterable[str]) -> Iterator[tuple[list[str], int]]:
        reader = csv.reader(file)
        try:
            for record in reader:
                yield record, reader.line_num
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{self.path} is not UTF-8 text ({error.reason}); convert it, or check the format"
            ) from None
        except csv.Error as error:
            raise ValueError(f"{self.path}, line {reader.line_num}: not a valid CSV row ({error})") from None


class Index(NamedTuple):
    """Where every `every`-th row begins (byte and line), and where the last one ends; `broken`: why it is no CSV."""

    marks: list[tuple[int, int]]
    every: int
    rows: int
    broken: str


def _index(path: Path, header: bool, width: int) -> Index:
    """One pass that finds the rows: line breaks may be inside quotes, so that only reading them tells.

    At most `MARKS` places are kept unless the stretches between them would be larger than a chunk.
    """
    marks: list[tuple[int, int]] = []
    every, count, place, broken = 1, 0, 0, ""
    with path.open("rb") as file:
        if file.read(3) != b"\xef\xbb\xbf":
            file.seek(0)
        else:
            place = 3

        def lines() -> Iterator[str]:
            nonlocal place
            for line in file:
                place += len(line)
                yield line.decode("utf-8", "surrogateescape")

        reader = csv.reader(lines())
        end = place, 0
        try:
            for record in reader:
                if record and header:
                    header = False
                elif record:
                    if count % every == 0:
                        marks.append(end)
                        if len(marks) > MARKS and 2 * every * width <= CHUNK:
                            marks, every = marks[::2], 2 * every
                    count += 1
                end = place, reader.line_num
        except csv.Error as error:
            broken = f"{path}, line {reader.line_num}: not a valid CSV row ({error})"
    # Up to a broken row only whole stretches have an end that is known.
    return Index([*marks, end], every, count, broken)


def _number(cell: str) -> float | None:
    cell = cell.strip()
    if cell.lower() in MISSING:
        return float("nan")
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _is_numeric(cells: list[str]) -> bool:
    first = next((cell for cell in cells if cell.strip().lower() not in MISSING), None)
    return first is None or _number(first) is not None


def _header(first: list[str], path: Path) -> tuple[tuple[str, ...], bool]:
    """The column names, and whether the first row holds them."""
    cells = [cell.strip() for cell in first]
    numbers = [cell for cell in cells if cell.lower() not in MISSING and _number(cell) is not None]
    texts = [cell for cell in cells if cell.lower() not in MISSING and _number(cell) is None]
    counting = [str(i) for i in range(len(cells))]
    if len(cells) > 2 and cells in (counting, ["", *counting[:-1]]):
        raise ValueError(
            f"{path}: the first row counts 0, 1, 2, ..., which may be column numbers or data; "
            "give the columns names in the first row"
        )
    if texts and numbers:
        raise ValueError(
            f"{path}: cannot tell whether the first row is a header: {texts[0]!r} is a name and {numbers[0]!r} is "
            "a number. Add a header of names to the file"
        )
    if not texts:
        return tuple(f"column{i}" for i in range(len(cells))), False
    if len(cells) == 1 and any(mark in cells[0] for mark in ";\t"):
        raise ValueError(
            f"{path}: the columns are not separated by commas; the first row is {cells[0]!r}. Convert the file"
        )
    return unique(tuple(cell or f"column{i}" for i, cell in enumerate(cells)), path), True
