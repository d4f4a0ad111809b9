"""The third contract: an objective of one datum."""

from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from veil.model import Datum, Model
from veil.posterior.base import Posterior


class Estimate(eqx.Module):
    """The value of an objective (nats, to be maximised) and whatever else is worth looking at, by name."""

    value: Float[Array, ""]
    metrics: dict[str, Float[Array, ""]] = eqx.field(default_factory=dict)


class Objective(eqx.Module):
    """(model, posterior, datum, key) -> Estimate for one datum; its gradient is what training follows.

    ``kind`` says what the value is of log p(y | x): "exact", "lower bound", "estimate".
    """

    kind: ClassVar[str] = "lower bound"

    @abstractmethod
    def __call__(self, model: Model, posterior: Posterior, datum: Datum, key: PRNGKeyArray) -> Estimate:
        """The objective's value for one datum."""
