"""Bayesian networks against Bayesian linear regression, where the evidence and the posterior are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil import ELBO, Data, objective
from veil.evaluation.objective import values
from veil.model import Datum
from veil.posterior import Shared
from veil.zoo.bayesian import BayesianNetwork

KEY = jax.random.key(0)


def linear(count=40, seed=0):
    """Columns that are orthogonal to each other and to the constant: then the exact posterior is mean field."""
    rng = np.random.default_rng(seed)
    x = np.linalg.qr(np.concatenate([np.ones((count, 1)), rng.normal(size=(count, 2))], 1))[0][:, 1:] * np.sqrt(count)
    return Data(x @ [[1.0], [-0.5]] + 0.3 * rng.normal(size=(count, 1)), evidence=x)


def log_evidence(model, data):
    """log p(Y | X) of Bayesian linear regression with the model's own prior and noise, textbook, in user units."""
    inner, outer = model.units.evidence, model.units.query
    x = (data.evidence - inner.shift) / inner.scale
    y = (data.query[:, 0] - outer.shift) / outer.scale
    design = np.concatenate([x, np.ones((len(x), 1))], 1)
    variances, noise = np.array([1 / 2, 1 / 2, 1.0]), np.exp(2 * float(model.model.head.log_scale[0]))
    covariance = design @ np.diag(variances) @ design.T + noise * np.eye(len(x))
    quadratic = y @ np.linalg.solve(covariance, y) + np.linalg.slogdet(2 * np.pi * covariance)[1]
    return float(-0.5 * quadratic - len(x) * np.log(outer.scale[0]))


def test_the_bound_is_the_evidence_where_mean_field_is_exact():
    with jax.enable_x64(True):
        data = linear()
        model = BayesianNetwork(widths=())
        fit = veil.fit(model, data, key=KEY, steps=3000)
        local = ELBO(objective.LocalReparameterisation(), samples=4000)
        bound = values(local, fit.model, fit.posterior, data, key=KEY).sum()
        assert bound == pytest.approx(log_evidence(fit.model, data), abs=0.1)


def test_local_reparameterisation_has_the_same_mean_and_gradient_with_less_noise():
    with jax.enable_x64(True):
        data = linear()
        fit = veil.fit(BayesianNetwork(widths=(3,)), data, key=KEY, steps=5)
        block = Datum(jnp.array(data.query), jnp.array(data.evidence))

        def moments(gradient):
            def total(posterior, key):
                keys = jnp.broadcast_to(key, len(data))  # one draw of the weights for all, but for the local ones
                keys = keys if isinstance(gradient, objective.Pathwise) else jax.random.split(key, len(data))
                one = lambda datum, key: ELBO(gradient)(fit.model, posterior, datum, key).value  # noqa: E731
                return jnp.sum(jax.vmap(one)(block, keys))

            gradients = jax.jit(jax.vmap(jax.grad(total), (None, 0)))(fit.posterior, jax.random.split(KEY, 1000))
            rows = gradients.posterior.parameters
            return rows.mean(0), rows.std(0) / np.sqrt(1000)

        (one, one_error), (two, two_error) = moments(objective.Pathwise()), moments(objective.LocalReparameterisation())
        np.testing.assert_array_less(np.abs(one - two), 5 * np.hypot(one_error, two_error) + 1e-9)
        assert np.sum(two_error**2) < np.sum(one_error**2)


def test_a_network_says_what_it_knows_and_where_it_does_not(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(150, 1))
    data = Data(np.sin(4 * x) + 0.1 * rng.normal(size=x.shape), evidence=x)
    fit = veil.fit(BayesianNetwork((30,), prior_scale=4.0), data, key=KEY, steps=2500)
    near, far = veil.predict(fit, [[0.0]], key=KEY), veil.predict(fit, [[4.0]], key=KEY)
    assert far.standard_deviation[0, 0] > 1.5 * near.standard_deviation[0, 0]
    found = veil.evaluate(fit, data, key=KEY)
    assert found.kind == "estimate of the log predictive density"
    linear_fit = veil.evaluate(veil.fit(veil.density(veil.LinearGaussian()), data, key=KEY).model, data)
    assert found.log_likelihood_per_datum > linear_fit.log_likelihood_per_datum + 0.2
    assert isinstance(fit.posterior.posterior, Shared)
    again = veil.load(veil.save(tmp_path / "run", fit))
    np.testing.assert_array_equal(veil.log_prob(again, data, key=KEY), veil.log_prob(fit, data, key=KEY))


def test_what_it_cannot_do_is_said():
    data = linear()
    fit = veil.fit(BayesianNetwork((3,)), data, key=KEY, steps=2)
    with pytest.raises(TypeError, match=r"use ELBO\(\)"):
        veil.fit(BayesianNetwork((3,)), data, key=KEY, steps=2, objective=veil.ImportanceWeighted(3))
    with pytest.raises(TypeError, match="all data share its latent"):
        veil.infer(fit, data)
    with pytest.raises(ValueError, match="evidence: a Bayesian network is p"):
        veil.fit(BayesianNetwork((3,)), data.query, key=KEY, steps=2)
    with pytest.raises(ValueError, match="key: this model's latent is drawn to predict"):
        veil.predict(fit, data.evidence)
