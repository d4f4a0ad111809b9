"""The third contract: an objective of one datum."""

from abc import abstractmethod
from typing import ClassVar, Self

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from veil.model import Datum, Model
from veil.posterior.base import Posterior


class Estimate(eqx.Module):
    """The value of an objective (nats, to be maximised) and whatever else is worth looking at, by name.

    A fit averages metrics over the data of a step and shows them in ``history.metrics`` and to its ``record``, but for
    those that begin with _, which are for ``Objective.advanced`` alone. ``elbo`` and ``reconstruction`` are
    log-densities of the query and are told in the user's units, like the value; others as they come.
    """

    value: Float[Array, ""]
    metrics: dict[str, Float[Array, ""]] = eqx.field(default_factory=dict)


class Objective(eqx.Module):
    """(model, posterior, datum, key) -> Estimate for one datum; its gradient is what training follows.

    ``kind`` says what the value is of log p(y | x): "exact", "lower bound", "estimate"; ``unit`` what it is counted in
    where that is not nats, of an objective that is no likelihood: it does not change with the query's units then.
    """

    kind: ClassVar[str] = "lower bound"
    unit: ClassVar[str | None] = None

    @property
    def local_noise(self) -> bool:
        """Whether, of a latent that data share, every datum wants random numbers of its own."""
        return False

    @abstractmethod
    def __call__(self, model: Model, posterior: Posterior, datum: Datum, key: PRNGKeyArray) -> Estimate:
        """The objective's value for one datum."""

    def advanced(self, metrics: dict[str, Float[Array, ""]]) -> Self:
        """This objective after a training step with these mean metrics (for schedules and running averages)."""
        return self


def with_gradient(value: Float[Array, ""], surrogate: Float[Array, ""]) -> Float[Array, ""]:
    """A number that is ``value`` and whose gradient is that of ``surrogate``."""
    return jax.lax.stop_gradient(value - surrogate) + surrogate
