"""A world as an environment of Gymnasium: the same numbers, one step at a time."""

from typing import Any

import equinox as eqx
import jax
import numpy as np

from veil.control.worlds import frame
from veil.control.worlds.drawing import draw
from veil.control.worlds.frame import World
from veil.control.worlds.slalom import Slalom
from veil.control.worlds.tree import Tree
from veil.data.core.packages import needed

needed("environments need gymnasium", "control", "gymnasium")
import gymnasium  # noqa: E402 -- with the words above where it is not installed


@eqx.filter_jit
def _start(world: World, key: Any) -> Any:
    start, keys, _ = frame.begin(world, key)
    return start, world.observe(start), jax.vmap(lambda key: jax.random.split(key)[1])(keys)


@eqx.filter_jit
def _step(world: World, state: Any, action: Any, key: Any) -> Any:
    went = world.step(state, action, key)
    return went, world.observe(went.state)


@eqx.filter_jit
def _ending(world: World, path: Any) -> Any:
    return world.ending(path)


class Environment(gymnasium.Env):
    """One episode of a world at a time, the one that ``drive`` has with the same actions and ``key``.

    The key of an episode is drawn from ``np_random`` by ``reset``. At the end the info holds "success", "hit", "out",
    "passed" and "outcome". ``render_mode="rgb_array"`` draws the world and the path so far.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, world: World, render_mode: str | None = None) -> None:
        self.world, self.render_mode = world, render_mode
        self.action_space = gymnasium.spaces.Box(*world.limits())
        self.observation_space = gymnasium.spaces.Box(*world.bounds())
        self.key: Any = None
        self._keys: Any = None
        self._path: list[np.ndarray] = []
        self._state: Any = None
        self._taken = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.key = jax.random.key(self.np_random.integers(2**32, dtype=np.uint32))
        self._state, seen, self._keys = _start(self.world, self.key)
        self._path, self._taken = [np.asarray(self._state)[None]], 0
        return np.asarray(seen), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self._keys is None:
            raise gymnasium.error.ResetNeeded("the episode is over: call reset")
        went, seen = _step(self.world, self._state, np.asarray(action, np.float32), self._keys[self._taken])
        self._state, self._taken = went.state, self._taken + 1
        self._path.append(np.asarray(went.path))
        terminated = bool(went.terminated)
        truncated = not terminated and self._taken == self.world.steps
        info = {}
        if terminated or truncated:
            self._keys, info = None, self._outcome()
        return np.asarray(seen), float(went.reward), terminated, truncated, info

    def _outcome(self) -> dict[str, Any]:
        path = np.concatenate(self._path)
        whole = 1 + self.world.steps * len(self._path[-1])  # one shape, compiled once
        end = _ending(self.world, np.concatenate([path, np.repeat(path[-1:], whole - len(path), 0)]))
        named = {"success": end.success, "hit": end.hit, "out": end.out, "passed": end.passed, "outcome": end.outcome}
        return {name: np.asarray(each).item() for name, each in named.items()}

    def render(self) -> Any:
        return draw(self.world.scene(), np.concatenate(self._path)) if self.render_mode == "rgb_array" else None


def tree(render_mode: str | None = None, **fields: Any) -> Environment:
    """``veil/Tree-v0``; ``fields`` are those of ``Tree``, such as ``noise=0.0``."""
    return Environment(Tree(**fields), render_mode)


def slalom(render_mode: str | None = None, **fields: Any) -> Environment:
    """``veil/Slalom-v0``; ``fields`` are those of ``Slalom``."""
    return Environment(Slalom(**fields), render_mode)
