"""Bonuses of any size made comparable with rewards."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class Scaling(eqx.Module):
    """How the values of several environments side by side are divided, step by step. It is pure."""

    @abstractmethod
    def init(self, count: int) -> Any:
        """The state before the first step, of so many environments."""

    @abstractmethod
    def __call__(self, state: Any, values: Float[Array, " N"]) -> tuple[Float[Array, " N"], Any]:
        """The values of one step, divided, and the state after it."""


class Unscaled(Scaling):
    """As they are."""

    def init(self, count: int) -> tuple[()]:
        return ()

    def __call__(self, state: Any, values: Float[Array, " N"]) -> tuple[Float[Array, " N"], Any]:
        return values, state


class Returns(eqx.Module):
    """Discounted sums [N] so far, and count, mean and sum of squared deviations of all that they have been."""

    sums: Float[Array, " N"]
    count: Float[Array, ""]
    mean: Float[Array, ""]
    squares: Float[Array, ""]


class ReturnScale(Scaling):
    """Divided by the standard deviation of their discounted sums, R_t = γ R_t-1 + b_t along time.

    R goes on over the ends of episodes, of each environment for itself; the deviation is of all R so far, of all
    environments, about their mean, and at least ``least``. Burda et al. 2018, "Exploration by random network
    distillation", section 2.4.

    >>> scale = ReturnScale(0.5)
    >>> state = scale.init(1)
    >>> for value in (4.0, 2.0, 0.0):  # R: 4, 4, 2
    ...     scaled, state = scale(state, jnp.array([value]))
    >>> round(float((state.squares / state.count) ** 0.5), 4)
    0.9428
    """

    discount: float = eqx.field(static=True, default=0.99)
    least: float = eqx.field(static=True, default=1e-8)

    def __check_init__(self) -> None:
        if not 0 <= self.discount < 1:
            raise ValueError(f"discount: expected a number from 0 and below 1; got {self.discount!r}")
        if not self.least > 0:
            raise ValueError(f"least: expected a positive deviation; got {self.least!r}")

    def init(self, count: int) -> Returns:
        nothing = jnp.zeros(())
        return Returns(jnp.zeros(count), nothing, nothing, nothing)

    def __call__(self, state: Returns, values: Float[Array, " N"]) -> tuple[Float[Array, " N"], Returns]:
        sums = self.discount * state.sums + values
        count = state.count + len(values)
        away = jnp.mean(sums) - state.mean
        mean = state.mean + away * len(values) / count
        squares = state.squares + jnp.sum((sums - jnp.mean(sums)) ** 2)
        squares = squares + away**2 * state.count * len(values) / count
        spread = jnp.sqrt(squares / count)
        # a single number has no deviation: its size stands for it
        spread = jnp.where(spread > self.least, spread, jnp.maximum(jnp.abs(mean), self.least))
        return values / spread, Returns(sums, count, mean, squares)
