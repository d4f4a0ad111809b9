"""Actions side by side with the observations at which they were taken, T of both, as robot data are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from veil.data.recorded.recordings import Episode


class Later:
    """An array of known shape and dtype, which ``read`` reads when its numbers are first asked for.

    So the frames of a camera that nobody names are never decoded. ``what`` is what messages call it.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, read: Callable[[], np.ndarray], what: str) -> None:
        self.shape, self.dtype, self.ndim, self._read, self._what = shape, np.dtype(dtype), len(shape), read, what

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._values, dtype, copy=copy)

    def __getitem__(self, index: Any) -> Any:
        return self._values[index]

    @cached_property
    def _values(self) -> np.ndarray:
        found = self._read()
        if found.shape != self.shape:
            raise ValueError(f"{self._what}: expected the shape {list(self.shape)}; got {list(found.shape)}")
        return found


def paired(
    seen: Mapping[str, Any],
    acted: Mapping[str, np.ndarray],
    rewards: np.ndarray | None,
    done: np.ndarray | None,
    infos: Mapping[str, Any],
) -> Episode:
    """The episode of actions u_0..u_T-1 taken at observations o_0..o_T-1, T of both, or with o_T behind them.

    Without o_T nothing is known of what the last action led to: it is left out with its reward, and T - 1 actions with
    o_0..o_T-1 are there. An observation is never repeated or made up.

    Args:
        seen: [T, ...] or [T+1, ...] by name.
        acted: [T, ...] by name.
        rewards: [T] of the actions; unknown (NaN) if None.
        done: [T], whether an action ended the episode in a final state; if the last that is there did not, or if None,
            the episode was cut off.
        infos: by name, as they were recorded.

    Raises:
        ValueError: parts of different lengths, or one action and no observation after it.

    >>> paired({"observation": np.zeros((4, 2))}, {"action": np.arange(4.0)}, None, None, {})
    Episode(3 actions, observation [2])
    """
    steps = len(next(iter(acted.values())))
    each = {name: len(array) for name, array in acted.items()}
    each |= {name: len(array) for name, array in (("rewards", rewards), ("done", done)) if array is not None}
    if odd := [name for name, count in each.items() if count != steps]:
        raise ValueError(f"{odd[0]!r} has {each[odd[0]]} entries, and there are {steps} actions; expected one for each")
    counts = {len(array) for array in seen.values()}
    for name, array in seen.items():
        if len(counts) > 1 or len(array) not in (steps, steps + 1):
            raise ValueError(f"{name!r} has {len(array)} entries, and there are {steps} actions; expected one for each")
    kept = max(counts) - 1
    if kept < 1:
        raise ValueError(
            f"there are {steps} actions and {max(counts)} observations, so that no action is left of which an "
            "observation came; leave the episode out: recording(path, episodes=[...])"
        )
    over = done is not None and bool(done[kept - 1])
    return Episode(
        seen,
        {name: array[:kept] for name, array in acted.items()},
        np.full(kept, np.nan) if rewards is None else np.asarray(rewards)[:kept],
        over,
        not over,
        infos=infos,
    )
