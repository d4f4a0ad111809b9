"""What is said about a latent, on models whose answers are known, healthy and collapsed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cases
import veil
from cases import make_data
from linear_gaussian import Known, Linear, draws, random_model
from veil import Data, Stream, distributions
from veil.evaluation.average import Average
from veil.evaluation.latents import collapse, latents
from veil.model import Datum, Enumerable
from veil.posterior import Posterior

pytestmark = pytest.mark.usefixtures("x64")


class Prior(Posterior):
    def __call__(self, model, datum):
        return model.prior(datum.evidence)


def posterior_moments(model, y):
    W = np.asarray(model.W)
    S = np.linalg.inv(np.eye(W.shape[1]) + W.T @ W / model.s**2)
    return (y - np.asarray(model.b)) @ W @ S / model.s**2, S


def test_a_healthy_model_by_its_definitions(key):
    model = random_model(2, 4)
    y = draws(model, 50)
    found = latents(model, Known(), y, key=key, rows=50)
    m, S = posterior_moments(model, y)
    kl_full = 0.5 * (np.trace(S) + (m**2).sum(1) - 2 - np.linalg.slogdet(S)[1])
    np.testing.assert_allclose(found.spread, m.var(0), rtol=1e-9)
    np.testing.assert_allclose(found.kl_total.value, kl_full.mean(), rtol=1e-9)
    assert found.kl_total.monte_carlo_error == 0
    marginal = 0.5 * (np.diag(S) + m**2 - 1 - np.log(np.diag(S)))
    np.testing.assert_allclose(found.kl, marginal.mean(0), rtol=1e-9)
    assert found.kl_kind == "Gaussian marginals"
    assert found.active.tolist() == [True, True]
    assert collapse(found) is None


def test_mutual_information_and_losses_of_a_linear_model(key):
    """I(z; y) = -log|S| / 2 of the exact posterior on the model's own data, and q(z) is the prior."""
    model = random_model(2, 4)
    y = draws(model, 600)
    found = latents(model, Known(), y, key=key, rows=600, samples=2)
    m, S = posterior_moments(model, y)
    exact = -0.5 * np.linalg.slogdet(S)[1]
    assert exact < 0.6 * np.log(600)
    assert abs(found.mutual_information.value - exact) < 0.15
    assert abs(found.aggregate_kl) < 0.15
    # E|y - W z - b|² grows by 2 tr(W Cov(z) Wᵀ) about the own posterior's, in units of 2 s²
    W = np.asarray(model.W)
    own = np.trace(W @ S @ W.T) + ((y - np.asarray(model.b) - m @ W.T) ** 2).sum(1).mean()
    prior = np.trace(W @ W.T) + ((y - np.asarray(model.b)) ** 2).sum(1).mean()
    expected = (prior - own) / (2 * model.s**2)
    assert abs(found.loss_prior.value - expected) < 5 * found.loss_prior.standard_error
    assert abs(found.loss_other.value - expected) < 5 * found.loss_other.standard_error
    few = latents(model, Known(), y[:50], key=key, rows=5)
    assert few.compared == 5
    assert few.mutual_information.value < np.log(5)


def test_closed_form_parts_are_those_of_the_normals(key):
    model = random_model(2, 4)
    y = draws(model, 30)
    found = latents(model, Known(independent=True), Data(y, weight=np.arange(30.0)), key=key)
    m, _ = posterior_moments(model, y)
    W = np.asarray(model.W)
    v = 1 / np.diag(np.eye(2) + W.T @ W / model.s**2)
    kl = 0.5 * (v + m**2 - 1 - np.log(v))
    np.testing.assert_allclose(found.kl, np.average(kl, axis=0, weights=np.arange(30.0)), rtol=1e-9)
    np.testing.assert_allclose(found.kl.sum(), found.kl_total.value)
    assert found.kl_kind == "closed form"


def test_a_posterior_equal_to_the_prior_is_a_collapse(key):
    model = random_model(2, 4)
    found = latents(model, Prior(), draws(model, 50), key=key)
    assert found.active_units == 0
    np.testing.assert_allclose(found.kl, 0)
    np.testing.assert_allclose([found.mutual_information.value, found.aggregate_kl], 0, atol=1e-12)
    line = collapse(found)
    assert line.startswith("collapse: all 2 latents are dead (KL 0 nats)")
    assert all(word in line for word in ("Annealed", "FreeNats", "smaller decoder"))
    assert "\n" not in line


