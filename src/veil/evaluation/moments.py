"""Mean and variance of any latent's distribution, sampled where they are not known."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.model.chains import without_memory

DRAWS = 256


def mean_and_variance(distribution: Distribution, key: PRNGKeyArray) -> tuple[Array, Array]:
    """Of each entry: exact where the distribution knows them, else those of 256 draws.

    Of a single category, its probabilities p and p (1 - p): a category's number means nothing.
    """
    if distributions.enumerable(distribution) and distributions.event_shape(distribution) == ():
        probabilities = jnp.exp(jax.vmap(distribution.log_prob)(distributions.support(distribution)))
        return probabilities, probabilities * (1.0 - probabilities)
    if distributions.has(distribution, distributions.Moments):
        return distributions.moments(distribution)
    draws = without_memory(jax.vmap(distribution.sample)(jax.random.split(key, DRAWS)))
    return jnp.mean(draws, 0), jnp.var(draws, 0)
