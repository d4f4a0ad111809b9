"""Acting by plans: beside the best control of a linear-Gaussian world, and what is remembered of what was done."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from steered import BEGUN, COST, MOVED, PRICE, SEEN, START, STEERED, best, steering, world
from veil.control import CrossEntropy, GradientPlanner, Noise, Plan, Planner, PlanningActor, Quadratic
from veil.model import Datum

KEY = jax.random.key(0)
NOISE, SIGHT, STEPS, EPISODES = 0.1, 0.1, 20, 16


@pytest.fixture(autouse=True)
def exactly():
    with jax.enable_x64(True):
        yield


def luck():
    """Where episodes begin, what pushes the state [E, T, 2], and what blurs the sight [E, T, 1]."""
    rng = np.random.default_rng(0)
    start = START + BEGUN * rng.normal(size=(EPISODES, 2))
    return start, NOISE * rng.normal(size=(EPISODES, STEPS, 2)), SIGHT * rng.normal(size=(EPISODES, STEPS + 1, 1))


def cost(state, action):
    return 0.5 * state @ COST @ state + 0.5 * action @ PRICE @ action


def acted_best(state, pushes, blurs, gain):
    """Kalman's filter and Riccati's gain, by hand: the cost of an episode."""
    mean, covariance, total = START, BEGUN**2 * np.eye(2), 0.0
    for push, blur in zip(pushes, blurs, strict=False):
        gained = covariance @ SEEN.T / (SEEN @ covariance @ SEEN.T + SIGHT**2)
        mean = mean + gained[:, 0] * (SEEN @ state + blur - SEEN @ mean)
        covariance = covariance - gained @ SEEN @ covariance
        action = -gain @ mean
        state = MOVED @ state + STEERED @ action + push
        mean, covariance = MOVED @ mean + STEERED @ action, MOVED @ covariance @ MOVED.T + NOISE**2 * np.eye(2)
        total += cost(state, action)
    return total


def acted(actor, start, pushes, blurs, key):
    """Episodes by an actor: their costs [E], actions [E, T, 1] and what was seen."""

    def one(state, pushes, blurs, key):
        def step(now, at):
            state, memory = now
            push, blur, key = at
            seen = jnp.asarray(SEEN) @ state + blur
            action, memory = actor.act(memory, seen, key)
            state = jnp.asarray(MOVED) @ state + jnp.asarray(STEERED) @ action + push
            return (state, memory), (cost(state, action), action, seen, memory)

        each = pushes, blurs[:-1], jax.random.split(key, STEPS)
        return jax.lax.scan(step, (state, actor.init(key)), each)[1]

    return jax.jit(jax.vmap(one))(start, pushes, blurs, jax.random.split(key, len(start)))


PLANNERS = {
    "cross-entropy": (CrossEntropy(2, 0.5, 64, 8, 4), 64),
    "gradient": (GradientPlanner(2, 30, 0.1, 1), 64),
    "quadratic": (Quadratic(1, 1, 1), 64),
}


@pytest.mark.parametrize("name", PLANNERS)
def test_acting_by_plans_costs_what_the_best_control_does(name):
    """With the same luck; behind the horizon lies Riccati's value, so that a short plan is no loss."""
    gains, behind = best(400)
    value = lambda state: -0.5 * state.latent @ jnp.asarray(behind) @ state.latent  # noqa: E731
    planner, particles = PLANNERS[name]
    problem = steering(NOISE, value=value)
    actor = PlanningActor.of(world(NOISE, SIGHT), planner, problem, jnp.zeros(1), particles=particles)
    given = luck()
    lowest = np.array([acted_best(*each, gains[0]) for each in zip(*given, strict=True)])
    costs = np.asarray(acted(actor, *(jnp.asarray(each) for each in given), KEY)[0]).sum(1)
    assert costs.mean() < 1.01 * lowest.mean()
    assert costs.mean() > 0.99 * lowest.mean()


