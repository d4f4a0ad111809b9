"""What is learned from step by step: transitions of episodes, and a ring of the last ones."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil.data import Recording


class Transitions(eqx.Module):
    """(o, a, r, o') of steps: ``observation`` and ``following`` [..., O], ``action`` [..., A], ``reward`` [...].

    ``terminated``: o' is a final state, where nothing more is earned; at an episode that was cut off it is false, and
    what would have followed counts. ``demonstrated``: an expert did it. ``weight``: how much it counts (None: one).
    Observations and rewards are in any units, actions between -1 and 1, where a learner sees them.
    """

    observation: Float[Array, "*N O"]
    action: Float[Array, "*N A"]
    reward: Float[Array, "*N"]
    following: Float[Array, "*N O"]
    terminated: Bool[Array, "*N"]
    demonstrated: Bool[Array, "*N"]
    weight: Float[Array, "*N"] | None = None

    @staticmethod
    def of(steps: Iterable[Sequence[Any]]) -> "Transitions":
        """Of the fields of each step."""
        return Transitions(*(jnp.asarray(np.stack(part)) for part in zip(*steps, strict=True)))

    def mean(self, values: Float[Array, "*N"], among: Bool[Array, "*N"] | None = None) -> Float[Array, ""]:
        """The weighted mean of a number of each; ``among`` those only."""
        weight = jnp.ones_like(values) if self.weight is None else self.weight
        weight = weight if among is None else jnp.where(among, weight, 0.0)
        return jnp.sum(weight * values) / jnp.maximum(jnp.sum(weight), jnp.finfo(values.dtype).tiny)

    def together(self, others: "Transitions") -> "Transitions":
        """These and then the others."""
        return jax.tree.map(lambda one, other: jnp.concatenate([one, other]), self, others)


def transitions(recording: Any) -> Transitions:
    """All steps of a recording, as they are.

    Raises TypeError for what is no recording, ValueError for one without "observation" and "action", or of choices.
    """
    if not isinstance(recording, Recording):
        raise TypeError(
            f"recording: expected a Recording, such as veil.collect gives; got a {type(recording).__name__}"
        )
    for name in ("observation", "action"):
        if name not in recording.parts:
            raise ValueError(
                f"recording: expected parts called 'observation' and 'action'; it has {', '.join(recording.parts)}"
            )
        if name in recording.categories:
            raise ValueError(f"recording: {name!r} is a choice among categories; this is for continuous numbers")
    steps: list[Any] = []
    for episode in recording.episodes:
        count = len(episode)
        seen = np.asarray(episode.observations["observation"], np.float32).reshape(count + 1, -1)
        done = np.asarray(episode.actions["action"], np.float32).reshape(count, -1)
        rewards = np.asarray(episode.rewards, np.float32)
        ended = episode.terminated & (np.arange(count) == count - 1)
        steps += zip(seen[:-1], done, rewards, seen[1:], ended, np.ones(count, bool), strict=True)
    return Transitions.of(steps)


class Replay(eqx.Module):
    """A ring of the last transitions, or other rows with a ``reward`` [capacity, ...]; ``count`` came in all. Pure."""

    rows: Any
    count: Int[Array, ""]

    @staticmethod
    def of(example: Any, capacity: int) -> "Replay":
        """An empty one for transitions like these."""
        rows = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape[1:]), leaf.dtype), example)
        return Replay(rows, jnp.zeros((), jnp.int32))

    def added(self, rows: Any) -> "Replay":
        """With some more, not more than there is place for, in place of the oldest."""
        capacity, more = len(self.rows.reward), len(rows.reward)
        places = (self.count + jnp.arange(more)) % capacity
        kept = jax.tree.map(lambda old, new: old.at[places].set(new), self.rows, rows)
        return replace(self, rows=kept, count=self.count + more)

    def drawn(self, key: PRNGKeyArray, size: int, newest: int | None = None) -> Any:
        """``size`` of them, with replacement; of the ``newest`` only."""
        capacity = len(self.rows.reward)
        there = jnp.minimum(self.count, capacity if newest is None else min(newest, capacity))
        back = jax.random.randint(key, (size,), 0, there)
        return jax.tree.map(lambda leaf: leaf[(self.count - 1 - back) % capacity], self.rows)
