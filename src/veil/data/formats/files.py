"""Many files of one kind as one source of data, with random access and a policy for what cannot be read."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from veil.data.core import trees
from veil.data.core.arrays import Data, block
from veil.data.core.checks import Labels
from veil.data.core.chunks import Chunked, chunk_rows
from veil.data.core.records import SHOWN, Ledger
from veil.data.formats.delimited import DelimitedTable
from veil.data.formats.layouts import Fields, Layout, Salvaged, Table

LARGEST = 1 << 26  # numbers in a chunk that a source can not divide: 0.5 GB in float64
# What decoders raise for bad files.
UNREADABLE = (
    ValueError,
    EOFError,
    OSError,
    SyntaxError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


class Place(NamedTuple):
    """A chunk: rows `start` to `stop` (excluded) of a file."""

    file: int
    start: int
    stop: int


class TableFiles(Chunked):
    """Files of tables, all with the same columns, one after the other.

    Args:
        tables: the files, opened.
        layout: where the fields of data are in them.
        bad: what to do with records that cannot be read.
        ledger: of the records that are skipped; it may have files already that could not be opened.
        name: of the data.

    Raises:
        ValueError: a file's columns differ from the first one's (with `bad="skip"` that file is skipped).
    """

    def __init__(self, tables: Sequence[Table], layout: Layout, bad: str, ledger: Ledger, name: str) -> None:
        self._layout, self._bad, self._ledger, self._name = layout, bad, ledger, name
        self._tables: list[Table] = []
        self._places: list[Place] | None = None
        like = layout.like(tables[0])
        for number, table in enumerate(tables):
            found = layout.like(table)
            if found == like:
                self._tables.append(table)
                continue
            differs = f"{table.path} has {_text(found)}; the first file, {tables[0].path}, has {_text(like)}"
            if bad == "refuse":
                raise ValueError(f"{differs}. All files must have the same columns; leave it out, or bad='skip'")
            ledger.enter(-1 - len(tables) - number, 1, [differs])
        self._stamps = [stamp(table.path) for table in self._tables]

    @property
    def ledger(self) -> Ledger:
        return self._ledger

    @property
    def count(self) -> int | None:
        """The number of data, where it is known without reading them; not if some may be skipped."""
        counts = [table.count for table in self._tables]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) and self._bad == "refuse" else None

    def __call__(self) -> Iterator[Data]:
        if self._bad == "skip":
            for chunk in range(len(self.sizes())):
                found = self.load(chunk)
                if found is not None:
                    yield found
            self._ledger.warn(self._name)
            return
        for number, table in enumerate(self._tables):
            row = 0
            with reading(table.path, ""):
                unchanged(table.path, self._stamps[number])
                for fields in self._layout.parts(table):
                    _numbers(fields)
                    yield block(fields, self._labels(), row)
                    row += len(trees.first(fields["query"]))

    def sizes(self) -> Sequence[int]:
        return [place.stop - place.start for place in self._chunks()]

    def load(self, chunk: int) -> Data | None:
        place = self._chunks()[chunk]
        table = self._tables[place.file]
        if self._bad == "skip":
            return self._salvage(chunk, place, table)
        with reading(table.path, f", rows {place.start} to {place.stop - 1}"):
            unchanged(table.path, self._stamps[place.file])
            fields = self._layout.load(table, place.start, place.stop)
            self._complete(len(trees.first(fields["query"])), place)
            _numbers(fields)
            return block(fields, self._labels(), place.start)

    def _salvage(self, chunk: int, place: Place, table: Table) -> Data | None:
        try:
            unchanged(table.path, self._stamps[place.file])
            found = self._layout.salvage(table, place.start, place.stop)
            self._complete(len(found.rows) + len(found.bad), place)
            _numbers(found.fields)
        except UNREADABLE as error:
            if of_the_system(error):
                refuse(error, table.path)
            rows = f"{table.path}, rows {place.start} to {place.stop - 1}"
            self._ledger.enter(chunk, place.stop - place.start, [f"{rows}: {reason_of(error, table.path)}"])
            return None
        return salvaged(found, self._labels(), chunk, str(table.path), self._ledger)

    def _complete(self, rows: int, place: Place) -> None:
        if rows != place.stop - place.start:
            raise ValueError(f"{rows} rows are left of {place.stop - place.start}: the file is cut off")

    def _labels(self) -> Labels:
        return *self._layout.names(), self._name

    def _chunks(self) -> list[Place]:
        # Found at the first call, as a CSV has to be read for it.
        if self._places is not None:
            return self._places
        ranges: list[list[tuple[int, int]]] = []
        total = sum(table.count if table.count is not None else _counted(table) for table in self._tables)
        for number, table in enumerate(self._tables):
            with reading(table.path, ""):
                unchanged(table.path, self._stamps[number])
                width = self._layout.width(table)
                found = table.ranges(chunk_rows(total, width))
            largest = max((stop - start for start, stop in found), default=0)
            if largest * width > LARGEST:
                raise ValueError(
                    f"{table.path} can be read on its own only in pieces of {largest} rows of {width} numbers, "
                    "which need too much memory; write it with smaller row groups (veil.data.write does, and "
                    "pyarrow with row_group_size=65536), or an .npz without compression"
                )
            broken = table.index().broken if isinstance(table, DelimitedTable) else ""
            if broken and self._bad == "refuse":
                raise ValueError(broken)
            if broken:
                self._ledger.enter(-1 - number, 1, [f"{broken}; nothing after it was read"])
            ranges.append(found)
        self._places = [Place(file, *each) for file, found in enumerate(ranges) for each in found]
        return self._places


def opened(files: Sequence[Path], opener: Callable[[Path], Table], bad: str, ledger: Ledger) -> list[Table]:
    """The files that can be opened; others are refused, or entered into the ledger.

    Raises:
        ValueError: a file that cannot be opened, or none that can.
    """
    tables = []
    for number, file in enumerate(files):
        try:
            tables.append(opener(file))
        except UNREADABLE as error:
            if bad == "refuse" or of_the_system(error):
                raise
            ledger.enter(-1 - len(files) - number, 1, [f"{file}: {reason_of(error, file)}"])
    if not tables:
        raise ValueError(f"path: none of the {len(files)} files can be read: {'; '.join(ledger.report().first)}")
    return tables


def salvaged(found: Salvaged, names: Labels, chunk: int, path: str, ledger: Ledger) -> Data | None:
    """What can be read of a chunk, without the rows that data may not have; the others go into the ledger.

    Raises:
        ValueError: whatever data would raise for reasons that are not in single rows.
    """
    fields = trees.map(np.asarray, found.fields)
    bad = [f"{path}, {each}" for each in found.bad]
    count = len(bad)
    keep = np.ones(len(found.rows), bool)
    for row, reason in _unusable(fields) if found.rows else ():
        if keep[row]:
            keep[row] = False
            count += 1
            if len(bad) < SHOWN:
                bad.append(f"{path}, {found.rows[row]}: {reason}")
    ledger.enter(chunk, count, bad)
    if not keep.any():
        return None
    return block(trees.map(lambda array: array[keep], fields), names, 0)


def _numbers(fields: Fields) -> None:
    for path, array in trees.leaves(fields):
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{trees.text(path[0], path[1:])} must hold real numbers; got {array.dtype}")


def _unusable(fields: Fields) -> Iterator[tuple[int, str]]:
    """The rows that data may not have, and why; a row may come twice."""
    present = dict(trees.leaves(fields.get("observed")))
    for (field, *inside), array in trees.leaves(fields):
        if field == "observed" or array.dtype.kind not in "fiu":
            continue
        seen = present.get(tuple(inside)) if field == "query" else None
        wrong = np.isinf(array) if field == "query" else ~np.isfinite(array)
        if seen is not None:
            wrong &= np.asarray(seen, bool).reshape(array.shape)
        what = "infinite" if field == "query" else "not finite"
        if field in ("weight", "index"):
            wrong, what = wrong | (array < 0), f"{what} or negative"
        for row in np.flatnonzero(wrong.reshape(len(array), -1).any(axis=1)):
            yield int(row), f"{trees.text(field, tuple(inside))} is {what}"


# -- what can go wrong -------------------------------------------------------------------------------------------------


@contextmanager
def reading(path: Path, where: str) -> Iterator[None]:
    """Errors while reading, with the file and the rows.

    Raises:
        FileNotFoundError: the file was there before; the message says what to do.
        ValueError: the file cannot be read.
    """
    try:
        yield
    except UNREADABLE as error:
        if of_the_system(error):
            refuse(error, path)
        text = str(error)
        raise ValueError(text if str(path) in text else f"{path}{where}: {text or type(error).__name__}") from error


def refuse(error: BaseException, path: Path) -> NoReturn:
    """Raise an error of the file system, with what to do about a file that vanished."""
    if isinstance(error, FileNotFoundError):
        raise FileNotFoundError(
            f"{path} was there when the stream was made, and is gone. Put it back and go on: nothing is lost, and a "
            "run can be resumed from its last checkpoint. If it is gone for good, make the stream anew and start a "
            "new run"
        ) from error
    raise error


Stamp = tuple[int, int]


def stamp(path: Path) -> Stamp:
    """What tells whether a file is still the same: size and time of the last change."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def unchanged(path: Path, before: Stamp) -> None:
    """Refuse a file that has changed, whose rows are no longer where they were.

    Raises:
        FileNotFoundError: it is gone.
        Changed: it has another size or time.
    """
    if stamp(path) != before:
        raise Changed(
            f"{path} has changed since the stream was made. Data must stay as they are while they are read: put the "
            "old file back and resume the run, or make the stream anew and start a new run"
        )


class Changed(OSError):
    """A file that was written to while its stream was in use."""


def of_the_system(error: BaseException) -> bool:
    """Whether the system failed and not the contents: that is never skipped, or every pass would see other data."""
    return isinstance(error, Changed) or (isinstance(error, OSError) and error.errno is not None)


def reason_of(error: BaseException, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ").removeprefix(f"{path} ") or type(error).__name__


def _counted(table: Table) -> int:
    assert isinstance(table, DelimitedTable)
    with reading(table.path, ""):
        return table.index().rows


def _text(like: object) -> str:
    if isinstance(like, dict):
        return "the arrays " + ", ".join(f"{name} {list(shape)}" for name, shape in like.items())
    if isinstance(like, tuple) and all(isinstance(each, str) for each in like):
        return f"{len(like)} columns ({', '.join(like[:8])}{', ...' if len(like) > 8 else ''})"
    return f"shape {like} per datum"
