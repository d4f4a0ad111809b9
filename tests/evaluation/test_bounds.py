"""The ELBO and the importance-weighted bound on a model whose likelihood is known."""

import jax.numpy as jnp
import numpy as np
import pytest

import cases
import veil
from linear_gaussian import Known, Linear, draws, log_likelihood, mean_field_gap, random_model
from veil import Data, Stream, distributions
from veil.evaluation.average import average
from veil.evaluation.bounds import bounds
from veil.model import Model
from veil.posterior import Posterior
from veil.posterior.arguments import verified

pytestmark = pytest.mark.usefixtures("x64")


def test_with_the_exact_posterior_every_sample_is_the_likelihood(key):
    model = random_model()
    y = draws(model, 7)
    found = bounds(model, Known(), y, key=key, samples=30)
    for value in (found.elbo, found.importance):
        np.testing.assert_allclose(value, log_likelihood(model, y), atol=1e-9)
    np.testing.assert_allclose([found.elbo_error, found.importance_error], 0, atol=1e-9)
    np.testing.assert_allclose(found.effective_samples, 30, rtol=1e-9)
    assert (found.pareto_k == 0).all()
    assert found.unreliable == 0


def test_the_elbo_is_below_by_the_divergence(key):
    model = random_model()
    y = draws(model, 50)
    found = bounds(model, Known(independent=True), y, key=key, samples=400)
    error = (found.elbo - (log_likelihood(model, y) - mean_field_gap(model))) / found.elbo_error
    assert np.abs(error).max() < 4.5
    assert 0.7 < error.std() < 1.3
    mean = found.elbo_average
    assert mean.monte_carlo_error < mean.standard_error
    np.testing.assert_allclose(mean.monte_carlo_error, np.sqrt((found.elbo_error**2).sum()) / 50)


def test_more_samples_raise_the_bound_to_the_likelihood(key):
    model = random_model()
    y = np.repeat(draws(model, 1), 300, 0)  # the same datum with other draws: the expectation of its bound
    exact = log_likelihood(model, y[:1])[0]
    found = [bounds(model, Known(width=1.3), y, key=key, samples=s) for s in (1, 5, 50)]
    means = [f.importance_average for f in found]
    assert means[0].value < means[1].value < means[2].value
    assert all(mean.value < exact + 3 * mean.standard_error for mean in means)
    assert means[2].value > exact - 0.05
    np.testing.assert_allclose(found[0].importance, found[0].elbo)
    assert np.isnan(found[0].elbo_error).all()


def test_a_posterior_that_is_much_too_narrow_is_found_out(key):
    model = random_model()
    y = draws(model, 20)
    good, narrow = (bounds(model, Known(width=w), y, key=key, samples=500) for w in (1.2, 0.2))
    assert (good.pareto_k < 0.5).all()
    assert (narrow.pareto_k > 0.7).mean() > 0.75
    assert narrow.unreliable > 0.75
    assert (narrow.effective_samples < 150).all()


def test_blocks_groups_and_streams_do_not_change_the_numbers(key, monkeypatch, compilations):
    model = random_model()
    data = Data(draws(model, 23))
    whole = bounds(model, Known(width=1.5), data, key=key, samples=40)
    monkeypatch.setattr("veil.evaluation.bounds.grouping", lambda entries, samples: (5, 7))
    compilations.clear()
    parts = bounds(model, Known(width=1.5), data, key=key, samples=40)
    assert compilations.of("_log_weights") == 1
    streamed = bounds(model, Known(width=1.5), Stream(lambda: data.blocks(4), rows=9), key=key, samples=40)
    for other in (parts, streamed):
        np.testing.assert_allclose(other.importance, whole.importance, rtol=1e-10)
        np.testing.assert_allclose(other.pareto_k, whole.pareto_k, rtol=1e-6)


def test_weights_evidence_and_missing_entries(key):
    model = random_model()
    x = np.random.default_rng(2).normal(size=(6, 3))
    y = draws(model, 6, evidence=x)
    found = bounds(model, Known(), Data(y, evidence=x, weight=[1, 2, 0, 1, 1, 3]), key=key, samples=3)
    exact = log_likelihood(model, y - x)
    np.testing.assert_allclose(found.elbo, exact, atol=1e-9)
    np.testing.assert_allclose(found.elbo_average.value, exact @ [1, 2, 0, 1, 1, 3] / 8)
    y[:, 1] = np.nan
    part = Linear(model.W[jnp.array([0, 2])], model.b[jnp.array([0, 2])], model.s)
    found = bounds(model, Prior(), y - x, key=key, samples=2000)
    assert np.abs((found.importance - log_likelihood(part, (y - x)[:, [0, 2]])) / found.importance_error).max() < 4


class Prior(Posterior):
    def __call__(self, model, datum):
        return model.prior(datum.evidence)


class Cubic(Model):
    """z ~ N(0, 1), y ~ N(z³, 1/2): a posterior that is not normal."""

    def prior(self, evidence):
        return distributions.normal(jnp.zeros(1), jnp.ones(1))

    def likelihood(self, latent, evidence):
        return distributions.normal(latent**3, jnp.full(1, 0.5))


def quadrature(y):
    z = np.linspace(-8, 8, 20_001)
    density = np.exp(-0.5 * z**2 - 2 * (y - z**3) ** 2) / (2 * np.pi * 0.5)
    return np.log(np.trapezoid(density, z))


def test_a_posterior_that_is_not_normal_against_quadrature(key):
    y = np.array([[-1.0], [0.0], [0.4], [2.0]])
    found = bounds(Cubic(), Prior(), y, key=key, samples=5000)
    exact = np.array([quadrature(v) for v in y[:, 0]])
    assert (np.abs(found.importance - exact) < 4 * found.importance_error).all()
    assert (found.elbo < exact - 0.1).all()
    assert (found.importance_error < 0.1).all()


def test_discrete_latents(key):
    data = cases.make_data("real", 30)
    model = cases.random_model("mixture-full", data)
    found = bounds(model, veil.Exact(), data, key=key, samples=25)
    np.testing.assert_allclose(found.elbo, veil.log_prob(model, data), atol=1e-8)
    np.testing.assert_allclose(found.importance, veil.log_prob(model, data), atol=1e-8)


def test_wrong_arguments(key):
    model = random_model()
    y = draws(model, 2)
    with pytest.raises(ValueError, match="samples: expected a positive integer"):
        bounds(model, Known(), y, key=key, samples=0)
    with pytest.raises(TypeError, match="posterior: expected"):
        verified(model, veil.Exact, key)
    with pytest.raises(TypeError, match="model: expected"):
        verified(Known(), Known(), key)
    with pytest.raises(TypeError, match="key: expected"):
        verified(model, Known(), 3)


def test_averages():
    w, v, e = np.array([1.0, 3.0]), np.array([2.0, 6.0]), np.array([0.1, 0.2])
    found = average(v, w, e)
    assert found.value == 5
    np.testing.assert_allclose(found.standard_error, np.sqrt(9 + 3) / 4)
    np.testing.assert_allclose(found.monte_carlo_error, np.sqrt(0.01 + 0.36) / 4)
    assert str(found) == "5 ± 0.87"
