"""Many files of one kind as one source of data, with random access and a policy for what cannot be read."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from veil.data.core import trees
from veil.data.core.arrays import Data, block
from veil.data.core.checks import Labels
from veil.data.core.chunks import chunk_rows
from veil.data.core.records import Ledger
from veil.data.core.trees import Tree
from veil.data.formats.roles import UNREADABLE, Changed, Fields, Roles, Table, of_the_system, reason_of

LARGEST = 1 << 26  # numbers in a chunk that a source can not divide: 0.5 GB in float64


class Place(NamedTuple):
    """A chunk: its number, and its file and the rows `start` to `stop` (excluded) in it."""

    number: int
    file: int
    start: int
    stop: int


class TableFiles:
    """Files of tables, all with the same columns (in any order), one after the other, in numbered chunks, 0, 1, ...

    Several threads may load chunks at the same time.

    Args:
        tables: the files, opened.
        roles: of the columns of the first one; None for whole arrays.
        bad: what to do with records that cannot be read.
        ledger: of the records that are skipped; it may have files already that could not be opened.
        name: of the data.
    """

    def __init__(self, tables: Sequence[Table], roles: Roles | None, bad: str, ledger: Ledger, name: str) -> None:
        self._roles, self._bad, self.ledger, self.name = roles, bad, ledger, name
        self._tables: list[Table] = []
        self._places: list[Place] | None = None
        self._shared = False
        self._function: Callable[[Data], Data] = lambda found: found
        self._labels: Labels = ((), tables[0].classes, name) if roles is None else roles.labels(tables[0], name)
        like = tables[0].like
        for number, table in enumerate(tables):
            if table.like == like:
                self._tables.append(table)
                continue
            differs = f"{table.path} has {_text(table.like)}; the first file, {tables[0].path}, has {_text(like)}"
            if bad == "refuse":
                raise ValueError(f"{differs}. All files must have the same columns; leave it out, or bad='skip'")
            ledger.enter(-1 - len(tables) - number, 1, [differs])
        self._wanted: list[Any] = [None] * len(self._tables)
        if roles is not None:  # later files may have the columns in another order
            names = [tables[0].names[i] for i in roles.wanted]
            self._wanted = [[table.names.index(name) for name in names] for table in self._tables]
        self._stamps = [table.stamp() for table in self._tables]

    @property
    def count(self) -> int | None:
        """The number of data, where it is known without reading them; not if some may be skipped."""
        known = [table.count for table in self._tables if table.count is not None]
        return sum(known) if len(known) == len(self._tables) and self._bad == "refuse" else None

    def map(self, function: Callable[[Data], Data]) -> TableFiles:
        """The same files with a function of each block."""
        made, before = copy.copy(self), self._function
        made._function = lambda found: function(before(found))
        return made

    def share(self, process: int, processes: int) -> TableFiles:
        """Every `processes`-th chunk, from number `process` on: shares are disjoint and together all."""
        made = copy.copy(self)
        made._places, made._shared = self._chunks()[process::processes], True
        return made

    def __call__(self) -> Iterator[Data]:
        """A pass over all data in order, in blocks of any sizes; at the end it is said what was skipped."""
        return (self._function(found) for found in self._pass())

    def _pass(self) -> Iterator[Data]:
        if self._bad == "skip" or self._shared:
            found = map(self._load, self._chunks())
            yield from (data for data in found if data is not None)
            self.ledger.warn(self.name)
            return
        for number, table in enumerate(self._tables):
            row = 0
            with self._reading(number, ""):
                for chunk in table.chunks(self._wanted[number]):
                    part = block(self._fields(chunk), self._labels, row)
                    yield part
                    row += len(part)

    def sizes(self) -> list[int]:
        """The rows in each chunk, bad ones included."""
        return [place.stop - place.start for place in self._chunks()]

    def load(self, chunk: int) -> Data | None:
        """A chunk, or None if all its rows are bad and skipped."""
        found = self._load(self._chunks()[chunk])
        return None if found is None else self._function(found)

    def _load(self, place: Place) -> Data | None:
        if self._bad == "skip":
            return self._salvage(place)
        _, number, start, stop = place
        with self._reading(number, f", rows {start} to {stop - 1}"):
            return block(
                self._fields(self._tables[number].load(start, stop, self._wanted[number])), self._labels, start
            )

    def _salvage(self, place: Place) -> Data | None:
        """What can be read of a chunk, without the rows that data may not have; the others go into the ledger."""
        chunk, number, start, stop = place
        table, wanted = self._tables[number], self._wanted[number]
        fields, names, bad = Fields(), list[str](), list[str]()
        try:
            self._unchanged(number)
            with suppress(ValueError):
                fields = self._fields(table.load(start, stop, wanted))
            if not fields or next(_unusable(fields), None) is not None:
                found, names, bad = table.salvage(start, stop, wanted)
                fields = self._fields(found)
        except UNREADABLE as error:
            if of_the_system(error):
                raise gone(error, table.path) from error
            reason = f"{table.path}, rows {start} to {stop - 1}: {reason_of(error, table.path)}"
            self.ledger.enter(chunk, stop - start, [reason])
            return None
        reasons = dict[int, str]()
        for row, reason in _unusable(fields) if names else ():
            reasons.setdefault(row, f"{names[row]}: {reason}")
        self.ledger.enter(chunk, len(bad) + len(reasons), [*bad, *reasons.values()])
        if not names:
            return block(fields, self._labels, 0) if fields and not bad else None
        keep = ~np.isin(np.arange(len(names)), list(reasons))
        return block(trees.map(lambda array: array[keep], fields), self._labels, 0) if keep.any() else None

    def _fields(self, chunk: Any) -> Fields:
        """The fields of `Data` in a part of a file."""
        fields = chunk if self._roles is None else self._roles.arrays(chunk)
        fields = {name: tree for name, tree in fields.items() if tree is not None}
        for path, array in trees.leaves(fields):
            if array.dtype.kind not in "biuf":
                raise ValueError(f"{trees.text(path[0], path[1:])} must hold real numbers; got {array.dtype}")
        return fields

    def _unchanged(self, number: int) -> None:
        """Refuse a file that has changed, whose rows are no longer where they were."""
        if self._tables[number].stamp() != self._stamps[number]:
            raise Changed(
                f"{self._tables[number].path} has changed since the stream was made. Data must stay as they are while "
                "they are read: put the old file back and resume the run, or make the stream anew and start a new run"
            )

    @contextmanager
    def _reading(self, number: int, where: str) -> Iterator[None]:
        """Errors while reading, with the file and the rows."""
        with reading(self._tables[number].path, where):
            self._unchanged(number)
            yield

    def _chunks(self) -> list[Place]:
        # Found at the first call, as a CSV has to be read for it.
        if self._places is not None:
            return self._places
        places: list[Place] = []
        counts = []
        for number, table in enumerate(self._tables):
            with self._reading(number, ""):
                counts.append(table.rows())
            if table.broken and self._bad == "refuse":
                raise ValueError(table.broken)
            if table.broken:
                self.ledger.enter(-1 - number, 1, [f"{table.broken}; nothing after it was read"])
        for number, table in enumerate(self._tables):
            width = table.width(self._wanted[number])
            found = list(table.ranges(chunk_rows(sum(counts), width)))
            largest = max((stop - start for start, stop in found), default=0)
            if largest * width > LARGEST:
                raise ValueError(
                    f"{table.path} can be read on its own only in pieces of {largest} rows of {width} numbers, "
                    "which need too much memory; write it with smaller row groups (veil.data.write does, and "
                    "pyarrow with row_group_size=65536), or an .npz without compression"
                )
            places += [Place(len(places) + i, number, *each) for i, each in enumerate(found)]
        self._places = places
        return places


def opened(files: Sequence[Path], opener: Callable[[Path], Table], bad: str, ledger: Ledger) -> list[Table]:
    """The files that can be opened; others are refused, or entered into the ledger."""
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


def _unusable(fields: dict[str, Tree]) -> Iterator[tuple[int, str]]:
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


@contextmanager
def reading(path: Path, where: str = "") -> Iterator[None]:
    """Errors while reading, with the file and the rows."""
    try:
        yield
    except (*UNREADABLE, MemoryError) as error:  # of which damaged sizes ask for too much
        if of_the_system(error):
            raise gone(error, path) from error
        text = " ".join(str(error).split())  # of some decoders several lines
        raise ValueError(text if str(path) in text else f"{path}{where}: {text or type(error).__name__}") from error


def gone(error: BaseException, path: Path) -> BaseException:
    """An error of the file system, with what to do about a file that vanished."""
    if not isinstance(error, FileNotFoundError):
        return error
    return FileNotFoundError(
        f"{error.filename or path} was there when the stream was made, and is gone. Put it back and go on: nothing is "
        "lost, and a run can be resumed from its last checkpoint. If it is gone for good, make the stream anew and "
        "start a new run"
    )


def _text(like: Any) -> str:
    if isinstance(like, dict):
        return "the arrays " + ", ".join(f"{name} {list(shape)}" for name, shape in like.items())
    if like and isinstance(like[0], str):
        return f"{len(like)} columns ({', '.join(like[:8])}{', ...' if len(like) > 8 else ''})"
    return f"shape {like} per datum"
