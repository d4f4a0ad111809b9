"""Data in memory: which numbers are scored (the query), which are given (the evidence), and what real data brings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from veil.data.core.columns import check_roles, resolve

_MISSING_TYPES = {"NoneType", "NAType", "NaTType"}


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Data:
    """N data: a query that is scored or predicted, and optionally the evidence it is given.

    The fields accept lists, numpy and jax arrays, pandas frames and series and pyarrow tables (whose column names are
    kept). Numbers become floats: float32 stays, float16, bool and 8 and 16-bit integers become float32 (exactly),
    everything else float64. Arrays that are already floats are shared, not copied.

    A NaN in the query is a missing entry: it is marked in `observed` and filled with 0, as is every entry that a given
    `observed` excludes. When nothing is missing `observed` is None; rows selected from data with missing entries
    keep the mask even if they happen to be complete, so that all blocks have the same fields. Evidence must be
    complete.

    A `numpy.memmap` stays on disk, unread and unchecked, at its own dtype: `blocks`, `fields` and indexing with
    integers or a mask read, convert and check the rows they return.

    Fields:
        query: [N, ...]; a 1-D query becomes [N, 1].
        evidence: [N, P] or None; 1-D becomes [N, 1]. More axes are allowed.
        weight: [N], finite, non-negative, with a positive sum; None means 1 for each datum.
        observed: the query's shape, True where an entry is present; None means all are.
        index: [N] non-negative integers that identify the data, for posteriors with one row per datum; or None.
        mask: of sequences, query [N, T, ...]: [N, T], True at steps that are there and False at the padding behind
            them, where query and evidence become 0. None means that all steps are there. See `episodes`.
        reset: of sequences: [N, T], True where an episode starts inside a sequence; the first step always does. None
            means nowhere else.
        query_names: one per column (the last axis) of the query; y0, y1, ... by default.
        evidence_names: one per column (the last axis) of the evidence; x0, x1, ... by default.
        name: what tables and pictures call the data.

    Raises:
        TypeError: an argument does not hold real numbers.
        ValueError: empty data, lengths or shapes that do not fit, infinite values, incomplete evidence, bad weights.

    >>> Data([[1.0, 2.0], [3.0, float("nan")]], evidence=[10, 20])
    Data('data': N=2, query (y0, y1), evidence (x0), 1 of 4 entries missing)
    """

    query: np.ndarray
    evidence: np.ndarray | None
    weight: np.ndarray | None
    observed: np.ndarray | None
    index: np.ndarray | None
    mask: np.ndarray | None
    reset: np.ndarray | None
    query_names: tuple[str, ...]
    evidence_names: tuple[str, ...]
    name: str

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
    ) -> None:
        given = {"query": query, "evidence": evidence, "weight": weight, "observed": observed, "index": index}
        given |= {"mask": mask, "reset": reset}
        _set(self, given, (query_names, evidence_names, name))
        _check(self, whole=True, first_row=0)

    # -- size and shape ------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """The number of data N."""
        return int(self.query.shape[0])

    @property
    def query_shape(self) -> tuple[int, ...]:
        """The shape of one datum's query.

        >>> Data([1.0, 2.0]).query_shape
        (1,)
        """
        return tuple(self.query.shape[1:])

    @property
    def evidence_shape(self) -> tuple[int, ...] | None:
        """The shape of one datum's evidence, or None without evidence.

        >>> Data([1.0, 2.0]).evidence_shape is None
        True
        """
        return None if self.evidence is None else tuple(self.evidence.shape[1:])

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
        return any(isinstance(array, np.memmap) for array in self._arrays().values())

    def fields(self) -> dict[str, np.ndarray]:
        """The arrays that are present, by field name: what is shipped to the device. Mapped data are read and checked.

        >>> sorted(Data([1.0, 2.0], weight=[1, 3]).fields())
        ['query', 'weight']
        """
        return (self._rows(slice(None), 0) if self.mapped else self)._arrays()

    def _arrays(self) -> dict[str, np.ndarray]:
        return {field: getattr(self, field) for field in FIELDS if getattr(self, field) is not None}

    # -- rows ----------------------------------------------------------------------------------------------------------

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
                raise ValueError(f"data[{_slice_text(rows)}] selects none of the {count} rows; select at least one")
            return unchecked({name: array[rows] for name, array in self._arrays().items()}, labels(self))
        wanted = np.asarray(rows)
        if wanted.dtype == bool:
            if wanted.shape != (count,):
                raise IndexError(
                    f"a boolean mask of rows must have shape ({count},), one entry a row; got {wanted.shape}"
                )
            wanted = np.flatnonzero(wanted)
        if wanted.size and not np.issubdtype(wanted.dtype, np.integer):
            raise IndexError(f"rows must be a slice, integers or a boolean mask; got an array of {wanted.dtype}")
        if wanted.ndim > 1:
            raise IndexError(f"rows must be one integer or a 1-D array; got shape {wanted.shape}")
        wanted = np.atleast_1d(wanted)
        if wanted.size == 0:
            raise ValueError(f"the index selects none of the {count} rows; select at least one")
        if wanted.min() < -count or wanted.max() >= count:
            bad = wanted[(wanted < -count) | (wanted >= count)][0]
            raise IndexError(f"row {bad} is out of range: there are {count} rows, counted from 0")
        return self._rows(wanted, 0)

    def blocks(self, rows: int) -> Iterator[Data]:
        """Consecutive blocks of `rows` data each, the last one possibly shorter. Mapped data are read block by block.

        Raises:
            ValueError: `rows` is not positive; or, while reading mapped data, whatever the constructor would raise.

        >>> [len(block) for block in Data([1.0, 2.0, 3.0]).blocks(2)]
        [2, 1]
        """
        rows = check_rows(rows)
        return (self._rows(slice(start, start + rows), start) for start in range(0, len(self), rows))

    def numbered(self) -> Data:
        """The same data with an index, row numbers unless they have one: for posteriors with one row per datum."""
        if self.index is not None:
            return self
        given: dict[str, Any] = {**self.fields(), "index": np.arange(len(self)), "name": self.name}
        return Data(query_names=self.query_names, evidence_names=self.evidence_names, **given)

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
        picked = {name: array[rows] for name, array in self._arrays().items()}
        if not self.mapped:
            return unchecked(picked, labels(self))
        return block({name: np.array(array, subok=False) for name, array in picked.items()}, labels(self), first_row)

    # -- roles ---------------------------------------------------------------------------------------------------------

    def select(
        self,
        query: Sequence[str | int] | str | int | None = None,
        evidence: Sequence[str | int] | str | int | None = None,
    ) -> Data:
        """The same data with other roles: any columns as query and evidence, by name or position.

        Positions count the evidence columns first, then the query columns, as in `joint`. Without `query` it is every
        column that is not evidence; without `evidence` there is none. Weights and index stay.

        Raises:
            ValueError: an unknown or repeated column, no query left, a query or evidence with more than one axis per
                datum, or evidence with missing entries.

        >>> Data([[1.0, 2.0]], evidence=[3.0], query_names=("a", "b")).select("b", ["a", "x0"])
        Data('data': N=1, query (b), evidence (a, x0))
        """
        self._check_columns()
        names = self.evidence_names + self.query_names
        given = [] if evidence is None else resolve(names, evidence, "evidence")
        if query is None:
            wanted = [i for i in range(len(names)) if i not in given]
        else:
            wanted = resolve(names, query, "query")
        check_roles(names, wanted, given)
        arrays = {field: array for field, array in self._arrays().items() if field in ("weight", "index")}
        arrays |= self._columns(wanted)
        if given:
            found = self._columns(given)
            if "observed" in found and not found["observed"].all():
                row, column = np.argwhere(~found["observed"])[0]
                raise _incomplete(names[given[column]], int(row), "missing")
            arrays["evidence"] = found["query"]
        labels_ = (tuple(names[i] for i in wanted), tuple(names[i] for i in given), self.name)
        return block(arrays, labels_, 0) if self.mapped else unchecked(arrays, labels_)

    def _columns(self, places: list[int]) -> dict[str, np.ndarray]:
        """Columns as a query and, where entries are missing, its mask. Arrays wanted as they are stay shared."""
        first = len(self.evidence_names)
        if places == list(range(first, first + len(self.query_names))):
            return {field: array for field, array in self._arrays().items() if field in ("query", "observed")}
        if self.evidence is not None and places == list(range(first)):
            return {"query": self.evidence}
        # One column at a time, so that the columns that are not wanted are neither copied nor, if mapped, read.
        parts, masks = [], []
        for place in places:
            inside = place >= first
            source = self.query if inside or self.evidence is None else self.evidence
            parts.append(source[:, place - first if inside else place])
            if self.observed is not None:
                masks.append(self.observed[:, place - first] if inside else np.ones(len(self), bool))
        return {"query": np.stack(parts, axis=1), **({"observed": np.stack(masks, axis=1)} if masks else {})}

    def _check_columns(self) -> None:
        for role, array in (("query", self.query), ("evidence", self.evidence)):
            if array is not None and array.ndim != 2:
                raise ValueError(f"columns need a {role} of shape [N, columns]; this one has shape {array.shape}")
        both = set(self.query_names) & set(self.evidence_names)
        if both:
            raise ValueError(f"query and evidence both have a column named {min(both)!r}; rename one of them")

    def joint(self) -> Data:
        """Evidence columns and then query columns, together as the query: what a joint model is fitted to.

        Raises:
            ValueError: a query or evidence with more than one axis per datum, or a name in both.

        >>> Data([[1.0, 2.0]], evidence=[3.0]).joint().query_names
        ('x0', 'y0', 'y1')
        """
        self._check_columns()
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
            parts.append(
                f"{self.observed.size - np.count_nonzero(self.observed)} of {self.observed.size} entries missing"
            )
        return f"Data({self.name!r}: {', '.join(parts)})"


# -- built without the constructor -------------------------------------------------------------------------------------

FIELDS = ("query", "evidence", "weight", "observed", "index", "mask", "reset")
Labels = tuple[tuple[str, ...], tuple[str, ...], str]


def labels(data: Data) -> Labels:
    """The query names, the evidence names and the name.

    >>> labels(Data([1.0]))
    (('y0',), (), 'data')
    """
    return data.query_names, data.evidence_names, data.name


def _set(data: Data, arrays: Mapping[str, Any], names: tuple[Any, Any, str]) -> None:
    for field in FIELDS:
        object.__setattr__(data, field, arrays.get(field))
    for field, value in zip(("query_names", "evidence_names", "name"), names, strict=True):
        object.__setattr__(data, field, value)


def unchecked(arrays: Mapping[str, np.ndarray | None], names: Labels) -> Data:
    """Data of arrays that are known to be good: nothing is checked again, and nothing needs to hold for the whole.

    >>> unchecked({"query": np.zeros((2, 1))}, (("y0",), (), "zeros"))
    Data('zeros': N=2, query (y0))
    """
    made = object.__new__(Data)
    _set(made, arrays, names)
    return made


def block(arrays: Mapping[str, np.ndarray | None], names: Labels, first_row: int) -> Data:
    """A checked block of a larger whole, which begins at `first_row` of it (for the error messages).

    A block may have weights that are all zero or nothing observed, which the whole may not.

    Raises:
        TypeError, ValueError: whatever else the constructor of `Data` would raise.

    >>> block({"query": np.zeros(2), "weight": np.zeros(2)}, ((), (), "zeros"), 0)
    Data('zeros': N=2, query (y0), total weight 0)
    """
    made = unchecked(arrays, names)
    _check(made, whole=False, first_row=first_row)
    return made


def concatenate(parts: Sequence[Data]) -> Data:
    """The rows of several data after each other; all must be in memory and have the same columns and fields.

    >>> len(concatenate([Data([1.0]), Data([2.0])]))
    2
    """
    if len(parts) == 1:
        return parts[0]
    arrays: dict[str, np.ndarray] = {}
    for field in FIELDS:
        if field != "observed" and getattr(parts[0], field) is not None:
            arrays[field] = np.concatenate([getattr(part, field) for part in parts])
    if any(part.observed is not None for part in parts):
        masks = [np.ones(part.query.shape, bool) if part.observed is None else part.observed for part in parts]
        arrays["observed"] = np.concatenate(masks)
    return unchecked(arrays, labels(parts[0]))


# -- checks ------------------------------------------------------------------------------------------------------------


def _check(data: Data, *, whole: bool, first_row: int) -> None:
    """Convert and check the fields in place. `whole`: also what must hold for all data, but not for each block."""
    query, query_names = _numbers(data.query, "query")
    query_names = _names(data.query_names or query_names, query, "query", "y")
    count = query.shape[0]
    mask = None if data.mask is None else _padding(data.mask, query)
    reset = None if data.reset is None else _steps(data.reset, query, "reset", "an episode starts")
    if mask is not None:
        query = _blank(query, mask)
    evidence: np.ndarray | None = None
    evidence_names: tuple[str, ...] = ()
    if data.evidence is not None:
        evidence, found = _numbers(data.evidence, "evidence")
        if mask is not None or reset is not None:
            _same_steps(evidence, query)
        evidence = evidence if mask is None else _blank(evidence, mask)
        _same_length(evidence, count, "evidence")
        evidence_names = _names(data.evidence_names or found, evidence, "evidence", "x")
        if not isinstance(evidence, np.memmap):
            bad = _first_not_finite(evidence)
            if bad is not None:
                raise _incomplete(evidence_names[bad[-1]], bad[0] + first_row, str(evidence[bad]))
    elif data.evidence_names:
        raise ValueError(
            f"evidence_names {tuple(data.evidence_names)} were given without evidence; give both or neither"
        )

    observed = None if data.observed is None else _mask(data.observed, query)
    if observed is not None and mask is not None:  # what is not there is not missing
        observed = observed | ~mask.reshape(*mask.shape, *[1] * (query.ndim - 2))
    if not isinstance(query, np.memmap):
        query, observed = _fill(query, observed, query_names, first_row)
        if whole and observed is not None and not observed.any():
            raise ValueError("query must have at least one observed entry; all of them are missing")
    weight = None if data.weight is None else _weights(data.weight, count, whole, first_row)
    index = None if data.index is None else _identities(data.index, count)

    checked = {"query": query, "evidence": evidence, "weight": weight, "observed": observed, "index": index}
    checked |= {"mask": mask, "reset": reset}
    _set(data, checked, (query_names, evidence_names, str(data.name)))


def _numbers(value: Any, argument: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Any table or array as floats [N, ...] with at least two axes, and the column names it brings."""
    array, names = _array(value, argument)
    if array.ndim == 0:
        raise ValueError(
            f"{argument} must have one row per datum, shape [N] or [N, ...]; got the single value {value!r}"
        )
    if array.size == 0:
        raise ValueError(f"{argument} must have at least one row and one column; got shape {array.shape}")
    if array.ndim == 1:
        array = array[:, np.newaxis]
    if isinstance(array, np.memmap):
        _float_type(array.dtype, argument)
        return array, names
    if array.dtype == object:
        return _from_objects(array, argument, names), names
    return array.astype(_float_type(array.dtype, argument), copy=False), names


