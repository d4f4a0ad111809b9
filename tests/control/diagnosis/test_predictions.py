"""Predictions beside their formula, in a model whose future is known; what numbers amount to in words."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from veil import distributions
from veil.control.diagnosis.covered import covered
from veil.control.diagnosis.findings import CONTINUATION, DOUBT, ENDS_OFF, FAULT, FINE, NO_ACTIONS, REWARD_OFF
from veil.control.diagnosis.judged import explained, prediction_checks
from veil.control.diagnosis.predictions import Predictions, by_horizon, predict
from veil.control.imagined import Outcome, Outcomes
from veil.model import Datum, Stepwise
from veil.model.filter import Belief, Filter, known, started_anew


class Pushed(Stepwise):
    """z_t = z_t-1 + u_t, seen with a noise of deviation 2; as a user writes one."""

    @property
    def remembers(self) -> bool:
        return False

    def carry(self, evidence: Any) -> Any:
        return jnp.zeros(1)

    def advance(self, carry: Any, latent: Any, query: Any, evidence: Any, observed: Any) -> Any:
        return latent

    def step_prior(self, carry: Any, evidence: Any) -> Any:
        return distributions.Point(carry + evidence)

    def step_likelihood(self, carry: Any, latent: Any, evidence: Any) -> Any:
        near = distributions.normal(latent, jnp.full(1, 2.0))
        return distributions.Joint({"seen": near, "more": distributions.normal(jnp.zeros(2), jnp.ones(2))})


class Known(Filter):
    """It is told where everything is."""

    def init(self) -> Belief:
        return Belief(jnp.zeros(1), jnp.array(True), jnp.zeros(()))

    def update(self, belief: Belief, datum: Datum, key: Any) -> Belief:
        fresh, there = started_anew(belief, datum)
        before = jnp.where(fresh, 0.0, belief.state)
        return known(belief, before + datum.evidence, jnp.zeros(()), fresh, there)

    def draw(self, belief: Belief, key: Any) -> Any:
        return belief.state

    def marginal(self, belief: Belief) -> Any:
        raise NotImplementedError


class Halves(Outcomes):
    """A step earns half of where it leads, and ends one in four."""

    def __call__(self, model: Any, step: Any) -> Outcome:
        return Outcome(step.latent[0] / 2, jnp.array(0.75))


def test_predictions_are_those_of_the_formula() -> None:
    """Of episodes of different lengths, at every start and horizon: normals about where the actions lead."""
    rng = np.random.default_rng(0)
    lengths, total, starts, horizon = np.array([14, 20]), 20, 3, 4
    actions = rng.normal(size=(2, total, 1)).astype(np.float32)
    seen, more = rng.normal(size=(2, total, 1)).astype(np.float32), rng.normal(size=(2, total, 2)).astype(np.float32)
    there = np.arange(total) < lengths[:, None]
    data = Datum({"seen": jnp.asarray(seen), "more": jnp.asarray(more)}, jnp.asarray(actions), mask=jnp.asarray(there))
    result = rng.normal(size=(2, total)), np.zeros((2, total))
    found = predict(Pushed(), Known(), Halves(), data, result, jax.random.key(0), horizon, starts, 2)
    place = np.cumsum(actions[..., 0].astype(float), 1)
    for row, length in enumerate(lengths):
        for k, last in enumerate(np.linspace(4, length - 1 - horizon, starts).round().astype(int)):
            t = last + 1 + np.arange(horizon)
            wanted = stats.norm.logpdf(seen[row, t, 0], place[row, t], 2.0)
            np.testing.assert_allclose(found.scores["seen"][row, k], wanted, rtol=1e-4)
            others = stats.norm.logpdf(more[row, t]).sum(1)
            np.testing.assert_allclose(found.scores["more"][row, k], others, rtol=1e-4)
            np.testing.assert_allclose(found.scores["all"][row, k], wanted + others, rtol=1e-4)
            np.testing.assert_allclose(found.reward[row, k], place[row, t] / 2, atol=1e-4)
            np.testing.assert_allclose(found.obtained[row, k], result[0][row, t])
            np.testing.assert_allclose(found.ending[row, k], 0.25)
            np.testing.assert_allclose(found.states[row, k, 0, :, 0], place[row, t], atol=1e-4)
    assert not np.allclose(found.shuffled, found.scores["all"])
    np.testing.assert_allclose(found.inferred[0, :14, 0], place[0, :14], atol=1e-4)
    assert np.all(np.isnan(found.inferred[0, 14:]))


def made(**options: Any) -> Predictions:
    """Good ones: rewards and ends as they come, and other actions that cost 2 nats a step."""
    rng = np.random.default_rng(0)
    obtained = rng.normal(size=(8, 3, 4))
    ended = np.zeros((8, 3, 4))
    ended[:4, 2, 3], ended[4:, 2, 0] = 1.0, 1.0
    ended[4:, 2, 1:] = obtained[4:, 2, 1:] = np.nan
    blank = np.where(np.isnan(obtained), np.nan, 0.0)
    scores = {"all": rng.normal(size=(8, 3, 4)) + blank}
    states = rng.normal(size=(8, 3, 2, 4, 3))
    inferred = rng.normal(size=(8, 40, 3))
    good = Predictions(scores, scores["all"] - 2.0, obtained + 0.05, obtained, 0.9 * ended, ended, states, inferred)
    return replace(good, **options)


def said(found: Predictions, name: str) -> str:
    return {each.name: each.severity for each in prediction_checks(found, None)}[name]


def test_what_predictions_amount_to() -> None:
    good = made()
    assert [said(good, name) for name in (NO_ACTIONS, REWARD_OFF, ENDS_OFF)] == [FINE] * 3
    assert said(made(shuffled=good.scores["all"]), NO_ACTIONS) == DOUBT
    assert said(made(reward=good.obtained + 0.5), REWARD_OFF) == DOUBT
    assert said(made(reward=0 * good.obtained), REWARD_OFF) == DOUBT
    assert said(made(ending=0 * good.ended + 0.9), ENDS_OFF) == DOUBT
    assert said(made(ending=0 * good.ended), CONTINUATION) == FAULT  # episodes end, and nothing says so
    assert explained(good.reward, good.obtained) > 0.98
    first = good.scores["all"][:, :, 1]
    each = by_horizon(good.scores["all"])[1]
    means = np.nanmean(first, 1)
    np.testing.assert_allclose([each.value, each.standard_error], [means.mean(), means.std() / np.sqrt(8)])


def test_where_it_has_been() -> None:
    rng = np.random.default_rng(0)
    found = made()
    low, high = np.array([-1.0, 0.0]), np.array([1.0, 1.0])
    done = np.stack([rng.uniform(-1, 0, 500), np.full(500, 1.0)], 1)
    cover = covered(done, np.array([[0.5, 1.0], [-0.5, 1.0]]), low, high, found)
    assert cover.tried.tolist() == [0.5, 0.1]
    assert cover.bound[1] == 1.0
    assert cover.new == 0.5
    assert abs(cover.directions - 3) < 0.2
    assert np.all(cover.off < 0.1)
    away = covered(done, None, low, high, replace(found, states=found.states + 5))
    assert np.all(away.off > 0.9)
    assert np.isnan(away.new)
