"""Steps of a Gymnasium environment, and the units in which those with continuous actions are learned from."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from veil.control.collecting import environment
from veil.control.continuous.transitions import Transitions
from veil.data.core.packages import needed
from veil.model.scales import Scale
from veil.units import Deviation, Units

SHOWN = 10  # episodes whose mean return is shown


def continuous(spaces: Any, world: Any) -> None:
    """Raise ValueError for an environment whose observations and actions are no vectors of real numbers."""
    box, seen, done = spaces.Box, world.observation_space, world.action_space
    real = isinstance(done, box) and np.issubdtype(done.dtype, np.floating) and len(done.shape) == 1
    if not real or not np.all(np.isfinite(done.low) & np.isfinite(done.high) & (done.low < done.high)):
        raise ValueError(
            f"env: expected actions that are a vector of real numbers between finite bounds (a Box); got {done}. "
            "Finite problems are solved by veil.control.solve; choices are learned by veil.control.bootstrapped, and "
            "imitated by a model with a categorical head"
        )
    if not isinstance(seen, box) or len(seen.shape) != 1:
        raise ValueError(
            f"env: expected observations that are a vector of numbers (a Box); got {seen}. A dictionary's are put "
            "side by side by gymnasium.wrappers.FlattenObservation"
        )


@contextmanager
def opened(env: Any, check: Callable[[Any, Any], None] = continuous) -> Iterator[Any]:
    """The environment, closed in the end if it was made here. Raises for one that fails ``check(spaces, world)``."""
    gymnasium = needed("learning in an environment needs gymnasium", "control", "gymnasium")
    given = isinstance(env, gymnasium.Env)
    world = env if given else environment(env) if isinstance(env, str) else env() if callable(env) else env
    if not isinstance(world, gymnasium.Env):
        came = type(world).__name__
        raise TypeError(f"env: expected a name, a Gymnasium environment or a function that makes one; got a {came}")
    try:
        check(gymnasium.spaces, world)
        yield world
    finally:
        if not given:
            world.close()


class Playground:
    """Steps of one environment, episode after episode, in its units."""

    def __init__(self, world: Any, rng: np.random.Generator) -> None:
        self.world, self.rng = world, rng
        self.returns: list[float] = []
        self.ends: list[int] = []
        self._count, self._total, self._seen = 0, 0.0, self._begun()

    def __len__(self) -> int:
        """How many steps were played."""
        return self._count

    def _begun(self) -> np.ndarray:
        return self._finite(self.world.reset(seed=int(self.rng.integers(2**31)))[0])

    def _finite(self, observation: Any) -> np.ndarray:
        found = np.array(observation, np.float32)
        if not np.all(np.isfinite(found)):
            raise ValueError(f"env: expected finite observations; got {found} at step {self._count}")
        return found

    @property
    def low(self) -> np.ndarray:
        """The least action, of vectors."""
        return self.world.action_space.low

    @property
    def high(self) -> np.ndarray:
        """The greatest action, of vectors."""
        return self.world.action_space.high

    def played(self, count: int, act: Callable[[np.ndarray], Any]) -> list[tuple[Any, ...]]:
        """The next steps, on the host: observation, action, reward, what it led to, and whether that was the end."""
        each = []
        space = self.world.action_space
        for _ in range(count):
            action = np.asarray(act(self._seen)).astype(space.dtype)
            observation, reward, terminated, truncated, _ = self.world.step(action)
            following = self._finite(observation)
            each.append((self._seen, action, np.float32(reward), following, bool(terminated)))
            self._count, self._total, self._seen = self._count + 1, self._total + float(reward), following
            if terminated or truncated:
                self.returns.append(self._total)
                self.ends.append(self._count)
                self._total, self._seen = 0.0, self._begun()
        return each

    def steps(self, count: int, act: Callable[[np.ndarray], np.ndarray]) -> Transitions:
        """The next steps with vectors as actions, which are held between their bounds."""
        held = lambda seen: np.clip(act(seen), self.low, self.high)  # noqa: E731
        return Transitions.of((*step, False) for step in self.played(count, held))

    def check(self, shown: Transitions) -> None:
        """Raise ValueError for demonstrations that are from elsewhere."""
        for name, found, expected in (
            ("observation", shown.observation.shape[-1], len(self._seen)),
            ("action", shown.action.shape[-1], len(self.low)),
        ):
            if found != expected:
                raise ValueError(
                    f"recording: its {name} has {found} numbers, and that of the environment {expected}; record the "
                    "same environment"
                )
        slack, done = 1e-4 * (self.high - self.low), np.asarray(shown.action)
        if not np.all((done >= self.low - slack) & (done <= self.high + slack)):
            raise ValueError("recording: expected actions between the environment's bounds; some are beyond them")

    def words(self, more: str) -> str:
        """How it goes."""
        last = self.returns[-SHOWN:]
        return f"return {np.mean(last) if last else np.nan:.1f}, {more}"


def units_of(first: Transitions, shown: Transitions | None, played: Playground) -> Units:
    """Observations by what was seen at first and what was demonstrated, actions by their bounds."""
    seen = np.concatenate([first.observation, *([] if shown is None else [shown.observation])])
    actions = Scale((played.low + played.high) / 2, (played.high - played.low) / 2)
    return Units(actions, Deviation()(seen, np.ones(len(seen)), None, False))


def standard(rows: Transitions, units: Units) -> Transitions:
    """The same in standardised units: actions between -1 and 1."""
    exactly = lambda scale, each: jnp.asarray(scale.exactly(np.asarray(each)), jnp.result_type(float))  # noqa: E731
    return replace(
        rows,
        observation=exactly(units.evidence, rows.observation),
        action=exactly(units.query, rows.action),
        following=exactly(units.evidence, rows.following),
    )
