"""The third contract: an objective of one datum."""

from abc import abstractmethod
from typing import Any, ClassVar, Self

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


class Helped(Objective):
    """In training it is not only the bound: weights, schedules and penalties help it on its way."""

    @property
    @abstractmethod
    def bound(self) -> Objective:
        """What it is worth: the bound itself."""


def whole(objective: Objective) -> Any:
    """The objective with the bound itself in the place of every ``Helped`` one that it is, or is made of.

    What is done in training (a warm-up of the KL, free nats) would otherwise be part of the score: while the KL
    counts little, the best model is the one that overfits most.
    """
    helped = lambda node: isinstance(node, Helped)  # noqa: E731
    return jax.tree.map(lambda node: node.bound if helped(node) else node, objective, is_leaf=helped)


def with_gradient(value: Float[Array, ""], surrogate: Float[Array, ""]) -> Float[Array, ""]:
    """A number that is ``value`` and whose gradient is that of ``surrogate``."""
    return jax.lax.stop_gradient(value - surrogate) + surrogate
