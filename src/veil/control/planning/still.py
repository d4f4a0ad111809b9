"""A model without its noise: each step is what is expected of it."""

from typing import Any

from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.control.around import Around
from veil.distributions import Distribution, Moments
from veil.model import Stepwise


class Expected(Distribution, Moments):
    """All draws are the mean of a distribution ``of``; densities are its own."""

    of: Distribution

    def sample(self, key: PRNGKeyArray) -> Any:
        return self.mean

    def log_prob(self, value: Any) -> Float[Array, ""]:
        return self.of.log_prob(value)

    @property
    def mean(self) -> Any:
        return distributions.moments(self.of)[0]

    @property
    def variance(self) -> Any:
        return distributions.moments(self.of)[1]


class Still(Around):
    """z_t = E[z_t | past, x_t], with the states of ``model``; so is a query that it remembers."""

    model: Stepwise

    def step_prior(self, carry: Any, evidence: Any) -> Expected:
        return Expected(self.model.step_prior(carry, evidence))

    def step_likelihood(self, carry: Any, latent: Array, evidence: Any) -> Distribution:
        found = self.model.step_likelihood(carry, latent, evidence)
        return Expected(found) if self.remembers else found

    def likelihood_after(self, carry: Any, latent: Array, evidence: Any, after: Any) -> Distribution:
        found = self.model.likelihood_after(carry, latent, evidence, after)
        return Expected(found) if self.remembers else found
