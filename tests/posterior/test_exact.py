"""The identity: with the exact posterior, log p(y, z | x) - log q(z) is log p(y | x) for every z; and Bayes' rule."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracles
import veil
from cases import CLOSED_FORM, MODELS, make_data, numpy_log_joints, on_device, random_model
from veil import distributions
from veil.model import Enumerable
from veil.parts.experts import with_expanded_sums

pytestmark = pytest.mark.usefixtures("x64")


# constant vectors of heads are tested with gaps and linear ones without, all else with both
TABLE = [
    pytest.param(name, missing, id=f"{name}-{'missing' if missing else 'complete'}")
    for name in MODELS
    for missing in (False, True)
    if not name.startswith("constant-" if not missing else "linear-") or name in CLOSED_FORM
]


@eqx.filter_jit
def everything(model, block):
    def one(datum):
        q = veil.Exact()(model, datum)
        values = distributions.support(q)
        joint = jax.vmap(lambda z: model.log_joint(z, datum))(values)
        log_q = jax.vmap(q.log_prob)(values)
        return joint, log_q, model.log_joints(datum), Enumerable.log_joints(model, datum)

    return jax.vmap(one)(block)


@pytest.mark.parametrize(("name", "missing"), TABLE)
def test_identity_and_bayes_rule(name, missing):
    data = make_data(MODELS[name][1], missing=missing)
    model = random_model(name, data)
    joint, log_q, fast, generic = map(np.asarray, everything(model, on_device(data)))
    expected = numpy_log_joints(model, data)
    marginal = oracles.log_marginal(expected)
    assert joint.dtype == np.float64
    np.testing.assert_allclose(joint, expected, rtol=1e-11, atol=1e-10)  # the model is the textbook's
    np.testing.assert_allclose(np.exp(log_q), oracles.posterior(expected), rtol=1e-11, atol=1e-10)
    np.testing.assert_allclose(joint - log_q, np.repeat(marginal[:, None], joint.shape[1], 1), rtol=1e-11, atol=1e-10)
    np.testing.assert_allclose(fast, generic, rtol=1e-11, atol=1e-10)  # the override is the definition
    if missing:  # a row with nothing observed says nothing
        assert abs(float(marginal[0])) < 1e-12
        np.testing.assert_allclose((joint - log_q)[0], 0, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in CLOSED_FORM if MODELS[name][1].startswith("real")])
def test_expanded_arithmetic_is_the_careful_one(name):
    data = make_data(MODELS[name][1])
    model = random_model(name, data)
    expanded = with_expanded_sums(model, True)
    fast = eqx.filter_jit(lambda model, block: jax.vmap(model.log_joints)(block))(expanded, on_device(data))
    np.testing.assert_allclose(fast, numpy_log_joints(model, data), rtol=1e-11, atol=1e-10)


def test_the_posterior_of_an_empty_latent_is_empty():
    data = make_data("real")
    model = random_model("gaussian", data)
    q = veil.Exact()(model, veil.Datum(jnp.array(data.query[0])))
    assert isinstance(q, distributions.Empty)
    assert q.log_prob(jnp.zeros(0)) == 0
    assert q.sample(jax.random.key(0)).shape == (0,)


def test_a_latent_that_cannot_be_listed_is_refused():
    class Continuous(Enumerable):
        def prior(self, evidence):
            return distributions.normal(jnp.zeros(1), jnp.ones(1))

        def likelihood(self, latent, evidence):
            return distributions.normal(latent, jnp.ones(1))

    with pytest.raises(TypeError, match="discrete latent"):
        veil.Exact()(Continuous(), veil.Datum(jnp.zeros(1)))