def test_a_decoder_that_ignores_the_latent_is_a_collapse(key):
    """The posterior moves with the data and the decoder does not listen."""
    model = random_model(2, 4)
    deaf = Linear(1e-4 * model.W, model.b, model.s)

    class Elsewhere(Posterior):
        def __call__(self, _, datum):
            return Known()(model, datum)

    found = latents(deaf, Elsewhere(), draws(model, 50), key=key)
    assert found.active_units == 2
    assert collapse(found).startswith("collapse: the decoder ignores the latent")


def test_fewer_true_dimensions_are_only_a_remark(key):
    W = np.zeros((4, 2))
    W[:, 1] = np.random.default_rng(0).normal(size=4)
    model = Linear(jnp.array(W), jnp.zeros(4), 0.5)
    found = latents(model, Known(), draws(model, 50), key=key)
    assert found.active.tolist() == [False, True]
    line = collapse(found)
    assert line.startswith("1 of 2 latents are unused (0): 1 may be all that these data need")
    assert "collapse" not in line


def test_both_sides_of_the_thresholds(key):
    model = random_model(2, 4)
    found = latents(model, Known(), draws(model, 50), key=key)
    just = dataclasses.replace(found, loss_prior=Average(0.051, 0.0, 0.0))
    assert collapse(just) is None
    assert "ignores" in collapse(dataclasses.replace(found, loss_prior=Average(0.049, 0.0, 0.0)))
    edge = latents(model, Known(), draws(model, 50), key=key, threshold=float(found.spread.max()) * 0.999)
    assert edge.active_units == 1


class Coded(Enumerable):
    """Two codes of three values, one of which is heard."""

    def prior(self, evidence):
        return distributions.Codes(jnp.zeros((2, 3)))

    def likelihood(self, latent, evidence):
        return distributions.normal(3.0 * latent[0, :2], jnp.ones(2))


class Enumerated(Posterior):
    """Independent codes with the exact marginals."""

    def __call__(self, model, datum):
        values = distributions.support(model.prior(None))
        joint = jax.nn.softmax(model.log_joints(datum))
        return distributions.Codes(jnp.log(jnp.tensordot(joint, values, 1)))


def test_codes_are_units(key):
    y = np.repeat([[3.0, 0.0], [0.0, 3.0], [0.0, 0.0]], 10, 0)
    found = latents(Coded(), Enumerated(), y, key=key)
    assert found.active.tolist() == [True, False]
    assert found.kl_kind == "closed form"
    assert found.kl[0] > 0.9
    np.testing.assert_allclose(found.kl[1], 0, atol=1e-12)
    values = distributions.support(Coded().prior(None))[:, 0]
    joints = jax.vmap(lambda y: jax.nn.softmax(Coded().log_joints(Datum(y))))(jnp.array(y))
    p = np.asarray(joints @ values)
    exact = np.mean(np.sum(p * np.log(p / p.mean(0)[None]), 1))
    assert abs(found.mutual_information.value - exact) < 4 * found.mutual_information.monte_carlo_error
    assert found.mutual_information.monte_carlo_error < 0.05


def test_the_category_of_a_mixture_is_one_unit(key):
    data = make_data("real", 50)
    model = cases.random_model("mixture-full", data)
    found = latents(model, veil.Exact(), data, key=key)
    p = veil.infer(model, data).probabilities
    assert found.active.tolist() == [True]
    exact = np.mean(np.sum(p * np.log(p / p.mean(0)[None]), 1))
    assert abs(found.mutual_information.value - exact) < 4 * found.mutual_information.monte_carlo_error + 1e-3


def test_streams_and_evidence(key):
    model = random_model(2, 4)
    x = np.random.default_rng(0).normal(size=(30, 4))
    data = Data(draws(model, 30, evidence=x), evidence=x)
    stream = Stream(lambda: data.blocks(7), rows=8)
    found, whole = latents(model, Known(), stream, key=key), latents(model, Known(), data, key=key)
    assert found.compared == 8
    np.testing.assert_allclose(found.spread, whole.spread)
    np.testing.assert_allclose(found.kl, whole.kl)
    assert np.isnan(found.aggregate_kl)


def test_wrong_arguments(key):
    model = random_model()
    y = draws(model, 3)
    with pytest.raises(ValueError, match="threshold: expected a positive number"):
        latents(model, Known(), y, key=key, threshold=0.0)
    with pytest.raises(ValueError, match="rows: expected a positive integer"):
        latents(model, Known(), y, key=key, rows=0)
    with pytest.raises(ValueError, match="data: expected two or more"):
        latents(model, Known(), y[:1], key=key)
