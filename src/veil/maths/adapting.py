"""Softmax regression that learns as it goes: a belief about the weights of one sequence, updated after every choice."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def adapted(
    logits: Float[Array, "T K"], features: Float[Array, "T F"], chosen: Int[Array, " T"], variance: float
) -> Float[Array, "T K"]:
    """log p(y_t | y_1..t-1) [T, K], nats, of p(y_t | W) = softmax(l_t + W φ_t), the entries of W ~ N(0, variance).

    ``logits`` l are somebody else's, such as those of all people; W [K, F] is what this one does differently. The
    belief is a normal with full covariance C (an assumed density), updated by the extended Kalman filter: with Φ the
    matrix that makes W φ of W's entries, A = C Φᵀ, S = Φ A, and gradient g and negative Hessian H = diag(p) - p pᵀ of
    the log-likelihood in the logits,

        W <- W + A (I + H S)⁻¹ g,   C <- C - A (I + H S)⁻¹ H Aᵀ.

    Predictions are those of its mean. West, Harrison & Migon 1985; Penny & Roberts 1999, "Dynamic logistic regression".
    """
    count, size = logits.shape[1], features.shape[1]

    def step(belief: tuple[Array, Array], now: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], Array]:
        (weight, covariance), (given, seen, choice) = belief, now
        found = jax.nn.log_softmax(given + weight @ seen)
        chances = jnp.exp(found)
        slope, curvature = (jnp.arange(count) == choice) - chances, jnp.diag(chances) - jnp.outer(chances, chances)
        along = covariance @ seen  # [K F, K] with the rows as [K, F]
        spread = jnp.einsum("kfl,f->kl", along, seen)
        damped = jnp.linalg.inv(jnp.eye(count) + curvature @ spread)
        covariance = covariance - jnp.einsum("kfi,ij,lgj->kflg", along, damped @ curvature, along)
        return (weight + along @ (damped @ slope), covariance), found

    identity = jnp.einsum("kl,fg->kflg", jnp.eye(count), jnp.eye(size))
    return jax.lax.scan(step, (jnp.zeros((count, size)), variance * identity), (logits, features, chosen))[1]
