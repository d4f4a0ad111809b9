"""The exact posterior of models whose latent can be listed."""

from veil import distributions
from veil.distributions import Distribution
from veil.model import Datum, Model
from veil.posterior.base import Posterior


class Exact(Posterior):
    """p(z | y, x) by Bayes' rule over every value of a discrete latent, or the empty latent's only value.

    Then log p(y, z | x) - log q(z) = log p(y | x) for every z. Raises TypeError for a latent that cannot be listed.
    """

    def __call__(self, model: Model, datum: Datum) -> Distribution:
        prior = model.prior(datum.evidence)
        if isinstance(prior, distributions.Empty):
            return prior
        return distributions.categorical(model.log_joints(datum))
