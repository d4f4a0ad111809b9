"""Filters that take every p(z_t | y_1..t) for a Gaussian, whatever the dynamics: one recursion, several moment rules.

    z_1 ~ N(m_0, P_0),   z_t = f(z_t-1, x_t) + N(0, Q),   y_t = h(z_t, x_t) + N(0, R)

A *rule* says of z ~ N(m, P) and a function g what E[g(z)], Cov[g(z)] and Cov[z, g(z)] are: by g's tangent (the extended
filter) or by sigma points (the unscented one). Rules that are exact of linear functions make this the Kalman filter
and the Rauch-Tung-Striebel smoother. The log-likelihood is an approximation, neither bound nor unbiased. Särkkä &
Svensson 2023, chapters 7-9 and 13; T steps, state L, observation D.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from veil.maths import gaussian, linear
from veil.maths.smoothing import Smoothed

Moments = tuple[Float[Array, " A"], Float[Array, "A A"], Float[Array, "L A"]]
Rule = Callable[[Callable[[Array], Array], Float[Array, " L"], Float[Array, "L L"]], Moments]
Map = Callable[[Float[Array, " L"], Any], Float[Array, " A"]]


class System(NamedTuple):
    """``mean`` m_0, ``covariance`` P_0, ``transition`` f(z, x), ``process`` Q, ``emission`` h(z, x), ``noise`` R."""

    mean: Float[Array, " L"]
    covariance: Float[Array, "L L"]
    transition: Map
    process: Float[Array, "L L"]
    emission: Map
    noise: Float[Array, "D D"]


class AssumedDensity(NamedTuple):
    """Of p(z_t | y_1..t) ``mean`` and ``covariance``, of p(z_t+1 | y_1..t) ``predicted`` and ``spread``.

    ``cross`` [T, L, L] is Cov(z_t, z_t+1 | y_1..t). ``log_likelihoods`` [T], nats, zero at padding.
    """

    mean: Float[Array, "T L"]
    covariance: Float[Array, "T L L"]
    predicted: Float[Array, "T L"]
    spread: Float[Array, "T L L"]
    cross: Float[Array, "T L L"]
    log_likelihoods: Float[Array, " T"]


def tangent(function: Callable[[Array], Array], mean: Float[Array, " L"], covariance: Float[Array, "L L"]) -> Moments:
    """g(m), J P Jᵀ and P Jᵀ for g's Jacobian J at m. Särkkä & Svensson 2023, eq. 7.24."""
    slope = jax.jacfwd(function)(mean)
    cross = covariance @ slope.T
    return function(mean), linear.symmetric(slope @ cross), cross


def sigma_points(
    function: Callable[[Array], Array],
    mean: Float[Array, " L"],
    covariance: Float[Array, "L L"],
    alpha: float = 1.0,
    beta: float = 0.0,
    kappa: float | None = None,
) -> Moments:
    """Moments of g over 2 L + 1 points m, m ± sqrt(L + λ) (columns of P's factor), λ = α² (L + κ) - L.

    Their weights are λ / (L + λ), with 1 - α² + β more in covariances, and 1 / 2 (L + λ). ``kappa`` None is max(3 - L,
    0). Särkkä & Svensson 2023, eqs. 8.73-8.79 (Julier & Uhlmann 1997).
    """
    size = mean.size
    extra = max(3.0 - size, 0.0) if kappa is None else kappa
    total = alpha**2 * (size + extra)
    away = jnp.sqrt(total) * linear.cholesky(covariance).T
    away = jnp.concatenate([jnp.zeros_like(mean)[None], away, -away])
    values = jax.vmap(function)(mean[None] + away)
    weights = jnp.full(2 * size + 1, 0.5 / total, mean.dtype).at[0].set((total - size) / total)
    spread = weights.at[0].add(1.0 - alpha**2 + beta)
    centre = weights @ values
    off = values - centre[None]
    return centre, jnp.einsum("p,pi,pj->ij", spread, off, off), jnp.einsum("p,pi,pj->ij", spread, away, off)


