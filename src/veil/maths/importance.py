"""Importance weights w = p/q by their logarithms: the bound they give, its error, and whether to believe it."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

FEWEST = 25  # samples below which no tail can be fitted


def log_mean_exp(log_weights: Float[Array, " S"]) -> Float[Array, ""]:
    """log (1/S) Σ_s w_s in nats: in expectation a lower bound of log E[w]. Burda et al. 2016, eq. 8."""
    return jax.scipy.special.logsumexp(log_weights) - math.log(log_weights.size)


def lag(log_weights: Float[Array, " S"]) -> Float[Array, ""]:
    """How much higher log E[w] would be if log w were normal, mean + variance / 2, but no more than its deviation.

    >>> float(lag(jnp.array([-1000.0, 0.0, 1000.0]))), float(lag(jnp.zeros(3)))
    (1000.0, 0.0)
    """
    deviation = jnp.std(log_weights, ddof=1) if log_weights.size > 1 else jnp.zeros(())
    normal = jnp.mean(log_weights) + 0.5 * deviation**2 - log_mean_exp(log_weights)
    return jnp.clip(normal, 0.0, deviation)


def _relative(log_weights: Float[Array, " S"]) -> Float[Array, " S"]:
    """Weights as fractions of the largest one; all one if all are zero."""
    largest = jnp.max(log_weights)
    weights = jnp.exp(log_weights - jnp.where(jnp.isfinite(largest), largest, 0.0))
    return jnp.where(largest == -jnp.inf, 1.0, weights)


def standard_error(log_weights: Float[Array, " S"]) -> Float[Array, ""]:
    """Standard error of ``log_mean_exp`` in nats by the delta method: sd(w) / (√S mean(w)). NaN for one sample.

    It is itself an estimate, and too small where ``pareto_k`` is large: the weights that matter have not been seen.
    """
    weights = _relative(log_weights)
    variance = jnp.sum((weights - jnp.mean(weights)) ** 2) / (log_weights.size - 1) if log_weights.size > 1 else jnp.nan
    return jnp.sqrt(variance / log_weights.size) / jnp.mean(weights)


def effective_sample_size(log_weights: Float[Array, " S"]) -> Float[Array, ""]:
    """(Σ w)² / Σ w², between 1 and S draws. Kong 1992."""
    weights = _relative(log_weights)
    return jnp.sum(weights) ** 2 / jnp.sum(weights**2)


def pareto_k(log_weights: Float[Array, " S"]) -> Float[Array, ""]:
    """The shape k of the weights' upper tail; the weights have finite moments up to the order 1/k.

    Below 0.5 their variance is finite, below 0.7 the mean of a few thousand can be trusted, above 1 they have no mean.
    Vehtari et al. 2024 (PSIS), section 3: a generalised Pareto distribution is fitted to the min(S/5, 3√S) largest
    weights. Zero if the largest weights are equal up to rounding; infinite if four or fewer of them stand out of the
    rest; NaN for fewer than 25 samples.
    """
    size = log_weights.size
    if size < FEWEST:
        return jnp.full((), jnp.nan, log_weights.dtype)
    tail = math.ceil(min(size / 5, 3 * math.sqrt(size)))
    log_weights = jnp.where(jnp.max(log_weights) == -jnp.inf, 0.0, log_weights)  # all are zero, and so equal
    top = jax.lax.top_k(log_weights, tail + 1)[0][::-1]
    largest = top[-1]
    shifted = top - largest
    information = jnp.finfo(log_weights.dtype)
    # what is smaller than that has no digits left next to the largest weight
    cutoff = jnp.maximum(shifted[0], 0.7 * math.log(float(information.tiny)))
    inside = shifted[1:] > cutoff
    exceedances = jnp.where(inside, jnp.exp(shifted[1:]) - jnp.exp(cutoff), 0.0)
    rounding = 32 * information.eps * jnp.maximum(1.0, jnp.abs(largest))
    fitted = jnp.where(jnp.sum(inside) > 4, generalised_pareto_k(exceedances, inside), jnp.inf)
    return jnp.where(jnp.isnan(largest), jnp.nan, jnp.where(-shifted[0] <= rounding, 0.0, fitted))


def generalised_pareto_k(values: Float[Array, " M"], inside: Array) -> Float[Array, ""]:
    """The shape k of a generalised Pareto distribution fitted to the sorted values that are ``inside`` (the last ones).

    The empirical Bayes estimate of Zhang & Stephens 2009, eqs. 4-8 (their -k), with the prior of PSIS, as if ten more
    values had k = 0.5 (Vehtari et al. 2024, appendix G).
    """
    size = values.size
    count = jnp.sum(inside)
    points = 30 + jnp.floor(jnp.sqrt(count.astype(values.dtype)))
    numbers = jnp.arange(1, 31 + math.isqrt(size), dtype=values.dtype)
    on_grid = numbers <= points
    quartile = values[size - count + jnp.maximum((count / 4 + 0.5).astype(int), 1) - 1]
    theta = 1.0 / values[-1] + (1.0 - jnp.sqrt(points / (numbers - 0.5))) / (3.0 * quartile)
    theta = jnp.where(on_grid, theta, -1.0)

    def shape(theta: Float[Array, ""]) -> Float[Array, ""]:
        return jnp.sum(jnp.where(inside, jnp.log1p(-theta * values), 0.0)) / count

    shapes = jax.vmap(shape)(theta)
    profile = count * (jnp.log(-theta / shapes) - shapes - 1.0)
    weights = jax.nn.softmax(jnp.where(on_grid & ~jnp.isnan(profile), profile, -jnp.inf))
    k = shape(jnp.sum(jnp.where(weights > 0, weights * theta, 0.0)))
    return (count * k + 10 * 0.5) / (count + 10)
