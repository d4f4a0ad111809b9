"""The exact posterior, of models that know theirs."""

from typing import Any, ClassVar

from veil.distributions import Distribution
from veil.model import Datum, Model
from veil.posterior.base import Posterior


class Exact(Posterior):
    """p(z | y, x): over every value of a discrete latent, or in closed form (``FactorAnalysis``).

    Then log p(y, z | x) - log q(z) = log p(y | x) for every z. Raises TypeError for a latent that cannot be listed.
    """

    closed: ClassVar[bool] = True

    def __call__(self, model: Model, datum: Datum) -> Distribution:
        return model.posterior(datum)

    def expectations(self, model: Any, datum: Datum) -> Any:
        """The model's own."""
        return model.expectations(datum)

    def step_proposals(self, model: Any, datum: Datum) -> Any:
        """p(z_1..T | y, x) as a chain, whose steps have seen all of y."""
        return model.posterior(datum)

    def step(self, model: Any, features: Any, carry: Any, datum: Datum) -> Distribution:
        """p(z_t | z_t-1, y, x): unless it resamples, a particle filter's Ẑ is then p(y | x), whatever is drawn."""
        return features.given(carry.latent)
