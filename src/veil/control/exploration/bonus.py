"""The contract: a bonus for a step is a functional of what has been learned so far, and never of the step itself."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


class Transition(eqx.Module):
    """A step (o, u, o'): ``observation``, ``action``, ``following``, each a tree of arrays; a batch has axes before.

    ``following`` is what the step led to, at the end of an episode its last observation, not the next one's first.
    """

    observation: Any
    action: Any
    following: Any


About = Callable[[Transition], Any]  # what of a step is counted, or has a density


def arrived(step: Transition) -> Any:
    """o', where the step led to."""
    return step.following


def left(step: Transition) -> Any:
    """(o, u), where the step began and what was done there."""
    return step.observation, step.action


class Chosen(eqx.Module):
    """(o, a row of one for each of ``count`` actions, 1 for that which was done): what ``left`` is of choices."""

    count: int = eqx.field(static=True)

    def __call__(self, step: Transition) -> Any:
        return step.observation, self.row(step)

    def row(self, step: Transition) -> Float[Array, " U"]:
        """The action alone."""
        return jax.nn.one_hot(jnp.ravel(jnp.asarray(step.action))[0], self.count, dtype=float)


class Bonus(eqx.Module):
    """How much is to be learned from ONE step, given all that was seen BEFORE it.

        state = bonus.init(example, key)
        value, state = bonus(state, observation, action, following)     of one step; vmap it for several
        state = bonus.update(state, batch)                              after it, from steps [B, ...]

    All three are pure: jit, scan and vmap them. A state holds all that was learned, with a key where learning draws.
    The call has the value before the step is learned from; its state is another only where a bonus remembers the
    episode (``Episodic``). A value is in nats, or says what else it is; it is never negative but for rounding, unless
    it says so. Strategies, and no probabilities: reward + weight x value is what an agent maximises.
    """

    @abstractmethod
    def init(self, example: Transition, key: PRNGKeyArray) -> Any:
        """The state before anything was seen. ``example``: one step, of which only shapes and types are used."""

    @abstractmethod
    def __call__(self, state: Any, observation: Any, action: Any, following: Any) -> tuple[Float[Array, ""], Any]:
        """What the step is worth, and the state after having seen, but not learned from, it."""

    @abstractmethod
    def update(self, state: Any, batch: Transition) -> Any:
        """The state after learning from the steps of a batch [B, ...], each once."""


class Remembered(eqx.Module):
    """The state of a bonus that remembers the episode: what was ``learned`` of all, and the ``memory`` of this one.

    Environments side by side have one ``learned`` and a memory each: leaves of ``memory`` with an axis before.
    """

    learned: Any
    memory: Any


class Episodic(Bonus):
    """One whose state is ``Remembered``: its ``memory`` is of the episode, and begins anew with another."""

    @abstractmethod
    def begin(self, state: Remembered, observation: Any) -> Remembered:
        """The state where an episode begins with this observation."""
