"""How the fields of data lie in a file: as columns, as one array, or as arrays by their roles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from veil.data.core import trees
from veil.data.core.checks import Labels
from veil.data.core.columns import flat
from veil.data.core.trees import Tree
from veil.data.formats.delimited import DelimitedTable
from veil.data.formats.numpy_files import NpyTable, NpzTable

Fields = dict[str, Tree]  # by the names of the fields of Data, None where a field is absent


@runtime_checkable
class Table(Protocol):
    """What a file format offers: named columns, read in chunks, anew at every call, or in ranges of rows."""

    path: Any

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def numeric(self) -> tuple[bool, ...]: ...
    @property
    def count(self) -> int | None: ...
    def chunks(self, wanted: Sequence[int]) -> Iterator[np.ndarray]: ...
    def cells(self, column: int) -> np.ndarray: ...
    def ranges(self, rows: int) -> list[tuple[int, int]]: ...
    def load(self, start: int, stop: int, wanted: Sequence[int]) -> np.ndarray: ...


class Salvaged(NamedTuple):
    """What can be read of a range: the fields, what to call each row, and how many rows could not be read and why."""

    fields: Fields
    rows: list[str]
    bad: list[str]


class Layout(ABC):
    """The fields of data in the files of one stream."""

    @abstractmethod
    def like(self, table: Table) -> Any:
        """What must be the same in all files."""

    @abstractmethod
    def width(self, table: Table) -> int:
        """The numbers of each datum."""

    @abstractmethod
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of the query's and the evidence's columns, () for those of `Data`."""

    @abstractmethod
    def parts(self, table: Table) -> Iterator[Fields]:
        """A pass over a file, in order, in parts."""

    @abstractmethod
    def load(self, table: Table, start: int, stop: int) -> Fields:
        """The rows of a range."""

    def salvage(self, table: Table, start: int, stop: int) -> Salvaged:
        """The rows of a range that can be read."""
        return Salvaged(self.load(table, start, stop), [f"row {row}" for row in range(start, stop)], [])


class Roles(NamedTuple):
    """The positions of the columns in each role; a chunk of a table has the query first, then evidence, then weight.

    Query and evidence are each a list of positions, or a tree of such lists: columns into leaves.
    """

    query: Tree
    evidence: Tree
    weight: int | None

    @property
    def wanted(self) -> list[int]:
        """All columns that are used, in the order of a chunk."""
        places = flat(self.query) + flat(self.evidence)
        return places if self.weight is None else [*places, self.weight]

    def arrays(self, chunk: np.ndarray) -> Fields:
        """The fields of `Data` in a chunk of the wanted columns."""
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


class Columns(Layout):
    """Columns by name: later files may have them in another order."""

    def __init__(self, roles: Roles, table: Table) -> None:
        self._roles, self._all = roles, table.names
        self._names = roles.labels(table, "")[:2]

    def like(self, table: Table) -> tuple[str, ...]:
        return tuple(sorted(table.names))

    def width(self, table: Table) -> int:
        return len(self._roles.wanted)

    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self._names

    def parts(self, table: Table) -> Iterator[Fields]:
        return (self._roles.arrays(chunk) for chunk in table.chunks(self._wanted(table)))

    def load(self, table: Table, start: int, stop: int) -> Fields:
        return self._roles.arrays(table.load(start, stop, self._wanted(table)))

    def salvage(self, table: Table, start: int, stop: int) -> Salvaged:
        if not isinstance(table, DelimitedTable):
            return super().salvage(table, start, stop)
        chunk, lines, bad = table.salvage(start, stop, self._wanted(table))
        fields = self._roles.arrays(chunk)
        return Salvaged(fields, [f"line {line}" for line in lines], [f"line {line}: {reason}" for line, reason in bad])

    def _wanted(self, table: Table) -> list[int]:
        wanted = self._roles.wanted
        return wanted if table.names == self._all else [table.names.index(self._all[i]) for i in wanted]


class OneArray(Layout):
    """One array [N, ...] with more than two axes, all of which is the query."""

    def like(self, table: Table) -> tuple[int, ...]:
        shape = table.shape if isinstance(table, NpyTable) else self._only(table)[1]
        return tuple(shape[1:])

    def width(self, table: Table) -> int:
        return int(np.prod(self.like(table)))

    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return (), ()

    def parts(self, table: Table) -> Iterator[Fields]:
        if isinstance(table, NpyTable):
            return ({"query": part} for part in table.parts())
        assert isinstance(table, NpzTable)
        only = self._only(table)[0]
        return ({"query": part[only]} for part in table.parts([only]))

    def load(self, table: Table, start: int, stop: int) -> Fields:
        if isinstance(table, NpyTable):
            return {"query": table.load_whole(start, stop)}
        assert isinstance(table, NpzTable)
        only = self._only(table)[0]
        return {"query": table.load_members(start, stop, [only])[only]}

    def _only(self, table: Table) -> tuple[str, tuple[int, ...]]:
        assert isinstance(table, NpzTable)
        ((name, shape),) = table.members.items()
        return name, shape


class ByRole(Layout):
    """The arrays of an .npz, named as the fields of `Data`, those of a tree as "query/frame"."""

    def like(self, table: Table) -> dict[str, tuple[int, ...]]:
        assert isinstance(table, NpzTable)
        return {name: shape[1:] for name, shape in sorted(table.members.items())}

    def width(self, table: Table) -> int:
        return sum(int(np.prod(shape)) for shape in self.like(table).values())

    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return (), ()

    def parts(self, table: Table) -> Iterator[Fields]:
        assert isinstance(table, NpzTable)
        return (by_role(part) for part in table.parts(list(table.members)))

    def load(self, table: Table, start: int, stop: int) -> Fields:
        assert isinstance(table, NpzTable)
        return by_role(table.load_members(start, stop, list(table.members)))


def by_role(arrays: Mapping[str, Any]) -> Fields:
    """Arrays by the names that they have in a file as fields: "query/frame" is a leaf of the query.

    Raises:
        ValueError: a name is that of an array and of a dictionary.

    >>> by_role({"query/frame": 1, "query/arm/left": 2, "weight": 3})
    {'query': {'frame': 1, 'arm': {'left': 2}}, 'weight': 3}
    """
    fields: Fields = trees.nested({tuple(name.split("/")): array for name, array in arrays.items()})
    return fields


def is_one_array(table: Table) -> bool:
    """An array with more than two axes, which has no columns.

    Raises:
        ValueError: one of several arrays is, which are neither columns nor named by their roles.
    """
    if isinstance(table, NpyTable):
        return len(table.shape) > 2
    if isinstance(table, NpzTable) and not table.names:
        if len(table.members) > 1:
            large = next(name for name, shape in table.members.items() if len(shape) > 2)
            raise ValueError(
                f"{table.path}: array {large!r} has shape {list(table.members[large])}, which is not a column. Name "
                "the arrays by their roles: query and, if needed, evidence, weight, observed, index, mask, reset"
            )
        return True
    return False
