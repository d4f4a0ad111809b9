"""The corridor with a television as an environment of Gymnasium: the same numbers, one step at a time."""

from typing import Any

import equinox as eqx
import jax
import numpy as np

from veil.control.worlds.television import Standing, Television
from veil.data.core.packages import needed

needed("environments need gymnasium", "control", "gymnasium")
import gymnasium  # noqa: E402 -- with the words above where it is not installed


@eqx.filter_jit
def _step(world: Television, state: Standing, action: Any, key: Any) -> Any:
    after = world.step(state, action, key)
    return after, world.observe(after), world.reward(after), world.over(after)


class Watched(gymnasium.Env):
    """One episode at a time; the key of its noise is drawn from ``np_random`` by ``reset``."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, world: Television) -> None:
        self.world, self.render_mode = world, None
        low = np.concatenate([np.zeros(world.length), np.full(world.entries, -np.inf)]).astype(np.float32)
        high = np.where(np.isfinite(low), 1.0, np.inf).astype(np.float32)
        self.action_space = gymnasium.spaces.Discrete(3)
        self.observation_space = gymnasium.spaces.Box(low, high)
        self.state: Any = None
        self._key: Any = None
        self._taken = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._key = jax.random.key(self.np_random.integers(2**32, dtype=np.uint32))
        self.state, self._taken = self.world.start(), 0
        return np.asarray(self.world.observe(self.state), np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self.state is None:
            raise gymnasium.error.ResetNeeded("no episode has begun: call reset")
        key = jax.random.fold_in(self._key, np.uint32(self._taken))
        after, seen, reward, over = _step(self.world, self.state, np.asarray(action, int), key)
        self.state, self._taken = None if over else after, self._taken + 1
        return np.asarray(seen, np.float32), float(reward), bool(over), False, {}


def television(**fields: Any) -> Watched:
    """``veil/NoisyTelevision-v0``; ``fields`` are those of ``Television``, such as ``length=20``."""
    return Watched(Television(**fields))
