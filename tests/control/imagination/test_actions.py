"""Policies' actions against scipy, quadrature and sums; and how their draws differ."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from veil.control import OneOf, Within

KEY = jax.random.key(0)
LOW, HIGH = [-2.0, 0.0], [2.0, 10.0]


def said(vector):
    """Location and scale of the normal behind, in numpy."""
    return 5 * np.tanh(vector[:2] / 5), np.logaddexp(0, vector[2:] + np.log(np.e - 1)) + 0.05


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("vector", [np.zeros(4), np.array([2.0, -9.0, -1.0, 1.5])])
def test_a_squashed_normal_is_the_change_of_variables(vector):
    decision, (location, scale) = Within(LOW, HIGH).decision(jnp.array(vector)), said(vector)
    draws = np.asarray(jax.vmap(decision.sample)(jax.random.split(KEY, 4000)))
    assert np.all((draws > LOW) & (draws < HIGH))
    shares = (draws - LOW) / (np.array(HIGH) - LOW)
    for j in range(2):
        assert stats.kstest(special.logit(shares[:, j]), stats.norm(location[j], scale[j]).cdf).pvalue > 1e-3
    density = stats.norm(location, scale).logpdf(special.logit(shares)) - np.log(shares * (1 - shares))
    wanted = np.sum(density - np.log(np.array(HIGH) - LOW), 1)
    np.testing.assert_allclose(jax.vmap(decision.log_prob)(jnp.array(draws)), wanted, rtol=1e-8)
    np.testing.assert_allclose(decision.central(), LOW + (np.array(HIGH) - LOW) * special.expit(location))
    # the entropy of the same scaled to -1..1, and its slope in the numbers, by quadrature
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)

    def entropy(vector):
        location, scale = said(vector)
        inside = location + scale * nodes[:, None]
        slope = np.log(2) - np.logaddexp(0, inside) - np.logaddexp(0, -inside)
        return np.sum(0.5 * np.log(2 * np.pi * np.e) + np.log(scale)) + weights @ slope.sum(1) / weights.sum()

    keys = jax.random.split(jax.random.key(1), 4000)
    guess = lambda vector, key: Within(LOW, HIGH).decision(vector).entropy(key)  # noqa: E731
    found, slopes = jax.vmap(jax.value_and_grad(guess), (None, 0))(jnp.array(vector), keys)
    for each, number in ((found, entropy(vector)), (slopes, slope_of(entropy, vector))):
        each = np.asarray(each)
        assert np.all(np.abs(each.mean(0) - number) < 5 * each.std(0) / np.sqrt(len(each)) + 1e-6)


def slope_of(function, vector):
    steps = 1e-5 * np.eye(len(vector))
    return np.array([(function(vector + s) - function(vector - s)) / 2e-5 for s in steps])


def test_an_action_keeps_its_digits_at_the_ends():
    """In float32, at the means farthest out: log π of a draw, from the draw alone, is that of what was drawn behind."""
    decision = Within([-1.0], [1.0]).decision(jnp.array([50.0, -1.0]))
    keys = jax.random.split(KEY, 1000)
    inside = jax.vmap(lambda key: decision.location + decision.scale * jax.random.normal(key, (1,)))(keys)
    exact = stats.norm(*map(float, (decision.location[0], decision.scale[0]))).logpdf(np.asarray(inside, np.float64))
    exact = exact - np.log(2) + np.logaddexp(0, inside) + np.logaddexp(0, -np.asarray(inside, np.float64))
    found = jax.vmap(lambda key: decision.log_prob(decision.sample(key)))(keys)
    np.testing.assert_allclose(found, exact[:, 0], atol=0.02)


@pytest.mark.usefixtures("x64")
def test_one_of_several():
    logits = np.array([0.5, -1.0, 3.0])
    decision = OneOf(3, even=0.1).decision(jnp.array(logits))
    chances = 0.9 * special.softmax(logits) + 0.1 / 3
    draws = np.asarray(jax.vmap(decision.sample)(jax.random.split(KEY, 3000)))
    assert set(np.unique(draws)) == {0.0, 1.0}
    np.testing.assert_array_equal(draws.sum(1), 1)
    assert stats.chisquare(draws.sum(0), 3000 * chances).pvalue > 1e-3
    np.testing.assert_allclose(jax.vmap(decision.log_prob)(jnp.eye(3)), np.log(chances))
    np.testing.assert_allclose(decision.entropy(KEY), stats.entropy(chances))
    np.testing.assert_array_equal(decision.central(), [0, 0, 1])
    # straight through: the slope of any linear reward is that of its expectation
    reward = np.array([1.0, 5.0, -2.0])
    found = jax.grad(lambda v: OneOf(3, even=0.1).decision(v).sample(KEY) @ reward)(jnp.array(logits))
    wanted = jax.grad(lambda v: (0.9 * jax.nn.softmax(v) + 0.1 / 3) @ reward)(jnp.array(logits))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_what_cannot_be_is_said():
    for low, high in (([0.0], [0.0]), ([0.0, 1.0], [2.0]), ([-np.inf], [0.0]), ([], [])):
        with pytest.raises(ValueError, match="low, high: expected two vectors of finite numbers"):
            Within(low, high)
    with pytest.raises(ValueError, match="count: expected a whole number of actions, 2 or more; got 1"):
        OneOf(1)
    with pytest.raises(ValueError, match="even: expected a share"):
        OneOf(3, even=1.0)
