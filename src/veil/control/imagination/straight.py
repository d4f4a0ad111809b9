"""A world model whose futures are differentiable: where its latents are codes, straight through their draws."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.control.around import Around
from veil.control.imagination.actions import through
from veil.distributions import Codes, Distribution
from veil.model import Stepwise
from veil.model.abilities import name_of


class Differentiable(Around):
    """The same ``model``, the gradient of whose draws is of E[f(z)]: exact where they are reparameterised, else biased.

    Of codes a draw has the gradient of its probabilities (Bengio et al. 2013, section 4; Hafner et al. 2021,
    algorithm 1). Nothing else about it is other.

    Raises:
        TypeError: latents of which neither is known (at the first step).
    """

    model: Stepwise

    def step_prior(self, carry: Any, evidence: Any) -> Distribution:
        found = self.model.step_prior(carry, evidence)
        if isinstance(found, Codes):
            return StraightCodes(found)
        if not distributions.reparameterised(found):
            raise TypeError(
                f"gradient: Pathwise() differentiates the model's draws, and those of {name_of(self.model)} are of "
                f"{type(found).__name__}; use Reinforce(), or latents that are normal or veil.priors.Codes"
            )
        return found

    def step_likelihood(self, carry: Any, latent: Any, evidence: Any) -> Distribution:
        return self.model.step_likelihood(carry, latent, evidence)

    def likelihood_after(self, carry: Any, latent: Any, evidence: Any, after: Any) -> Distribution:
        return self.model.likelihood_after(carry, latent, evidence, after)


class StraightCodes(Distribution):
    """Codes whose draws are one-hot, with the gradient of their probabilities."""

    codes: Codes

    def sample(self, key: PRNGKeyArray) -> Float[Array, "L C"]:
        drawn = jnp.argmax(self.codes.sample(key), -1)
        return through(drawn, jax.nn.log_softmax(self.codes.logits))

    def log_prob(self, value: Float[Array, "L C"]) -> Float[Array, ""]:
        return self.codes.log_prob(value)
