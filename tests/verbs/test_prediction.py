"""Sampling, prediction and inference: moments and frequencies within their standard errors, and quadrature."""

import jax
import numpy as np
import pytest
import scipy.integrate

import oracles
import veil
from cases import HEADS, MODELS, make_data, numpy_features, numpy_log_gate, numpy_log_joints, random_model
from veil import Data

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(3)
DRAWS = 20_000


@pytest.mark.parametrize(
    "name", [f"linear-{head}" for head in HEADS] + ["experts-tied-full", "trunk-gaussian", "regression"]
)
def test_samples_and_prediction_agree(name):
    data = make_data(MODELS[name][1], 3)
    model = random_model(name, data)
    draws = veil.sample(model, DRAWS, key=KEY, evidence=data.evidence)
    assert draws.query.shape == (3, DRAWS, 2)
    gate = np.exp(numpy_log_gate(model, numpy_features(model, data.evidence, 3)))
    if model.components > 1:
        share = np.stack([np.bincount(row, minlength=model.components) for row in draws.latent]) / DRAWS
        np.testing.assert_array_less(np.abs(share - gate), 5 * np.sqrt(gate * (1 - gate) / DRAWS) + 1e-9)
    prediction = veil.predict(model, data.evidence)
    if name == "linear-student":  # the median instead: a variance may be infinite
        assert np.all(np.isfinite(prediction.mean))
        return
    error = draws.query.std(1) / np.sqrt(DRAWS)
    np.testing.assert_array_less(np.abs(draws.query.mean(1) - prediction.mean), 5 * error + 1e-9)
    spread = (draws.query - prediction.mean[:, None]) ** 2
    error = spread.std(1) / np.sqrt(DRAWS)
    np.testing.assert_array_less(np.abs(spread.mean(1) - prediction.standard_deviation**2), 6 * error + 1e-9)


@pytest.mark.parametrize("name", ["mixture-full", "constant-poisson"])
def test_samples_without_evidence(name):
    data = make_data(MODELS[name][1])
    model = random_model(name, data)
    draws = veil.sample(model, DRAWS, key=KEY)
    assert draws.query.shape == (DRAWS, data.query.shape[1])
    assert len(draws) == DRAWS
    gate = oracles.softmax(np.asarray(model.gate.weight)[:, 0])
    share = np.bincount(draws.latent, minlength=3) / DRAWS
    np.testing.assert_array_less(np.abs(share - gate), 5 * np.sqrt(gate * (1 - gate) / DRAWS))
    for k in range(3):  # each component's own mean
        some = draws.query[draws.latent == k]
        weight = np.asarray(model.experts.weight)[k, :, 0]
        mean = weight if name == "mixture-full" else np.exp(weight)
        np.testing.assert_array_less(np.abs(some.mean(0) - mean), 5 * some.std(0) / np.sqrt(len(some)) + 1e-9)


@pytest.mark.parametrize("name", ["linear-diagonal", "linear-student", "linear-beta", "trunk-diagonal"])
def test_prediction_and_normalisation_by_quadrature(name):
    """∫ p, ∫ y p and ∫ y² p over the first entry, the second one missing: exactly the marginal of the first."""
    data = make_data(MODELS[name][1], 2)
    model = random_model(name, data)
    low, high = (1e-9, 1 - 1e-9) if name == "linear-beta" else (-400.0, 400.0)
    grid = np.linspace(low, high, 40_001)
    x = data.evidence[0]
    query = np.stack([grid, np.full_like(grid, np.nan)], 1)
    density = np.exp(veil.log_prob(model, Data(query, evidence=np.repeat(x[None], len(grid), 0))))
    moments = [scipy.integrate.simpson(grid**power * density, x=grid) for power in range(3)]
    prediction = veil.predict(model, x[None])
    np.testing.assert_allclose(moments[0], 1, rtol=2e-3)
    if name != "linear-student":
        np.testing.assert_allclose(moments[1], prediction.mean[0, 0], rtol=5e-3, atol=5e-3)
        deviation = np.sqrt(moments[2] - moments[1] ** 2)
        np.testing.assert_allclose(deviation, prediction.standard_deviation[0, 0], rtol=5e-3)


def test_categories_predict_the_mean_of_their_numbers():
    data = make_data("categorical | evidence", 4)
    model = random_model("linear-categorical", data)
    phi = numpy_features(model, data.evidence, 4)
    gate = np.exp(numpy_log_gate(model, phi))
    logits = np.einsum("ksp,np->nks", np.asarray(model.experts.weight), phi).reshape(4, 3, 2, 3)
    p = np.einsum("nk,nkdc->ndc", gate, oracles.softmax(logits))
    mean = p @ np.arange(3)
    prediction = veil.predict(model, data.evidence)
    np.testing.assert_allclose(prediction.mean, mean, rtol=1e-10)
    np.testing.assert_allclose(prediction.standard_deviation**2, p @ np.arange(3) ** 2 - mean**2, rtol=1e-9)


@pytest.mark.parametrize("name", ["mixture-full", "trunk-diagonal", "gaussian"])
@pytest.mark.parametrize("missing", [False, True])
def test_inference_is_bayes_rule(name, missing):
    data = make_data(MODELS[name][1], missing=missing)
    model = random_model(name, data)
    p = oracles.posterior(numpy_log_joints(model, data))
    found = veil.infer(model, data)
    np.testing.assert_allclose(found.probabilities, p, atol=1e-10)
    np.testing.assert_array_equal(found.most_likely, np.argmax(p, 1))
    np.testing.assert_allclose(found.entropy, -np.sum(p * np.log(p), 1), atol=1e-9)


def test_the_same_key_draws_the_same():
    model = random_model("mixture-full", make_data("real"))
    one, two, three = (veil.sample(model, 5, key=jax.random.key(i)).query for i in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, three)
