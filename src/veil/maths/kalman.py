"""Linear-Gaussian chains: filter, smoother, exact likelihood and posterior paths of ONE sequence.

    z_1 ~ N(m_0, P_0),   z_t = F z_t-1 + b_t + N(0, Q),   y_t = H_t z_t + N(0, I)

m_0 and P_0 are of the state AT the first observation (and at every start of an episode), not one step before it. The
observations are *whitened*: divided by the Cholesky factor of their noise, so that its covariance is I; a missing entry
is a zero row of H_t and a zero in y_t. Then nothing as large as the observation is factored in a scan, and the
log-likelihood here lacks only ``log_normalisers``, which do not depend on the state.

Covariances are propagated in forms that are sums of squares (G M⁻¹ Gᵀ, Joseph's), so that rounding cannot make them
indefinite. They do not depend on y: under ``vmap`` over sequences that share H, starts and padding they are computed
once. Särkkä & Svensson 2023, chapters 6 and 12; T steps, state L, observation D.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from veil.maths import gaussian, linear


class Chain(NamedTuple):
    """``mean`` m_0 [L], ``covariance`` P_0 [L, L]; ``transition`` F [L, L], ``drift`` b [T, L], ``noise`` Q [L, L]."""

    mean: Float[Array, " L"]
    covariance: Float[Array, "L L"]
    transition: Float[Array, "L L"]
    drift: Float[Array, "T L"]
    noise: Float[Array, "L L"]


class Filtered(NamedTuple):
    """``mean`` and ``covariance`` of p(z_t | y_1..t); of p(z_t | y_1..t-1) ``predicted`` and the Cholesky ``factor``.

    ``log_likelihoods`` [T]: log p(y_t | y_1..t-1) without the noise's normaliser; zero at padding.
    """

    mean: Float[Array, "T L"]
    covariance: Float[Array, "T L L"]
    predicted: Float[Array, "T L"]
    factor: Float[Array, "T L L"]
    log_likelihoods: Float[Array, " T"]


class Smoothed(NamedTuple):
    """Of p(z | y): ``mean`` [T, L], ``covariance`` [T, L, L], and ``lagged`` [T, L, L], Cov(z_t, z_t-1 | y).

    ``lagged`` is zero at starts and at padding.
    """

    mean: Float[Array, "T L"]
    covariance: Float[Array, "T L L"]
    lagged: Float[Array, "T L L"]


def whitened(
    query: Float[Array, "T D"],
    emission: Float[Array, "D L"],
    noise: Float[Array, "D *D"],
    observed: Bool[Array, "T D"] | None,
) -> tuple[Float[Array, "T D"], Float[Array, "*T D L"], Float[Array, "#T"]]:
    """y_t and H divided by the noise's factor, missing entries left out exactly, and ``log_normalisers`` [T] (or [1]).

    L_o⁻¹ y_o and L_o⁻¹ H_o for R_oo = L_o L_oᵀ; ``noise`` is R [D, D], or its diagonal [D] where it has no more. H
    comes as [D, L] if nothing is missing, else as [T, D, L].
    """
    size = noise.shape[0]
    if noise.ndim == 1:
        scale = jnp.sqrt(noise)
        logs = -jnp.log(scale) - 0.5 * gaussian.LOG_2PI
        white, divided = query / scale[None, :], emission / scale[:, None]
        if observed is None:
            return white, divided, jnp.sum(logs)[None]
        rows = jnp.where(observed[:, :, None], divided[None], 0.0)
        return jnp.where(observed, white, 0.0), rows, jnp.sum(jnp.where(observed, logs[None], 0.0), 1)

    def one(there: Array | None) -> tuple[Array, Array]:
        if there is None:
            factor = linear.cholesky(noise)
            return factor, -jnp.sum(jnp.log(jnp.diagonal(factor))) - 0.5 * size * gaussian.LOG_2PI
        identity = jnp.eye(size, dtype=noise.dtype)
        factor = linear.cholesky(jnp.where(there[:, None] & there[None, :], noise, identity))
        logs = jnp.where(there, jnp.log(jnp.diagonal(factor)) + 0.5 * gaussian.LOG_2PI, 0.0)
        return factor, -jnp.sum(logs)

    if observed is None:
        factor, normaliser = one(None)
        return linear.solve_lower(factor, query.T).T, linear.solve_lower(factor, emission), normaliser[None]
    factors, normalisers = jax.vmap(one)(observed)
    both = jnp.concatenate([jnp.broadcast_to(emission, (len(query), *emission.shape)), query[:, :, None]], 2)
    both = jax.vmap(linear.solve_lower)(factors, jnp.where(observed[:, :, None], both, 0.0))
    return both[:, :, -1], both[:, :, :-1], normalisers


def update(
    predicted: Float[Array, " L"],
    covariance: Float[Array, "L L"],
    query: Float[Array, " D"],
    emission: Float[Array, "D L"],
) -> tuple[Float[Array, " L"], Float[Array, "L L"], Float[Array, "L L"], Float[Array, ""]]:
    """Bayes' rule for one whitened observation: mean, covariance, the factor G of the prior covariance, log p(y).

    With P = G Gᵀ, B = H G, M = I + Bᵀ B: w = M⁻¹ Bᵀ (y - H m), mean m + G w, covariance G M⁻¹ Gᵀ, and
    log p(y) = -½ (|y - H (m + G w)|² + |w|² + log |M|), sums of squares throughout, without the noise's normaliser.
    """
    size = predicted.size
    factor = linear.cholesky(covariance)
    scaled = emission @ factor
    inner = linear.cholesky(jnp.eye(size, dtype=factor.dtype) + scaled.T @ scaled)
    half = linear.solve_lower(inner, jnp.concatenate([factor.T, scaled.T], 1))
    after = half[:, :size].T @ half[:, :size]
    # M⁻¹ Bᵀ, which does not depend on the data
    gain = linear.solve_upper(inner, half[:, size:])
    white = gain @ (query - emission @ predicted)
    mean = predicted + factor @ white
    left = query - emission @ mean
    square = jnp.sum(left * left) + jnp.sum(white * white)
    return mean, after, factor, -0.5 * square - jnp.sum(jnp.log(jnp.diagonal(inner)))


def filtered(
    chain: Chain,
    query: Float[Array, "T D"],
    emission: Float[Array, "*T D L"],
    starts: Bool[Array, " T"] | None,
    there: Bool[Array, " T"] | None,
) -> Filtered:
    """Kalman filter of whitened observations. ``starts`` None: the first step only; ``there`` None: no padding.

    Särkkä & Svensson 2023, theorem 6.6. At padding the mean stays as it was; covariances go on as without it, which no
    step that is there can see, and which keeps them equal for all sequences.
    """
    varying = emission.ndim == 3

    def step(carry: tuple[Array, Array], now: tuple[Any, ...]) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        predicted, covariance = carry
        look, part, start, real, drift = now
        if start is not None:
            predicted = jnp.where(start, chain.mean, predicted)
            covariance = jnp.where(start, chain.covariance, covariance)
        mean, after, factor, value = update(predicted, covariance, look, emission if part is None else part)
        following = chain.transition @ mean + drift
        spread = linear.symmetric(chain.transition @ after @ chain.transition.T) + chain.noise
        if real is not None:
            mean, following = jnp.where(real, mean, predicted), jnp.where(real, following, predicted)
            value = jnp.where(real, value, 0.0)
        return (following, spread), (mean, after, predicted, factor, value)

    following_drift = jnp.concatenate([chain.drift[1:], jnp.zeros_like(chain.drift[:1])])
    xs = (query, emission if varying else None, starts, there, following_drift)
    return Filtered(*jax.lax.scan(step, (chain.mean, chain.covariance), xs)[1])


def _backward(chain: Chain, found: Filtered, ends: Bool[Array, " T"]) -> tuple[Array, Array, Array]:
    """Of p(z_t | z_t+1, y_1..t): the gain J_t, the covariance, and the mean's part m_t - J_t m⁻_t+1; J = 0 at ends."""
    following = jnp.concatenate([found.factor[1:], found.factor[-1:]])
    predicted = jnp.concatenate([found.predicted[1:], found.predicted[-1:]])
    ahead = jax.vmap(lambda after: chain.transition @ after)(found.covariance)
    gain = jnp.swapaxes(jax.vmap(linear.solve_positive)(following, ahead), 1, 2)
    gain = jnp.where(ends[:, None, None], 0.0, gain)
    rest = jnp.eye(chain.mean.size, dtype=gain.dtype)[None] - gain @ chain.transition[None]
    # Joseph's form: (I - J F) P (I - J F)ᵀ + J Q Jᵀ
    spread = rest @ found.covariance @ jnp.swapaxes(rest, 1, 2) + gain @ chain.noise[None] @ jnp.swapaxes(gain, 1, 2)
    return gain, spread, found.mean - jnp.einsum("tij,tj->ti", gain, predicted)


