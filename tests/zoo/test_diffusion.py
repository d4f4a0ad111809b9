"""Diffusion against closed forms: with Gaussian data the best denoiser, the ELBO and log p are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fields
import veil
from veil import Data, distributions
from veil.evaluation.bounds import bounds
from veil.evaluation.objective import values
from veil.evaluation.transport import denoising_bound, log_density
from veil.model import Datum
from veil.objective import Denoising, FlowMatching
from veil.parts.fields import NeuralField
from veil.parts.paths import Cosine, LogLinear, Straight
from veil.posterior import Noising
from veil.units import unwrapped

KEY = jax.random.key(0)
PATH = LogLinear(-14.0, 14.0)
ROWS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
DATA = Data(ROWS[:, :2], evidence=ROWS[:, 2:])
EXACT = np.array([fields.log_density(row[:2], row[2:]) for row in ROWS])


@pytest.mark.parametrize("path", [PATH, Cosine(), Straight()])
def test_in_continuous_time_the_bound_of_the_best_denoiser_is_log_p(path):
    found = denoising_bound(veil.Diffusion(fields.gaussian(path)), DATA, key=KEY, samples=20_000, flow=False)
    # how much more is lost than by not being infinitely fine: at the data's end, of the size of the least noise
    assert np.all(np.abs(found.elbo - EXACT) < 4.5 * found.elbo_error + 5e-3)
    assert np.all(found.elbo_error < 0.2)


def test_a_bound_of_few_steps_is_that_of_its_chain():
    """One step of the chain, T times its term, against whole paths: log p(y, z) - log q(z)."""
    found_by_steps = []
    for steps in (6, 60):
        model = veil.Diffusion(fields.gaussian(PATH), steps=steps)
        found = denoising_bound(model, DATA, key=KEY, samples=6000, flow=False)
        whole = bounds(model, Noising(), DATA, key=KEY, samples=1500)
        error = np.hypot(found.elbo_error, whole.elbo_error)
        assert np.all(np.abs(found.elbo - whole.elbo) < 4.5 * error)
        assert np.all(whole.elbo < EXACT + 4.5 * whole.elbo_error)
        found_by_steps.append(found.elbo_average.value)
    assert found_by_steps[0] < found_by_steps[1] - 0.1 < np.mean(EXACT)


def test_draws_of_the_chain_are_of_the_data():
    model = veil.Diffusion(fields.gaussian(LogLinear()), steps=1000)
    drawn = veil.sample(model, 1000, key=KEY, evidence=np.array([[0.4]], np.float32)).query[0]
    mean = fields.MEAN + fields.GAIN[:, 0] * 0.4
    assert np.allclose(drawn.mean(0), mean, atol=0.12)
    assert np.allclose(np.cov(drawn.T), fields.COVARIANCE, atol=0.15)
    few = veil.sample(model.flow(steps=12), 4000, key=KEY, evidence=np.array([[0.4]], np.float32)).query[0]
    assert np.allclose(few.mean(0), mean, atol=0.06)
    assert np.allclose(np.cov(few.T), fields.COVARIANCE, atol=0.25)


def test_the_posterior_is_the_noising():
    y = jnp.array([1.0, -2.0])
    model = veil.Diffusion(fields.gaussian(LogLinear()), steps=5)
    q = Noising()(model, Datum(y, jnp.zeros(1)))
    paths = jax.vmap(q.sample)(jax.random.split(KEY, 4000))
    for step, time in enumerate(np.linspace(1.0, 0.0, 6)):
        alpha, sigma = float(LogLinear().alpha(time)), float(LogLinear().sigma(time))
        assert np.allclose(paths[:, step].mean(0), alpha * y, atol=5 * sigma / 60)
        assert np.allclose(paths[:, step].std(0), sigma, rtol=0.06)
    # and its density that of a Gaussian with the covariance of the whole path
    flat = np.concatenate([np.asarray(LogLinear().alpha(t)) * np.asarray(y) for t in np.linspace(1.0, 0.0, 6)])
    found = jax.vmap(q.log_prob)(paths)
    alphas = np.array([float(LogLinear().alpha(t)) for t in np.linspace(1.0, 0.0, 6)])
    sigmas = np.array([float(LogLinear().sigma(t)) for t in np.linspace(1.0, 0.0, 6)])
    ratio = np.minimum.outer(
        np.arange(6), np.arange(6)
    )  # the noisier of two has alpha_t / alpha_s of the other's noise
    later = np.maximum.outer(np.arange(6), np.arange(6))
    covariance = np.kron(alphas[ratio] / alphas[later] * sigmas[later] ** 2, np.eye(2))
    away = np.asarray(paths).reshape(4000, -1) - flat
    naive = -0.5 * np.sum(away * np.linalg.solve(covariance, away.T).T, 1)
    naive -= 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    assert np.allclose(found, naive, rtol=1e-3, atol=0.02)


@pytest.fixture(scope="module")
def fit():
    rng = np.random.default_rng(0)
    y = 5.0 + 2.0 * rng.normal(size=(512, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])
    data = Data(y.astype(np.float32))
    return veil.fit(veil.Diffusion(veil.MLP((48, 48), "silu")), data, key=KEY, steps=600), data


def test_a_fit_of_gaussian_data_is_near_the_gaussians(fit):
    found, data = fit
    best = veil.evaluate(veil.fit(veil.density(veil.LinearGaussian()), data, key=KEY), data).log_likelihood_per_datum
    measured = veil.evaluate(found, data, key=KEY, samples=200)
    assert measured.kind == "lower bound, the chain's from 200 of its times"
    assert measured.bic is None
    flow = measured.approximation.flow.average
    assert measured.log_likelihood_per_datum < flow.value + 3 * measured.monte_carlo_error
    assert best - 0.2 < flow.value < best + 0.1
    assert "probability flow" in repr(measured)
    assert set(measured.approximation.as_dict()) == {"samples", "elbo", "probability_flow"}
    assert np.allclose(
        np.mean(veil.log_prob(found, data, key=KEY, samples=200)), measured.log_likelihood_per_datum, atol=0.2
    )
    drawn = veil.sample(found, 1000, key=KEY).query
    assert np.allclose(drawn.mean(0), data.query.mean(0), atol=0.3)
    assert np.allclose(np.cov(drawn.T), np.cov(data.query.T), atol=0.8)


def test_it_is_saved_with_its_posterior_and_units(fit, tmp_path):
    found, data = fit
    veil.save(tmp_path / "run", found)
    again = veil.load(tmp_path / "run")
    assert np.array_equal(log_density(again, data).values, log_density(found, data).values)
    assert isinstance(again.posterior, Noising)


def test_the_bound_can_be_what_is_learned():
    data = Data(np.random.default_rng(0).normal(3.0, 2.0, (64, 2)).astype(np.float32))
    model = veil.Diffusion(NeuralField(net=veil.MLP((16,)), path=Cosine()), steps=20)
    found = veil.fit(model, data, key=KEY, objective=Denoising(), steps=40)
    assert found.history.unit == "nats per datum"
    assert set(found.history.metrics) == {"elbo", "reconstruction", "kl"}
    # the user's data have their own density: that of standardised data and the Jacobian
    inner, units = unwrapped(found.model)
    standard = Data(np.asarray(units.asked(jnp.asarray(data.query))))
    of_standard = values(Denoising(), inner, Noising(), standard, key=KEY)
    shift = float(units.log_jacobian(Datum(jnp.asarray(data.query[0]))))
    assert abs(shift) > 0.5
    measured = values(Denoising(), found.model, found.posterior, data, key=KEY)
    assert np.allclose(measured, of_standard + shift, rtol=1e-3, atol=1e-2)


def test_what_a_diffusion_refuses():
    seen = Datum(jnp.zeros(2), jnp.zeros(1), observed=jnp.array([True, False]))
    model = veil.Diffusion(fields.gaussian(PATH))
    with pytest.raises(TypeError, match="observed: a diffusion's ELBO needs whole data"):
        Denoising()(model, Noising(), seen, KEY)
    with pytest.raises(TypeError, match=r"Denoising\(\) is the ELBO of a veil\.Diffusion"):
        Denoising()(veil.ContinuousFlow(fields.gaussian(PATH)), veil.Exact(), seen, KEY)
    with pytest.raises(TypeError, match="expected a veil"):
        log_density(veil.fit(veil.density(veil.LinearGaussian()), DATA, key=KEY), DATA)
    with pytest.raises(ValueError, match="key: bounds are estimated"):
        veil.evaluate(model, DATA)
    with pytest.raises(ValueError, match="low: expected less than high"):
        LogLinear(3.0, 1.0)
    assert FlowMatching()(model, Noising(), seen, KEY).value < 0  # which needs no whole data
    assert distributions.event_shape(model.prior(jnp.zeros(1))) == (65, 2)
