"""Comma- or tab-separated text as a table of numbers: cut into stretches of whole rows here, parsed by pyarrow."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from veil.data.core.chunks import CHUNK, ranges
from veil.data.core.numbers import row_index, unique
from veil.data.formats.arrow import pyarrow_for, stacked
from veil.data.formats.paths import ending
from veil.data.formats.roles import Table

BLOCK = 1 << 20  # bytes that are parsed at once
LONGEST = 1 << 24  # bytes of a row: a quoted cell that goes on for longer is never closed
MARKS = 4096  # places in a file that are kept
EXACT = 1 << 53  # up to here all integers are floats
MISSING = ("", "na", "n/a", "nan", "null")
TRUTH = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}


class Stretch(NamedTuple):
    """Whole rows of a file: their text, its first byte and line, and where in it the rows begin."""

    text: bytes
    place: int
    line: int
    begins: np.ndarray


class Bad(NamedTuple):
    """A row that cannot be read: its last line, the column if a cell is to blame, and why."""

    line: int
    column: str
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: " + (f"column {self.column!r}: " if self.column else "") + self.reason


class DelimitedTable(Table):
    """The columns of a .csv or .tsv file (UTF-8, quoted cells allowed, perhaps in a .gz).

    The first row is the header if no cell of it is a number. If all of them are, there is no header and the columns are
    called column0, column1, ... Cells that are empty, NA, N/A, NaN or null (in any case) are missing. A column holds
    numbers if its first cell that is not missing is one, and truth values (1 and 0) if that is true or false.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        ValueError: no rows, an ambiguous or repeated header, a row of another length, text that is not UTF-8.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrow = pyarrow_for(path)
        self._delimiter = "\t" if ending(path).startswith(".tsv") else ","
        # A cell that begins with a quote, to the one that closes it or to the end.
        self._quoted = re.compile(rb'(?<![^%s\r\n])"[^"]*(?:""[^"]*)*("|\Z)' % self._delimiter.encode())
        self._file = _unpacked(self, path) if path.suffix.lower() == ".gz" else path
        with self._file.open("rb") as file:
            head = file.read(BLOCK)
        self._eol = b"\n" if b"\n" in head or b"\r" not in head else b"\r"
        self._start = (3 if head.startswith(b"\xef\xbb\xbf") else 0, 1)
        self._index: tuple[list[tuple[int, int]], int, int] | None = None
        self._open()

    def _open(self) -> None:
        """Names and kinds of the columns, of the first stretch."""
        part = next(self._stretches(), None)
        records = iter(()) if part is None else self._records(part.text, part.line, "surrogateescape")
        first = next(records, ([], 1))[0]
        if part is None or not first:
            raise ValueError(self.broken or f"{self.path} is empty; expected a header and rows of numbers")
        if any("\ud800" <= letter <= "\udfff" for cell in first for letter in cell):
            raise ValueError(f"{self.path} is not UTF-8 text, as its first row shows; convert it, or check the format")
        self.names, header = _header(first, self.path, self._delimiter)
        kinds, other = [""] * len(self.names), None
        sample = [] if header else [first]
        for record, at in records:
            if len(record) == len(self.names):
                sample.append(record)
            else:
                other = other or self._length(record, at)
        for record in sample:
            kinds = [kind or _kind(cell) for kind, cell in zip(kinds, record, strict=True)]
            if all(kinds):
                break
        if not sample and other is not None:
            raise self._refused(other)
        if not sample:
            raise ValueError(f"{self.path} has no rows of data; only the header {', '.join(self.names)!r} is there")
        if header:
            after = part.begins[1] if len(part.begins) > 1 else len(part.text)
            self._start = part.place + int(after), part.line + part.text.count(self._eol, 0, int(after))
        self._kinds = kinds
        self.numeric = tuple(kind != "text" for kind in kinds)
        empty = [i for i, (name, kind) in enumerate(zip(first, kinds, strict=True)) if not (name.strip() or kind)]
        self.unnamed = tuple(sorted({*row_index(first), *empty})) if header else ()

    def chunks(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        for part in self._stretches():
            yield self._numbers(part.text, part.line, wanted)
        if self.broken:
            raise ValueError(self.broken)

    def cells(self, column: int) -> np.ndarray:
        """One column as it stands: numbers, of integers every digit, or text, in which a missing cell is None."""
        arrow, compute = self._arrow, self._arrow.compute
        parts = [self._parsed(part.text, part.line, [column], arrow.string()) for part in self._stretches()]
        texts = compute.utf8_trim_whitespace(arrow.concat_tables(parts).column(0))
        texts = compute.if_else(compute.is_in(compute.utf8_lower(texts), arrow.array(MISSING)), None, texts)
        found: np.ndarray = texts.to_numpy()
        for kind in (arrow.int64(), arrow.uint64(), arrow.float64()) if not texts.null_count else ():
            try:
                numbers: np.ndarray = texts.cast(kind).to_numpy()
            except arrow.ArrowInvalid:
                continue
            # Names of more digits than a float has stay text, or two of them would be one.
            return found if numbers.dtype.kind == "f" and np.any(np.abs(numbers) >= EXACT) else numbers
        return found

    def rows(self) -> int:
        return self._found()[2]

    def ranges(self, rows: int) -> list[tuple[int, int]]:
        """Ranges of about `rows` rows, each of which can be read on its own, after a first look through the file."""
        _, every, count = self._found()
        return ranges(count, -(-rows // every) * every)

    def load(self, start: int, stop: int, wanted: Sequence[int]) -> np.ndarray:
        return self._numbers(*self._between(start, stop), wanted)

    def salvage(self, start: int, stop: int, wanted: Sequence[int]) -> tuple[np.ndarray, list[str], list[str]]:
        """The rows of one of the `ranges` that can be read, what to call them, and which cannot be and why."""
        good, lines, bad = self._careful(*self._between(start, stop), wanted, "surrogateescape")
        return good, [f"line {line}" for line in lines], [str(each) for each in bad]

    # -- cells ---------------------------------------------------------------------------------------------------------

    def _numbers(self, text: bytes, line: int, wanted: Sequence[int]) -> np.ndarray:
        types = [self._arrow.bool_() if self._kinds[i] == "boolean" else self._arrow.float64() for i in wanted]
        table = self._parsed(text, line, wanted)
        return table if isinstance(table, np.ndarray) else stacked(table, types)

    def _parsed(self, text: bytes, line: int, wanted: Sequence[int], kind: Any = None) -> Any:
        """A table of columns of one type or of their own; numbers that pyarrow refuses, as a careful look reads them.

        Raises:
            ValueError: what is wrong with the first row that nobody can read.
        """
        arrow, names = self._arrow, [self.names[i] for i in wanted]
        types = [kind or (arrow.bool_() if self._kinds[i] == "boolean" else arrow.float64()) for i in wanted]
        try:
            return arrow.csv.read_csv(
                arrow.py_buffer(text),
                arrow.csv.ReadOptions(use_threads=False, column_names=self.names, block_size=len(text) + 1),
                arrow.csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=b'"' in text),
                arrow.csv.ConvertOptions(
                    column_types=dict(zip(names, types, strict=True)),
                    include_columns=names,
                    null_values=["NaN", *(form for word in MISSING for form in (word, word.upper(), word.title()))],
                    true_values=["true", "True", "TRUE", "1"],
                    false_values=["false", "False", "FALSE", "0"],
                ),
            )
        except arrow.ArrowInvalid as error:
            good, _, bad = self._careful(text, line, () if kind else wanted, "strict")
            if bad:
                raise self._refused(bad[0]) from None
            if kind:
                raise ValueError(f"{self.path}, in or after line {line}: {error}") from None
            return good

    def _careful(
        self, text: bytes, line: int, wanted: Sequence[int], errors: str
    ) -> tuple[np.ndarray, list[int], list[Bad]]:
        """Row by row: the numbers of those that can be read and their lines, and the others."""
        good, lines, bad = [], [], []
        for record, at in self._records(text, line, errors):
            if len(record) != len(self.names):
                bad.append(self._length(record, at))
                continue
            numbers = [_number(record[i], self._kinds[i]) for i in wanted]
            if None in numbers:
                i = wanted[numbers.index(None)]
                what = "true or false" if self._kinds[i] == "boolean" else "a number"
                bad.append(Bad(at, self.names[i], f"{record[i]!r} is not {what}"))
            else:
                good.append(numbers)
                lines.append(at)
        return np.array(good, np.float64).reshape(len(good), len(wanted)), lines, bad

    def _length(self, record: list[str], line: int) -> Bad:
        return Bad(line, "", f"{len(record)} cells in place of {len(self.names)}")

    def _refused(self, bad: Bad) -> ValueError:
        if bad.column:
            return ValueError(
                f"{self.path}, column {bad.column!r}, line {bad.line}: {bad.reason}. Columns that are used must be "
                "numeric: leave this one out by naming the query columns, or correct it"
            )
        return ValueError(
            f"{self.path}, line {bad.line}: the row has {bad.reason} columns in the first row ({self.names[0]}, ...). "
            "Correct it: a separator at the end of a row, or in a cell without quotes, makes one cell more; comment "
            "lines must go"
        )

    def _records(self, text: bytes, line: int, errors: str) -> Iterator[tuple[list[str], int]]:
        """The records that are not blank, and the lines on which they end."""
        try:
            reader = csv.reader(io.StringIO(text.decode("utf-8", errors), newline=""), delimiter=self._delimiter)
            yield from ((record, line + reader.line_num - 1) for record in reader if record)
        except UnicodeDecodeError as error:
            at = line + text.count(self._eol, 0, error.start)
            raise ValueError(f"{self.path}, line {at}: not UTF-8 text ({error.reason}); convert it") from None
        except csv.Error as error:
            at = line + reader.line_num - 1
            raise ValueError(f"{self.path}, line {at}: not a row of cells ({error})") from None

    # -- rows ----------------------------------------------------------------------------------------------------------

    def _stretches(self) -> Iterator[Stretch]:
        """A pass over the file. A quote that is never closed ends it, and is `broken`."""
        place, line = self._start
        rest = b""
        with self._file.open("rb") as file:
            file.seek(place)
            while True:
                more = file.read(max(BLOCK, len(rest)))
                text = rest + more
                ends, opened = self._ends(text)
                if opened < len(text) and (not more or len(text) > LONGEST):
                    at = line + text.count(self._eol, 0, opened)
                    self.broken = f"{self.path}, line {at}: a quoted cell is never closed; close it, or take it out"
                elif not more and text and (not len(ends) or ends[-1] < len(text)):
                    ends = np.append(ends, len(text))
                cut = int(ends[-1]) if len(ends) else 0
                begins = np.concatenate([[0], ends[:-1]]) if cut else ends
                begins = begins[~np.isin(np.frombuffer(text, np.uint8)[begins], (10, 13))]  # without blank lines
                if len(begins):
                    yield Stretch(text[:cut], place, line, begins)
                place, line, rest = place + cut, line + text.count(self._eol, 0, cut), text[cut:]
                if not more or self.broken:
                    return

    def _ends(self, text: bytes) -> tuple[np.ndarray, int]:
        """Where rows end, behind line breaks that are not in quotes, and where quotes open that do not close."""
        opened = len(text)

        def hide(cell: re.Match[bytes]) -> bytes:
            nonlocal opened
            if not cell[1]:
                opened = cell.start()
            return b"x" * len(cell[0])

        plain = self._quoted.sub(hide, text) if b'"' in text else text
        return np.flatnonzero(np.frombuffer(plain, np.uint8) == self._eol[0]) + 1, opened

    def _found(self) -> tuple[list[tuple[int, int]], int, int]:
        """Byte and line of every so many rows and of the end, how many these are, and the number of rows; made once.

        At most `MARKS` places are kept unless the stretches between them would be larger than a chunk.
        """
        if self._index is None:
            marks: list[tuple[int, int]] = []
            every, count, end = 1, 0, self._start
            for part in self._stretches():
                breaks = np.flatnonzero(np.frombuffer(part.text, np.uint8) == self._eol[0])
                begins = part.begins[-count % every :: every]
                lines = part.line + np.searchsorted(breaks, begins)
                marks += zip((part.place + begins).tolist(), lines.tolist(), strict=True)
                count += len(part.begins)
                end = part.place + len(part.text), part.line + len(breaks)
                while len(marks) > MARKS and 2 * every * len(self.names) <= CHUNK:
                    marks, every = marks[::2], 2 * every
            self._index = [*marks, end], every, count
        return self._index

    def _between(self, start: int, stop: int) -> tuple[bytes, int]:
        """The text of one of the `ranges`, and its first line."""
        marks, every, _ = self._found()
        begin, line = marks[start // every]
        with self._file.open("rb") as file:
            file.seek(begin)
            return file.read(marks[-(-stop // every)][0] - begin), line


def _unpacked(owner: object, path: Path) -> Path:
    """What is in a .gz, as a file that stays as long as its owner: it can be read from any place on."""
    handle, name = tempfile.mkstemp(".csv")
    weakref.finalize(owner, Path(name).unlink, missing_ok=True)
    try:
        with os.fdopen(handle, "wb") as file, gzip.open(path) as packed:
            shutil.copyfileobj(packed, file)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole .gz file ({error}); get it again") from None
    return Path(name)


def _number(cell: str, kind: str = "number") -> float | None:
    cell = cell.strip()
    if cell.lower() in MISSING:
        return float("nan")
    if kind == "boolean":
        return TRUTH.get(cell.lower())
    try:
        return None if "_" in cell else float(cell)  # Python reads 1_000 as a number; in a table it is a label
    except ValueError:
        return None


def _kind(cell: str) -> str:
    """What the cells of a column are: number, boolean or text; nothing if this one is missing."""
    number = _number(cell)
    if number is None:
        return "boolean" if cell.strip().lower() in TRUTH else "text"
    return "" if cell.strip().lower() in MISSING else "number"


def _header(first: list[str], path: Path, delimiter: str) -> tuple[tuple[str, ...], bool]:
    """The column names, and whether the first row holds them."""
    cells = [cell.strip() for cell in first]
    kinds = [_kind(cell) for cell in cells]
    counting = [str(i) for i in range(len(cells))]
    if len(cells) > 2 and cells in (counting, ["", *counting[:-1]]):
        raise ValueError(
            f"{path}: the first row counts 0, 1, 2, ..., which may be column numbers or data; "
            "give the columns names in the first row"
        )
    if "number" in kinds and not {"text", "boolean"}.isdisjoint(kinds):
        name = next(cell for cell, kind in zip(cells, kinds, strict=True) if kind in ("text", "boolean"))
        raise ValueError(
            f"{path}: cannot tell whether the first row is a header: {name!r} is a name and "
            f"{cells[kinds.index('number')]!r} is a number. Add a header of names to the file"
        )
    if {"text", "boolean"}.isdisjoint(kinds):
        return tuple(f"column{i}" for i in range(len(cells))), False
    others = {",": ";\t", "\t": ",;"}[delimiter]
    if len(cells) == 1 and any(mark in cells[0] for mark in others):
        what = {",": "commas", "\t": "tabs"}[delimiter]
        raise ValueError(
            f"{path}: the columns are not separated by {what}; the first row is {cells[0]!r}. Convert the file, or "
            "let its name end in .csv for commas and .tsv for tabs"
        )
    return unique(tuple(cell or f"column{i}" for i, cell in enumerate(cells)), path), True
