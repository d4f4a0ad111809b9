"""A policy's ways to choose an action."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from cases import make_data, quiet_fit, random_model
from veil import Data, Likeliest, LowNoise, Mean, Mixture, Policy, Sample

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def fork():
    """Two thirds of the time to the right by 1, else to the left: p(a | o) with modes near +1 and -1."""
    rng = np.random.default_rng(0)
    side = np.where(np.arange(600) % 3 == 0, -1.0, 1.0)
    action = (side + 0.1 * rng.normal(size=600))[:, None]
    return quiet_fit(Mixture(components=2), Data(action, evidence=rng.normal(size=(600, 1))), key=KEY, steps=100).model


def actions(policy, count=400):
    return np.asarray(jax.vmap(lambda key: policy(jnp.zeros(1), key))(jax.random.split(KEY, count)))[:, 0]


def test_sample_visits_both_modes_in_proportion(fork):
    found = actions(Policy(fork))
    assert np.all(np.abs(np.abs(found) - 1) < 0.6)
    assert abs(np.mean(found > 0) - 2 / 3) < 5 * np.sqrt(2 / 9 / 400)


def test_best_stays_on_the_likelier_mode(fork):
    found = actions(Policy(fork, Likeliest()), 50)
    np.testing.assert_allclose(found, 1.0, atol=0.15)


def test_mean_falls_between(fork):
    found = actions(Policy(fork, Mean()), 3)
    np.testing.assert_allclose(found, 1 / 3, atol=0.1)
    np.testing.assert_allclose(found, veil.predict(fork, [[0.0]]).mean[0, 0], rtol=1e-5)


@pytest.mark.parametrize("choose", [Sample(), LowNoise(), Likeliest(), Mean()], ids=str)
def test_limits_clip(fork, choose):
    assert np.all(np.abs(actions(Policy(fork, choose, low=-0.2, high=0.1), 20)) <= 0.2)
    assert np.all(actions(Policy(fork, choose, high=jnp.zeros(1)), 20) <= 0)


def test_counts_and_categories_are_actions_too():
    data = make_data("categorical | evidence")
    model = random_model("linear-categorical", data)
    for choose in (Sample(), LowNoise(), Likeliest()):
        action = Policy(model, choose)(jnp.array(data.evidence[0], jnp.float32), KEY)
        assert set(np.asarray(action).tolist()) <= {0.0, 1.0, 2.0}


def test_bad_arguments_are_named(fork):
    with pytest.raises(ValueError, match=r"^candidates: "):
        Policy(fork, Likeliest(0))
    with pytest.raises(ValueError, match=r"^model: "):
        Policy(Mixture(components=2))
    with pytest.raises(ValueError, match=r"^observation: "):
        Policy(fork)(jnp.zeros(3), KEY)