class Counting(Planner):
    """It plans one more than it is given to begin with."""

    horizon: int = 3

    def improved(self, problem, state, key, start):
        return Plan(problem.cut(start + jnp.array([[1.0], [2.0], [3.0]])), {})


def test_a_plan_goes_on_from_the_rest_of_the_last():
    actor = PlanningActor.of(world(), Counting(), steering(), jnp.zeros(1))
    memory, plans = actor.init(KEY), []
    for _ in range(3):
        action, memory = actor.act(memory, jnp.zeros(1), KEY)
        plans.append(np.asarray(memory.mean[:, 0]))
        np.testing.assert_array_equal(action, memory.mean[0])
    np.testing.assert_array_equal(plans, [[1.0, 2.0, 3.0], [3.0, 5.0, 3.0], [6.0, 5.0, 3.0]])


def filtering(noise):
    policy = lambda state, key: -0.5 * state.latent[:1]  # noqa: E731
    return veil.FilteringActor.of(world(NOISE, SIGHT), policy, jnp.zeros(1), noise=noise)


def planning(noise):
    problem = steering(NOISE, low=-0.6, high=0.4)
    return PlanningActor.of(world(NOISE, SIGHT), CrossEntropy(2, 0.5, 16, 4, 1), problem, jnp.zeros(1), noise=noise)


ACTORS = {
    "planning": lambda: PlanningActor.of(
        world(NOISE, SIGHT),
        CrossEntropy(2, 0.5, 16, 4, 1),
        steering(NOISE, low=-0.6, high=0.4),
        jnp.zeros(1),
        noise=0.5,
    ),
    "filtering": lambda: filtering(Noise(jnp.array([0.5]), -0.6, 0.4)),
}


@pytest.mark.parametrize("name", ACTORS)
def test_what_is_known_is_the_batch_posterior_of_what_was_done(name):
    """Noise is added to the actions: the filter goes by what was done, not by what was meant."""
    actor = ACTORS[name]()
    given = [jnp.asarray(each[:3]) for each in luck()]
    _, actions, seen, memory = acted(actor, *given, KEY)
    seer = actor.seer if name == "planning" else actor
    beliefs = jax.vmap(jax.vmap(seer.filter.marginal))(memory.belief)
    marginals = eqx.filter_jit(world(NOISE, SIGHT).marginals)
    for row in range(3):
        led = jnp.concatenate([jnp.zeros((1, 1)), actions[row, :-1]])
        for steps in (1, 2, 7, STEPS):
            expected = marginals(Datum(seen[row, :steps], led[:steps]))
            np.testing.assert_allclose(beliefs.mean[row, steps - 1], expected.mean[-1], rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(beliefs.variance[row, steps - 1], expected.variance[-1], rtol=1e-6)
    np.testing.assert_array_equal(memory.action, actions)
    assert np.all((actions >= -0.6) & (actions <= 0.4))
    assert np.mean((actions == -0.6) | (actions == 0.4)) > 0.1  # cut after the noise


def test_noise_has_its_spread():
    state, keys = jnp.array([0.3]), jax.random.split(KEY, 3000)
    memory, seen = filtering(None).init(KEY), jnp.array([1.2])
    each = [jax.jit(jax.vmap(filtering(noise).act, (None, None, 0))) for noise in (None, Noise(0.5))]
    plain, noisy = (act(memory, seen, keys)[0] for act in each)
    assert abs(np.std(noisy - plain) - 0.5) < 0.02  # the same states were drawn
    assert abs(np.mean(noisy - plain)) < 0.04
    np.testing.assert_array_equal(Noise(0.0)(state, KEY), state)


def test_a_plan_is_of_vectors():
    with pytest.raises(ValueError, match=r"nothing: a plan is of actions that are one vector \[U\]"):
        PlanningActor.of(world(), CrossEntropy(2), steering(), {"left": jnp.zeros(1), "right": jnp.zeros(1)})
