"""The order in which windows of long sequences are seen: each lane of a batch goes through whole sequences."""

import heapq

import numpy as np


class WindowOrder:
    """Rows of a table of windows, ``lanes`` side by side; a sequence's windows are rows in order, each behind the last.

    Lane b sees the windows of one sequence one step after the other, then those of the next sequence in a shuffled
    queue that all lanes share: each sequence once before any twice. ``begins`` bool [W] marks the windows that begin a
    sequence. A function of the seed and the step alone.
    """

    def __init__(self, begins: np.ndarray, lanes: int, seed: list[int]) -> None:
        self._first = np.flatnonzero(begins)
        self._length = np.diff(np.append(self._first, len(begins)))
        self._lanes, self._seed = lanes, seed
        self._restart()

    def _restart(self) -> None:
        self._free = [(0, lane) for lane in range(self._lanes)]  # a heap: the lane that is free first is served first
        self._taken: list[tuple[int, int, int, int]] = []  # (step, lane, first window, windows)
        self._queue: list[int] = []
        self._epoch, self._from = 0, 0

    def rows(self, begin: int, steps: int) -> np.ndarray:
        """Which rows [steps, lanes] the steps from ``begin`` on see."""
        if begin < self._from:
            self._restart()
        self._from, end = begin, begin + steps
        while self._free[0][0] < end:
            step, lane = heapq.heappop(self._free)
            if not self._queue:
                order = np.random.default_rng([*self._seed, self._epoch]).permutation(len(self._first))
                self._queue, self._epoch = order[::-1].tolist(), self._epoch + 1
            row = self._queue.pop()
            length = int(self._length[row])
            if step + length > begin:
                self._taken.append((step, lane, int(self._first[row]), length))
            heapq.heappush(self._free, (step + length, lane))
        self._taken = [each for each in self._taken if each[0] + each[3] > begin]
        rows = np.zeros((steps, self._lanes), np.int32)
        for step, lane, first, length in self._taken:
            low, high = max(step, begin), min(step + length, end)
            rows[low - begin : high - begin, lane] = np.arange(first + low - step, first + high - step)
        return rows