def update(
    rule: Rule,
    emission: Callable[[Array], Array],
    noise: Float[Array, "D D"],
    mean: Float[Array, " L"],
    covariance: Float[Array, "L L"],
    query: Float[Array, " D"],
    observed: Bool[Array, " D"] | None,
) -> tuple[Float[Array, " L"], Float[Array, "L L"], Float[Array, ""]]:
    """Mean and covariance given y too, and log p(y), nats, of the entries that are present."""
    centre, spread, cross = rule(emission, mean, covariance)
    spread = linear.symmetric(spread) + noise
    present = jnp.ones(query.shape, bool) if observed is None else observed
    both = present[:, None] & present[None, :]
    factor = linear.cholesky(jnp.where(both, spread, jnp.eye(len(spread), dtype=spread.dtype)))
    away = jnp.where(present, query - centre, 0.0)
    right = jnp.concatenate([jnp.where(present[:, None], cross.T, 0.0), away[:, None]], 1)
    white = linear.solve_lower(factor, right)
    half, residual = white[:, :-1], white[:, -1]
    logs = jnp.where(present, jnp.log(jnp.diagonal(factor)) + 0.5 * gaussian.LOG_2PI, 0.0)
    value = -0.5 * jnp.sum(residual * residual) - jnp.sum(logs)
    return mean + half.T @ residual, linear.symmetric(covariance - half.T @ half), value


def filtered(
    rule: Rule,
    system: System,
    query: Float[Array, "T D"],
    evidence: Float[Array, "T *P"] | None,
    observed: Bool[Array, "T D"] | None,
    starts: Bool[Array, " T"],
    there: Bool[Array, " T"],
) -> AssumedDensity:
    """The Gaussian filter of one sequence by a moment rule. Särkkä & Svensson 2023, algorithm 8.3."""

    def step(carry: tuple[Array, Array, Array, Array], now: tuple[Any, ...]) -> tuple[Any, Any]:
        y, x, seen, start, real, onward = now
        belief, predicted = carry[:2], carry[2:]
        mean, covariance = (
            jnp.where(start, a, b) for a, b in zip((system.mean, system.covariance), predicted, strict=True)
        )
        *after, value = update(rule, lambda z: system.emission(z, x), system.noise, mean, covariance, y, seen)
        mean, covariance = (jnp.where(real, a, b) for a, b in zip(after, belief, strict=True))
        ahead, spread, cross = rule(lambda z: system.transition(z, onward), mean, covariance)
        spread = linear.symmetric(spread) + system.process
        found = AssumedDensity(mean, covariance, ahead, spread, cross, jnp.where(real, value, 0.0))
        return (mean, covariance, ahead, spread), found

    onward = None if evidence is None else jnp.concatenate([evidence[1:], evidence[-1:]])
    begin = (system.mean, system.covariance, system.mean, system.covariance)
    return jax.lax.scan(step, begin, (query, evidence, observed, starts, there, onward))[1]


def smoothed(found: AssumedDensity, starts: Bool[Array, " T"], there: Bool[Array, " T"]) -> Smoothed:
    """The Gaussian smoother, with lag-one covariances. Särkkä & Svensson 2023, algorithm 13.1."""
    ends = jnp.concatenate([starts[1:] | ~there[1:], jnp.ones(1, bool)])
    factors = jax.vmap(linear.cholesky)(found.spread)
    gain = jnp.swapaxes(jax.vmap(linear.solve_positive)(factors, jnp.swapaxes(found.cross, 1, 2)), 1, 2)
    gain = jnp.where(ends[:, None, None], 0.0, gain)

    def step(after: tuple[Array, Array], now: tuple[Any, ...]) -> tuple[Any, Any]:
        gain, one = now
        mean = one.mean + gain @ (after[0] - one.predicted)
        covariance = one.covariance + linear.symmetric(gain @ (after[1] - one.spread) @ gain.T)
        return (mean, covariance), (mean, covariance, after[1] @ gain.T)

    last = (found.mean[-1], found.covariance[-1])
    mean, covariance, lagged = jax.lax.scan(step, last, (gain, found), reverse=True)[1]
    return Smoothed(mean, covariance, jnp.concatenate([jnp.zeros_like(lagged[:1]), lagged[:-1]]))
