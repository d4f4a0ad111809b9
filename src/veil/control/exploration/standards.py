"""Units of what bonuses learn from: vectors standardised by what was seen so far, or by a scale that is given."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from veil.model.scales import Scale
from veil.saved.registry import register


def vector(tree: Any) -> Float[Array, " D"]:
    """All numbers of an observation, an action or what is made of them, as floating-point numbers in one row."""
    leaves = [jnp.ravel(jnp.asarray(leaf)).astype(float) for leaf in jax.tree.leaves(tree)]
    return jnp.concatenate(leaves) if leaves else jnp.zeros(0)


class Standard(eqx.Module):
    """Vectors [D] in the units in which a bonus learns. What it knows of them is in a state."""

    @abstractmethod
    def init(self, size: int) -> Any:
        """The state before any vector of so many numbers was seen."""

    @abstractmethod
    def __call__(self, state: Any, value: Float[Array, " D"]) -> Float[Array, " D"]:
        """A vector in these units."""

    @abstractmethod
    def update(self, state: Any, values: Float[Array, "B D"]) -> Any:
        """The state after these vectors."""


@register(name="veil.control.Moments")
class Moments(eqx.Module):
    """How many vectors there were, their mean [D], and the sum of the squared distances from it [D]."""

    count: Float[Array, ""]
    mean: Float[Array, " D"]
    squares: Float[Array, " D"]


class Running(Standard):
    """(x - mean) / deviation of all vectors so far, each entry by its own; of a constant the deviation is 1.

    As they are before any was seen. Batches are merged exactly, so that it does not matter how the vectors were split:
    Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances".

    >>> standard = Running()
    >>> state = standard.update(standard.init(1), jnp.array([[1.0], [3.0]]))
    >>> standard(state, jnp.array([4.0])).tolist()
    [2.0]
    """

    def init(self, size: int) -> Moments:
        return Moments(jnp.zeros(()), jnp.zeros(size), jnp.zeros(size))

    def __call__(self, state: Moments, value: Float[Array, " D"]) -> Float[Array, " D"]:
        variance = state.squares / jnp.maximum(state.count, 1.0)
        moves = variance > 1e-10 * (1.0 + state.mean**2)
        return (value - state.mean) / jnp.sqrt(jnp.where(moves, variance, 1.0))

    def update(self, state: Moments, values: Float[Array, "B D"]) -> Moments:
        count, mean = len(values), jnp.mean(values, 0)
        total = state.count + count
        apart, share = mean - state.mean, count / total
        squares = jnp.sum((values - mean[None]) ** 2, 0) + state.count * share * apart**2
        return Moments(total, state.mean + share * apart, state.squares + squares)


class Given(Standard):
    """By a ``Scale`` that is known, of vectors [D]; ``Scale(0.0, 1.0)`` leaves them as they are.

    >>> Given(Scale(jnp.array(1.0), jnp.array(2.0)))((), jnp.array([5.0])).tolist()
    [2.0]
    """

    scale: Scale

    def init(self, size: int) -> tuple[()]:
        return ()

    def __call__(self, state: tuple[()], value: Float[Array, " D"]) -> Float[Array, " D"]:
        return self.scale.standard(value)

    def update(self, state: tuple[()], values: Float[Array, "B D"]) -> tuple[()]:
        return ()
