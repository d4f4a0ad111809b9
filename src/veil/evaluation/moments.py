"""Mean and variance of any latent's distribution, sampled where they are not known."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution

DRAWS = 256


def mean_and_variance(distribution: Distribution, key: PRNGKeyArray) -> tuple[Array, Array]:
    """Of each entry: exact where the distribution knows them, else those of 256 draws.

    Of a single category, its probabilities p and p (1 - p): a category's number means nothing.
    """
    if getattr(distribution, "event_shape", None) == () and distributions.enumerable(distribution):
        probabilities = jnp.exp(jax.vmap(distribution.log_prob)(distributions.support(distribution)))
        return probabilities, probabilities * (1.0 - probabilities)
    try:
        return distributions.moments(distribution)
    except (AttributeError, NotImplementedError):
        draws = jax.vmap(distribution.sample)(jax.random.split(key, DRAWS))
        draws = getattr(draws, "latent", draws)  # of a path, without its memory
        return jnp.mean(draws, 0), jnp.var(draws, 0)
