"""Shuffled batches without end, from data of which only a window is in memory, and where one is in them."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import count
from typing import Any

import numpy as np

from veil.data.core import trees
from veil.data.core.arrays import Data, concatenate, labels, unchecked
from veil.data.core.packages import needed

WINDOW = 1 << 22  # numbers in a window: its rows are shuffled together
CHUNKS = (2, 64)  # in a window: at least two, however large, and at most
THREADS = 4


# From an epoch and window on, without end: (epoch, window in it, its rows or None if it has none).
Windows = Callable[[int, int], Generator[tuple[int, int, Data | None]]]


def chunk_windows(load: Callable[[int], Data | None], sizes: Sequence[int], width: int, seed: Sequence[int]) -> Windows:
    """Windows of several chunks, whose order is shuffled anew in each epoch, read ahead by threads.

    `load` reads a chunk by its number, of `sizes` rows of `width` numbers; None if there is nothing in it. The order
    and the threads are those of grain: a map over the chunks, globally shuffled and repeated.
    """
    grain = needed("shuffled batches of a stream need grain", "scale", "grain")
    total, mean = len(sizes), max(1, sum(sizes) * width // len(sizes))
    each = min(int(np.clip(WINDOW // mean, *CHUNKS)), total)
    # Of 32 bits and mixed, as grain shuffles epoch e of seed s like epoch 0 of seed s + e.
    mixed = int(np.random.SeedSequence(list(seed)).generate_state(1)[0])

    def begin(epoch: int, window: int) -> Generator[tuple[int, int, Data | None]]:
        order = grain.MapDataset.source(range(total)).shuffle(seed=mixed).repeat()
        ahead = grain.ReadOptions(num_threads=min(THREADS, each), prefetch_buffer_size=each)
        chunks = iter(order.map(load).to_iter_dataset(ahead, allow_nones=True))
        chunks.set_state({"next_index": epoch * total + min(window * each, total)})
        try:
            for now in count(epoch):
                for start in range(window * each, total, each):
                    parts = [next(chunks) for _ in range(min(each, total - start))]
                    parts = [part for part in parts if part is not None]
                    found = concatenate(parts) if parts else None
                    del parts
                    yield now, start // each, found
                    del found  # or it would stay until the next window is there
                window = 0
        finally:
            chunks.close()

    return begin


def passing_windows(blocks: Callable[[int], Iterator[Data]], width: int) -> Windows:
    """Windows of a source that can only be read in order: consecutive blocks; going on in the middle skips forward."""

    def begin(epoch: int, window: int) -> Generator[tuple[int, int, Data | None]]:
        for now in count(epoch):
            for number, found in enumerate(blocks(max(1, WINDOW // max(1, width)))):
                if number >= window:
                    yield now, number, found
                del found
            window = 0

    return begin


class Batches(Iterator[Data]):
    """Batches without end, each of exactly `batch_size` rows: what `Stream.batches` returns.

    The rows of a window come in an order of their own, all windows of an epoch one after the other, and the next epoch
    right after the last row. After an error `next` may be called again, once its cause is gone: nothing is lost.
    """

    def __init__(
        self,
        windows: Windows,
        batch_size: int,
        seed: Sequence[int],
        same: dict[str, int],
        state: dict[str, Any] | None,
        end_of_epoch: Callable[[], None] = lambda: None,
    ) -> None:
        self._windows, self._batch_size, self._seed, self._same = windows, batch_size, list(seed), same
        self._place = (0, 0, 0) if state is None else _place(state, same)  # of the first row not handed out
        self._end_of_epoch = end_of_epoch
        self._passing: Generator[tuple[Data, tuple[int, int, int]]] | None = None

    def __next__(self) -> Data:
        self._passing = self._passing or self._pass(*self._place)
        try:
            batch, self._place = next(self._passing)
        except BaseException:
            self.close()
            raise
        return without_needless_mask(batch)

    def state(self) -> dict[str, Any]:
        """Where the last batch that was handed out ended, as plain JSON values, for `Stream.batches(..., state=...)`.

        It holds the epoch, the window in it, the rows of it that were handed out, and what must be the same then: the
        seed, the process and their number, and the number of chunks and rows of the source.
        """
        epoch, window, row = self._place
        return {"epoch": epoch, "window": window, "row": row, **self._same}

    def close(self) -> None:
        """Stop reading ahead; the next batch begins again."""
        if self._passing is not None:
            self._passing.close()
        self._passing = None

    def _pass(self, epoch: int, number: int, row: int) -> Generator[tuple[Data, tuple[int, int, int]]]:
        """Batches from a place on, each with the place where it ends."""
        taken, needed, before, empty = list[Data](), self._batch_size, epoch, False
        with closing(self._windows(epoch, number)) as windows:
            for epoch, number, window in windows:
                if epoch > before:
                    self._end_of_epoch()
                    if empty:
                        raise ValueError(
                            "the stream gave no rows in a whole epoch: all of them are bad and were skipped"
                        )
                    before, empty = epoch, True
                order = np.random.default_rng([*self._seed, epoch, number]).permutation(
                    0 if window is None else len(window)
                )
                empty = empty and not len(order)
                while window is not None and row < len(order):
                    taken.append(window[order[row : row + needed]])
                    row, needed = row + len(taken[-1]), needed - len(taken[-1])
                    if not needed:
                        yield concatenate(taken), (epoch, number, row)
                        taken, needed = [], self._batch_size
                row = 0
                del window  # before the next one comes, so that they are not in memory together


def _place(state: dict[str, Any], same: dict[str, Any]) -> tuple[int, int, int]:
    for key in ("epoch", "window", "row", *same):
        if not isinstance(state.get(key), int):
            raise ValueError(f"state must be what Batches.state() returned; it has no {key!r}: {state!r}")
    for key, value in same.items():
        if state[key] != value:
            raise ValueError(
                f"state: it was made with {key} {state[key]}, and here it is {value}. Batches go on only over the same "
                "data, with the same seed and the same processes; without state they begin anew"
            )
    return state["epoch"], state["window"], state["row"]


def without_needless_mask(data: Data) -> Data:
    """The same data, with `observed` None if nothing is missing."""
    if not all(mask.all() for _, mask in trees.leaves(data.observed)):
        return data
    return unchecked({**data.fields(), "observed": None}, labels(data))
