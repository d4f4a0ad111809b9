"""One EM step equals the textbook's, computed with loops in float64, weights and missing entries included."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import oracles
import veil
from cases import (
    CLOSED_FORM,
    MODELS,
    STRUCTURES,
    make_data,
    numpy_covariances,
    numpy_features,
    numpy_log_joints,
    on_device,
    random_model,
)
from veil import Linear, LinearGaussian, Mixture, Softmax
from veil.learning.em import ExpectationMaximisation
from veil.parts.experts import with_expanded_sums
from veil.parts.statistics import contract

pytestmark = pytest.mark.usefixtures("x64")
FLOOR, RIDGE = 1e-12, 1e-6  # the defaults of covariances and of linear-Gaussian experts


@eqx.filter_jit
def em_step(model, block):
    """The way a fit goes about it: learner.accumulate, then learner.update."""
    learner = ExpectationMaximisation(veil.ExpectedLogLikelihood(), veil.Exact(), 1e-9, False, False)
    state = learner.init(model, block)
    sums = learner.accumulate(state, block, jax.random.key(0))
    return learner.update(state, sums, jnp.sum(block.weight))


def structure_of(name):
    return name.split("-", 1)[1] if name.split("-", 1)[-1] in STRUCTURES else "full"


def naive_log_prior(model, name):
    """The penalty, from the parameters."""
    total = 0.0
    if isinstance(model.experts, LinearGaussian):
        structure = structure_of(name)
        total += oracles.gaussian_log_prior(
            np.asarray(model.experts.weight), numpy_covariances(model.experts), structure, FLOOR, RIDGE
        )
    if isinstance(model.gate, Softmax) and model.gate.weight.shape[1] > 1:
        share = np.array([1e-6] + [1.0] * (model.gate.weight.shape[1] - 1))
        total -= 0.5 * model.gate.ridge * np.sum(share * np.asarray(model.gate.weight) ** 2)
    return total


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
@pytest.mark.parametrize("name", [name for name in CLOSED_FORM if MODELS[name][1].startswith("real")])
def test_gaussian_experts(name, missing):
    data = make_data(MODELS[name][1], 20, missing=missing, weighted=True)
    model, w = random_model(name, data), data.weight
    state, info = em_step(model, on_device(data))
    joints = numpy_log_joints(model, data)
    r, phi = oracles.posterior(joints), numpy_features(model, data.evidence, len(data))
    W, S = oracles.gaussian_step(
        *(data.query, phi, r, w, np.asarray(model.experts.weight), numpy_covariances(model.experts)),
        *(structure_of(name), FLOOR, RIDGE, data.observed),
    )
    np.testing.assert_allclose(state.model.experts.weight, W, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(numpy_covariances(state.model.experts), S, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(state.counts, w @ r, rtol=1e-10)
    value = (w @ oracles.log_marginal(joints) + naive_log_prior(model, name)) / w.sum()
    np.testing.assert_allclose(info.value, value, rtol=1e-10)
    np.testing.assert_allclose(info.penalty, naive_log_prior(model, name) / w.sum(), rtol=1e-9, atol=1e-14)
    if not isinstance(model.gate, Softmax):
        return
    gate = np.asarray(state.model.gate.weight)
    if gate.shape[1] == 1:
        np.testing.assert_allclose(oracles.softmax(gate[:, 0]), (w @ r) / w.sum(), rtol=1e-10)
    else:
        old = np.asarray(model.gate.weight)
        step = oracles.softmax_bound_step(old, phi, r, w, model.gate.ridge)
        before, after = (oracles.softmax_log_likelihood(each, phi, r, w, model.gate.ridge) for each in (old, gate))
        np.testing.assert_allclose(oracles.softmax(phi @ gate.T), oracles.softmax(phi @ step.T), atol=2e-3)
        assert after > before


@pytest.mark.parametrize("name", [name for name in CLOSED_FORM if MODELS[name][1].startswith("real")])
def test_expanded_sums_make_the_same_step(name):
    data = make_data(MODELS[name][1], 20, weighted=True)
    model, block = random_model(name, data), on_device(data)
    careful, fast = (em_step(with_expanded_sums(model, expanded), block)[0].model for expanded in (False, True))
    for a, b in zip(jax.tree.leaves(careful), jax.tree.leaves(fast), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
@pytest.mark.parametrize("family", ["bernoulli", "poisson", "categorical"])
def test_discrete_experts(family, missing):
    name = f"constant-{family}"
    data = make_data(MODELS[name][1], 20, missing=missing, weighted=True)
    model, w = random_model(name, data), data.weight
    state, info = em_step(model, on_device(data))
    joints = numpy_log_joints(model, data)
    r = oracles.posterior(joints)
    seen = np.ones(data.query.shape, bool) if data.observed is None else data.observed
    expected = oracles.discrete_step(data.query, r, w, seen, family, model.experts.pseudo, 3)
    vectors = np.asarray(state.model.experts.weight)[..., 0]
    found = {
        "bernoulli": lambda: scipy.special.expit(vectors),
        "poisson": lambda: np.exp(vectors),
        "categorical": lambda: oracles.softmax(vectors.reshape(3, 2, 3)),
    }[family]()
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    old = np.asarray(model.experts.weight)[..., 0]
    log_prior = (
        model.experts.pseudo
        * {
            "bernoulli": lambda: np.sum(np.log(scipy.special.expit(old)) + np.log(scipy.special.expit(-old))),
            "poisson": lambda: np.sum(old - np.exp(old)),
            "categorical": lambda: np.sum(np.log(oracles.softmax(old.reshape(3, 2, 3)))),
        }[family]()
    )
    np.testing.assert_allclose(info.value, (w @ oracles.log_marginal(joints) + log_prior) / w.sum(), rtol=1e-10)


@pytest.mark.parametrize("name", ["mixture-full", "mixture-spherical", *CLOSED_FORM[1::2]])
def test_em_never_lowers_the_penalised_likelihood(name):
    """Generalised EM's promise, over many steps, for a random start."""
    data = make_data(MODELS[name][1], 40, missing=name in ("mixture-full", "experts-diagonal"), weighted=True)
    model, block = random_model(name, data), on_device(data)
    values = []
    for _ in range(15):
        state, info = em_step(model, block)
        values.append(float(info.value))
        model = state.model
    assert np.all(np.diff(values) > -1e-12)
    assert values[-1] > values[0] + 1e-3


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_the_softmax_step_is_the_maximum_of_its_bound(ridge):
    """Against the dense Kronecker system; a ridge on the biases as well makes both solve the same equations."""
    from veil.maths import logistic

    rng = np.random.default_rng(0)
    phi = np.concatenate([np.ones((30, 1)), rng.normal(size=(30, 2))], 1)
    r, weight, w = rng.dirichlet(np.ones(3), 30), rng.normal(size=(3, 3)), rng.random(30)
    weight -= weight.mean(0)  # where the bound's flat direction is not used
    p = oracles.softmax(phi @ weight.T)
    gradient = ((r - p) * w[:, None]).T @ phi - ridge * weight
    step = logistic.bound_step(jnp.array(gradient), jnp.array((phi * w[:, None]).T @ phi), jnp.array(ridge * np.eye(3)))
    naive = oracles.softmax_bound_step(weight, phi, r, w, ridge, bias_share=1.0)
    np.testing.assert_allclose(oracles.softmax(phi @ (weight + np.asarray(step)).T), oracles.softmax(phi @ naive.T))
    new = weight + np.asarray(step)
    before = oracles.softmax_log_likelihood(weight, phi, r, w, ridge, 1.0)
    gain = oracles.softmax_log_likelihood(new, phi, r, w, ridge, 1.0) - before
    assert gain >= 0.5 * np.sum(gradient * np.asarray(step)) - 1e-12  # the bound's own promise: half g·step


