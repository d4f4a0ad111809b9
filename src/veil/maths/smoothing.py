"""Linear-Gaussian chains backwards from the filter (``maths.kalman``): smoothed moments and posterior paths.

Särkkä & Svensson 2023, chapter 12; T steps, state L. Of ONE sequence; ``vmap`` over many of them keeps the covariances
that do not depend on the data, and works on the rest side by side.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from veil.maths import affine, linear
from veil.maths.kalman import Filtered


class Smoothed(NamedTuple):
    """Of p(z | y): ``mean`` [T, L], ``covariance`` [T, L, L], and ``lagged`` [T, L, L], Cov(z_t, z_t-1 | y).

    ``lagged`` is zero at starts and at padding.
    """

    mean: Float[Array, "T L"]
    covariance: Float[Array, "T L L"]
    lagged: Float[Array, "T L L"]


def _follows(count: int, starts: Bool[Array, " T"] | None, there: Bool[Array, " T"] | None) -> Bool[Array, " T"]:
    """After which steps another one of the same episode follows: not the last, nor one before a start or padding."""
    follows = jnp.arange(count) < count - 1
    if starts is not None:
        follows = follows & jnp.concatenate([~starts[1:], jnp.zeros(1, bool)])
    if there is not None:
        follows = follows & jnp.concatenate([there[1:], jnp.zeros(1, bool)])
    return follows


def smoothed(found: Filtered, starts: Bool[Array, " T"] | None, there: Bool[Array, " T"] | None) -> Smoothed:
    """Rauch-Tung-Striebel smoother with lag-one covariances. Särkkä & Svensson 2023, theorem 12.2 and eq. 12.8."""
    matrices = found.covariance, found.gain, found.spread
    return Smoothed(*_moments(matrices, (found.mean, found.predicted, _follows(len(found.mean), starts, there))))


def _gated(matrices: Any, follows: Bool[Array, " T"]) -> tuple[Float[Array, "T L L"], Float[Array, "T L L"]]:
    """Of p(z_t | z_t+1, y_1..t): the gain J_t, zero where nothing follows, and the covariance."""
    covariance, gain, spread = matrices
    at = follows[:, None, None]
    return jnp.where(at, gain, 0.0), jnp.where(at, spread, covariance)


def _ahead(predicted: Float[Array, "T *L"]) -> Float[Array, "T *L"]:
    """m⁻_t+1; behind the last step anything."""
    return jnp.concatenate([predicted[1:], predicted[-1:]])


def _moments_alone(matrices: Any, vectors: Any) -> tuple[Array, Array, Array]:
    """Smoothed means, covariances and lag-one covariances of one sequence: an affine recursion."""
    mean, predicted, follows = vectors
    gain, spread = _gated(matrices, follows)
    base = mean - affine.apply(gain, _ahead(predicted))
    mean, covariance = affine.recursion(gain, base, spread, reverse=True)
    assert covariance is not None  # because there is a spread
    lag = affine.product(covariance[1:], jnp.swapaxes(gain[:-1], 1, 2))
    return mean, covariance, jnp.concatenate([jnp.zeros_like(gain[:1]), lag])


def _moments_beside(matrices: Any, vectors: Any) -> tuple[Array, Array, Array]:
    """The same of many, step by step, as it is in the book; covariances once where all share them."""
    mean, predicted, follows = vectors
    size = len(mean[0])

    def step(after: tuple[Array, Array], now: tuple[Any, ...]) -> tuple[Any, tuple[Array, Array, Array]]:
        (covariance, gain, spread), mean, ahead, follows = now
        here = jnp.where(follows[None], mean + affine.times(gain, after[0] - ahead), mean)
        lag = jnp.swapaxes(affine.times(gain, after[1]), 0, 1)  # P_t+1 J_tᵀ, P symmetric
        grown = affine.times(gain, lag)
        grown = 0.5 * (grown + jnp.swapaxes(grown, 0, 1)) + spread
        at = follows[None, None]
        grown, lag = jnp.where(at, grown, covariance), jnp.where(at, lag, 0.0)
        return (here, grown), (here, grown, lag)

    begin = (
        jnp.zeros((size, affine.width((matrices, vectors))), mean.dtype),
        jnp.zeros((size, size, affine.width((matrices, follows))), mean.dtype),
    )
    mean, covariance, lag = jax.lax.scan(step, begin, (matrices, mean, _ahead(predicted), follows), reverse=True)[1]
    return mean, covariance, jnp.concatenate([jnp.zeros_like(lag[:1]), lag[:-1]])


_moments = affine.columns(_moments_alone, _moments_beside)


def sample_path(
    key: PRNGKeyArray, found: Filtered, starts: Bool[Array, " T"] | None, there: Bool[Array, " T"] | None
) -> Float[Array, "T L"]:
    """A path from p(z | y), backwards from the filter. Särkkä & Svensson 2023, algorithm 12.1 (Carter & Kohn 1994)."""
    matrices = found.covariance, found.gain, found.spread
    gain, spread = _gated(matrices, _follows(len(found.mean), starts, there))
    noise = jax.random.normal(key, found.mean.shape, found.mean.dtype)
    drawn = jax.vmap(lambda covariance, some: linear.cholesky(covariance) @ some)(spread, noise)
    base = found.mean - affine.apply(gain, _ahead(found.predicted))
    return affine.recursion(gain, base + drawn, None, reverse=True)[0]
