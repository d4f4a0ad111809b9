"""Standard errors against closed forms, numpy's second differences and simulated samples; what has none is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil.control import MDP, DenseTransitions, LinearReward, SparseTransitions, TableReward, solve

KEY = jax.random.key(0)
STATES, ACTIONS = 5, 3
FEATURES = np.random.default_rng(1).normal(size=(STATES, ACTIONS, 2))


def world():
    return MDP(DenseTransitions(np.random.default_rng(0).dirichlet(np.ones(STATES), (STATES, ACTIONS))), horizon=4)


def drawn(count, seed=0, weights=(1.0, -0.5)):
    """Single decisions of a soft-optimal person, as rows."""
    rng = np.random.default_rng(seed)
    policy = np.exp(np.asarray(solve(world().rewarded(FEATURES @ np.array(weights))).log_policy))
    step, state = rng.integers(0, 4, count), rng.integers(0, STATES, count)
    action = (rng.random(count)[:, None] > np.cumsum(policy[step, state], -1)).sum(1)
    return veil.Data(action[:, None].astype(float), {"state": state[:, None] * 1.0, "step": step[:, None] * 1.0})


def test_of_a_gaussian_they_are_the_textbooks(x64):
    """N(μ, σ²): σ / √n of the mean; weights count data."""
    numbers = np.random.default_rng(0).normal(3.0, 2.0, (50, 1))
    times = np.random.default_rng(1).integers(1, 4, 50)
    data = veil.Data(numbers, weight=times.astype(float))
    model = veil.density(veil.LinearGaussian())
    fit = veil.fit(veil.fit(model, data, key=KEY), data, key=KEY, optimiser=veil.Newton())
    found = jax.tree.leaves(veil.standard_errors(fit, data))
    repeated = np.repeat(numbers, times)
    expected = repeated.std() / np.sqrt(len(repeated))
    assert min(np.abs(leaf - expected).min() for leaf in found if leaf.size) < 1e-8


def test_they_are_the_inverse_of_the_second_differences(x64):
    data = drawn(300)
    fit = veil.fit(veil.Intent(world(), LinearReward(FEATURES)), data, key=KEY)
    found = veil.standard_errors(fit, data)
    at, small = np.asarray(fit.model.reward.weights[0]), 1e-4

    def total(weights):
        model = veil.Intent(world(), LinearReward(FEATURES, weights=jnp.asarray(weights)[None]))
        return float(np.sum(veil.log_prob(model, data)))

    units = small * np.eye(2)
    curve = [
        [
            (total(at + a + b) - total(at + a - b) - total(at - a + b) + total(at - a - b)) / (4 * small**2)
            for a in units
        ]
        for b in units
    ]
    expected = np.sqrt(np.diagonal(np.linalg.inv(-np.array(curve))))
    np.testing.assert_allclose(found.reward.weights[0], expected, rtol=1e-5)
    assert np.isnan(found.logits).all()  # of the only kind
    assert found.problem is None  # it is known


def test_they_are_what_other_samples_would_give(x64):
    """The spread of estimates over samples of one population, beside the errors that one sample tells."""
    model = veil.Intent(world(), LinearReward(FEATURES))
    samples = [drawn(400, seed) for seed in range(80)]
    estimates = [np.asarray(veil.fit(model, each, key=KEY).model.reward.weights[0]) for each in samples]
    told = np.asarray(veil.standard_errors(veil.fit(model, samples[0], key=KEY), samples[0]).reward.weights[0])
    np.testing.assert_allclose(np.std(estimates, 0), told, rtol=0.25)


def test_what_data_do_not_determine_is_refused():
    data = drawn(300)
    twice = np.concatenate([FEATURES, FEATURES[..., :1]], -1)
    fit = veil.fit(veil.Intent(world(), LinearReward(twice)), data, key=KEY)
    with pytest.raises(ValueError, match=r"singular, along reward.weights\[0, 0\], reward.weights\[0, 2\]"):
        veil.standard_errors(fit, data)


def test_no_maximum_is_refused():
    data = drawn(300)
    model = veil.Intent(world(), LinearReward(FEATURES))
    with pytest.raises(ValueError, match="standard errors from a maximum"):
        veil.standard_errors(model, data)
    with pytest.raises(ValueError, match="standard errors from a maximum"):
        veil.standard_errors(veil.fit(model, drawn(300, 1, (-1.0, 2.0)), key=KEY), data)
    with pytest.raises(TypeError, match="no exact likelihood"):
        veil.standard_errors(veil.BayesianIntent(world(), FEATURES), data)


def test_separable_data_are_refused():
    seen = veil.Data(query=[1, 1, 1, 0], evidence=[0, 0, 0, 1])
    model = veil.Intent(MDP(SparseTransitions([[0, 1], [1, 0]]), discount=0.9), LinearReward([[0.0], [1.0]]))
    with pytest.warns(UserWarning, match="run off to infinity"):
        fit = veil.fit(model, seen, key=KEY)
    with pytest.raises(ValueError, match="separable"):
        veil.standard_errors(fit, seen)


def test_a_stream_and_blocks_are_the_same_sums(x64):
    numbers = np.random.default_rng(0).normal(size=(9000, 1))
    data = veil.Data(numbers)
    fit = veil.fit(veil.density(veil.LinearGaussian()), data, key=KEY, optimiser=veil.Newton())
    one = veil.standard_errors(fit, data)
    other = veil.standard_errors(fit, veil.Stream(lambda: iter(data.blocks(2500)), count=9000))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_a_table_of_rewards_is_known_up_to_a_constant():
    data = drawn(300)
    fit = veil.fit(veil.Intent(world(), TableReward(STATES)), data, key=KEY)
    with pytest.raises(ValueError, match="do not determine"):
        veil.standard_errors(fit, data)
