"""The exact log-likelihood, the latent summed out."""

from typing import ClassVar

from jaxtyping import PRNGKeyArray

from veil.model import Datum, Model, Tractable
from veil.model.abilities import name_of
from veil.objective.base import Estimate, Objective
from veil.posterior.base import Posterior


class Marginal(Objective):
    """log p(y | x) = log Σ_z exp log p(y, z | x), exact: the latent enumerated in log-space, or integrated out.

    It is the ELBO with the exact posterior, whose every sample gives this value; no other posterior enters.
    """

    kind: ClassVar[str] = "exact"

    def __call__(self, model: Model, posterior: Posterior, datum: Datum, key: PRNGKeyArray) -> Estimate:
        if not isinstance(model, Tractable):
            raise TypeError(f"objective: {name_of(model)} has no exact likelihood; use ELBO() or ImportanceWeighted()")
        return Estimate(model.log_marginal(datum))
