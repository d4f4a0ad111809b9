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
    follows = _follows(len(found.mean), starts, there)
    mean = _means((found.gain,), (found.mean, found.predicted, follows))
    return Smoothed(mean, *_covariances((found.covariance, found.gain, found.spread), (follows,)))


def _ahead(predicted: Float[Array, "T *L"]) -> Float[Array, "T *L"]:
    """m⁻_t+1; behind the last step anything."""
    return jnp.concatenate([predicted[1:], predicted[-1:]])


def _means_alone(matrices: Any, vectors: Any) -> Float[Array, "T L"]:
    """Smoothed means of one sequence: an affine recursion."""
    (gain,), (mean, predicted, follows) = matrices, vectors
    gain = jnp.where(follows[:, None, None], gain, 0.0)
    return affine.recursion(gain, mean - affine.apply(gain, _ahead(predicted)), None, reverse=True)[0]


def _means_beside(matrices: Any, vectors: Any) -> Float[Array, "T L N"]:
    """The same of many, step by step, as it is in the book."""

    def step(after: Array, now: tuple[Any, ...]) -> tuple[Array, Array]:
        gain, mean, ahead, follows = now
        here = jnp.where(follows[None], mean + affine.times(gain, after - ahead), mean)
        return here, here

    (gain,), (mean, predicted, follows) = matrices, vectors
    begin = affine.zeros((matrices, vectors), mean.shape[1])
    return jax.lax.scan(step, begin, (gain, mean, _ahead(predicted), follows), reverse=True)[1]


def _covariances_alone(matrices: Any, vectors: Any) -> tuple[Float[Array, "T L L"], Float[Array, "T L L"]]:
    """Smoothed covariances and lag-one covariances of one sequence, or of all that share them."""
    (covariance, gain, spread), (follows,) = matrices, vectors
    at = follows[:, None, None]
    gain = jnp.where(at, gain, 0.0)
    nothing = jnp.zeros(gain.shape[:2], gain.dtype)
    covariance = affine.recursion(gain, nothing, jnp.where(at, spread, covariance), reverse=True)[1]
    assert covariance is not None  # because there is a spread
    lag = affine.product(covariance[1:], jnp.swapaxes(gain[:-1], 1, 2))
    return covariance, jnp.concatenate([jnp.zeros_like(gain[:1]), lag])


def _covariances_beside(matrices: Any, vectors: Any) -> tuple[Float[Array, "T L L N"], Float[Array, "T L L N"]]:
    """The same of many with different ones, step by step."""

    def step(after: Array, now: tuple[Any, ...]) -> tuple[Array, tuple[Array, Array]]:
        covariance, gain, spread, follows = now
        lag = jnp.swapaxes(affine.times(gain, after), 0, 1)  # P_t+1 J_tᵀ, P symmetric
        grown = affine.times(gain, lag)
        grown = 0.5 * (grown + jnp.swapaxes(grown, 0, 1)) + spread
        at = follows[None, None]
        here = jnp.where(at, grown, covariance)
        return here, (here, jnp.where(at, lag, 0.0))

    size = matrices[0].shape[1]
    begin = affine.zeros((matrices, vectors), size, size)
    covariance, lag = jax.lax.scan(step, begin, (*matrices, *vectors), reverse=True)[1]
    return covariance, jnp.concatenate([jnp.zeros_like(lag[:1]), lag[:-1]])


_means = affine.columns(_means_alone, _means_beside)
_covariances = affine.columns(_covariances_alone, _covariances_beside)


def sample_path(
    key: PRNGKeyArray, found: Filtered, starts: Bool[Array, " T"] | None, there: Bool[Array, " T"] | None
) -> Float[Array, "T L"]:
    """A path from p(z | y), backwards from the filter. Särkkä & Svensson 2023, algorithm 12.1 (Carter & Kohn 1994)."""
    at = _follows(len(found.mean), starts, there)[:, None, None]
    gain, spread = jnp.where(at, found.gain, 0.0), jnp.where(at, found.spread, found.covariance)
    noise = jax.random.normal(key, found.mean.shape, found.mean.dtype)
    drawn = jax.vmap(lambda covariance, some: linear.cholesky(covariance) @ some)(spread, noise)
    base = found.mean - affine.apply(gain, _ahead(found.predicted))
    return affine.recursion(gain, base + drawn, None, reverse=True)[0]
