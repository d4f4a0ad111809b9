"""Long sequences as training windows of one length."""

from functools import partial

import numpy as np

from veil.data.core import trees
from veil.data.core.arrays import Data, labels, unchecked
from veil.data.core.checks import check_rows
from veil.data.core.episodes import shape_of
from veil.data.core.trees import Tree


def windows(data: Data, length: int, stride: int | None = None, *, marked: bool = False) -> Data:
    """Sequences cut into windows of `length` steps that begin every `stride` steps: truncated sequences.

    Every step is in a window (in several if `stride` is smaller than `length`); the last window of a sequence may be
    shorter, and is padded. `HMM` and `LDS` begin every window from p(z_1), which costs a little near the cuts, the less
    the longer the windows. With `marked`, `reset` is True at the first step of a window that begins an episode, and not
    where the window goes on with one, for models that carry a state from one window to the next; otherwise it is there
    only if the data have it (resets make the covariances of an `LDS` differ between sequences: 2.5 times the time).

    Weights are those of the sequences; an index is dropped, since a window is not a sequence.

    Args:
        data: sequences, query [N, T, ...].
        length: steps in a window.
        stride: steps from the beginning of one window to that of the next; `length` by default, and not more.
        marked: whether to mark the windows that begin an episode.

    Raises:
        ValueError: data that are not sequences, or numbers that are out of range.

    >>> from veil.data import episodes
    >>> windows(episodes([[1.0, 2.0, 3.0, 4.0, 5.0], [6.0]]), 2).query[..., 0].tolist()
    [[1.0, 2.0], [3.0, 4.0], [5.0, 0.0], [6.0, 0.0]]
    """
    check_rows(length, "length")
    stride = length if stride is None else check_rows(stride, "stride")
    if stride > length:
        raise ValueError(f"stride must be at most length ({length}), or steps would be in no window; got {stride}")
    count, most = shape_of(data)
    arrays = data.fields()
    there = arrays.get("mask", np.ones((count, most), bool))
    length = min(length, most)
    sizes = there.sum(1)
    each = 1 + np.maximum(0, -(-(sizes - length) // stride))
    row = np.repeat(np.arange(count), each)
    begin = stride * (np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each))
    places = begin[:, None] + np.arange(length)[None]
    inside = places < sizes[row][:, None]
    places = np.minimum(places, most - 1)

    def cut(array: np.ndarray, filler: bool) -> np.ndarray:
        picked = array[row[:, None], places]
        wide = inside.reshape(*inside.shape, *[1] * (picked.ndim - 2))
        return picked if inside.all() else np.where(wide, picked, np.asarray(filler, picked.dtype))

    made: dict[str, Tree] = {
        name: trees.map(partial(cut, filler=name == "observed"), arrays[name])
        for name in ("query", "evidence", "observed")
        if name in arrays
    }
    if "weight" in arrays:
        made["weight"] = arrays["weight"][row]
    if not inside.all():
        made["mask"] = inside
    if marked or "reset" in arrays:
        reset = arrays["reset"][row[:, None], places] & inside if "reset" in arrays else np.zeros_like(inside)
        if marked:
            reset[:, 0] |= begin == 0
        made["reset"] = reset
    return unchecked(made, labels(data), data.view)
