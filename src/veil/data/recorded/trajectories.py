"""Trajectories as other libraries keep them, as a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from veil.data.core.columns import suggestion
from veil.data.recorded.recordings import Episode, Recording
from veil.data.recorded.views import ACTED, OBSERVED, named

# what Gymnasium, Minari, imitation, D4RL and stable-baselines3 call them
WORDS = {
    "observations": ("observations", "observation", "obs"),
    "after": ("next_observations", "next_observation", "next_obs"),
    "actions": ("actions", "action", "acts"),
    "rewards": ("rewards", "reward", "rews"),
    "terminated": ("terminated", "terminations", "terminal", "terminals", "dones", "done"),
    "truncated": ("truncated", "truncations", "timeouts"),
    "seed": ("seed",),
    "infos": ("infos", "info", "id"),
}


def trajectories(found: Any, categories: Mapping[str, Any] | None = None, name: str = "trajectories") -> Recording:
    """A recording of trajectories as reinforcement learning has them: observations o_0..o_T, actions u_0..u_T-1.

    Where there are T of both, `next_observations` has o_T as its last.

    Args:
        found: a list of dictionaries (or of objects with such fields): `observations` [T+1, ...] and `actions`
            [T, ...], arrays or dictionaries of them, `rewards` [T] (unknown if left out), `terminated` and `truncated`,
            one bool or [T]; also under the names that Minari, imitation, D4RL and Gymnasium have for them.
        categories: of parts that are choices, their values, as in `Recording`: {"action": range(2)}.
        name: of the data.

    Raises:
        TypeError: not a list of dictionaries.
        ValueError: observations or actions missing, unknown names, or lengths that do not fit.

    >>> trajectories([{"observations": np.zeros((4, 2)), "actions": np.zeros((3, 1)), "rewards": np.ones(3)}])
    Recording('trajectories': 1 episodes, observation, action, reward, terminated)
    """
    if isinstance(found, Mapping | str) or not isinstance(found, Sequence):
        raise TypeError(f"found: expected a list of dictionaries, one a trajectory; got a {type(found).__name__}")
    return Recording([_episode(each, number) for number, each in enumerate(found)], dict(categories or {}), name)


def _episode(found: Any, number: int) -> Episode:
    where = f"trajectory {number} (from 0)"
    try:
        given = found if isinstance(found, Mapping) else vars(found)
    except TypeError:
        words = f"{where}: expected a dictionary with observations and actions; got a {type(found).__name__}"
        raise TypeError(words) from None
    values: dict[str, Any] = {}
    for key, value in given.items():
        meant = next((field for field, words in WORDS.items() if key in words), None)
        if meant is None:
            raise ValueError(f"{where}: {key!r} is not known; {suggestion(str(key), [w[0] for w in WORDS.values()])}")
        values[meant] = value
    if missing := [field for field in ("observations", "actions") if values.get(field) is None]:
        raise ValueError(f"{where}: {missing[0]} are missing; it has {', '.join(map(str, given)) or 'nothing'}")
    seen, after, acted = (
        {part: np.asarray(array) for part, array in named(values.get(field, {}), kind)}
        for field, kind in (("observations", OBSERVED), ("after", OBSERVED), ("actions", ACTED))
    )
    steps = len(next(iter(acted.values())))
    if after:
        seen = {part: np.concatenate([array[:steps], after[part][-1:]]) for part, array in seen.items()}
    for part, array in seen.items():
        if len(array) != steps + 1:
            raise ValueError(
                f"{where}: {part!r} has {len(array)} entries, and there are {steps} actions; expected {steps + 1}, the "
                "first and one after each action. Give next_observations, too, or leave the last action out"
            )
    rewards = values.get("rewards")
    over, cut = (values.get(field) is not None and bool(np.any(values[field])) for field in ("terminated", "truncated"))
    over = over and not (cut and ("dones" in given or "done" in given))  # which say that it is over for either reason
    found = np.full(steps, np.nan) if rewards is None else np.asarray(rewards)
    return Episode(seen, acted, found, over, cut, seed=values.get("seed"))
