"""The second contract: a posterior over the latent of one datum."""

from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, Self

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from veil.distributions import Distribution
from veil.model import Datum, Model
from veil.units import Units


class Posterior(eqx.Module):
    """q(z | y, x) of one datum, exact or approximate.

    One with parameters of its own is trained together with the model; ``initialise`` makes them.
    """

    closed: ClassVar[bool] = False  # whether ``expectations`` gives what a closed-form M-step needs

    def expectations(self, model: Any, datum: Datum) -> tuple[Any, Float[Array, ""]]:
        """What the model's ``statistics`` need of q, and the ELBO with q (exact: log p(y | x)), of a ``closed`` one."""
        raise TypeError(f"posterior: {type(self).__name__} gives no expectations in closed form")

    @property
    def online(self) -> bool:
        """Of sequences, whether what it says of a step needs no step after it: filtering."""
        return False

    @property
    def per_datum(self) -> bool:
        """Whether it finds its parameters by the datum's ``index``."""
        return False

    @property
    def ready(self) -> bool:
        """Whether there are parameters; if not, a fit starts by making some."""
        return True

    def initialise(self, model: Model, example: Datum, count: int, key: PRNGKeyArray) -> Self:
        """With starting parameters, for data like ``example`` (one datum), of which there are ``count``."""
        return self

    def rescaled(self, query: Units | None, evidence: Units | None) -> Self:
        """The same posterior of data in the user's units."""
        return self

    @property
    def count(self) -> int | None:
        """How many data a posterior with one row per datum knows."""
        return None

    @abstractmethod
    def __call__(self, model: Model, datum: Datum) -> Distribution:
        """The distribution of the latent given the datum."""


class Derived(Posterior):
    """A posterior made from another one, ``base``, which has all the parameters."""

    base: eqx.AbstractVar[Any]

    @property
    def per_datum(self) -> bool:
        return bool(self.base.per_datum)

    @property
    def ready(self) -> bool:
        return bool(self.base.ready)

    @property
    def count(self) -> int | None:
        return self.base.count

    def initialise(self, model: Model, example: Datum, count: int, key: PRNGKeyArray) -> Self:
        return replace(self, base=self.base.initialise(model, example, count, key))

    def rescaled(self, query: Units | None, evidence: Units | None) -> Self:
        return replace(self, base=self.base.rescaled(query, evidence))
