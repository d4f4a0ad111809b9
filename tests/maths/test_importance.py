"""Importance weights against textbook code, and Pareto tails of known shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.maths import importance

pytestmark = pytest.mark.usefixtures("x64")

pareto_k = jax.jit(importance.pareto_k)


def naive_pareto_k(log_weights):
    """PSIS, Vehtari et al. 2024: the tail's exceedances, Zhang & Stephens' fit, the prior on k; by loops."""
    lw = np.sort(log_weights) - np.max(log_weights)
    tail = int(np.ceil(min(len(lw) / 5, 3 * np.sqrt(len(lw)))))
    cutoff = max(lw[-tail - 1], np.log(np.finfo(float).tiny))
    x = np.exp(lw[lw > cutoff]) - np.exp(cutoff)
    n = len(x)
    if n <= 4:
        return np.inf
    m = 30 + int(np.sqrt(n))
    thetas, likelihoods = [], []
    for j in range(1, m + 1):
        theta = 1 / x[-1] + (1 - np.sqrt(m / (j - 0.5))) / (3 * x[int(n / 4 + 0.5) - 1])
        k = np.mean(np.log1p(-theta * x))
        thetas.append(theta)
        likelihoods.append(n * (np.log(-theta / k) - k - 1))
    weights = np.exp(np.array(likelihoods) - np.max(likelihoods))
    theta = np.sum(weights * thetas) / np.sum(weights)
    return (n * np.mean(np.log1p(-theta * x)) + 5) / (n + 10)


@pytest.mark.parametrize("size", [25, 100, 1000])
@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
def test_pareto_k_is_the_textbook_fit(size, spread):
    log_weights = np.random.default_rng(size).normal(-50.0, spread, size)
    np.testing.assert_allclose(pareto_k(jnp.array(log_weights)), naive_pareto_k(log_weights), rtol=1e-6)


def test_ties_leave_fewer_values_in_the_tail():
    log_weights = np.random.default_rng(0).normal(size=200)
    log_weights[np.argsort(log_weights)[-45:-30]] = np.sort(log_weights)[-45]
    np.testing.assert_allclose(pareto_k(jnp.array(log_weights)), naive_pareto_k(log_weights), rtol=1e-6)


@pytest.mark.parametrize("k", [0.3, 0.7, 1.2])
def test_the_shape_of_pareto_weights_is_found(k):
    """w = U^-k has the tail P(w > t) = t^(-1/k)."""
    draws = np.random.default_rng(1).uniform(size=(4, 20_000))
    found = jax.vmap(pareto_k)(jnp.array(-k * np.log(draws)))
    np.testing.assert_allclose(found, k, atol=0.2)
    np.testing.assert_allclose(np.mean(found), k, atol=0.08)


def test_bounded_weights_have_a_negative_shape():
    assert pareto_k(jnp.log(jnp.array(np.random.default_rng(2).uniform(size=20_000)))) < -0.5


def test_equal_weights_have_no_tail():
    assert pareto_k(jnp.full(100, -700.0)) == 0
    noise = 1e-5 * np.random.default_rng(3).normal(size=100)
    assert pareto_k(jnp.array(-700.0 + noise, jnp.float32)) == 0


def test_one_weight_above_all_others_is_the_worst_tail():
    assert pareto_k(jnp.zeros(100).at[3].set(50.0)) == jnp.inf
    assert jnp.isnan(pareto_k(jnp.zeros(24)))
    assert jnp.isnan(pareto_k(jnp.zeros(100).at[3].set(jnp.nan)))


def test_zero_weights_and_float32():
    log_weights = np.random.default_rng(4).normal(-300.0, 3.0, 500)
    log_weights[::2] = -np.inf
    exact = naive_pareto_k(log_weights)
    np.testing.assert_allclose(pareto_k(jnp.array(log_weights)), exact, rtol=1e-6)
    np.testing.assert_allclose(pareto_k(jnp.array(log_weights, jnp.float32)), exact, rtol=1e-2)
    wide = 40.0 * np.random.default_rng(5).normal(size=5000)
    assert pareto_k(jnp.array(wide, jnp.float32)) > 1


def test_bound_error_and_effective_samples_by_their_definitions():
    log_weights = np.random.default_rng(6).normal(size=50)
    w = np.exp(log_weights)
    np.testing.assert_allclose(importance.log_mean_exp(jnp.array(log_weights)), np.log(w.mean()), rtol=1e-12)
    error = importance.standard_error(jnp.array(log_weights - 2000.0))
    np.testing.assert_allclose(error, w.std(ddof=1) / np.sqrt(50) / w.mean(), rtol=1e-9)
    ess = importance.effective_sample_size(jnp.array(log_weights + 2000.0))
    np.testing.assert_allclose(ess, w.sum() ** 2 / (w**2).sum(), rtol=1e-9)


def test_the_error_is_the_spread_of_the_bound():
    draws = jnp.array(0.5 * np.random.default_rng(7).normal(size=(2000, 200)))
    bounds = jax.vmap(importance.log_mean_exp)(draws)
    np.testing.assert_allclose(jnp.mean(jax.vmap(importance.standard_error)(draws)), jnp.std(bounds), rtol=0.1)


def test_one_sample_and_no_weight():
    assert jnp.isnan(importance.standard_error(jnp.zeros(1)))
    assert importance.log_mean_exp(jnp.full(3, -jnp.inf)) == -jnp.inf
