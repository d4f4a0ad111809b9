"""Q-learning in tables, with what is new added to what is earned."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil.control.exploration.bonus import Bonus, Transition
from veil.control.exploration.playing import Player
from veil.control.worlds.walks import Act, Land, Walk
from veil.model.checks import whole


class QTable(eqx.Module):
    """What is carried from episode to episode: Q(s, a); the mean reward and the sum of squared distances from it;

    how often it was done; the last states [S, A, K] that it led to; the bonus' own.
    """

    values: Float[Array, "S A"]
    rewards: Float[Array, "S A"]
    squares: Float[Array, "S A"]
    counts: Float[Array, "S A"]
    led: Int[Array, "S A K"]
    bonus: Any


class QLearning(Player):
    """Q-learning in tables, an episode at a time, its last step first; who is told what is new looks for it.

        Q(s, a) = r̄(s, a) + ``doubt`` e(s, a) + ``weight`` bonus(s, a, s') + γ/m Σ_i max Q(s'_i, ·)

    over the last m places that a led to from s, ``memory`` of them at most: every outcome is learned from again, so
    that one gust of wind does not undo what was learned. r̄ is the mean of the rewards and e its standard error, after a
    single one 1: where rewards are noisy a ``doubt`` of some standard errors gives a treasure that was met on a bad day
    another chance (Audibert et al. 2009, "Exploration-exploitation tradeoff using variance estimates in multi-armed
    bandits"). The bonus is of the time before the episode, and learns of it afterwards. Q begins at ``optimism``, which
    should be about the best return there may be: what was never tried is then taken for that good. With a bonus of
    counts this is optimism in the face of uncertainty, as Strehl & Littman (2008) and Jin et al. (2018) have it, with
    constants of our own. It does what looks best, ties by chance, but for a share ``random`` of all actions.

    Raises:
        TypeError: a bonus that is none.
        ValueError: numbers out of range.

    >>> from veil.control.exploration.bonus import left
    >>> from veil.control.exploration.counts import Counted, Tally
    >>> from veil.control.worlds.deep_sea import DeepSea
    >>> sea = DeepSea(8)
    >>> learner = QLearning(Counted(Tally((65, 2)), about=left, offset=1.0), optimism=1.0)
    >>> state = learner.start(sea.land, jax.random.key(0))
    >>> state, walks = learner.play(state, sea.land, 100, jax.random.key(1))
    >>> bool(jnp.max(jnp.sum(walks.reward, 1)) > 0.98)
    True
    """

    bonus: Any = None
    weight: float = eqx.field(static=True, default=0.1)
    optimism: float = eqx.field(static=True, default=0.0)
    random: float = eqx.field(static=True, default=0.0)
    doubt: float = eqx.field(static=True, default=0.0)
    memory: int = eqx.field(static=True, default=64)

    def __check_init__(self) -> None:
        if self.bonus is not None and not isinstance(self.bonus, Bonus):
            raise TypeError(
                f"bonus: expected one, such as Counted(Tally((states, actions)), about=left), or None; "
                f"got {self.bonus!r}"
            )
        whole("memory", self.memory)
        for name in ("weight", "doubt"):
            if not vars(self)[name] >= 0:
                raise ValueError(f"{name}: expected a number from 0; got {vars(self)[name]!r}")
        if not 0 <= self.random <= 1:
            raise ValueError(f"random: expected a share from 0 to 1; got {self.random!r}")

    def start(self, land: Land, key: PRNGKeyArray) -> QTable:
        problem, zero = land.problem, jnp.zeros((), jnp.int32)
        shape = problem.states, problem.actions
        begun = None if self.bonus is None else self.bonus.init(Transition(zero, zero, zero), key)
        values = jnp.where(problem.ends[:, None], problem.final[:, None], jnp.full(shape, self.optimism))
        led = jnp.zeros((*shape, self.memory), jnp.int32)
        nothing = jnp.zeros(shape)
        return QTable(values, nothing, nothing, nothing, led, begun)

    def begin(self, state: QTable, land: Land, key: PRNGKeyArray) -> Act:
        def act(place: Int[Array, ""], step: Int[Array, ""], key: PRNGKeyArray) -> Int[Array, ""]:
            key_best, key_any, key_which = jax.random.split(key, 3)
            values = state.values[place]
            best = jax.random.categorical(key_best, jnp.where(values == jnp.max(values), 0.0, -jnp.inf))
            if not self.random:
                return best
            other = jax.random.randint(key_any, (), 0, values.size)
            return jnp.where(jax.random.uniform(key_which) < self.random, other, best)

        return act

    def finish(self, state: QTable, land: Land, walk: Walk, key: PRNGKeyArray) -> QTable:
        extra = jnp.zeros_like(walk.reward)
        if self.bonus is not None:
            extra = jax.vmap(lambda o, a, f: self.bonus(state.bonus, o, a, f)[0])(
                walk.state, walk.action, walk.following
            )

        def one(tables: Any, now: Any) -> tuple[Any, None]:
            values, rewards, squares, counts, led = tables
            step, extra = now
            at = step.state, step.action
            there, number = step.there.astype(values.dtype), counts[at].astype(jnp.int32)
            away = there * (step.reward - rewards[at])
            rewards = rewards.at[at].add(away / (counts[at] + 1.0))
            squares = squares.at[at].add(away * (step.reward - rewards[at]))
            counts = counts.at[at].add(there)
            slot = number % self.memory
            led = led.at[(*at, slot)].set(jnp.where(step.there, step.following, led[(*at, slot)]))
            known = jnp.arange(self.memory) < counts[at]
            ahead = jnp.sum(jnp.where(known, jnp.max(values[led[at]], -1), 0.0)) / jnp.maximum(jnp.sum(known), 1)
            spread = squares[at] / jnp.maximum(counts[at] - 1.0, 1.0)
            error = jnp.where(counts[at] > 1, jnp.sqrt(spread / jnp.maximum(counts[at], 1.0)), 1.0)
            wanted = rewards[at] + self.doubt * error + self.weight * extra + land.problem.discount * ahead
            values = values.at[at].add(there * (wanted - values[at]))
            return (values, rewards, squares, counts, led), None

        tables = state.values, state.rewards, state.squares, state.counts, state.led
        after = jax.lax.scan(one, tables, (walk, extra), reverse=True)[0]
        told = state.bonus
        if self.bonus is not None:
            told = self.bonus.update(state.bonus, Transition(walk.state, walk.action, walk.following))
        return QTable(*after, told)
