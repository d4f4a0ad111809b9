"""Whether somebody finds the treasure of DeepSea, after how many episodes, and where they were meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil.control.exploration.bonus import left
from veil.control.exploration.counts import Counted, Tally
from veil.control.exploration.playing import Player
from veil.control.exploration.tabular import QLearning
from veil.control.worlds.deep_sea import DeepSea
from veil.control.worlds.walks import Land
from veil.model.checks import random_key, whole

AT_ONCE = 100  # episodes


@dataclass(frozen=True)
class Search:
    """E episodes: their ``returns``, which went ``astray``, how often each state was met by then, every so often.

    ``visits`` [K, S] after the episodes ``marks`` [K]; ``solved``: after how many episodes, by bsuite's rule
    (``DeepSea.solved``), None: not yet; ``coverage``: the share of the states that there are on the way down.
    """

    sea: DeepSea
    returns: np.ndarray
    astray: np.ndarray
    marks: np.ndarray
    visits: np.ndarray = field(repr=False)

    @property
    def solved(self) -> int | None:
        return self.sea.solved(self.astray)

    @property
    def coverage(self) -> float:
        size = self.sea.size
        return float(np.sum(self.visits[-1][: size * size] > 0) / (size * (size + 1) / 2))


def counting(sea: DeepSea, weight: float | None = None) -> QLearning:
    """Q-learning that counts what it did where, and expects the treasure of 1: weight / √(n + 1) for the n-th time.

    ``weight``: None is 1 / N of N rows, so that an episode of things done n times is worth 1 / √(n + 1) of a treasure.
    In a ``stochastic`` sea it doubts mean rewards by two standard errors.
    """
    counts = Counted(Tally((sea.size**2 + 1, 2)), about=left, offset=1.0)
    chosen = 1.0 / sea.size if weight is None else weight
    return QLearning(counts, chosen, optimism=1.0, doubt=2.0 if sea.stochastic else 0.0)


def search(
    sea: DeepSea,
    learner: Player,
    key: PRNGKeyArray,
    *,
    most: int = 10_000,
    beyond: bool = False,
    watch: Callable[[int, int, str], None] | None = None,
) -> Search:
    """Let somebody look for the treasure, for ``most`` episodes, or until it is found again and again.

    ``beyond``: all episodes are played, whatever was found. ``watch``: called as (done, total, words).

    >>> found = search(DeepSea(10), counting(DeepSea(10)), jax.random.key(0))
    >>> found.solved < 200, bool(found.returns.max() > 0.98)
    (True, True)
    """
    random_key(key)
    whole("most", most)
    land, astray = sea.land, sea.astray
    key_start, key_play = jax.random.split(key)
    state = _started(learner, land, key_start)
    returns: list[Any] = []
    strayed: list[Any] = []
    visits: list[Any] = []
    marks: list[int] = []
    seen, done = np.zeros(land.problem.states, np.int64), 0
    while done < most:
        count = min(AT_ONCE, most - done)
        state, told = _searched(learner, state, land, astray, count, jax.random.fold_in(key_play, done))
        returned, lost, met = map(np.asarray, told)
        returns.append(returned.astype(float))
        strayed.append(lost)
        seen = seen + met
        done += count
        marks.append(done)
        visits.append(seen)
        found = Search(sea, np.concatenate(returns), np.concatenate(strayed), np.array(marks), np.stack(visits))
        if watch is not None:
            watch(done, most, f"return {returns[-1].mean():.2f}, {found.coverage:.0%} of the states seen")
        if found.solved is not None and not beyond:
            break
    return found


@eqx.filter_jit
def _started(learner: Player, land: Land, key: PRNGKeyArray) -> Any:
    return learner.start(land, key)


@eqx.filter_jit
def _searched(
    learner: Player, state: Any, land: Land, astray: Bool[Array, "S A"], count: int, key: PRNGKeyArray
) -> tuple[Any, tuple[Float[Array, " E"], Bool[Array, " E"], Int[Array, " S"]]]:
    """The state after so many episodes, what each returned, which went astray, and how often each state was met."""
    state, walks = learner.play(state, land, count, key)
    lost = jnp.any(astray[walks.state, walks.action] & walks.there, 1)
    met = jnp.zeros(len(astray), jnp.int32).at[walks.state].add(walks.there)
    return state, (jnp.sum(walks.reward, 1), lost, met)
