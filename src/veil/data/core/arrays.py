"""Data in memory: which numbers are scored (the query), which are given (the evidence), and what real data brings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from veil.data.core import trees
from veil.data.core.checks import FIELDS, Labels, check_rows, checked, every_mask
from veil.data.core.columns import Columns, check_columns, select
from veil.data.core.trees import Tree


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Data:
    """N data: a query that is scored or predicted, and optionally the evidence it is given.

    Query, evidence and `observed` are each an array or a dictionary of arrays by name (of dictionaries too), whose
    first axes are the same: `Data({"frame": frames, "reward": rewards})`. Keys are text without "/".

    Arrays may be lists, numpy and jax arrays, tensors, pandas frames and series, and pyarrow tables (names of columns
    are kept, if they are not in a dictionary). Numbers become floats: float32 stays, float16, bool and 8 and 16-bit
    integers become float32 (exactly), everything else float64. Arrays that are already floats are shared, not copied.
    A `numpy.memmap` stays on disk, unread and unchecked, at its own dtype: `blocks`, `fields` and indexing with
    integers or a mask read, convert and check the rows they return.

    A NaN in the query is a missing entry: it is marked in `observed` and filled with 0, as is every entry that a given
    `observed` excludes. Rows selected from data with missing entries keep the mask even if they happen to be complete,
    so that all blocks have the same fields.

    Fields:
        query: [N, ...]; a 1-D query becomes [N, 1].
        evidence: [N, P] or None, complete; 1-D becomes [N, 1]. More axes are allowed.
        weight: [N], finite, non-negative, with a positive sum; None means 1 for each datum.
        observed: the query's shape, True where an entry is present; None if nothing is missing. What is given may leave
            arrays of a dictionary out: all of theirs are present.
        index: [N] non-negative integers that identify the data, for posteriors with one row per datum; or None.
        mask: of sequences, query [N, T, ...]: [N, T], True at steps that are there and False at the padding behind
            them, where query and evidence become 0. None means that all steps are there. See `episodes`.
        reset: of sequences: [N, T], True where an episode starts inside a sequence; the first step always does. None
            means nowhere else.
        query_names, evidence_names: one per column (the last axis); y0, y1, ... and x0, x1, ... by default. In a
            dictionary those of its arrays in order: the keys with dots between them, and a number if there are several
            columns ("arm.joints0"); one name for an array with two or more axes per datum (or step), such as images.
        name: what tables and pictures call the data.
        view: how they were made of what an environment shows (`Recording.data`), which actors see by; else None.

    Raises:
        TypeError: an argument does not hold real numbers.
        ValueError: empty data, lengths or shapes that do not fit, infinite values, incomplete evidence, bad weights.

    >>> Data([[1.0, 2.0], [3.0, float("nan")]], evidence=[10, 20])
    Data('data': N=2, query (y0, y1), evidence (x0), 1 of 4 entries missing)
    >>> Data({"place": [[1.0, 2.0]], "reward": [3.0]}).query_names
    ('place0', 'place1', 'reward')
    """

    query: Tree
    evidence: Tree
    weight: np.ndarray | None
    observed: Tree
    index: np.ndarray | None
    mask: np.ndarray | None
    reset: np.ndarray | None
    query_names: tuple[str, ...]
    evidence_names: tuple[str, ...]
    name: str
    view: Any

    # Written out, since what is accepted (anything like an array) is wider than what the fields hold.
    def __init__(
        self,
        query: Any,
        evidence: Any = None,
        weight: Any = None,
        observed: Any = None,
        index: Any = None,
        query_names: Sequence[str] = (),
        evidence_names: Sequence[str] = (),
        name: str = "data",
        mask: Any = None,
        reset: Any = None,
        view: Any = None,
    ) -> None:
        given = {"query": query, "evidence": evidence, "weight": weight, "observed": observed, "index": index}
        given |= {"mask": mask, "reset": reset}
        made = unchecked(*checked(given, (query_names, evidence_names, name), whole=True, first_row=0), view)
        vars(self).update(vars(made))

    def __len__(self) -> int:
        """The number of data N."""
        return len(trees.first(self.query))

    @property
    def query_shape(self) -> Tree:
        """The shape of one datum's query: a tuple, or a dictionary of them.

        >>> Data([1.0, 2.0]).query_shape
        (1,)
        >>> Data({"frame": np.zeros((2, 8, 8, 3)), "reward": [1.0, 2.0]}).query_shape
        {'frame': (8, 8, 3), 'reward': (1,)}
        """
        return trees.map(lambda array: tuple(array.shape[1:]), self.query)

    @property
    def evidence_shape(self) -> Tree:
        """The shape of one datum's evidence, or None without evidence.

        >>> Data([1.0, 2.0]).evidence_shape is None
        True
        """
        return trees.map(lambda array: tuple(array.shape[1:]), self.evidence)

    @property
    def total_weight(self) -> float:
        """The sum of the weights, N without weights.

        >>> Data([1.0, 2.0], weight=[0.5, 2.0]).total_weight
        2.5
        """
        return float(len(self)) if self.weight is None else float(np.sum(self.weight, dtype=np.float64))

    @property
    def mapped(self) -> bool:
        """Whether some of the arrays are still on disk (memory-mapped), unread and unchecked.

        >>> Data([1.0, 2.0]).mapped
        False
        """
        return any(isinstance(array, np.memmap) for _, array in trees.leaves(self._arrays()))

    def fields(self) -> dict[str, Tree]:
        """The fields that are present, by name: what is shipped to the device. Mapped data are read and checked.

        >>> sorted(Data([1.0, 2.0], weight=[1, 3]).fields())
        ['query', 'weight']
        """
        return (self._rows(slice(None), 0) if self.mapped else self)._arrays()

    def _arrays(self) -> dict[str, Tree]:
        return {field: vars(self)[field] for field in FIELDS if vars(self)[field] is not None}

    def __getitem__(self, rows: Any) -> Data:
        """The data of some rows: a slice, an array of integers, a boolean mask [N], or one integer (one row of data).

        A slice shares memory, and of mapped data stays mapped. Selected weights may all be zero.

        Raises:
            IndexError: a row out of range, or a mask that is not [N].
            ValueError: no row is selected.

        >>> len(Data([1.0, 2.0, 3.0])[1:])
        2
        """
        count = len(self)
        if isinstance(rows, slice):
            if len(range(*rows.indices(count))) == 0:
                ends = ["" if end is None else str(end) for end in (rows.start, rows.stop)]
                raise ValueError(f"data[{':'.join(ends)}] selects none of the {count} rows; select at least one")
            return unchecked(trees.map(lambda array: array[rows], self._arrays()), labels(self), self.view)
        wanted = np.asarray(rows)
        if wanted.dtype == bool and wanted.shape != (count,):
            raise IndexError(f"a boolean mask of rows must have shape ({count},), one entry a row; got {wanted.shape}")
        wanted = np.flatnonzero(wanted) if wanted.dtype == bool else np.atleast_1d(wanted)
        if wanted.ndim > 1:
            raise IndexError(f"rows must be one integer or a 1-D array; got shape {wanted.shape}")
        if wanted.size == 0:
            raise ValueError(f"the index selects none of the {count} rows; select at least one")
        if wanted.dtype.kind not in "iu":
            raise IndexError(f"rows must be a slice, integers or a boolean mask; got an array of {wanted.dtype}")
        bad = wanted[(wanted < -count) | (wanted >= count)]
        if bad.size:
            raise IndexError(f"row {bad[0]} is out of range: there are {count} rows, counted from 0")
        return self._rows(wanted, 0)

    def blocks(self, rows: int) -> Iterator[Data]:
        """Consecutive blocks of `rows` data each, the last one possibly shorter. Mapped data are read block by block.

        Raises:
            ValueError: `rows` is not positive; or, while reading mapped data, whatever the constructor would raise.

        >>> [len(block) for block in Data([1.0, 2.0, 3.0]).blocks(2)]
        [2, 1]
        """
        check_rows(rows)
        return (self._rows(slice(start, start + rows), start) for start in range(0, len(self), rows))

    def numbered(self) -> Data:
        """The same data with an index, row numbers unless they have one: for posteriors with one row per datum."""
        numbers = {"index": np.arange(len(self))}
        return self if self.index is not None else unchecked({**self.fields(), **numbers}, labels(self), self.view)

    def split(self, fraction: float, rng: np.random.Generator) -> tuple[Data, Data]:
        """Two disjoint random parts, the first with about `fraction` of the data; both keep the order of the rows.

        Raises:
            ValueError: `fraction` is not strictly between 0 and 1, or a part would be empty.
            TypeError: `rng` is not a numpy generator.

        >>> [len(part) for part in Data([1.0, 2.0, 3.0, 4.0]).split(0.75, np.random.default_rng(0))]
        [3, 1]
        """
        if not isinstance(rng, np.random.Generator):
            raise TypeError(f"rng must be a numpy.random.Generator, such as numpy.random.default_rng(0); got {rng!r}")
        if not 0.0 < fraction < 1.0:
            raise ValueError(f"fraction must be strictly between 0 and 1, as in split(0.8, rng); got {fraction}")
        count = len(self)
        if count < 2:
            raise ValueError("splitting needs at least 2 data; there is 1")
        first = min(max(round(fraction * count), 1), count - 1)
        order = rng.permutation(count)
        return self[np.sort(order[:first])], self[np.sort(order[first:])]

    def _rows(self, rows: Any, first_row: int) -> Data:
        """Rows in memory. Only what was on disk needs checking; the rest was checked when it came."""
        picked = trees.map(lambda array: array[rows], self._arrays())
        if not self.mapped:
            return unchecked(picked, labels(self), self.view)
        return block(trees.map(lambda array: np.array(array, subok=False), picked), labels(self), first_row)

    def select(self, query: Columns = None, evidence: Columns = None) -> Data:
        """The same data with other roles: any columns as query and evidence, by name or position.

        A dictionary of columns makes them a dictionary of arrays: `data.select({"place": ["x", "y"], "reward": "r"})`.

        Positions count the evidence columns first, then the query columns, as in `joint`. Without `query` it is every
        column that is not evidence; without `evidence` there is none. Weights and index stay.

        Raises:
            ValueError: an unknown or repeated column, no query left, a query or evidence that is a dictionary or has
                more than one axis per datum, or evidence with missing entries.

        >>> Data([[1.0, 2.0]], evidence=[3.0], query_names=("a", "b")).select("b", ["a", "x0"])
        Data('data': N=1, query (b), evidence (a, x0))
        """
        arrays, names = select(self._arrays(), labels(self), query, evidence)
        return block(arrays, names, 0) if self.mapped else unchecked(arrays, names)

    def joint(self) -> Data:
        """Evidence columns and then query columns, together as the query: what a joint model is fitted to.

        Raises:
            ValueError: a query or evidence with more than one axis per datum, or a name in both.

        >>> Data([[1.0, 2.0]], evidence=[3.0]).joint().query_names
        ('x0', 'y0', 'y1')
        """
        check_columns(self._arrays(), labels(self))
        return self if self.evidence is None else self.select(self.evidence_names + self.query_names)

    def __repr__(self) -> str:
        parts = [f"N={len(self)}", f"query {_columns_text(self.query_names, self.query)}"]
        if self.evidence is not None:
            parts.append(f"evidence {_columns_text(self.evidence_names, self.evidence)}")
        if self.mask is not None:
            parts.append(f"{np.count_nonzero(self.mask)} steps")
        if self.weight is not None:
            parts.append("memory-mapped weight" if self.mapped else f"total weight {self.total_weight:.6g}")
        if self.mapped:
            parts.append("memory-mapped")
        elif self.observed is not None:
            masks = [mask for _, mask in trees.leaves(self.observed)]
            size = sum(mask.size for mask in masks)
            parts.append(f"{size - sum(np.count_nonzero(mask) for mask in masks)} of {size} entries missing")
        return f"Data({self.name!r}: {', '.join(parts)})"


def labels(data: Data) -> Labels:
    """The query names, the evidence names and the name."""
    return data.query_names, data.evidence_names, data.name


def unchecked(arrays: Mapping[str, Tree], names: Labels, view: Any = None) -> Data:
    """Data of arrays that are known to be good: nothing is checked again, and nothing needs to hold for the whole."""
    made = object.__new__(Data)
    called = dict(zip(("query_names", "evidence_names", "name"), names, strict=True))
    vars(made).update({**dict.fromkeys(FIELDS), **arrays, **called, "view": view})
    return made


def block(arrays: Mapping[str, Tree], names: Labels, first_row: int) -> Data:
    """A checked block of a larger whole, which begins at `first_row` of it (for the error messages).

    A block may have weights that are all zero or nothing observed, which the whole may not.
    """
    return unchecked(*checked(arrays, names, whole=False, first_row=first_row))


def concatenate(parts: Sequence[Data]) -> Data:
    """The rows of several data after each other; all must be in memory and have the same columns and fields."""
    if len(parts) == 1:
        return parts[0]
    every: list[dict[str, Tree]] = [vars(part) for part in parts]
    if any(part.observed is not None for part in parts):
        every = [{**vars(part), "observed": every_mask(part.query, part.observed)} for part in parts]
    arrays = {name: trees.map(lambda *all_: np.concatenate(all_), *(each[name] for each in every)) for name in FIELDS}
    return unchecked(arrays, labels(parts[0]), parts[0].view)


def shape_text(tree: Tree) -> str:
    """The shape of one datum, of each leaf."""
    if not trees.is_tree(tree):
        return str(list(tree.shape[1:]))
    each = [f"{'.'.join(path)} {list(leaf.shape[1:])}" for path, leaf in trees.leaves(tree)]
    return f"{{{', '.join(each if len(each) <= 6 else [*each[:3], '...', each[-1]])}}}"


def _columns_text(names: tuple[str, ...], tree: Tree) -> str:
    if trees.is_tree(tree) or tree.ndim > 2:
        return shape_text(tree)
    if len(names) > 6:
        return f"[{len(names)}] ({', '.join(names[:3])}, ..., {names[-1]})"
    return f"({', '.join(names)})"
