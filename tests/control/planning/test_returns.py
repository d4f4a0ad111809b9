"""What a sequence of actions earns: continuation, discount and terminal value, by hand, and averages over states."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil import distributions
from veil.control import CrossEntropy, GradientPlanner, Imagined, Predicted, Quadratic, Rewarded, Several
from veil.control.planning.base import proposals

KEY = jax.random.key(0)


class Walk(veil.Stepwise):
    """A user's own: a place moves by the action; it earns ``worth`` a place, and may end where it is high."""

    worth: float = 2.0
    remembering: bool = eqx.field(static=True, default=False)

    def carry(self, evidence):
        return jnp.zeros(())

    def advance(self, carry, latent, query, evidence, observed):
        return latent

    def step_prior(self, carry, evidence):
        return At(carry + evidence[0])

    def step_likelihood(self, carry, latent, evidence):
        reward = distributions.normal(self.worth * latent[None], jnp.ones(1))
        ended = distributions.bernoulli(2.0 * latent[None] - 1.0)
        return distributions.Joint({"reward": reward, "terminated": ended})

    @property
    def remembers(self):
        return self.remembering

    def latent_of(self, carry):
        return veil.model.stepwise.Marginal(None, carry[None], jnp.zeros(1))


class At(distributions.Distribution, distributions.Moments, distributions.Reparameterised):
    """One value."""

    value: jax.Array

    def sample(self, key):
        return self.value

    def log_prob(self, value):
        return jnp.zeros(())

    @property
    def mean(self):
        return self.value

    @property
    def variance(self):
        return jnp.zeros(())


@pytest.fixture(autouse=True)
def exactly():
    with jax.enable_x64(True):
        yield


def by_hand(place, actions, discount=1.0, worth=2.0, value=None, ends=True):
    """Every episode that ends at step t earned the rewards up to it: a sum over all the ways that it may go."""
    total, alive = 0.0, 1.0
    for step, action in enumerate(actions):
        place = place + action
        total += alive * discount**step * worth * place
        chance = 1.0 / (1.0 + np.exp(-(2.0 * place - 1.0)))
        alive *= 1.0 - chance if ends else 1.0
    return total + (0.0 if value is None else alive * discount ** len(actions) * value(place))


ACTIONS = np.array([0.3, 0.5, -0.2, 0.7])


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("discount", [1.0, 0.9])
@pytest.mark.parametrize("behind", [None, lambda place: 10.0 + 3.0 * place])
def test_returns_are_the_sums_by_hand(ends, discount, behind):
    outcomes = Predicted(terminated="terminated" if ends else None)
    problem = Imagined(Walk(), outcomes, discount=discount, value=behind)
    for steps in (1, 4):
        found = problem.returns(jnp.array(0.4), jnp.asarray(ACTIONS[:steps, None]), KEY)
        np.testing.assert_allclose(found, by_hand(0.4, ACTIONS[:steps], discount, value=behind, ends=ends), rtol=1e-12)


def test_returns_are_averages_over_states():
    problem = Imagined(Walk(), Predicted(terminated="terminated"), discount=0.9, value=lambda place: place**2)
    places = jnp.array([-1.0, 0.2, 0.5])
    found = problem.returns(Several(places), jnp.asarray(ACTIONS[:, None]), KEY)
    each = [by_hand(place, ACTIONS, 0.9, value=lambda place: place**2) for place in np.asarray(places)]
    np.testing.assert_allclose(found, np.mean(each), rtol=1e-12)


@pytest.mark.parametrize("planner", [CrossEntropy(3, 1.0, 256, 16, 6), GradientPlanner(3), Quadratic(3)])
@pytest.mark.parametrize("remembering", [False, True])
def test_who_may_lose_the_rest_is_careful(planner, remembering):
    """A place earns, but where it is high the episode ends soon, and a fortune behind the horizon is lost."""
    bounds = {"low": -0.5, "high": 0.5}
    far = lambda place: jnp.full_like(place, 50.0)  # noqa: E731
    careless = Imagined(Walk(remembering=remembering), Predicted(), value=far, **bounds)
    careful = Imagined(Walk(remembering=remembering), Predicted(terminated="terminated"), value=far, **bounds)
    start = np.zeros((3, 1))
    plans = [planner.plan(problem, jnp.zeros(()), KEY, start).mean[:, 0] for problem in (careless, careful)]
    np.testing.assert_allclose(plans[0], 0.5, atol=0.1)
    np.testing.assert_allclose(plans[1], -0.5, atol=0.1)
    best = by_hand(0.0, [-0.5] * 3, value=lambda place: 50.0)
    assert by_hand(0.0, plans[1], value=lambda place: 50.0) > best - 1.0


def test_a_plan_is_good_on_average_over_what_may_be_the_case():
    """Two places, one goal: the plan leads their mean there, and who is told one of them goes by that."""
    goal = lambda step: -(step.after**2)  # noqa: E731
    problem = Imagined(Walk(), Rewarded(goal))
    start = np.zeros((2, 1))
    places = Several(jnp.array([-1.0, 2.0, 0.5]))
    for planner, tolerance in (
        (Quadratic(2, 2), 1e-9),
        (GradientPlanner(2, 200), 1e-2),
        (CrossEntropy(2, 1.0, 256, 16, 8), 0.02),
    ):
        plan = planner.plan(problem, places, KEY, start)
        np.testing.assert_allclose(plan.mean[:, 0], [-0.5, 0.0], atol=tolerance)
        plan = planner.plan(problem, Several(jnp.array([-1.0])), KEY, start)
        np.testing.assert_allclose(plan.mean[:, 0], [1.0, 0.0], atol=tolerance)


def test_a_policy_s_candidates_are_futures_of_every_state_in_turn():
    problem = Imagined(Walk(), Predicted(), low=-0.6, high=0.6)
    halfway = lambda state, key: -0.5 * state[None]  # noqa: E731
    found = proposals(problem, Several(jnp.array([-1.0, 2.0])), halfway, 5, 2, KEY)
    one, other = [0.5, 0.25], [-0.6, -0.6]  # within the bounds
    np.testing.assert_allclose(found[:, :, 0], [one, other, one, other, one], rtol=1e-12)
    assert proposals(problem, jnp.zeros(()), None, 5, 2, KEY) is None
