"""Files of numbers as data: whole (`read`) or in blocks (`stream`), with columns chosen for their roles."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from veil.data.arrays import Data, Labels, block
from veil.data.columns import check_roles, resolve
from veil.data.delimited import DelimitedTable
from veil.data.numpy_files import NpyTable, NpzTable
from veil.data.parquet import ParquetTable
from veil.data.streaming import Stream

Columns = Sequence[str | int] | str | int | None


class DataWarning(UserWarning):
    """Data are used differently from what one might expect, such as columns left out."""


@runtime_checkable
class Table(Protocol):
    """What a file format offers: named columns, read in chunks, anew at every call."""

    path: Path

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def numeric(self) -> tuple[bool, ...]: ...
    @property
    def count(self) -> int | None: ...
    def chunks(self, wanted: Sequence[int]) -> Iterator[np.ndarray]: ...


def read(
    path: str | os.PathLike[str],
    query: Columns = None,
    evidence: Columns = None,
    weight: str | int | None = None,
    name: str | None = None,
) -> Data:
    """Read a .csv, .parquet, .npy or .npz file into memory.

    Columns are named by their name or position (from 0). Without `query` it is every column that is not evidence or
    weight; if no `evidence` is named either, columns that are not numeric are left out with a `DataWarning`. Missing
    cells and nulls are missing entries of the query. The columns of a file without names are column0, column1, ...

    A .npy holds one array [N, columns], or [N, ...] all of which is the query. An .npz holds the arrays query and, if
    needed, evidence, weight, observed, index; or a single array as in a .npy; or columns, one array each. Files with
    Python objects are never loaded.

    Args:
        path: the file.
        query, evidence: columns.
        weight: one column.
        name: of the data; the file's name without its ending by default.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: Parquet without pyarrow; the message has the command that installs it.
        ValueError: an unknown ending or column, a used column that is not numeric, or anything `Data` would refuse.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "cars.csv")
    ...     _ = path.write_text("speed,distance\\n4,2\\n7,\\n")
    ...     read(path, evidence="speed")
    Data('cars': N=2, query (distance), evidence (speed), 1 of 2 entries missing)
    """
    table = _open(path)
    name = table.path.stem if name is None else name
    # Loaded whole, arrays in Fortran order can be read too, which a stream cannot.
    fields = table.load() if isinstance(table, NpzTable) else {}
    if isinstance(table, NpzTable) and table.roles:
        _no_weight(weight, table)
        data = Data(
            fields["query"],
            fields.get("evidence"),
            fields.get("weight"),
            fields.get("observed"),
            fields.get("index"),
            name=name,
        )
        return data if query is None and evidence is None else data.select(query, evidence)
    if _is_one_array(table):
        _no_columns(table, query, evidence, weight)
        return Data(np.concatenate(list(_array_parts(table))), name=name)
    roles = _roles(table, query, evidence, weight)
    whole = np.concatenate(list(table.chunks(roles.wanted)))
    arrays = roles.arrays(whole)
    names = roles.labels(table, name)
    return Data(
        whole[:, : len(roles.query)],
        evidence=arrays["evidence"],
        weight=arrays["weight"],
        query_names=names[0],
        evidence_names=names[1],
        name=name,
    )


def stream(
    path: str | os.PathLike[str],
    query: Columns = None,
    evidence: Columns = None,
    weight: str | int | None = None,
    rows: int = 65536,
    name: str | None = None,
) -> Stream:
    """Read a file in blocks of `rows` data, with the rules and errors of `read`, in memory bounded by the block.

    Parquet and .npy are the fastest; a CSV is parsed anew in every pass. Values are checked while they are read, so an
    error in a later block is raised in the middle of a pass.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "numbers.npy")
    ...     np.save(path, np.zeros((5, 2)))
    ...     stream(path, rows=2)
    Stream('numbers': N=5, query [2], blocks of 2)
    """
    table = _open(path)
    name = table.path.stem if name is None else name
    if isinstance(table, NpzTable) and table.roles:
        _no_weight(weight, table)
        made = Stream(_roles_source(table, name), rows, count=table.count)
        return made if query is None and evidence is None else made.map(lambda part: part.select(query, evidence))
    if _is_one_array(table):
        _no_columns(table, query, evidence, weight)
        return Stream(_array_source(table, name), rows, count=table.count)
    roles = _roles(table, query, evidence, weight)
    return Stream(_columns_source(table, roles, name), rows, count=table.count)


# -- formats -----------------------------------------------------------------------------------------------------------


def _open(path: str | os.PathLike[str]) -> Table:
    path = Path(path)
    formats: dict[str, Callable[[Path], Table]] = {
        ".csv": DelimitedTable,
        ".parquet": ParquetTable,
        ".npy": NpyTable,
        ".npz": NpzTable,
    }
    if path.suffix.lower() not in formats:
        raise ValueError(f"path must end in {', '.join(formats)}; got {path.name!r}. Convert the file to one of them")
    if not path.is_file():
        raise FileNotFoundError(f"path: there is no file {path}")
    return formats[path.suffix.lower()](path)


def _is_one_array(table: Table) -> bool:
    """An array with more than two axes, which has no columns."""
    if isinstance(table, NpyTable):
        return len(table.shape) > 2
    if isinstance(table, NpzTable) and not table.names:
        if len(table.members) > 1:
            large = next(name for name, shape in table.members.items() if len(shape) > 2)
            raise ValueError(
                f"{table.path}: array {large!r} has shape {list(table.members[large])}, which is not a column. Name "
                "the arrays by their roles: query and, if needed, evidence, weight, observed, index"
            )
        return True
    return False


def _array_parts(table: Table) -> Iterator[np.ndarray]:
    if isinstance(table, NpyTable):
        return table.parts()
    assert isinstance(table, NpzTable)
    (only,) = table.members
    return (part[only] for part in table.parts([only]))


def _array_source(table: Table, name: str) -> Callable[[], Iterator[Data]]:
    def source() -> Iterator[Data]:
        row = 0
        for part in _array_parts(table):
            yield block({"query": part}, ((), (), name), row)
            row += len(part)

    return source


def _roles_source(table: NpzTable, name: str) -> Callable[[], Iterator[Data]]:
    def source() -> Iterator[Data]:
        row = 0
        for part in table.parts(list(table.members)):
            yield block(part, ((), (), name), row)
            row += len(part["query"])

    return source


def _columns_source(table: Table, roles: Roles, name: str) -> Callable[[], Iterator[Data]]:
    def source() -> Iterator[Data]:
        row = 0
        for chunk in table.chunks(roles.wanted):
            yield block(roles.arrays(chunk), roles.labels(table, name), row)
            row += len(chunk)

    return source


# -- roles -------------------------------------------------------------------------------------------------------------


class Roles(NamedTuple):
    """The positions of the columns in each role; a chunk of a table has the query first, then evidence, then weight."""

    query: list[int]
    evidence: list[int]
    weight: int | None

    @property
    def wanted(self) -> list[int]:
        """All columns that are used, in the order of a chunk."""
        return [*self.query, *self.evidence, *([] if self.weight is None else [self.weight])]

    def arrays(self, chunk: np.ndarray) -> dict[str, np.ndarray | None]:
        """The fields of `Data` in a chunk of the wanted columns."""
        first, second = len(self.query), len(self.query) + len(self.evidence)
        return {
            "query": chunk[:, :first],
            "evidence": chunk[:, first:second] if self.evidence else None,
            "weight": None if self.weight is None else chunk[:, second],
        }

    def labels(self, table: Table, name: str) -> Labels:
        """The names of the query's and the evidence's columns, and of the data."""
        return tuple(table.names[i] for i in self.query), tuple(table.names[i] for i in self.evidence), name


def _roles(table: Table, query: Columns, evidence: Columns, weight: str | int | None) -> Roles:
    given = [] if evidence is None else resolve(table.names, evidence, "evidence")
    weighing = None if weight is None else resolve(table.names, weight, "weight")[0]
    if query is not None:
        chosen = resolve(table.names, query, "query")
    else:
        chosen = [i for i in range(len(table.names)) if i not in given and i != weighing]
        texts = [] if evidence is not None else [i for i in chosen if not table.numeric[i]]
        chosen = [i for i in chosen if i not in texts]
        if texts and not chosen:
            raise ValueError(f"{table.path} has no numeric column for the query; it has {', '.join(table.names)}")
        if texts:
            left = ", ".join(table.names[i] for i in texts)
            warnings.warn(
                f"{table.path.name}: left out what is not numeric: {left}. Name the query to choose the columns",
                DataWarning,
                stacklevel=3,
            )
    check_roles(table.names, chosen, given, weighing)
    return Roles(chosen, given, weighing)


def _no_weight(weight: str | int | None, table: Table) -> None:
    if weight is not None:
        raise ValueError(f"weight: {table.path} holds arrays by role; save the weights as the array named weight in it")


def _no_columns(table: Table, query: Columns, evidence: Columns, weight: str | int | None) -> None:
    for argument, value in (("query", query), ("evidence", evidence), ("weight", weight)):
        if value is not None:
            raise ValueError(
                f"{argument}: {table.path} holds one array with more than two axes, which has no columns to choose; "
                f"leave {argument} out, or save an .npz with arrays named query and evidence"
            )
