"""A body that is moved as an environment of Gymnasium: the same numbers, one step at a time."""

from typing import Any

import equinox as eqx
import jax
import numpy as np

from veil.control.worlds.cartpole import PETS, SMALL, Balance, CartPole, Reaching, SwingUp, SwingUpSparse
from veil.control.worlds.physics import Physics
from veil.data.core.packages import needed

needed("environments need gymnasium", "control", "gymnasium")
import gymnasium  # noqa: E402 -- with the words above where it is not installed


@eqx.filter_jit
def _start(physics: Physics, key: Any) -> Any:
    state = physics.start(key)
    return state, physics.observe(state)


@eqx.filter_jit
def _step(physics: Physics, state: Any, action: Any) -> Any:
    action = physics.within(action)
    state = physics.step(state, action)
    return state, physics.observe(state), physics.reward(state, action)


@eqx.filter_jit
def _frame(physics: Physics, state: Any, size: int) -> Any:
    return physics.frame(state, size)


class Moved(gymnasium.Env):
    """One episode at a time, which begins at ``physics.start`` of a key drawn from ``np_random`` and does not end.

    ``render_mode="rgb_array"`` draws pictures of ``render_size`` pixels a side.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012

    def __init__(self, physics: Physics, render_mode: str | None = None, render_size: int = 256) -> None:
        self.physics, self.render_mode, self.render_size = physics, render_mode, render_size
        self.action_space = gymnasium.spaces.Box(*physics.limits())
        self.observation_space = gymnasium.spaces.Box(*physics.bounds())
        self.state: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        key = jax.random.key(self.np_random.integers(2**32, dtype=np.uint32))
        self.state, seen = _start(self.physics, key)
        return np.asarray(seen), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self.state is None:
            raise gymnasium.error.ResetNeeded("no episode has begun: call reset")
        self.state, seen, reward = _step(self.physics, self.state, np.asarray(action, np.float32))
        return np.asarray(seen), float(reward), False, False, {}

    def render(self) -> Any:
        if self.render_mode != "rgb_array" or self.state is None:
            return None
        return np.asarray(_frame(self.physics, self.state, self.render_size))


def swing_up(render_mode: str | None = None, render_size: int = 256) -> Moved:
    """``veil/CartPoleSwingUp-v0``."""
    return Moved(CartPole(SMALL, SwingUp()), render_mode, render_size)


def swing_up_sparse(render_mode: str | None = None, render_size: int = 256) -> Moved:
    """``veil/CartPoleSwingUpSparse-v0``."""
    return Moved(CartPole(SMALL, SwingUpSparse()), render_mode, render_size)


def balance(render_mode: str | None = None, render_size: int = 256) -> Moved:
    """``veil/CartPoleBalance-v0``."""
    return Moved(CartPole(SMALL, Balance()), render_mode, render_size)


def pets(render_mode: str | None = None, render_size: int = 256) -> Moved:
    """``veil/CartPolePETS-v0``."""
    return Moved(CartPole(PETS, Reaching(), folded=False), render_mode, render_size)