def _ends(count: int, starts: Bool[Array, " T"] | None, there: Bool[Array, " T"] | None) -> Bool[Array, " T"]:
    """After which steps nothing follows: the last one, before a start, before padding."""
    ends = jnp.arange(count) == count - 1
    if starts is not None:
        ends = ends | jnp.concatenate([starts[1:], jnp.ones(1, bool)])
    if there is not None:
        ends = ends | jnp.concatenate([~there[1:], jnp.ones(1, bool)])
    return ends


def smoothed(
    chain: Chain, found: Filtered, starts: Bool[Array, " T"] | None, there: Bool[Array, " T"] | None
) -> Smoothed:
    """Rauch-Tung-Striebel smoother with lag-one covariances. Särkkä & Svensson 2023, theorem 12.2 and eq. 12.8."""
    ends = _ends(len(found.mean), starts, there)
    gain, spread, base = _backward(chain, found, ends)

    def step(carry: tuple[Array, Array], now: tuple[Any, ...]) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        after, covariance = carry
        part, rest, offset = now
        mean = offset + part @ after
        lag = covariance @ part.T
        here = linear.symmetric(part @ lag) + rest
        return (mean, here), (mean, here, lag)

    size = chain.mean.size
    begin = (jnp.zeros(size, base.dtype), jnp.zeros((size, size), base.dtype))
    mean, covariance, lag = jax.lax.scan(step, begin, (gain, spread, base), reverse=True)[1]
    return Smoothed(mean, covariance, jnp.concatenate([jnp.zeros_like(lag[:1]), lag[:-1]]))


def sample_path(
    key: PRNGKeyArray,
    chain: Chain,
    found: Filtered,
    starts: Bool[Array, " T"] | None,
    there: Bool[Array, " T"] | None,
) -> Float[Array, "T L"]:
    """A path from p(z | y), backwards from the filter. Särkkä & Svensson 2023, algorithm 12.1 (Carter & Kohn 1994)."""
    gain, spread, base = _backward(chain, found, _ends(len(found.mean), starts, there))
    noise = jax.random.normal(key, base.shape, base.dtype)
    offset = base + jax.vmap(lambda covariance, some: linear.cholesky(covariance) @ some)(spread, noise)

    def step(after: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        here = now[1] + now[0] @ after
        return here, here

    return jax.lax.scan(step, jnp.zeros_like(base[0]), (gain, offset), reverse=True)[1]
