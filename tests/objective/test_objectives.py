"""Values and gradients: with the exact posterior the expected log-likelihood is the marginal (Fisher's identity)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracles
import veil
from cases import MODELS, make_data, numpy_log_joints, on_device, random_model
from veil import ExpectedLogLikelihood, Marginal, distributions
from veil.posterior import Posterior

pytestmark = pytest.mark.usefixtures("x64")
EXPECTED = ExpectedLogLikelihood()
NAMES = ["mixture-full", "mixture-tied-diagonal", "experts-spherical", "gaussian", "gate-only", "experts-only"]
NAMES += ["trunk-diagonal", "trunk-gaussian", "constant-categorical", "constant-beta", "linear-full", "linear-poisson"]


@eqx.filter_jit
def value_and_gradient(objective, posterior, model, block, key):
    def total(model):
        keys = jax.random.split(key, len(block.query))
        values = jax.vmap(lambda datum, k: objective(model, posterior, datum, k).value)(block, keys)
        return jnp.sum(values), values

    (_, values), gradient = eqx.filter_value_and_grad(total, has_aux=True)(model)
    return values, gradient


@eqx.filter_jit
def all_at_once(model, block):
    key, exact = jax.random.key(0), veil.Exact()
    one, two = (value_and_gradient(objective, exact, model, block, key) for objective in (Marginal(), EXPECTED))
    keys = jax.random.split(key, len(block.query))
    sampled = lambda datum, k: ExpectedLogLikelihood(samples=3)(model, exact, datum, k).value  # noqa: E731
    return one, two, jax.vmap(sampled)(block, keys)


@pytest.mark.parametrize(
    ("name", "missing"), [*((name, False) for name in NAMES), *((name, True) for name in NAMES[:3])]
)
def test_with_the_exact_posterior_all_objectives_are_the_marginal(name, missing):
    data = make_data(MODELS[name][1], missing=missing)
    model = random_model(name, data)
    expected = oracles.log_marginal(numpy_log_joints(model, data))
    (marginal, gradient), (enumerated, expected_gradient), sampled = all_at_once(model, on_device(data))
    np.testing.assert_allclose(marginal, expected, rtol=1e-11, atol=1e-10)
    np.testing.assert_allclose(enumerated, expected, rtol=1e-11, atol=1e-10)
    np.testing.assert_allclose(sampled, expected, rtol=1e-11, atol=1e-10)  # for every draw, not on average
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected_gradient), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


def test_the_sampled_gradient_is_right_on_average():
    data = make_data("real", 4)
    model, block = random_model("mixture-full", data), on_device(data)
    keys = jax.random.split(jax.random.key(1), 4000)
    run = eqx.filter_vmap(value_and_gradient, in_axes=(None, None, None, None, 0))
    _, draws = run(ExpectedLogLikelihood(samples=1), veil.Exact(), model, block, keys)
    _, exact = value_and_gradient(Marginal(), veil.Exact(), model, block, keys[0])
    for sampled, truth in zip(jax.tree.leaves(draws), jax.tree.leaves(exact), strict=True):
        error = np.std(sampled, axis=0) / np.sqrt(len(keys))
        np.testing.assert_array_less(np.abs(np.mean(sampled, axis=0) - truth), 5 * error + 1e-9)


class Uniform(Posterior):
    """Not the exact posterior."""

    components: int = eqx.field(static=True)

    def __call__(self, model, datum):
        return distributions.categorical(jnp.zeros(self.components))


def test_another_posterior_gives_a_lower_bound_by_its_divergence():
    data = make_data("real")
    model, block = random_model("mixture-full", data), on_device(data)
    joints = numpy_log_joints(model, data)
    run = lambda objective, q: value_and_gradient(objective, q, model, block, jax.random.key(0))[0]  # noqa: E731
    bound = run(ExpectedLogLikelihood(), Uniform(3))
    np.testing.assert_allclose(bound, np.mean(joints + np.log(3), 1), rtol=1e-11)  # E_q[log p(y, z) - log q(z)]
    p = oracles.posterior(joints)
    divergence = np.mean(-np.log(3) - np.log(p), 1)
    np.testing.assert_allclose(oracles.log_marginal(joints) - np.asarray(bound), divergence, rtol=1e-9)
    np.testing.assert_allclose(run(Marginal(), Uniform(3)), oracles.log_marginal(joints), rtol=1e-11)
    weights, value = jax.vmap(
        lambda datum: ExpectedLogLikelihood().weights(model, Uniform(3), datum, jax.random.key(0))
    )(block)
    np.testing.assert_allclose(weights, np.full((12, 3), 1 / 3))
    np.testing.assert_allclose(value, bound, rtol=1e-11)


def test_sampled_weights_are_frequencies_of_the_posterior():
    data = make_data("real")
    model, block = random_model("mixture-full", data), on_device(data)
    keys = jax.random.split(jax.random.key(0), 12)
    draws = 20_000
    weights, value = jax.vmap(
        lambda datum, key: ExpectedLogLikelihood(samples=draws).weights(model, veil.Exact(), datum, key)
    )(block, keys)
    joints = numpy_log_joints(model, data)
    p = oracles.posterior(joints)
    np.testing.assert_array_less(np.abs(weights - p), 5 * np.sqrt(p * (1 - p) / draws) + 1e-6)
    np.testing.assert_allclose(value, oracles.log_marginal(joints), rtol=1e-11)


@pytest.mark.parametrize("samples", [0, -1])
def test_samples_must_be_positive(samples):
    with pytest.raises(ValueError, match="samples"):
        ExpectedLogLikelihood(samples=samples)
