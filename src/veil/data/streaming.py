"""Data larger than memory: a source that can be read again and again, in blocks of the same size."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from veil.data.arrays import Data, check_rows, concatenate, labels, unchecked


class Stream:
    """Blocks of data, read anew from the source in every pass; never more than a block or two of it in memory.

    Iterating yields `Data` of exactly `rows` data each, whatever the size of the source's own blocks; the last one may
    be shorter. The first block of the source is read once at construction, to learn names and shapes. `observed` is
    None in blocks where nothing is missing.

    Args:
        source: called at the beginning of each pass; returns an iterator over `Data` blocks of any sizes.
        rows: the number of data in each block.
        count: the number of data in the whole, where the source knows it.
        name: instead of the name of the first block.

    Attributes:
        rows, count, name: as given.
        query_names, evidence_names: the column names.
        query_shape, evidence_shape: the shapes of one datum's query and evidence (None without evidence).
        dtype: the float type of the query.

    Raises:
        TypeError: `source` is not callable: a generator or iterator can be read only once, and learning takes many
            passes.
        ValueError: an empty source, one that returns the same iterator twice, or a block whose columns or fields differ
            from the first block's (while iterating).

    >>> data = Data(np.arange(5.0))
    >>> [len(block) for block in Stream(lambda: data.blocks(2), rows=3)]
    [3, 2]
    """

    def __init__(
        self,
        source: Callable[[], Iterable[Data]],
        rows: int = 65536,
        *,
        count: int | None = None,
        name: str | None = None,
    ) -> None:
        if not callable(source):
            once = isinstance(source, Iterator)
            raise TypeError(
                "source must be a function that starts a new pass and returns an iterator over Data blocks; got "
                + (
                    f"a {type(source).__name__}, which can be read only once. "
                    if once
                    else f"{type(source).__name__}. "
                )
                + "Learning takes several passes over the data: give the function that makes the iterator, without "
                "calling it, as in Stream(my_blocks) for a generator function, or Stream(lambda: blocks) for a list"
            )
        self._source = source
        self.rows = check_rows(rows)
        self.count = count
        # Kept to notice a source that hands out one exhausted iterator again and again.
        self._peeked = iter(source())
        first = next(self._peeked, None)
        if first is None:
            raise ValueError("source gave no data: its first pass has no blocks")
        _check_block(first, 0)
        close = getattr(self._peeked, "close", None)
        if close is not None:
            close()
        # One row in memory carries all that later blocks are compared with, and its conversion tells the dtype.
        row = next(first[:1].blocks(1))
        self._like = unchecked({field: array.copy() for field, array in row.fields().items()}, labels(row))
        self.name = self._like.name if name is None else name

    @property
    def query_names(self) -> tuple[str, ...]:
        """The names of the query's columns."""
        return self._like.query_names

    @property
    def evidence_names(self) -> tuple[str, ...]:
        """The names of the evidence's columns."""
        return self._like.evidence_names

    @property
    def query_shape(self) -> tuple[int, ...]:
        """The shape of one datum's query."""
        return self._like.query_shape

    @property
    def evidence_shape(self) -> tuple[int, ...] | None:
        """The shape of one datum's evidence, or None without evidence."""
        return self._like.evidence_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The float type of the query."""
        return self._like.query.dtype

    def __iter__(self) -> Iterator[Data]:
        return self.blocks(self.rows)

    def blocks(self, rows: int) -> Iterator[Data]:
        """One pass, in blocks of `rows` data each but the last.

        >>> [len(block) for block in Stream(lambda: Data(np.arange(5.0)).blocks(1)).blocks(2)]
        [2, 2, 1]
        """
        return self._reblock(check_rows(rows))

    def map(self, function: Callable[[Data], Data]) -> Stream:
        """The stream of `function(block)`, applied to each block of the source; the number of rows must stay.

        >>> source = Data([1.0, 2.0], evidence=[3.0, 4.0])
        >>> Stream(lambda: source.blocks(1)).map(Data.joint).query_names
        ('x0', 'y0')
        """
        source = self._source
        return Stream(lambda: (function(block) for block in source()), self.rows, count=self.count, name=self.name)

    def _reblock(self, rows: int) -> Iterator[Data]:
        waiting: deque[Data] = deque()
        held = 0
        for part in self._parts(rows):
            waiting.append(part)
            held += len(part)
            while held >= rows:
                taken, needed = [], rows
                while needed:
                    head = waiting.popleft()
                    if len(head) > needed:
                        waiting.appendleft(head[needed:])
                        head = head[:needed]
                    taken.append(head)
                    needed -= len(head)
                held -= rows
                yield _without_needless_mask(concatenate(taken))
        if waiting:
            yield _without_needless_mask(concatenate(list(waiting)))

    def _parts(self, rows: int) -> Iterator[Data]:
        """The source's blocks, checked against the first one, and in memory."""
        pass_ = iter(self._source())
        if pass_ is self._peeked:
            raise ValueError(
                "source returned the same iterator twice, which can be read only once; "
                "it must begin a new pass at every call"
            )
        number = -1
        for number, found in enumerate(pass_):
            _check_block(found, number)
            self._compare(found, number)
            for part in found.blocks(rows) if found.mapped else (found,):
                # The stream's own name; its dtype too, as a later block of another type would compile everything again.
                yield self._conform(part)
        if number < 0:
            raise ValueError(
                "source gave no data in a later pass; it must begin a new pass over all data at every call"
            )

    def _conform(self, part: Data) -> Data:
        arrays = part._arrays()
        for field in ("query", "evidence", "weight"):
            like = getattr(self._like, field)
            if like is not None:
                arrays[field] = arrays[field].astype(like.dtype, copy=False)
        return unchecked(arrays, (part.query_names, part.evidence_names, self.name))

    def _compare(self, found: Data, number: int) -> None:
        like = self._like
        for role in ("query", "evidence"):
            expected, came = getattr(like, f"{role}_shape"), getattr(found, f"{role}_shape")
            if expected != came:
                raise ValueError(
                    f"block {number} (from 0) has {role} of shape {came} per datum; the first block has {expected}. "
                    "All blocks must have the same columns"
                )
            expected, came = getattr(like, f"{role}_names"), getattr(found, f"{role}_names")
            if expected != came:
                raise ValueError(
                    f"block {number} (from 0) has {role} columns {came}; the first block has {expected}. "
                    "All blocks must have the same columns in the same order"
                )
        for field in ("weight", "index"):
            if (getattr(like, field) is None) != (getattr(found, field) is None):
                has, had = ("no", "one") if getattr(found, field) is None else ("a", "none")
                raise ValueError(
                    f"block {number} (from 0) has {has} {field}, the first block has {had}; "
                    "all blocks must have the same fields"
                )

    def __repr__(self) -> str:
        size = "unknown" if self.count is None else str(self.count)
        given = "" if self.evidence_shape is None else f", evidence {list(self.evidence_shape)}"
        return f"Stream({self.name!r}: N={size}, query {list(self.query_shape)}{given}, blocks of {self.rows})"


def _without_needless_mask(data: Data) -> Data:
    if data.observed is None or not data.observed.all():
        return data
    return unchecked({**data.fields(), "observed": None}, labels(data))


def _check_block(found: object, number: int) -> None:
    if not isinstance(found, Data):
        raise TypeError(
            f"source must give Data blocks; block {number} (from 0) is {type(found).__name__}. Wrap it: Data(...)"
        )
