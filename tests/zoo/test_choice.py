"""Choices: coefficients and standard errors against statsmodels, latent classes against EM in plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from statsmodels.api import MNLogit
from statsmodels.discrete.conditional_models import ConditionalLogit as Reference

import veil
from veil.control import MDP, LinearReward, SparseTransitions

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def exactly():
    with jax.enable_x64(True):
        yield


def travellers(count=400, alternatives=3, seed=0):
    """Choices by price (in cents), time and comfort, by people of whom age and income are known."""
    rng = np.random.default_rng(seed)
    attributes = rng.normal(size=(count, alternatives, 3)) * [150.0, 1.0, 0.3] + [900.0, 3.0, 0.0]
    worth = attributes @ [-0.006, -0.8, 2.0] + rng.gumbel(size=(count, alternatives))
    return attributes, worth.argmax(1), rng.normal(size=(count, 2)) * [12.0, 1.0] + [40.0, 0.0]


def test_conditional_logit_is_that_of_statsmodels():
    attributes, chosen, _ = travellers()
    data = veil.Data(chosen, {"attributes": attributes})
    fit = veil.fit(veil.ConditionalLogit(attributes=3), data, key=KEY)
    errors = veil.standard_errors(fit, data)
    cases = np.repeat(np.arange(len(chosen)), attributes.shape[1])
    taken = (np.arange(attributes.shape[1]) == chosen[:, None]).ravel().astype(float)
    peer = Reference(taken, attributes.reshape(-1, 3), groups=cases).fit(method="newton", disp=False, tol=1e-12)
    assert fit.status.converged
    np.testing.assert_allclose(fit.model.weights[0], peer.params, rtol=1e-5)
    np.testing.assert_allclose(errors.weights[0], peer.bse, rtol=1e-5)
    np.testing.assert_allclose(veil.evaluate(fit, data).log_likelihood, peer.llf, rtol=1e-8)


def test_multinomial_logit_is_that_of_statsmodels():
    _, _, chooser = travellers()
    rng = np.random.default_rng(1)
    worth = np.stack([np.zeros(400), 0.05 * chooser[:, 0] - 2.5, 0.3 + chooser[:, 1]], 1) + rng.gumbel(size=(400, 3))
    chosen = worth.argmax(1)
    data = veil.Data(chosen, {"chooser": chooser})
    fit = veil.fit(veil.ConditionalLogit(alternatives=3, chooser=2), data, key=KEY)
    errors = veil.standard_errors(fit, data)
    peer = MNLogit(chosen, np.column_stack([np.ones(400), chooser])).fit(method="newton", disp=False, tol=1e-12)
    np.testing.assert_allclose(fit.model.constants[0].T, peer.params, rtol=1e-5)
    np.testing.assert_allclose(errors.constants[0].T, peer.bse, rtol=1e-5)
    assert veil.evaluate(fit, data).log_likelihood == pytest.approx(peer.llf, rel=1e-8)


def numpy_logit(attributes, chosen, available=None, weight=None):
    """Newton's steps on the conditional logit's log-likelihood: coefficients and standard errors."""
    there = np.ones(attributes.shape[:2]) if available is None else available
    weight = np.ones(len(chosen)) if weight is None else weight
    at = np.zeros(attributes.shape[2])
    for _ in range(50):
        share = there * np.exp(attributes @ at)
        share /= share.sum(1, keepdims=True)
        mean = np.einsum("nj,njf->nf", share, attributes)
        away = attributes - mean[:, None]
        slope = weight @ (attributes[np.arange(len(chosen)), chosen] - mean)
        information = np.einsum("n,nj,njf,njg->fg", weight, share, away, away)
        at = at + np.linalg.solve(information, slope)
    return at, np.sqrt(np.diagonal(np.linalg.inv(information)))


def test_attributes_and_constants_of_alternatives_that_are_not_always_there_by_numpy():
    attributes, _, _ = travellers(300)
    rng = np.random.default_rng(2)
    available = (rng.random((300, 3)) < 0.7).astype(float)
    available[:, 1] = 1.0
    worth = attributes @ [-0.006, -0.8, 2.0] + [0.0, 0.5, -0.4] + rng.gumbel(size=(300, 3))
    chosen = np.where(available > 0, worth, -np.inf).argmax(1)
    weight = rng.integers(1, 4, 300).astype(float)
    data = veil.Data(chosen, {"attributes": attributes, "available": available}, weight=weight)
    fit = veil.fit(veil.ConditionalLogit(attributes=3, alternatives=3), data, key=KEY)
    errors = veil.standard_errors(fit, data)
    constants = np.broadcast_to(np.eye(3)[:, 1:], (300, 3, 2))
    at, spread = numpy_logit(np.concatenate([attributes, constants], -1), chosen, available, weight)
    np.testing.assert_allclose(np.concatenate([fit.model.weights[0], fit.model.constants[0, :, 0]]), at, rtol=1e-6)
    np.testing.assert_allclose(np.concatenate([errors.weights[0], errors.constants[0, :, 0]]), spread, rtol=1e-6)


def panel(people=120, choices=6, seed=3):
    """Two kinds of people, each with several choices among three alternatives; kinds by what is known of them."""
    rng = np.random.default_rng(seed)
    chooser = rng.normal(size=(people, 1))
    kind = (rng.random(people) < 1 / (1 + np.exp(-0.5 - chooser[:, 0]))).astype(int)
    attributes = rng.normal(size=(people, choices, 3, 2))
    tastes = np.array([[1.5, -1.0], [-1.0, 0.5]])
    worth = np.einsum("ntjf,nf->ntj", attributes, tastes[kind]) + rng.gumbel(size=(people, choices, 3))
    return attributes, worth.argmax(-1), chooser, kind


def weighted_logit(attributes, chosen, weight, at):
    """The weighted conditional logit's maximum, by Newton's steps from ``at``."""
    for _ in range(30):
        share = np.exp(attributes @ at)
        share /= share.sum(1, keepdims=True)
        mean = np.einsum("nj,njf->nf", share, attributes)
        away = attributes - mean[:, None]
        slope = weight @ (attributes[np.arange(len(chosen)), chosen] - mean)
        at = at + np.linalg.solve(np.einsum("n,nj,njf,njg->fg", weight, share, away, away), slope)
    return at


def em(attributes, chosen, classes, rounds, seed):
    """EM of latent classes p(z) of persons, in plain numpy: log-likelihood, shares and weights [K, F]."""
    people, choices = chosen.shape
    rng = np.random.default_rng(seed)
    weights, shares = rng.normal(size=(classes, attributes.shape[-1])), np.full(classes, 1 / classes)
    flat, taken = attributes.reshape(-1, *attributes.shape[2:]), chosen.ravel()
    for _ in range(rounds):
        scores = flat @ weights.T
        log_p = (scores - np.log(np.exp(scores).sum(1, keepdims=True)))[np.arange(len(taken)), taken]
        joint = np.log(shares) + log_p.reshape(people, choices, classes).sum(1)
        top = joint.max(1, keepdims=True)
        total = top[:, 0] + np.log(np.exp(joint - top).sum(1))
        belongs = np.exp(joint - total[:, None])
        shares = belongs.mean(0)
        weights = np.stack(
            [weighted_logit(flat, taken, np.repeat(belongs[:, k], choices), weights[k]) for k in range(classes)]
        )
    return total.sum(), shares, weights


def test_latent_classes_of_a_panel_are_those_of_em_in_numpy():
    attributes, chosen, _, kind = panel()
    data = veil.Data(chosen[..., None].astype(float), {"attributes": attributes})
    expected, shares, weights = max((em(attributes, chosen, 2, 200, seed) for seed in range(2)), key=lambda run: run[0])
    model = veil.Episodic(veil.ConditionalLogit(attributes=2, classes=2, key=KEY))
    fit = veil.fit(model, data, key=KEY)
    assert fit.status.converged
    np.testing.assert_allclose(veil.evaluate(fit, data).log_likelihood, expected, atol=1e-6)
    found = fit.model.model
    order = np.argsort(found.weights[:, 0])
    np.testing.assert_allclose(found.weights[order], weights[np.argsort(weights[:, 0])], atol=1e-4)
    belongs = veil.infer(fit, data).probabilities
    agree = np.mean(belongs.argmax(1) == kind)
    assert max(agree, 1 - agree) > 0.9
    errors = veil.standard_errors(fit, data)
    assert np.all(np.asarray(errors.model.weights) > 0.03)
    np.testing.assert_allclose(jax.nn.softmax(jnp.append(0.0, found.membership[:, 0])).sum(), 1.0)
    np.testing.assert_allclose(
        np.sort(jax.nn.softmax(jnp.append(0.0, found.membership[:, 0]))), np.sort(shares), atol=1e-5
    )


def test_what_is_known_of_people_says_to_which_class_they_belong():
    """p(z | c) against scipy on the same likelihood, written anew."""
    attributes, chosen, chooser, _ = panel()
    wide = np.repeat(chooser[:, None], chosen.shape[1], 1)
    data = veil.Data(chosen[..., None].astype(float), {"attributes": attributes, "chooser": wide})
    model = veil.Episodic(veil.ConditionalLogit(attributes=2, chooser=1, classes=2, key=KEY))
    fit = veil.fit(model, data, key=KEY)

    def loss(at):
        weights, membership = at[:4].reshape(2, 2), at[4:]
        scores = attributes @ weights.T
        log_p = scores - np.log(np.exp(scores).sum(2, keepdims=True))
        log_p = np.take_along_axis(log_p, chosen[..., None, None], 2)[..., 0, :].sum(1)
        gate = membership[0] + membership[1] * chooser[:, 0]
        prior = np.stack([-np.logaddexp(0, gate), -np.logaddexp(0, -gate)], 1)
        return -np.logaddexp(*(prior + log_p).T).sum()

    best = minimize(loss, np.array([1.0, -1.0, -1.0, 1.0, 0.0, 0.0]), tol=1e-12)
    assert veil.evaluate(fit, data).log_likelihood == pytest.approx(-best.fun, abs=1e-6)
    assert abs(float(fit.model.model.membership[0, 1])) > 0.5


def test_it_is_intent_with_a_horizon_of_one():
    rng = np.random.default_rng(4)
    features, weights = rng.normal(size=(4, 3, 2)), jnp.asarray(rng.normal(size=(1, 2)))
    world = MDP(SparseTransitions(np.zeros((4, 3), int)), horizon=1)
    state, chosen = rng.integers(0, 4, 50), rng.integers(0, 3, 50)
    person = veil.Intent(world, LinearReward(features, weights=weights))
    walks = veil.Data(chosen, {"state": state[:, None] * 1.0, "step": np.zeros((50, 1))})
    logit = veil.ConditionalLogit(attributes=2)
    choices = veil.Data(chosen, {"attributes": features[state]})
    found = veil.log_prob(logit, choices)
    np.testing.assert_allclose(found, -np.log(3.0), rtol=1e-12)
    one, other = veil.fit(person, walks, key=KEY), veil.fit(logit, choices, key=KEY)
    np.testing.assert_allclose(one.model.reward.weights, other.model.weights, atol=1e-6)
    np.testing.assert_allclose(veil.log_prob(one, walks), veil.log_prob(other, choices), atol=1e-6)


def test_parameters_may_be_given():
    attributes, chosen, _ = travellers(20)
    known = veil.ConditionalLogit(weights=[[-0.006, -0.8, 2.0]])
    worth = attributes @ [-0.006, -0.8, 2.0]
    expected = worth[np.arange(20), chosen] - np.log(np.exp(worth).sum(1))
    np.testing.assert_allclose(
        veil.log_prob(known, veil.Data(chosen, {"attributes": attributes})), expected, rtol=1e-10
    )
    with pytest.raises(ValueError, match="expected 2 and 1 rows"):
        veil.ConditionalLogit(weights=[[1.0], [2.0]], membership=np.zeros((2, 1)))


def test_draws_are_as_often_as_they_say_and_never_of_what_is_not_there():
    fitted = veil.fit(
        veil.ConditionalLogit(attributes=3), veil.Data(travellers()[1], {"attributes": travellers()[0]}), key=KEY
    )
    attributes = np.array([[[900.0, 3.0, 0.0], [1000.0, 2.0, 0.1], [800.0, 4.0, 0.2]]])
    evidence = {"attributes": attributes, "available": np.array([[1.0, 1.0, 0.0]])}
    drawn = np.asarray(veil.sample(fitted, 4000, evidence=evidence, key=KEY).query).ravel()
    expected = np.exp(
        veil.log_prob(fitted, veil.Data(np.arange(3), {name: np.repeat(each, 3, 0) for name, each in evidence.items()}))
    )
    np.testing.assert_allclose(np.bincount(drawn.astype(int), minlength=3) / 4000, expected, atol=0.03)
    assert expected[2] == 0.0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: veil.ConditionalLogit(), "attributes: expected how many"),
        (lambda: veil.ConditionalLogit(attributes=-1), "attributes: expected how many"),
        (lambda: veil.ConditionalLogit(attributes=1, classes=2), "key: several classes"),
        (lambda: veil.ConditionalLogit(attributes=1, chooser=2), "alternatives: what a chooser"),
    ],
)
def test_what_is_no_model_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("model", "evidence", "words"),
    [
        (dict(attributes=2), {"attributes": np.zeros((5, 3, 4))}, "expected attributes"),
        (dict(attributes=2), {"chooser": np.zeros((5, 3))}, "expected attributes"),
        (dict(attributes=2), np.zeros((5, 2)), "expected a dictionary"),
        (dict(attributes=2, alternatives=4), {"attributes": np.zeros((5, 3, 2))}, "expected 4 alternatives"),
        (dict(alternatives=3, chooser=2), {"chooser": np.zeros((5, 3))}, "expected chooser"),
    ],
)
def test_evidence_that_is_not_that_of_choices_is_refused(model, evidence, words):
    with pytest.raises(ValueError, match=words):
        veil.fit(veil.ConditionalLogit(**model), veil.Data(np.zeros(5), evidence), key=KEY)