def _array(value: Any, argument: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Duck-typed, so that neither pandas nor pyarrow is imported to find out what came."""
    if isinstance(value, np.ndarray):
        return value, ()
    if hasattr(value, "column_names") and hasattr(value, "column"):  # a pyarrow table
        names = tuple(str(name) for name in value.column_names)
        return _stack([value.column(i).to_numpy() for i in range(len(names))], names, argument), names
    if hasattr(value, "columns") and hasattr(value, "to_numpy"):  # a pandas or polars frame
        names = tuple(str(name) for name in value.columns)
        return _stack([value[name].to_numpy() for name in value.columns], names, argument), names
    if hasattr(value, "to_numpy"):  # a series, a pyarrow array
        name = getattr(value, "name", None)
        return np.asarray(value.to_numpy()), () if name is None else (str(name),)
    try:
        return np.asarray(value), ()
    except ValueError as error:
        raise ValueError(
            f"{argument} must be a rectangular array, every row as long as the first; got {error}"
        ) from None


def _stack(columns: list[np.ndarray], names: tuple[str, ...], argument: str) -> np.ndarray:
    # Column by column, since a frame with one text or nullable column would come as objects altogether.
    if not columns:
        raise ValueError(f"{argument} must have at least one column; got a table without any")
    converted = []
    for column, name in zip(columns, names, strict=True):
        if column.dtype == object:
            converted.append(_from_objects(column[:, np.newaxis], argument, (name,))[:, 0])
        else:
            converted.append(column.astype(_float_type(column.dtype, f"{argument} column {name!r}"), copy=False))
    return np.stack(converted, axis=1)


def _float_type(dtype: np.dtype[Any], what: str) -> np.dtype[Any]:
    if dtype.kind == "b" or dtype.name in ("float32", "float16", "bfloat16", "int8", "uint8", "int16", "uint16"):
        return np.dtype(np.float32)
    if dtype.kind in "iuf":
        return np.dtype(np.float64)
    raise TypeError(
        f"{what} must hold real numbers; got {dtype}. Select the numeric columns, or encode the others as numbers"
    )


def _from_objects(array: np.ndarray, argument: str, names: tuple[str, ...]) -> np.ndarray:
    out = np.empty(array.shape, np.float64)
    for place, value in np.ndenumerate(array):
        if type(value).__name__ in _MISSING_TYPES:
            out[place] = np.nan
        elif isinstance(value, str | bytes | complex) or not hasattr(value, "__float__"):
            column = names[place[-1]] if names else str(place[-1])
            raise TypeError(
                f"{argument} must hold real numbers; column {column}, row {place[0]} (from 0) holds {value!r}. "
                "Select the numeric columns, or encode the others as numbers"
            )
        else:
            out[place] = float(value)
    return out


def _names(names: Any, array: np.ndarray, argument: str, letter: str) -> tuple[str, ...]:
    width = array.shape[-1]
    if not names:
        return tuple(f"{letter}{i}" for i in range(width))
    given = (names,) if isinstance(names, str) else tuple(str(name) for name in names)
    if len(given) != width:
        raise ValueError(
            f"{argument}_names must name the {width} columns of {argument} (its last axis); "
            f"got {len(given)} names: {given}"
        )
    if len(set(given)) != width:
        twice = next(name for name in given if given.count(name) > 1)
        raise ValueError(f"{argument}_names must differ from each other; {twice!r} comes twice")
    return given


def _same_length(array: np.ndarray, count: int, argument: str) -> None:
    if array.shape[0] != count:
        raise ValueError(
            f"query and {argument} must have the same number of rows; "
            f"query has {count} and {argument} has {array.shape[0]}"
        )


def _mask(value: Any, query: np.ndarray) -> np.ndarray:
    mask, _ = _array(value, "observed")
    if mask.ndim == 1 and query.ndim == 2:
        mask = mask[:, np.newaxis]
    _same_length(mask if mask.ndim else mask[np.newaxis], query.shape[0], "observed")
    if mask.shape != query.shape:
        raise ValueError(f"observed must have the shape of query, {query.shape}; got {mask.shape}")
    if isinstance(mask, np.memmap):
        return mask
    if mask.dtype != bool:
        if not np.isin(mask, (0, 1)).all():
            raise ValueError("observed must hold True (present) or False (missing); got other values")
        mask = mask.astype(bool)
    return mask


def _steps(value: Any, query: np.ndarray, argument: str, true: str) -> np.ndarray:
    """Booleans [N, T], one a step."""
    if query.ndim < 3:
        raise ValueError(
            f"{argument} is for sequences, whose query has the shape [N, T, ...]; this one has {query.shape}"
        )
    steps = np.array(_array(value, argument)[0], subok=False)
    if steps.shape != query.shape[:2]:
        raise ValueError(
            f"{argument} must have shape {query.shape[:2]}, one entry a step of the query; got {steps.shape}"
        )
    if steps.dtype != bool:
        if not np.isin(steps, (0, 1)).all():
            raise ValueError(f"{argument} must hold True ({true}) or False; got other values")
        steps = steps.astype(bool)
    return steps


def _padding(value: Any, query: np.ndarray) -> np.ndarray:
    mask = _steps(value, query, "mask", "the step is there")
    if np.any(mask[:, 1:] & ~mask[:, :-1]):
        row = int(np.flatnonzero((mask[:, 1:] & ~mask[:, :-1]).any(1))[0])
        raise ValueError(
            f"mask: padding comes behind the steps of a sequence; row {row} (from 0) has some before or between them. "
            "Mark a step that was not seen with NaN in the query"
        )
    if not mask[:, 0].all():
        row = int(np.flatnonzero(~mask[:, 0])[0])
        raise ValueError(f"mask: every sequence must have at least one step; row {row} (from 0) has none")
    return mask


def _same_steps(evidence: np.ndarray, query: np.ndarray) -> None:
    if evidence.shape[:2] != query.shape[:2] or evidence.ndim < 3:
        raise ValueError(
            f"evidence of sequences must have shape [N, T, ...], one entry for each step of the query, "
            f"{list(query.shape[:2])}; got {list(evidence.shape)}"
        )


def _blank(array: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Zeros at the padding."""
    there = mask.reshape(*mask.shape, *[1] * (array.ndim - 2))
    return array if mask.all() else np.where(there, array, array.dtype.type(0))


def _fill(
    query: np.ndarray, observed: np.ndarray | None, names: tuple[str, ...], first_row: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Missing entries marked and set to 0; a mask that excludes nothing is dropped."""
    if observed is None or observed.all():
        observed = None
        if _first_not_finite(query) is None:
            return query, None
    missing = np.isnan(query)
    present = ~missing if observed is None else np.asarray(observed & ~missing)
    filled = np.where(present, query, query.dtype.type(0))
    bad = _first_not_finite(filled)
    if bad is not None:
        raise ValueError(
            f"query must be finite; column {names[bad[-1]]!r}, row {bad[0] + first_row} (from 0) is {filled[bad]}. "
            "Mark it as missing with NaN, or drop the row"
        )
    return filled, present


def _first_not_finite(array: np.ndarray) -> tuple[int, ...] | None:
    # The sum is finite if all entries are, bar an overflow, and needs no temporary of the array's size.
    with np.errstate(invalid="ignore", over="ignore"):
        if np.isfinite(np.sum(array, dtype=np.float64)):
            return None
    finite = np.isfinite(array)
    if finite.all():
        return None
    return tuple(int(i) for i in np.unravel_index(np.argmin(finite), array.shape))


def _incomplete(column: str, row: int, value: str) -> ValueError:
    return ValueError(
        f"evidence must be complete and finite; column {column!r}, row {row} (from 0) is {value}. Drop such rows, or "
        "model evidence and query jointly (a joint mixture that is then conditioned), which integrates them out"
    )


def _weights(value: Any, count: int, whole: bool, first_row: int) -> np.ndarray:
    weight, _ = _array(value, "weight")
    if weight.ndim == 2 and weight.shape[1] == 1:
        weight = weight[:, 0]
    if weight.ndim != 1:
        raise ValueError(f"weight must have shape [N], one number per datum; got {weight.shape}")
    _same_length(weight, count, "weight")
    if isinstance(weight, np.memmap):
        _float_type(weight.dtype, "weight")
        return weight
    weight = _numbers(weight, "weight")[0][:, 0]
    bad = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if bad.size:
        row = bad[0]
        raise ValueError(f"weight must be finite and not negative; row {row + first_row} (from 0) is {weight[row]}")
    if whole and not weight.any():
        raise ValueError("weight must have a positive sum; all weights are 0")
    return weight


def _identities(value: Any, count: int) -> np.ndarray:
    index, _ = _array(value, "index")
    if index.ndim != 1:
        raise ValueError(f"index must have shape [N], one integer per datum; got {index.shape}")
    _same_length(index, count, "index")
    if not np.issubdtype(index.dtype, np.integer):
        raise TypeError(f"index must hold integers; got {index.dtype}")
    if not isinstance(index, np.memmap) and index.min() < 0:
        raise ValueError(f"index must not be negative; got {index.min()}")
    return index


def check_rows(rows: int, argument: str = "rows") -> int:
    """`rows` as a positive integer.

    Raises:
        ValueError: it is not one.

    >>> check_rows(8)
    8
    """
    if isinstance(rows, bool) or not isinstance(rows, int | np.integer) or rows < 1:
        raise ValueError(f"{argument} must be a positive integer, the number of data in a block; got {rows!r}")
    return int(rows)


# -- text --------------------------------------------------------------------------------------------------------------


def _columns_text(names: tuple[str, ...], array: np.ndarray) -> str:
    if array.ndim > 2:
        return str(list(array.shape[1:]))
    if len(names) > 6:
        return f"[{len(names)}] ({', '.join(names[:3])}, ..., {names[-1]})"
    return f"({', '.join(names)})"


def _slice_text(rows: slice) -> str:
    parts = ["" if rows.start is None else str(rows.start), "" if rows.stop is None else str(rows.stop)]
    return ":".join(parts + ([] if rows.step is None else [str(rows.step)]))
