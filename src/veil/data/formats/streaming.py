"""Data larger than memory: a source that can be read again and again, in blocks of the same size."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import numpy as np

from veil.data.core import trees
from veil.data.core.arrays import Data, concatenate, labels, shape_text, unchecked
from veil.data.core.checks import check_rows
from veil.data.core.records import BadRecords
from veil.data.formats.files import TableFiles
from veil.data.formats.shuffling import Batches, chunk_windows, passing_windows, without_needless_mask


class Stream:
    """Blocks of data, read anew from the source in every pass; never more than a block or two of it in memory.

    Iterating yields `Data` of exactly `rows` data each, whatever the size of the source's own blocks; the last one may
    be shorter. The first block of the source is read once at construction, to learn names and shapes. `observed` is
    None in blocks where nothing is missing.

    Args:
        source: called at the beginning of each pass; returns an iterator over `Data` blocks of any sizes. The chunks of
            files, as those of `veil.data.stream`, can be read in any order.
        rows: the number of data in each block.
        count: the number of data in the whole, where the source knows it.
        name: instead of the name of the first block.

    Attributes:
        query_names, evidence_names, query_shape, evidence_shape: as of `Data`.
        dtype: the float type of the query; of several the one that holds them all.

    Raises:
        TypeError: `source` is not callable: an iterator can be read only once, and learning takes many passes.
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
            kind = type(source).__name__
            raise TypeError(
                "source must be a function that starts a new pass and returns an iterator over Data blocks; got "
                + (f"a {kind}, which can be read only once. " if isinstance(source, Iterator) else f"{kind}. ")
                + "Learning takes several passes over the data: give the function that makes the iterator, without "
                "calling it, as in Stream(my_blocks) for a generator function, or Stream(lambda: blocks) for a list"
            )
        self._source: Callable[[], Iterable[Data]] = source
        self.rows = check_rows(rows)
        self.count = count
        # Kept to notice a source that hands out one exhausted iterator again and again.
        self._peeked = iter(source())
        first = next(self._peeked, None)
        if first is None:
            raise ValueError("source gave no data: its first pass has no blocks")
        _check_block(first, 0)
        if isinstance(self._peeked, Generator):
            self._peeked.close()
        # One row in memory carries all that later blocks are compared with, and its conversion tells the dtype.
        row = next(first[:1].blocks(1))
        self._like = unchecked(trees.map(np.copy, row.fields()), labels(row))
        self.name = self._like.name if name is None else name
        self.query_names, self.evidence_names = self._like.query_names, self._like.evidence_names
        self.query_shape, self.evidence_shape = self._like.query_shape, self._like.evidence_shape
        self.dtype = np.result_type(*(leaf.dtype for _, leaf in trees.leaves(self._like.query)))

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
        passes = lambda: (function(block) for block in source())  # noqa: E731
        mapped = source.map(function) if isinstance(source, TableFiles) else passes
        return Stream(mapped, self.rows, count=self.count, name=self.name)

    def batches(
        self, batch_size: int, *, seed: int, process: int = 0, processes: int = 1, state: dict[str, Any] | None = None
    ) -> Batches:
        """Shuffled batches without end, each of exactly `batch_size` rows; every row of this process's share once an
        epoch.

        Files are read in chunks, whose order is new in each epoch; windows of several chunks (about 4 million numbers,
        two chunks at least) are in memory, and their rows come in a random order, while threads read the next ones. A
        batch may hold the last rows of one epoch and the first of the next. A stream made from a Python function, which
        must give the same data in every pass, has no chunks: its rows are shuffled within windows of consecutive ones.

        The same seed gives the same batches; with the `state()` of an iterator, plain JSON values, a new one over the
        same data goes on with those that would have followed, after it has read one window again (of a function: all up
        to there).

        Args:
            batch_size: the number of data in a batch.
            seed: of the order; not negative.
            process, processes: the share that this process reads, as in `share`.
            state: from an earlier iterator, with the same seed and processes.

        Raises:
            ModuleNotFoundError: a stream of files without grain; the message has the command that installs it.
            ValueError: an argument out of range, fewer chunks than processes, a state of other data; while iterating
                whatever a pass would raise.

        >>> batches = Stream(lambda: Data(np.arange(10.0)).blocks(4)).batches(5, seed=0)
        >>> sorted(float(value) for batch in (next(batches), next(batches)) for value in batch.query[:, 0])
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
        """
        check_rows(batch_size, "batch_size")
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise ValueError(f"seed must be an integer that is not negative; got {seed!r}")
        same = {"seed": int(seed), "process": int(process), "processes": int(processes)}
        share, order = self.share(process, processes), (seed, process)
        source = share._source
        width = sum(leaf.size for tree in (self._like.query, self._like.evidence) for _, leaf in trees.leaves(tree))
        if not isinstance(source, TableFiles):
            return Batches(passing_windows(share.blocks, width), batch_size, order, same, state)
        sizes = source.sizes()
        same |= {"chunks": len(sizes), "rows": sum(sizes)}

        def load(chunk: int) -> Data | None:
            found = source.load(chunk)
            return None if found is None else self._conform(self._compare(found, chunk))

        windows = chunk_windows(load, sizes, width, order)
        return Batches(windows, batch_size, order, same, state, lambda: source.ledger.warn(self.name))

    def share(self, process: int, processes: int) -> Stream:
        """What one of several processes reads: disjoint shares, which together are all; one process has all of it.

        Of files these are whole chunks, every `processes`-th; of a stream made from a Python function every
        `processes`-th row, for which each process goes through the whole.

        Raises:
            ValueError: not 0 <= process < processes, or fewer chunks than processes.

        >>> shares = [Stream(lambda: Data(np.arange(5.0)).blocks(2)).share(i, 2) for i in range(2)]
        >>> [next(iter(share)).query[:, 0].tolist() for share in shares]
        [[0.0, 2.0, 4.0], [1.0, 3.0]]
        """
        if not 0 <= process < processes:
            raise ValueError(
                f"process must be a number from 0 to processes - 1; got process={process}, processes={processes}"
            )
        if processes == 1:
            return self
        made, source = copy.copy(self), self._source
        if not isinstance(source, TableFiles):
            made._source = lambda: _every(source(), process, processes)
            made.count = None if self.count is None else len(range(process, self.count, processes))
            return made
        chunks = len(source.sizes())
        if chunks < processes:
            raise ValueError(
                f"processes: {self.name!r} has {chunks} chunks, which cannot be shared by {processes} processes. Use "
                "fewer processes, or write more and smaller files, or Parquet with smaller row groups (row_group_size)"
            )
        made._source = source.share(process, processes)
        made.count = None if self.count is None else sum(source.sizes()[process::processes])
        return made

    @property
    def bad(self) -> BadRecords:
        """The records that were skipped until now, in files opened with `bad="skip"`."""
        return self._source.ledger.report() if isinstance(self._source, TableFiles) else BadRecords(0, ())

    def _reblock(self, rows: int) -> Iterator[Data]:
        waiting, held = list[Data](), 0
        for part in self._parts(rows):
            waiting.append(part)
            held += len(part)
            if held >= rows:
                whole, held = concatenate(waiting), held % rows
                full = len(whole) - held
                yield from (without_needless_mask(whole[at : at + rows]) for at in range(0, full, rows))
                waiting = [whole[full:]] if held else []
                del whole
        if waiting:
            yield without_needless_mask(concatenate(waiting))

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
            like = vars(self._like)[field]
            if like is not None:
                arrays[field] = trees.map(lambda array, one: array.astype(one.dtype, copy=False), arrays[field], like)
        return unchecked(arrays, (part.query_names, part.evidence_names, self.name), part.view)

    def _compare(self, found: object, number: int) -> Data:
        found = _check_block(found, number)
        for what, of in _FORM.items():
            if of(found) != of(self._like):
                raise ValueError(
                    f"block {number} (from 0) has {what} {of(found)}; the first block has {of(self._like)}. All blocks "
                    "must have the same columns in the same order, and the same fields"
                )
        return found

    def __repr__(self) -> str:
        size = "unknown" if self.count is None else str(self.count)
        given = "" if self.evidence_shape is None else f", evidence {shape_text(self._like.evidence)}"
        query = shape_text(self._like.query)
        return f"Stream({self.name!r}: N={size}, query {query}{given}, blocks of {self.rows})"


# What all blocks have in common.
_FORM: dict[str, Callable[[Data], Any]] = {
    "query of shape": lambda found: found.query_shape,
    "evidence of shape": lambda found: found.evidence_shape,
    "query columns": lambda found: found.query_names,
    "evidence columns": lambda found: found.evidence_names,
    "fields:": lambda found: ", ".join(
        f"{'no' if vars(found)[field] is None else 'a given'} {field}" for field in ("weight", "index")
    ),
}


def _every(blocks: Iterable[Data], process: int, processes: int) -> Iterator[Data]:
    """Rows number process, process + processes, ... of all blocks."""
    row = 0
    for found in blocks:
        first = (process - row) % processes
        row += len(found)
        if first < len(found):
            yield found[first::processes]


def _check_block(found: object, number: int) -> Data:
    if not isinstance(found, Data):
        raise TypeError(
            f"source must give Data blocks; block {number} (from 0) is {type(found).__name__}. Wrap it: Data(...)"
        )
    return found
