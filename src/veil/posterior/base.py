"""The second contract: a posterior over the latent of one datum."""

from abc import abstractmethod
from dataclasses import replace
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil.distributions import Distribution
from veil.host.showing import Shown
from veil.model import Datum
from veil.model.filter import Filter


class Posterior(Shown, eqx.Module):
    """q(z | y, x) of one datum, exact or approximate.

    Write ``__call__``. One with arrays of its own is trained together with the model. What it can do beyond that is
    said by its type: the classes below.
    """

    @abstractmethod
    def __call__(self, model: Any, datum: Datum) -> Distribution:
        """The distribution of the latent given the datum."""


class Learned(Posterior):
    """Its parameters' sizes come from model and data: ``veil.fit`` starts it. They are made by ``parameter()``."""

    @abstractmethod
    def initialise(self, model: Any, example: Datum, count: int, key: PRNGKeyArray) -> Self:
        """With starting parameters, for data like ``example`` (one datum).

        ``count``: how many there are; 0 but for a ``PerDatum``: for others it would be one more number to compile for.
        """


class Intrinsic(Posterior):
    """It has nothing of its own: it says what the model says, in whatever units the model is."""


class Expecting(Posterior):
    """It gives in closed form what a closed-form M-step needs."""

    @abstractmethod
    def expectations(self, model: Any, datum: Datum) -> tuple[Any, Float[Array, ""]]:
        """What the model's ``statistics`` need of q, and the ELBO with q (exact: log p(y | x)), nats."""


class Proposal(Posterior):
    """z_t can be drawn from it step by step: q(z_t | the past, and whatever of y it has seen)."""

    @abstractmethod
    def step_proposals(self, model: Any, datum: Datum) -> Any:
        """What is computed once for a whole sequence: a pytree of arrays [T, ...], or None."""

    @abstractmethod
    def step(self, model: Any, features: Any, carry: Any, datum: Datum) -> Distribution:
        """q(z_t | ...): ``features`` and ``datum`` (query, evidence, observed) of this step, ``carry`` before it."""


class Online(Posterior):
    """What it says of a step may need no step after it: it can filter, and act."""

    @abstractmethod
    def filter(self, model: Any) -> Filter:
        """One step at a time. Raises ValueError if it needs the steps that are to come after all."""


class Continuing(Posterior):
    """It can go on from one window of a long sequence to the next."""

    @abstractmethod
    def begin(self, model: Any) -> Any:
        """What is known before an episode: the ``begin`` of its first window, a ``Belief``."""

    @abstractmethod
    def after(self, model: Any, datum: Datum, path: Any, step: Int[Array, ""]) -> Any:
        """What is known after a step of a window, on a path that was drawn of it: the ``begin`` of a window behind it.

        Of its ``filter``, where it has one, it is a belief.
        """

    def ended(self, model: Any, datum: Datum, key: PRNGKeyArray) -> Any:
        """What is known after the last step of a window, on a path drawn of it."""
        path = self(model, datum).sample(key)
        return self.after(model, datum, path, jnp.max(jnp.where(datum.there, jnp.arange(len(datum)), 0)))


class Vectorial(Posterior):
    """Its distribution is made of a vector of numbers for each datum, which can be refined."""

    @abstractmethod
    def vector(self, model: Any, datum: Datum) -> Float[Array, " V"]:
        """The numbers."""

    @abstractmethod
    def distribution(self, vector: Float[Array, " V"]) -> Distribution:
        """q from them."""


class PerDatum(Posterior):
    """It finds its parameters by the datum's ``index``: one row for each of the data that it was fitted to."""

    @property
    @abstractmethod
    def count(self) -> int | None:
        """How many data it knows; None before a fit."""


class Derived(Learned):
    """A posterior made from another one, ``base``, which has all the parameters."""

    base: eqx.AbstractVar[Any]

    def initialise(self, model: Any, example: Datum, count: int, key: PRNGKeyArray) -> Self:
        if not isinstance(self.base, Learned):
            return self
        return replace(self, base=self.base.initialise(model, example, count, key))


def per_datum(posterior: Any) -> PerDatum | None:
    """The part of a posterior, itself or what it is made from, that has a row for each datum; None if none has."""
    rows = lambda node: isinstance(node, PerDatum)  # noqa: E731
    return next((node for node in jax.tree.leaves(posterior, is_leaf=rows) if rows(node)), None)
