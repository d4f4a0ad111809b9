"""Conditioning a joint mixture: p(a | b) p(b) = p(a, b), and the marginals, by index lists."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracles
import veil
from cases import MODELS, STRUCTURES, make_data, mixture_parameters, numpy_covariances, quiet_fit, random_model
from veil import Data, LinearGaussian, Mixture

KEY = jax.random.key(0)


def joint(name="mixture-full"):
    data = make_data("real", 12)
    return random_model(name, data), data.query


def parameters(model):
    weights = np.ones(1) if model.components == 1 else oracles.softmax(np.asarray(model.gate.weight)[:, 0])
    return weights, np.asarray(model.experts.mean), numpy_covariances(model.experts)


@pytest.mark.parametrize(("query", "evidence"), [((0,), (1,)), ((2, 0), (1,)), ((1,), (0, 2)), ((2,), (0,))])
@pytest.mark.parametrize("name", ["mixture-full", "mixture-tied-diagonal", "mixture-spherical", "gaussian"])
@pytest.mark.usefixtures("x64")
def test_conditional_times_marginal_is_the_joint(name, query, evidence):
    model, y = joint(name)
    conditional = veil.condition(model, query=query, evidence=evidence)
    found = veil.log_prob(conditional, Data(y[:, list(query)], evidence=y[:, list(evidence)]))
    both = oracles.mixture_density(y, *parameters(model), columns=query + evidence)
    given = oracles.mixture_density(y, *parameters(model), columns=evidence)
    np.testing.assert_allclose(found, both - given, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("query", [(1,), (2, 0), (0, 1, 2)])
@pytest.mark.usefixtures("x64")
def test_without_evidence_it_is_the_marginal(query):
    model, y = joint()
    found = veil.log_prob(veil.condition(model, query=query), Data(y[:, list(query)]))
    np.testing.assert_allclose(found, oracles.mixture_density(y, *parameters(model), columns=query), atol=1e-10)


@pytest.mark.usefixtures("x64")
def test_a_marginal_can_be_conditioned_again():
    model, y = joint()
    marginal = veil.condition(model, query=(2, 1))
    twice = veil.condition(marginal, query=(0,), evidence=(1,))
    once = veil.condition(model, query=(2,), evidence=(1,))
    data = Data(y[:, [2]], evidence=y[:, [1]])
    np.testing.assert_allclose(veil.log_prob(twice, data), veil.log_prob(once, data), atol=1e-10)


@pytest.mark.usefixtures("x64")
def test_moments_and_samples_given_evidence():
    model, _ = joint()
    conditional = veil.condition(model, query=(0, 2), evidence=(1,))
    x = np.array([[0.7]])
    weights, means, covariances = parameters(model)
    log_gate = [
        np.log(weights[k]) + oracles.gaussian_log_density(x[0], means[k][[1]], covariances[k][1:2, 1:2])
        for k in range(3)
    ]
    gate = oracles.softmax(np.array(log_gate))
    centres = [
        means[k][[0, 2]] + covariances[k][[0, 2], 1] / covariances[k][1, 1] * (0.7 - means[k][1]) for k in range(3)
    ]
    spreads = [covariances[k][[0, 2], [0, 2]] - covariances[k][[0, 2], 1] ** 2 / covariances[k][1, 1] for k in range(3)]
    mean = gate @ np.array(centres)
    variance = gate @ (np.array(spreads) + np.array(centres) ** 2) - mean**2
    prediction = veil.predict(conditional, x)
    np.testing.assert_allclose(prediction.mean[0], mean, rtol=1e-9)
    np.testing.assert_allclose(prediction.standard_deviation[0] ** 2, variance, rtol=1e-9)
    draws = veil.sample(conditional, 20_000, key=KEY, evidence=x)
    np.testing.assert_array_less(np.abs(draws.query[0].mean(0) - mean), 5 * np.sqrt(variance / 20_000))
    share = np.bincount(draws.latent[0], minlength=3) / 20_000
    np.testing.assert_array_less(np.abs(share - gate), 5 * np.sqrt(gate * (1 - gate) / 20_000) + 1e-9)


@pytest.mark.parametrize(
    ("query", "evidence", "argument"),
    [
        ((), (), "query"),
        ((3,), (), "query"),
        ((-1,), (), "query"),
        ((0,), (5,), "evidence"),
        ((0,), (0,), "query, evidence"),
        ((1, 1), (), "query, evidence"),
    ],
)
def test_columns_that_are_not_there_are_refused(query, evidence, argument):
    model, _ = joint()
    with pytest.raises(ValueError, match=f"^{argument}: "):
        veil.condition(model, query=query, evidence=evidence)


@pytest.mark.parametrize("name", ["experts-full", "gate-only", "experts-only", "no-evidence-used"])
def test_a_model_with_evidence_of_its_own_is_refused(name):
    model = random_model(name, make_data(MODELS[name][1], 12))
    if name == "no-evidence-used":  # which is a joint model of its query
        assert veil.condition(model, query=(0,), evidence=(1,)).sizes.inputs == 1
        return
    with pytest.raises(ValueError, match=r"^model: "):
        veil.condition(model, query=(0,), evidence=(1,))


def test_other_models_are_refused():
    with pytest.raises(TypeError, match=r"^model: "):
        veil.condition(random_model("constant-poisson", make_data("poisson")), query=(0,))
    with pytest.raises(ValueError, match=r"^model: "):
        veil.condition(Mixture(components=2), query=(0,))
    model, _ = joint()
    with pytest.raises((TypeError, ValueError), match=r"^model: "):
        veil.condition(veil.condition(model, query=(0,), evidence=(1,)), query=(0,))


def test_units_of_a_fitted_model_are_the_user_s():
    faithful = veil.data.load("faithful")
    model = quiet_fit(Mixture(LinearGaussian(STRUCTURES["full"]), 2), faithful, key=KEY).model
    found = veil.log_prob(veil.condition(model, query=[1], evidence=[0]), faithful.select("waiting", "eruptions"))
    weights, means, covariances = mixture_parameters(model)
    expected = oracles.mixture_density(faithful.query, weights, means, covariances)
    expected = expected - oracles.mixture_density(faithful.query[:, :1], weights, means[:, :1], covariances[:, :1, :1])
    np.testing.assert_allclose(found, expected, atol=3e-3)
    assert jnp.array(found).dtype == jnp.float32


def test_columns_by_name():
    model, y = joint()
    names = ["length", "width", "height"]
    by_name = veil.condition(model, query=["height"], evidence=["length", 1], names=names)
    by_place = veil.condition(model, query=[2], evidence=[0, 1])
    data = Data(y[:, [2]], evidence=y[:, [0, 1]])
    np.testing.assert_array_equal(veil.log_prob(by_name, data), veil.log_prob(by_place, data))
    with pytest.raises(ValueError, match="query: there is no column 'hight'; did you mean 'height'"):
        veil.condition(model, query=["hight"], names=names)
    with pytest.raises(ValueError, match=r"evidence: expected positions of columns.*, or names, with names="):
        veil.condition(model, query=[0], evidence=["width"])
