"""Log-probabilities of counts and fractions as deviances from their means, which keep all digits.

Differences of log-gammas of a million have no digits left in float32; these formulas are sums of small terms.
Loader 2000, "Fast and accurate computation of binomial probabilities".
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from veil.maths.gaussian import LOG_2PI

_FEW = 16.0  # from here on Stirling's series is exact to the last digit of float64


def stirling_error(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """δ(x) = log Γ(x + 1) - (x + ½) log x + x - ½ log 2π of x > 0: about 1 / 12x. Loader 2000, eq. 4."""
    few = jnp.clip(x, jnp.finfo(x.dtype).tiny, _FEW)
    exact = jax.lax.lgamma(few + 1.0) - (few + 0.5) * jnp.log(few) + few - 0.5 * LOG_2PI
    inverse = 1.0 / jnp.maximum(x, _FEW)
    square = inverse * inverse
    series = inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188))))
    return jnp.where(x < _FEW, exact, series)


def log_gamma_half(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """log Γ(x + ½) - log Γ(x) of x > 0."""
    ends = stirling_error(x + 0.5) - stirling_error(x)
    return x * jnp.log1p(0.5 / x) + 0.5 * jnp.log(x) + ends - 0.5


@jax.custom_jvp
def deviance(x: Float[Array, "..."], mean: Float[Array, "..."], difference: Float[Array, "..."]) -> Float[Array, "..."]:
    """D(x, m) = x log(x / m) + m - x >= 0 of x >= 0 and m > 0; ``difference`` is x - m. Loader 2000, section 3."""
    ratio = difference / (x + mean)
    square = ratio * ratio
    series = jnp.zeros_like(square)
    for power in range(19, 1, -2):
        series = square * (1.0 / power + series)
    near = ratio * (difference + 2.0 * x * series)
    far = x * jnp.log(jnp.where(x > 0, x, mean) / mean) - difference
    return jnp.where(jnp.abs(ratio) < 0.1, near, far)


@deviance.defjvp
def _deviance_derivative(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    x, mean, difference = primals
    ratio = difference / (x + mean)
    near = 2.0 * jnp.arctanh(jnp.where(jnp.abs(ratio) < 0.5, ratio, 0.0))
    far = jnp.log(jnp.where(x > 0, x, mean)) - jnp.log(mean)
    slope = jnp.where(jnp.abs(ratio) < 0.5, near, far)
    return deviance(*primals), slope * tangents[0] - difference / mean * tangents[1]


@jax.custom_jvp
def log_poisson(count: Float[Array, "..."], log_rate: Float[Array, "..."]) -> Float[Array, "..."]:
    """y log r - r - log y! of counts y = 0, 1, 2, ...; r = exp(log_rate), which may be zero. Nats."""
    tiny, rate = jnp.finfo(log_rate.dtype).tiny, _rate(log_rate)
    some = jnp.maximum(count, 1.0)
    # of a rate below the smallest number the logarithm is still known
    lacking = jnp.where(count > 0, jnp.maximum(jnp.log(tiny) - log_rate, 0.0), 0.0)
    held = jnp.maximum(rate, tiny)
    counted = -stirling_error(some) - deviance(some, held, some - held) - 0.5 * (LOG_2PI + jnp.log(some))
    return jnp.where(count > 0, counted - count * lacking, -rate)


@log_poisson.defjvp
def _poisson_derivative(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    count, log_rate = primals
    return log_poisson(count, log_rate), (count - _rate(log_rate)) * tangents[1]  # counts are whole: no slope in them


def _rate(log_rate: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.exp(jnp.minimum(log_rate, 0.98 * jnp.log(jnp.finfo(log_rate.dtype).max)))


def log_beta(first: Float[Array, "..."], second: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """log of y^(a - 1) (1 - y)^(b - 1) / B(a, b), 0 < y < 1: a ½-corrected binomial. Loader 2000, section 5."""
    total, rest = first + second, 1.0 - y
    away = first * rest - second * y
    spread = jnp.log(first) + jnp.log(second) - jnp.log(total) - LOG_2PI
    ends = stirling_error(total) - stirling_error(first) - stirling_error(second)
    far = deviance(first, total * y, away) + deviance(second, total * rest, -away)
    return 0.5 * spread + ends - far - jnp.log(y) - jnp.log(rest)


def log_negative_binomial(
    count: Float[Array, "..."], log_mean: Float[Array, "..."], log_size: Float[Array, "..."]
) -> Float[Array, "..."]:
    """log p(y) of counts y of mean m and variance m + m² / r: Γ(y + r) / (Γ(r) y!) (r / (r + m))^r (m / (r + m))^y.

    ``log_size`` is log r; for large r it is a Poisson's. Nats.
    """
    cap = 0.5 * jnp.log(jnp.finfo(log_mean.dtype).max)
    log_mean, log_size = jnp.clip(log_mean, -cap, cap), jnp.clip(log_size, -cap, cap)
    some, mean, size = jnp.maximum(count, 1.0), jnp.exp(log_mean), jnp.exp(log_size)
    share, total = jax.nn.sigmoid(log_size - log_mean), some + size
    away = (some - mean) * share
    rest = jax.nn.sigmoid(log_mean - log_size)
    far = deviance(some, total * rest, away) + deviance(size, total * share, -away)
    ends = stirling_error(total) - stirling_error(size) - stirling_error(some)
    spread = log_size - jnp.log(total) - jnp.log(some) - LOG_2PI
    none = -size * jax.nn.softplus(log_mean - log_size)
    return jnp.where(count > 0, 0.5 * spread + ends - far, none)
