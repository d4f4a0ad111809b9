"""Which columns of a table are the query, the evidence and the weight."""

import errno
import os
import warnings
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from veil.data.core import trees
from veil.data.core.checks import Labels, flat
from veil.data.core.columns import CELLS, Columns, check_roles, resolve, resolve_tree
from veil.data.core.records import DataWarning
from veil.data.core.trees import Tree

# What decoders raise for bad files.
UNREADABLE = (ValueError, EOFError, OSError, SyntaxError, NotImplementedError, zipfile.BadZipFile, zlib.error)
Fields = dict[str, Tree]  # of `Data`, by name


class Changed(OSError):
    """A file that was written to while its stream was in use."""


def of_the_system(error: BaseException) -> bool:
    """Whether the system failed and not the contents: that is never skipped, or every pass would see other data."""
    # a damaged file may send its reader to a place that no file has, which the system calls invalid
    return isinstance(error, Changed) or (isinstance(error, OSError) and error.errno not in (None, errno.EINVAL))


def reason_of(error: BaseException, path: Path) -> str:
    """What is wrong, without the name of the file."""
    return str(error).removeprefix(f"{path}: ").removeprefix(f"{path} ") or type(error).__name__


class Table(ABC):
    """What a file format offers: named columns, or whole arrays where what is `wanted` is None.

    Columns come side by side, [n, len(wanted)], missing cells NaN; whole arrays as the fields of `Data`.

    Attributes:
        names: the columns; () of whole arrays.
        numeric: for each column, whether it holds numbers.
        unnamed: the columns that are no data unless they are named: the row index that pandas or R writes.
        count: the number of rows, where it is known without reading them.
        classes: the names of the evidence, where whole arrays have such.
        ragged: whether the arrays are steps of sequences, with `lengths` or an `episode` for each.
        like: what must be the same in all files of a stream.
        broken: why the file cannot be read to its end, known after the first look at it.
    """

    path: Path
    names: tuple[str, ...] = ()
    numeric: tuple[bool, ...] = ()
    unnamed: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    ragged: bool = False
    count: int | None = None
    broken: str = ""

    @property
    def like(self) -> Any:
        return tuple(sorted(self.names))

    def stamp(self) -> tuple[int, ...]:
        """What tells whether the file is still the same: size and time of the last change."""
        found = os.stat(self.path)
        return found.st_size, found.st_mtime_ns

    def rows(self) -> int:
        """The number of rows."""
        return max(stop for _, stop in self.ranges(1)) if self.count is None else self.count

    def width(self, wanted: Any) -> int:
        """The numbers of each row."""
        return len(wanted)

    def chunks(self, wanted: Any) -> Iterator[Any]:
        """All rows in order, in parts, anew at every call."""
        for start, stop in self.ranges(max(1, CELLS // self.width(wanted))):
            yield from self.parts(start, stop, wanted)
        if self.broken:
            raise ValueError(self.broken)

    def whole(self, wanted: Any) -> Any:
        """All rows."""
        return np.concatenate(list(self.chunks(wanted)))

    def load(self, start: int, stop: int, wanted: Any) -> Any:
        """The rows of one of the `ranges`."""
        found = list(self.parts(start, stop, wanted))
        return found[0] if len(found) == 1 else np.concatenate(found)

    def salvage(self, start: int, stop: int, wanted: Any) -> tuple[Any, list[str], list[str]]:
        """The rows of one of the `ranges` that can be read, what to call them, and which cannot be and why."""
        return self.load(start, stop, wanted), [f"{self.path}, row {row}" for row in range(start, stop)], []

    @abstractmethod
    def parts(self, start: int, stop: int, wanted: Any) -> Iterator[Any]:
        """The rows of one of the `ranges`, in order, in parts of about `CELLS` numbers."""

    @abstractmethod
    def ranges(self, rows: int) -> Iterable[tuple[int, int]]:
        """Ranges of about `rows` rows, each of which can be read on its own."""

    def cells(self, column: int) -> np.ndarray:
        """One column as it stands: numbers, dates or text, in which a missing cell is None, NaN or NaT."""
        found: np.ndarray = self.whole([column])[:, 0]
        return found


class Roles(NamedTuple):
    """The positions of the columns in each role; query and evidence are lists, or trees of lists: columns into leaves.

    The wanted columns of a table are those of the query first, then of the evidence, then the weight.
    """

    query: Tree
    evidence: Tree
    weight: int | None

    @property
    def wanted(self) -> list[int]:
        """All columns that are used."""
        return [*flat(self.query), *flat(self.evidence), *([] if self.weight is None else [self.weight])]

    def arrays(self, chunk: np.ndarray) -> dict[str, Tree]:
        """The fields of `Data` in the wanted columns."""
        end = 0

        def taken(places: list[int]) -> np.ndarray:
            nonlocal end
            start, end = end, end + len(places)
            return chunk[:, start:end]

        query, evidence = trees.map(taken, self.query), trees.map(taken, self.evidence)
        return {"query": query, "evidence": evidence, "weight": None if self.weight is None else chunk[:, end]}

    def labels(self, table: Table, name: str) -> Labels:
        """The names of the query's and the evidence's columns, () for those of `Data`, and of the data."""
        query, evidence = (
            () if tree is None or trees.is_tree(tree) else tuple(table.names[i] for i in tree) for tree in self[:2]
        )
        return query, evidence, name


def roles_of(
    table: Table, query: Columns, evidence: Columns, weight: str | int | None, apart: Sequence[int] = ()
) -> Roles:
    """The columns in their roles; those in `apart` are the episode and the time."""
    inputs = resolve_tree(table.names, evidence, "evidence") or None
    given = flat(inputs)
    weighing = None if weight is None else resolve(table.names, weight, "weight")[0]
    outputs = resolve_tree(table.names, query, "query")
    chosen = list(flat(outputs))
    if query is None:
        free = [i for i in range(len(table.names)) if i not in (*given, weighing, *apart)]
        chosen = [i for i in free if i not in table.unnamed] or free
        texts = [] if evidence is not None else [i for i in chosen if not table.numeric[i]]
        left = [(texts, "what is not numeric"), ([i for i in free if i not in chosen], "what is a row index or empty")]
        chosen = [i for i in chosen if i not in texts]
        if texts and not chosen:
            raise ValueError(f"{table.path} has no numeric column for the query; it has {', '.join(table.names)}")
        for places, why in left:
            if places:
                names = ", ".join(table.names[i] or "''" for i in places)
                warnings.warn(
                    f"{table.path.name}: left out {why}: {names}. Name the query to choose the columns",
                    DataWarning,
                    stacklevel=3,
                )
    check_roles(table.names, chosen, given, weighing)
    twice = next((i for i in apart if i in (*chosen, *given, weighing)), None)
    if twice is not None or len(set(apart)) < len(apart):
        column = table.names[apart[0] if twice is None else twice]
        raise ValueError(
            f"column {column!r} is the episode or the time, and in another role too; a column has one role"
        )
    return Roles(chosen if outputs is None else outputs, inputs, weighing)
