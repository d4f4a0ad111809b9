"""The exact posterior, of models that know theirs."""

from veil.distributions import Distribution
from veil.model import Datum, Model
from veil.posterior.base import Posterior


class Exact(Posterior):
    """p(z | y, x): over every value of a discrete latent, or in closed form (``FactorAnalysis``).

    Then log p(y, z | x) - log q(z) = log p(y | x) for every z. Raises TypeError for a latent that cannot be listed.
    """

    def __call__(self, model: Model, datum: Datum) -> Distribution:
        return model.posterior(datum)
