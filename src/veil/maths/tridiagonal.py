"""Gaussian chains by their precision: q(z_1..T) ∝ exp(-½ zᵀ J z + hᵀ z) with a block tridiagonal J.

J has the blocks D_t on its diagonal and B_t between z_t (rows) and z_t-1 (columns); B_t = 0 cuts the chain before t.
What averages of several linear-Gaussian chains come to, for instance in variational inference, has this form. The
recursions are those of the block Cholesky factorisation (Golub & Van Loan 2013, section 4.5.1).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from veil.maths import gaussian, linear


class Solved(NamedTuple):
    """``mean`` [T, L], ``covariance`` [T, L, L], ``lagged`` Cov(z_t, z_t-1) [T, L, L]; ``entropies`` [T], nats.

    The entropies are those of z_t given z_t+1: their sum is the chain's.
    """

    mean: Float[Array, "T L"]
    covariance: Float[Array, "T L L"]
    lagged: Float[Array, "T L L"]
    entropies: Float[Array, " T"]


def solved(diagonal: Float[Array, "T L L"], below: Float[Array, "T L L"], linear_term: Float[Array, "T L"]) -> Solved:
    """Moments of the chain with the blocks D = ``diagonal``, B = ``below`` and h = ``linear_term``."""
    size = linear_term.shape[1]
    identity = jnp.eye(size, dtype=linear_term.dtype)

    def ahead(before: tuple[Array, Array], now: tuple[Array, Array, Array]) -> tuple[Any, Any]:
        # what is before: L⁻¹ and L⁻¹ η for Λ = L Lᵀ, the precision of z_t-1 given z_t; then L⁻¹ Bᵀ is a square's half
        inverse, white = before
        block, coupling, term = now
        half = inverse @ coupling.T
        factor = linear.cholesky(linear.symmetric(block - half.T @ half))
        both = jnp.concatenate([identity, (term - half.T @ white)[:, None]], 1)
        found = linear.solve_lower(factor, both)
        entropy = gaussian.LOG_2PI * 0.5 * size + 0.5 * size - jnp.sum(jnp.log(jnp.diagonal(factor)))
        return (found[:, :-1], found[:, -1]), (found[:, :-1], found[:, -1], entropy)

    begin = (jnp.zeros((size, size), linear_term.dtype), jnp.zeros(size, linear_term.dtype))
    inverse, white, entropies = jax.lax.scan(ahead, begin, (diagonal, below, linear_term))[1]
    following = jnp.concatenate([below[1:], jnp.zeros_like(below[:1])])

    def back(after: tuple[Array, Array], now: tuple[Array, Array, Array]) -> tuple[Any, Any]:
        inverse, white, coupling = now
        gain = -inverse.T @ (inverse @ coupling.T)
        mean = inverse.T @ white + gain @ after[0]
        lag = after[1] @ gain.T
        covariance = linear.symmetric(inverse.T @ inverse + gain @ lag)
        return (mean, covariance), (mean, covariance, lag)

    last = (jnp.zeros(size, linear_term.dtype), jnp.zeros((size, size), linear_term.dtype))
    mean, covariance, lagged = jax.lax.scan(back, last, (inverse, white, following), reverse=True)[1]
    return Solved(mean, covariance, jnp.concatenate([jnp.zeros_like(lagged[:1]), lagged[:-1]]), entropies)
