"""A finite problem as an environment of Gymnasium: the same tables, one step at a time."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from veil.control.worlds.deep_sea import DeepSea
from veil.control.worlds.walks import Land
from veil.data.core.packages import needed

needed("environments need gymnasium", "control", "gymnasium")
import gymnasium  # noqa: E402 -- with the words above where it is not installed


class Walked(gymnasium.Env):
    """One walk at a time. Observations and actions are numbers of states and actions, or rows of ``pictures`` [S, ...].

    An episode that reaches the problem's horizon is over, and not cut off: nothing is to be had behind it. Everything
    random is drawn from ``np_random``.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, land: Land, pictures: np.ndarray | None = None) -> None:
        problem = land.problem
        self.action_space = gymnasium.spaces.Discrete(problem.actions)
        self.observation_space = (
            gymnasium.spaces.Discrete(problem.states)
            if pictures is None
            else gymnasium.spaces.Box(float(pictures.min()), float(pictures.max()), pictures.shape[1:], np.float32)
        )
        self.land, self.pictures, self.horizon = land, pictures, problem.horizon
        shape = problem.transitions.shape
        states = jnp.arange(problem.states, dtype=jnp.int32)
        self._next = np.broadcast_to(np.asarray(problem.transitions.outcomes(states)), shape)
        self._chances, self._rewards = np.asarray(problem.transitions.chances, float), np.asarray(problem.rewards())
        self._noise = None if land.noise is None else np.asarray(land.noise)
        self._start, self._ends = np.asarray(problem.start, float), np.asarray(problem.ends)
        self.state: int | None = None
        self.taken = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.state, self.taken = int(self.np_random.choice(len(self._start), p=_shares(self._start))), 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        if self.state is None:
            raise gymnasium.error.ResetNeeded("the episode is over: call reset")
        at = self.state, int(action)
        reward = float(self._rewards[at])
        if self._noise is not None:
            reward += float(self._noise[at]) * float(self.np_random.normal())
        self.state = int(self._next[at][self.np_random.choice(self._next.shape[-1], p=_shares(self._chances[at]))])
        self.taken += 1
        seen = self._seen()
        terminated = bool(self._ends[self.state]) or self.taken == self.horizon
        if terminated:
            self.state = None
        return seen, reward, terminated, False, {"state": at[0]}

    def _seen(self) -> Any:
        return self.state if self.pictures is None else self.pictures[self.state]


def _shares(chances: np.ndarray) -> np.ndarray:
    return chances / chances.sum()  # single precision's sum is 1 only nearly


def deep_sea(size: int = 10, stochastic: bool = False, mapping: int | None = 42, pictures: bool = False) -> Walked:
    """``veil/DeepSea-v0``; with ``pictures`` a pixel [N, N] where one is."""
    sea = DeepSea(size, stochastic, mapping)
    return Walked(sea.land, sea.pictures() if pictures else None)