def test_sums_add_up_over_blocks_and_ignore_zero_weights():
    data = make_data("real | evidence", 12, weighted=True)
    model, block = random_model("experts-full", data), on_device(data)
    posterior = jnp.array(oracles.posterior(numpy_log_joints(model, data)))
    terms = jax.vmap(model.statistics)(block, posterior)
    whole = contract(terms, block.weight)
    left, right = (contract(jax.tree.map(lambda t, s=s: t[s], terms), block.weight[s]) for s in (np.s_[:5], np.s_[5:]))
    for a, b, c in zip(*map(jax.tree.leaves, (whole, left, right)), strict=True):
        np.testing.assert_allclose(a, b + c, rtol=1e-12)
    some = contract(terms, block.weight * (jnp.arange(12) < 5))
    for a, b in zip(jax.tree.leaves(some), jax.tree.leaves(left), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("name", ["experts-full", "experts-diagonal", "experts-tied-full"])
def test_moved_sums_are_the_sums_of_the_other_model(name):
    data = make_data("real | evidence", 12, weighted=True)
    block, here, there = on_device(data), random_model(name, data, 0), random_model(name, data, 1)
    r = jnp.array(oracles.posterior(numpy_log_joints(here, data)))
    sums = {
        model: contract(jax.vmap(each.statistics)(block, r), block.weight)
        for model, each in (("here", here), ("there", there))
    }
    moved = here.recentred(sums["here"], there)
    for a, b in zip(jax.tree.leaves(moved[1]), jax.tree.leaves(sums["there"][1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_a_component_without_data_keeps_its_parameters():
    data = make_data("real", 12)
    model = random_model("mixture-full", data)
    r = jnp.array(np.eye(3)[[0, 1] * 6])
    new = model.maximise(contract(jax.vmap(model.statistics)(on_device(data), r), jnp.ones(12)))
    np.testing.assert_array_equal(new.experts.weight[2], model.experts.weight[2])
    np.testing.assert_array_equal(new.experts.covariance.factor[2], model.experts.covariance.factor[2])
    assert oracles.softmax(np.asarray(new.gate.weight)[:, 0])[2] < 1e-20


@pytest.mark.parametrize("name", ["mixture-full", "gate-only", "constant-poisson", "linear-poisson", "constant-beta"])
def test_a_model_says_whether_it_is_closed_form(name):
    assert random_model(name, make_data(MODELS[name][1])).closed_form == (name in CLOSED_FORM)


def test_closed_form_is_not_known_before_data_where_evidence_decides():
    assert not Mixture(Linear(veil.heads.Poisson()), 2).closed_form
    assert not Mixture(LinearGaussian(), 2, trunk=veil.MLP()).closed_form
    assert Mixture(LinearGaussian(), 2).closed_form
