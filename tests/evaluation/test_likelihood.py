"""log_prob and evaluate: sums, errors and criteria, whatever the block size or the source."""

import jax
import numpy as np
import pytest

import oracles
import veil
from cases import MODELS, make_data, numpy_log_joints, random_model
from veil import Data, Stream
from veil.model.abilities import free_parameters

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("name", ["mixture-full", "trunk-diagonal", "constant-poisson"])
@pytest.mark.parametrize("missing", [False, True])
def test_log_prob_and_criteria(name, missing):
    data = make_data(MODELS[name][1], 12, missing=missing, weighted=True)
    model = random_model(name, data)
    values, w = oracles.log_marginal(numpy_log_joints(model, data)), data.weight
    np.testing.assert_allclose(veil.log_prob(model, data), values, rtol=1e-10, atol=1e-10)
    result = veil.evaluate(model, data)
    total, k = w @ values, free_parameters(model)
    np.testing.assert_allclose(result.log_likelihood, total, rtol=1e-10)
    np.testing.assert_allclose(result.log_likelihood_per_datum, total / w.sum(), rtol=1e-10)
    np.testing.assert_allclose(result.bic, k * np.log(w.sum()) - 2 * total, rtol=1e-10)
    np.testing.assert_allclose(result.aic, 2 * k - 2 * total, rtol=1e-10)
    assert (result.n, result.rows, result.kind) == (w.sum(), 12, "exact")
    assert result.as_dict()["bic"] == result.bic


def test_the_standard_error_is_that_of_a_mean():
    data = make_data("real", 400)
    model = random_model("mixture-full", data)
    values = veil.log_prob(model, data)
    np.testing.assert_allclose(veil.evaluate(model, data).standard_error, values.std() / 20, rtol=1e-9)


def test_many_blocks_and_streams_are_one_array():
    data = make_data("real", 700)
    model = random_model("mixture-full", data)
    whole = veil.log_prob(model, data)
    several = np.concatenate([veil.log_prob(model, data[i : i + 100]) for i in range(0, 700, 100)])
    streamed = veil.log_prob(model, Stream(lambda: data.blocks(90), rows=64))
    np.testing.assert_allclose(several, whole, rtol=1e-12)
    np.testing.assert_allclose(streamed, whole, rtol=1e-12)


def test_a_gap_integrates_the_density():
    """p(y_0) = ∫ p(y_0, y_1) dy_1, by a fine grid."""
    data = make_data("real | evidence", 1)
    model = random_model("experts-full", data)
    grid = np.linspace(-40, 40, 20_001)
    full = np.stack([np.full_like(grid, data.query[0, 0]), grid], 1)
    evidence = np.repeat(data.evidence, len(grid), 0)
    integral = np.trapezoid(np.exp(veil.log_prob(model, Data(full, evidence=evidence))), grid)
    gap = Data([[data.query[0, 0], np.nan]], evidence=data.evidence)
    np.testing.assert_allclose(np.exp(veil.log_prob(model, gap)[0]), integral, rtol=1e-6)


def test_data_of_another_shape_are_refused_in_words():
    model = random_model("mixture-full", make_data("real"))
    with pytest.raises(ValueError, match="query"):
        veil.log_prob(model, np.zeros((4, 2)))
    model = random_model("experts-full", make_data("real | evidence"))
    with pytest.raises(ValueError, match="evidence"):
        veil.log_prob(model, Data(np.zeros((4, 2)), evidence=np.zeros((4, 3))))
    with pytest.raises(ValueError, match="evidence"):
        veil.log_prob(model, np.zeros((4, 2)))


def test_an_unfitted_model_is_refused():
    for verb in (veil.log_prob, veil.evaluate):
        with pytest.raises(ValueError, match=r"^model: "):
            verb(veil.Mixture(components=2), np.zeros((4, 2)))
    assert jax.config.jax_enable_x64
