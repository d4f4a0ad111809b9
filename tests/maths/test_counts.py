"""Log-probabilities of counts and fractions: sums of logarithms in float64, at float32's precision and far out."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st
from scipy.special import gammaln

from veil.maths import counts, gaussian


def poisson(y: float, rate: float) -> float:
    """Σ log(rate / i) - rate, whose terms are exact."""
    return math.fsum(np.log(rate / np.arange(1, y + 1))) - rate


def negative_binomial(y: float, mean: float, size: float) -> float:
    i = np.arange(y)
    return math.fsum(np.log1p((size - 1) / (i + 1))) - size * math.log1p(mean / size) - y * math.log1p(size / mean)


@pytest.mark.parametrize("precision", [32, 64])
def test_counts_keep_their_digits(precision: int) -> None:
    with jax.enable_x64(precision == 64):
        number = jnp.result_type(float)
        rates = np.array([1e-3, 0.7, 12.0, 1e3, 1e5, 2e6])
        y = np.concatenate([np.round(rates * k) for k in (0, 0.4, 0.999, 1, 1.003, 1.2)])
        log_rate = np.asarray(np.tile(np.log(rates), 6), number)
        rate = np.asarray(jnp.exp(log_rate), np.float64)
        close = {"rtol": 3e-6, "atol": 1e-6} if precision == 32 else {"rtol": 1e-10, "atol": 1e-12}
        found = jax.jit(counts.log_poisson)(jnp.array(y, number), log_rate)
        np.testing.assert_allclose(found, list(map(poisson, y, rate)), **close)
        for size in (1e-3, 1.0, 30.0, 1e6):
            log_size = np.full(len(y), np.log(size), number)
            r = np.asarray(jnp.exp(log_size), np.float64)
            found = jax.jit(counts.log_negative_binomial)(jnp.array(y, number), log_rate, log_size)
            np.testing.assert_allclose(found, list(map(negative_binomial, y, rate, r)), **close)
        # a rate that is no number any more still has a logarithm; of no rate nothing else comes than nothing
        found, slope = jax.vmap(jax.value_and_grad(counts.log_poisson, 1))(
            jnp.array([3.0, 0, 0, 3]), jnp.array([-900.0, -900, -jnp.inf, -jnp.inf])
        )
        np.testing.assert_allclose(found, [-2700 - math.log(6), 0, 0, -np.inf], rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(slope, [3, 0, 0, 3])


def test_slopes_and_fractions(x64: None) -> None:
    a, b, y = (
        np.array(part) for part in zip((0.5, 0.3, 0.2), (3, 1e3, 1e-3), (1e5, 2e5, 0.33), (1, 1, 0.5), strict=True)
    )
    np.testing.assert_allclose(
        counts.log_beta(*map(jnp.asarray, (a, b, y))), st.beta.logpdf(y, a, b), rtol=1e-8, atol=1e-12
    )
    half = gammaln(np.array([0.01, 0.5, 3.0, 40.0]) + 0.5) - gammaln([0.01, 0.5, 3.0, 40.0])
    np.testing.assert_allclose(counts.log_gamma_half(jnp.array([0.01, 0.5, 3.0, 40.0])), half, rtol=1e-12, atol=1e-13)
    low, high = np.array([-1.0, 3, -40, 1, -1e-4, 8]), np.array([2.0, 4, -39, 1.001, 1e-4, 60])
    with np.errstate(divide="ignore"):
        wanted = np.log(np.abs(st.norm.sf(np.abs(low)) - st.norm.sf(np.abs(high))))
    wanted[[0, 4]] = np.log(st.norm.cdf(high[[0, 4]]) - st.norm.cdf(low[[0, 4]]))
    wanted[2] = st.norm.logsf(39)
    np.testing.assert_allclose(gaussian.log_mass(jnp.array(low), jnp.array(high)), wanted, rtol=1e-7)
    step = 1e-5
    for function, at in (
        (counts.log_negative_binomial, (7.0, 1.3, -0.4)),
        (counts.log_negative_binomial, (3e4, 10.2, 5.0)),
        (counts.log_beta, (2.0, 0.7, 0.3)),
    ):
        for i in range(len(at)):
            if function is counts.log_beta or i > 0:
                moved = [function(*(jnp.array(v + s * (j == i)) for j, v in enumerate(at))) for s in (step, -step)]
                slope = jax.grad(function, i)(*map(jnp.asarray, at))
                np.testing.assert_allclose(slope, (moved[0] - moved[1]) / (2 * step), rtol=1e-5, atol=1e-6)
