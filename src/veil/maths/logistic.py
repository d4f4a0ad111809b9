"""Softmax regression by a bound that makes its M-step closed-form, additive over data and monotone."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def bound_step(
    gradient: Float[Array, "K P"], second_moment: Float[Array, "P P"], ridge: Float[Array, "P P"]
) -> Float[Array, "K P"]:
    """The step that maximises Böhning's quadratic lower bound of the weighted softmax log-likelihood.

    The Hessian of Σ_n Σ_k r_nk log softmax(W φ_n)_k is everywhere at least -½ (I - 11ᵀ/K) ⊗ Σ_n φ_n φ_nᵀ, so
    W + 2 G (Σ φφᵀ)⁻¹, with G = Σ_n (r_n - p_n) φ_nᵀ, never lowers it. (G's columns sum to zero over k, where
    the pseudo-inverse of I - 11ᵀ/K acts as the identity.) Böhning & Lindsay 1988; Böhning 1992, eq. 3.2.

    Shapes: ``gradient`` G [K, P], ``second_moment`` Σ φφᵀ [P, P]; ``ridge`` [P, P] is the precision of a normal
    prior on each row of W, whose own gradient is already in G.
    """
    return jnp.linalg.solve(0.5 * second_moment + ridge, gradient.T).T
