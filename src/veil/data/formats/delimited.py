"""Comma- or tab-separated text as a table of numbers: cut into stretches of whole rows here, parsed by pyarrow."""

import csv
import gzip
import io
import os
import re
import shutil
import tempfile
import threading
import weakref
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from veil.data.core.chunks import FEW
from veil.data.core.numbers import row_index, unique
from veil.data.formats.arrow import pyarrow_for, stacked
from veil.data.formats.paths import ending
from veil.data.formats.roles import Table

BLOCK = 1 << 20  # bytes that are parsed at once
LONGEST = 1 << 24  # bytes of a row: a quoted cell that goes on for longer is never closed
EXACT = 1 << 53  # up to here all integers are floats
MISSING = ("", "na", "n/a", "nan", "null")
TRUTH = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}
Bad = tuple[int, str]  # the last line of a row that cannot be read, and why


class DelimitedTable(Table):
    """The columns of a .csv or .tsv file (UTF-8, quoted cells allowed, perhaps in a .gz).

    The first row is the header if no cell of it is a number. If all of them are, there is no header and the columns are
    called column0, column1, ... Cells that are empty, NA, N/A, NaN or null (in any case) are missing. A column holds
    numbers if its first cell that is not missing is one, and truth values (1 and 0) if that is true or false.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._arrow = path, pyarrow_for(path)
        self._delimiter = "\t" if ending(path).startswith(".tsv") else ","
        # A cell that begins with a quote, to the one that closes it or to the end.
        self._quoted = re.compile(rb'(?<![^%s\r\n])"[^"]*(?:""[^"]*)*("|\Z)' % self._delimiter.encode())
        self._file = _unpacked(self, path) if path.suffix.lower() == ".gz" else path
        with self._file.open("rb") as file:
            head = file.read(BLOCK)
        self._eol = b"\n" if b"\n" in head or b"\r" not in head else b"\r"
        place, line = 3 if head.startswith(b"\xef\xbb\xbf") else 0, 1
        self._places = [(place, line, 0)]  # the byte, line and row where each of the `ranges` that are known begins
        self._lock, self._ahead = threading.Lock(), (-1, (b"", 0))  # a row, and the text that was found there
        first: list[str] = []
        kinds, header, sample, other = [""], False, 0, ""
        while not sample and (text := self._whole_rows(place, line, BLOCK)):  # the first is enough, if it has a row
            for record, at in self._records(text, line, "surrogateescape"):
                if not first:
                    first = record
                    self.names, header = self._header(first)
                    kinds = [""] * len(first)
                    if header:
                        rest = text.split(self._eol, at - line + 1)[-1]
                        self._places = [(place + len(text) - len(rest), at + 1, 0)]
                        continue
                if len(record) != len(first):
                    other = other or self._refusal(at, self._length(record))
                    continue
                kinds, sample = [kind or _kind(cell) for kind, cell in zip(kinds, record, strict=True)], sample + 1
                if all(kinds):
                    break
            place, line = place + len(text), line + text.count(self._eol)
        if not first:
            raise ValueError(self.broken or f"{path} is empty; expected a header and rows of numbers")
        if not sample:
            only = f"{path} has no rows of data; only the header {', '.join(self.names)!r} is there"
            raise ValueError(other or self.broken or only)
        self._kinds, self.numeric = kinds, tuple(kind != "text" for kind in kinds)
        empty = [i for i, (name, kind) in enumerate(zip(first, kinds, strict=True)) if not (name.strip() or kind)]
        self.unnamed = tuple(sorted({*row_index(first), *empty})) if header else ()

    def parts(self, start: int, stop: int, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        yield self._numbers(*self._text(start), wanted)

    def ranges(self, rows: int) -> Iterator[tuple[int, int]]:
        """About `FEW` of them, or of `BLOCK` bytes, whatever `rows` asks for; found as they are asked for."""
        number = 0
        while number + 1 < len(self._places) or self._another(number):
            start, stop = (row for _, _, row in self._places[number : number + 2])
            number += 1
            if stop > start:  # not of blank lines alone
                yield start, stop

    def cells(self, column: int) -> np.ndarray:
        """As they stand: numbers, of integers every digit, or text, in which a missing cell is None."""
        arrow, compute = self._arrow, self._arrow.compute
        parts = [self._parsed(*self._text(start), [column], arrow.string()) for start, _ in self.ranges(1)]
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

    def salvage(self, start: int, stop: int, wanted: Sequence[int]) -> tuple[np.ndarray, list[str], list[str]]:
        """As `Table` has it; rows are called by their lines."""
        good, lines, bad = self._careful(*self._text(start), wanted, "surrogateescape")
        at = [f"{self.path}, line {line}" for line in lines]
        return good, at, [f"{self.path}, line {line}: {reason}" for line, reason in bad]

    def _types(self, wanted: Sequence[int]) -> list[Any]:
        return [self._arrow.bool_() if self._kinds[i] == "boolean" else self._arrow.float64() for i in wanted]

    def _numbers(self, text: bytes, line: int, wanted: Sequence[int]) -> np.ndarray:
        table = self._parsed(text, line, wanted)
        return table if isinstance(table, np.ndarray) else stacked(table, self._types(wanted))

    def _parsed(self, text: bytes, line: int, wanted: Sequence[int], kind: Any = None) -> Any:
        """A table of columns, of one type or each of its own; what pyarrow refuses as a careful look reads it."""
        arrow, names = self._arrow, [self.names[i] for i in wanted]
        types = self._types(wanted) if kind is None else [kind]
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
            if bad or kind:
                raise ValueError(self._refusal(*(bad or [(line, str(error))])[0])) from None
            return good

    def _careful(
        self, text: bytes, line: int, wanted: Sequence[int], errors: str
    ) -> tuple[np.ndarray, list[int], list[Bad]]:
        """Row by row: the numbers of those that can be read and their lines, and the others."""
        good, lines, bad = [], [], []
        for record, at in self._records(text, line, errors):
            if len(record) != len(self.names):
                bad.append((at, self._length(record)))
                continue
            numbers = [_number(record[i], self._kinds[i]) for i in wanted]
            if None in numbers:
                i = wanted[numbers.index(None)]
                what = "true or false" if self._kinds[i] == "boolean" else "a number"
                bad.append((at, f"column {self.names[i]!r}: {record[i]!r} is not {what}"))
            else:
                good.append(numbers)
                lines.append(at)
        return np.array(good, np.float64).reshape(len(good), len(wanted)), lines, bad

    def _header(self, first: list[str]) -> tuple[tuple[str, ...], bool]:
        """The column names, and whether the first row holds them."""
        path, cells = self.path, [cell.strip() for cell in first]
        if any("\ud800" <= letter <= "\udfff" for cell in first for letter in cell):
            raise ValueError(f"{path} is not UTF-8 text, as its first row shows; convert it, or check the format")
        kinds = [_kind(cell) for cell in cells]
        counting = [str(i) for i in range(len(cells))]
        if (len(cells) > 2 and cells == counting) or (len(cells) > 1 and cells == ["", *counting[:-1]]):
            raise ValueError(
                f"{path}: the first row counts 0, 1, 2, ..., which may be column numbers or data; "
                "give the columns names in the first row"
            )
        named = [cell for cell, kind in zip(cells, kinds, strict=True) if kind in ("text", "boolean")]
        if named and "number" in kinds:
            raise ValueError(
                f"{path}: cannot tell whether the first row is a header: {named[0]!r} is a name and "
                f"{cells[kinds.index('number')]!r} is a number. Add a header of names to the file"
            )
        if not named:
            return tuple(f"column{i}" for i in range(len(cells))), False
        here, others = ("commas", ";\t") if self._delimiter == "," else ("tabs", ",;")
        if len(cells) == 1 and any(mark in cells[0] for mark in others):
            raise ValueError(
                f"{path}: the columns are not separated by {here}; the first row is {cells[0]!r}. Convert the file, or "
                "let its name end in .csv for commas and .tsv for tabs"
            )
        return unique(tuple(cell or f"column{i}" for i, cell in enumerate(cells)), path), True

    def _length(self, record: list[str]) -> str:
        return f"{len(record)} cells in place of {len(self.names)}"

    def _refusal(self, line: int, reason: str) -> str:
        advice = "Columns that are used must be numeric: leave this one out by naming the query columns, or correct it"
        if not reason.startswith("column"):
            advice = (
                f"The first row is {', '.join(self.names[:4])}{', ...' if len(self.names) > 4 else ''}. A separator at "
                "the end of a row, or in a cell without quotes, makes one cell more; comment lines must go"
            )
        return f"{self.path}, line {line}: {reason}. {advice}"

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

    def _whole_rows(self, place: int, line: int, size: int) -> bytes:
        """About so many bytes from a byte on; nothing at the end, or at a quote that is never closed: `broken`."""
        text = b""
        with self._file.open("rb") as file:
            file.seek(place)
            while not self.broken:
                more = file.read(max(size, len(text)))
                text += more
                plain, opened = self._plain(text)
                if opened is None and not more:
                    return text
                if cut := plain.rfind(self._eol, 0, opened) + 1:
                    return text[:cut]
                if not more or len(text) > LONGEST:
                    at = line + text.count(self._eol, 0, opened)
                    self.broken = f"{self.path}, line {at}: a quoted cell is never closed; close it, or take it out"
        return b""

    def _another(self, number: int) -> bool:
        """Whether there is one more piece of the file than so many; of several threads one looks for it."""
        with self._lock:
            place, line, row = self._places[-1]
            if len(self._places) > number + 1:
                return True
            text = self._whole_rows(place, line, max(1, min(BLOCK, self._file.stat().st_size // FEW)))
            if text:
                ends = np.flatnonzero(np.frombuffer(self._plain(text)[0], np.uint8) == self._eol[0])
                begins = np.frombuffer(text, np.uint8)[np.append(0, ends[: len(ends) - text.endswith(self._eol)] + 1)]
                rows = len(begins) - np.count_nonzero((begins == 10) | (begins == 13))
                lines = len(ends) if b'"' not in text else text.count(self._eol)
                self._places.append((place + len(text), line + lines, row + int(rows)))
                self._ahead = row, (text, line)
            return bool(text)

    def _text(self, start: int) -> tuple[bytes, int]:
        """The text of the one of the `ranges` that begins with this row, and its first line."""
        (row, known), self._ahead = self._ahead, (-1, (b"", 0))
        if row == start:
            return known
        number = bisect_right(self._places, start, key=lambda each: each[2]) - 1
        (place, line, _), (end, _, _) = self._places[number : number + 2]
        with self._file.open("rb") as file:
            file.seek(place)
            return file.read(end - place), line

    def _plain(self, text: bytes) -> tuple[bytes, int | None]:
        """The text without line breaks in quotes, and where quotes open that do not close."""
        opened = None

        def hide(cell: re.Match[bytes]) -> bytes:
            nonlocal opened
            opened = opened if cell[1] else cell.start()
            return b"x" * len(cell[0])

        return self._quoted.sub(hide, text) if b'"' in text else text, opened


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
