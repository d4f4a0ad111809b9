"""Whether counts look uniform."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def chi_square_p(counts: Float[Array, " B"]) -> Float[Array, ""]:
    """P(X² ≥ x²) for x² = Σ_b (n_b - n̄)² / n̄ under equal probabilities: χ² with B - 1 degrees of freedom.

    Pearson 1900; the approximation is good for five or more expected in each bin.
    """
    expected = jnp.mean(counts)
    statistic = jnp.sum((counts - expected) ** 2) / expected
    return jax.scipy.special.gammaincc(0.5 * (counts.size - 1), 0.5 * statistic)
