"""What may be asked of a distribution, whole: two methods that all have, and abilities that some have.

An ability is a type without fields, told by ``isinstance`` in one place each: the functions of ``veil.distributions``,
which callers use. A distribution of your own needs ``sample`` and ``log_prob``; inherit, besides ``Distribution``, the
abilities that it has. Everything is for ONE event (never read the shape of a distribution that came out of ``vmap``).

>>> import jax.numpy as jnp
>>> class Exponential(Distribution, Entries):
...     '''p(y) = rate exp(-rate y) for each entry y >= 0.'''
...
...     rate: Float[Array, "*event"]
...
...     def sample(self, key):
...         return jax.random.exponential(key, self.rate.shape) / self.rate
...
...     def log_prob(self, value):
...         return jnp.sum(self.entry_log_prob(value))
...
...     def entry_log_prob(self, value):
...         return jnp.where(value >= 0, jnp.log(self.rate) - self.rate * value, -jnp.inf)
>>> from veil import distributions
>>> own = Exponential(jnp.array([1.0, 2.0]))
>>> float(distributions.log_prob(own, jnp.array([3.0, 0.0]), jnp.array([True, False])))
-3.0
>>> has(own, Moments)
False
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Float, Num, PRNGKeyArray

LARGEST_SUPPORT = 65536  # the most values that are listed


class Distribution(eqx.Module):
    """p(value) of one event: an array or a tree of arrays. Any class with these two methods passes for one."""

    @abstractmethod
    def sample(self, key: PRNGKeyArray) -> Any:
        """One value."""

    @abstractmethod
    def log_prob(self, value: Any) -> Float[Array, ""]:
        """log p(value), nats."""

    @property
    def event_shape(self) -> Any:
        """The shape of one value."""
        return event_shape(self)

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:
        if cls is Distribution and all(any(name in each.__dict__ for each in other.__mro__) for name in METHODS):
            return True
        return NotImplemented


METHODS = ("sample", "log_prob")


class Moments(eqx.Module):
    """Knows mean and variance."""

    @property
    @abstractmethod
    def mean(self) -> Any:
        """E[y] of each entry, shaped as the event."""

    @property
    @abstractmethod
    def variance(self) -> Any:
        """Var[y] of each entry, shaped as the event."""


class Entries(eqx.Module):
    """The entries are independent, so that missing ones drop out: log p(y) = Σ_i log p(y_i)."""

    @abstractmethod
    def entry_log_prob(self, value: Num[Array, "..."]) -> Float[Array, "..."]:
        """log p(y_i) of each entry, nats: -inf outside the support; its gradient is finite everywhere.

        A missing entry has some number in its place, which may be outside, too: see ``Support.log_density``.
        """


class Marginals(eqx.Module):
    """Knows p(y_o) for any part y_o of the entries."""

    @abstractmethod
    def observed_log_prob(self, value: Any, observed: Any) -> Float[Array, ""]:
        """log p(y_o), nats, of the entries where ``observed`` (shaped as the event) is True; 0 if none is."""


class Finite(eqx.Module):
    """Has finitely many values."""

    @property
    @abstractmethod
    def values(self) -> int:
        """How many."""

    @abstractmethod
    def enumerate_support(self) -> Any:
        """All of them, stacked along a first axis."""


class Categories(eqx.Module):
    """Each entry is a category, 0..C-1."""

    @property
    @abstractmethod
    def probabilities(self) -> Float[Array, "*event C"]:
        """p(y = c) of each entry."""


class Central(eqx.Module):
    """One value stands for all better than the mean would."""

    @abstractmethod
    def central(self) -> Any:
        """That value."""


class Reparameterised(eqx.Module):
    """A draw is a differentiable function of the parameters and noise: its gradient is that of E[f(draw)]."""


class Gaussian(eqx.Module):
    """N(m, L Lᵀ), whatever its parameters."""

    @abstractmethod
    def gaussian(self) -> tuple[Float[Array, " E"], Float[Array, "E E"]]:
        """m and L (lower triangular) of the event laid flat."""


class Divergence(eqx.Module):
    """Knows KL(self || other) for some others."""

    @abstractmethod
    def kl_entries(self, other: Any) -> Float[Array, " G"] | None:
        """By independent parts of the event, nats; None for another for which there is no closed form."""


class Composed(eqx.Module):
    """Made of other distributions: has those of its abilities that all of them have."""

    @abstractmethod
    def made_of(self) -> tuple[Any, ...]:
        """They, or what ``jax.eval_shape`` leaves of them."""


class PathDistribution(eqx.Module):
    """Over the path z_1..z_T of a sequence, p(z_1..T) = Π_t p(z_t | z_<t)."""

    there: eqx.AbstractVar[Bool[Array, " T"]]  # the steps that are not padding

    @abstractmethod
    def conditionals(self, path: Any) -> Any:
        """All p(z_t | z_<t) along a path, with ``log_prob(path)`` [T], ``sample(key)`` and ``kl(other)`` [T, G]."""

    @abstractmethod
    def kl_along(self, other: Any, path: Any, balance: float | None = None) -> Float[Array, " T"] | None:
        """KL(self || other) of every step given the past on a path, nats; None where no closed form is known."""


class StepDraws(eqx.Module):
    """A path of which every step may be drawn in a way of one's own, since later steps remember it."""

    @abstractmethod
    def drawn(self, key: PRNGKeyArray, draw: Callable[[Any, PRNGKeyArray], Any]) -> Any:
        """A path whose every step is ``draw(distribution, key)``."""


def without(distribution: Any, ability: type) -> Any | None:
    """What keeps ``distribution`` from an ability: itself, or something that it is made of; None: it has it."""
    if not isinstance(distribution, ability):
        return distribution
    parts = distribution.made_of() if isinstance(distribution, Composed) else ()
    return next((lacking for part in parts if (lacking := without(part, ability)) is not None), None)


def has(distribution: Any, ability: type) -> bool:
    """Whether it has an ability, and so has everything that it is made of."""
    return without(distribution, ability) is None


def event_shape(distribution: Any) -> Any:
    """The shape of one value; of a tree, the tree of shapes. Nothing is drawn."""
    value = jax.eval_shape(lambda: distribution.sample(jax.random.key(0)))
    return jax.tree.map(lambda leaf: leaf.shape, value)
