"""All planners, one interface: beside Riccati's recursion, in batches, within bounds, warm and with values behind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steered import COST, MOVED, PRICE, START, STEERED, at, best, earned, followed, steering, world
from veil.control import (
    CrossEntropy,
    GradientPlanner,
    Imagined,
    PathIntegral,
    Plan,
    Planner,
    Quadratic,
    Rewarded,
    Shooting,
)
from veil.control.planning import shifted

KEY = jax.random.key(0)
HORIZON = 4
NOTHING = np.zeros((HORIZON, 1))
TEMPERATURE = 0.02


def towards(state, key):
    """A policy that knows roughly what to do, in the future of one state."""
    return -0.6 * state.latent[1:] + 0.2 * jax.random.normal(key, (1,))


PLANNERS = {
    "shooting": Shooting(HORIZON, 20_000),
    "cross-entropy": CrossEntropy(HORIZON),
    "cross-entropy, improved": CrossEntropy.improving(HORIZON, colour=1.0, rounds=4, elites=8),
    "cross-entropy, of a policy": CrossEntropy(HORIZON, 0.5, 128, 16, policy=towards, share=0.2),
    "path integral": PathIntegral(HORIZON, float(np.sqrt(TEMPERATURE / PRICE[0, 0])), TEMPERATURE, 512, 6),
    "gradient": GradientPlanner(HORIZON),
    "quadratic": Quadratic(HORIZON, rounds=3),
}
FEW = {
    "shooting": Shooting(HORIZON, 64),
    "cross-entropy": CrossEntropy(HORIZON, 1.0, 32, 8, 2, policy=towards),
    "cross-entropy, improved": CrossEntropy.improving(HORIZON, candidates=24, elites=4, kept=2, rounds=2),
    "path integral": PathIntegral(HORIZON, 1.0, 0.5, 32, 2, towards),
    "gradient": GradientPlanner(HORIZON, 5, starts=2),
    "quadratic": Quadratic(HORIZON, rounds=3),
}


@pytest.fixture(autouse=True)
def exactly():
    with jax.enable_x64(True):
        yield


def unpriced(step):
    """A path integral has the price of actions in its prior."""
    return earned(step) + 0.5 * step.evidence @ jnp.asarray(PRICE) @ step.evidence


def returned(actions, state=START):
    """What actions earn without noise, in numpy."""
    total = 0.0
    for action in np.asarray(actions):
        state = MOVED @ state + STEERED @ action
        total -= 0.5 * state @ COST @ state + 0.5 * action @ PRICE @ action
    return total


@pytest.mark.parametrize("name", PLANNERS)
def test_a_plan_earns_what_the_best_does(name):
    more = {"low": -2.0, "high": 2.0} if name == "shooting" else {}
    problem = steering(**more)
    if name == "path integral":
        problem = Imagined(problem.model, Rewarded(unpriced))
    plan = PLANNERS[name].plan(problem, at(START), KEY, NOTHING)
    gains, ahead = best(HORIZON)
    highest = -0.5 * START @ ahead @ START
    assert returned(NOTHING) < 1.15 * highest  # there is something to find
    assert highest * 1.01 < returned(plan.mean) <= highest + 1e-9
    exact = followed(gains, START)
    np.testing.assert_allclose(plan.mean[0], exact[0], atol=0.15)
    if "best" in plan.metrics and name != "path integral":
        assert highest * 1.1 < plan.metrics["best"] <= highest + 1e-9


@pytest.mark.parametrize("name", FEW)
def test_a_batch_of_plans_is_the_plans_one_by_one(name):
    problem = steering(0.1, low=jnp.full(1, -1.0), high=jnp.full(1, 1.0), draws=2)
    planner = FEW[name]
    states = jax.vmap(at)(jnp.array([[1.5, -0.5], [0.2, 0.9], [-1.0, 0.0]]))
    keys, starts = jax.random.split(KEY, 3), jnp.linspace(-0.5, 0.5, 3 * HORIZON).reshape(3, HORIZON, 1)
    batch = jax.vmap(lambda *each: planner.plan(problem, *each))(states, keys, starts)
    for i in range(3):
        one = planner.plan(problem, jax.tree.map(lambda leaf, i=i: leaf[i], states), keys[i], starts[i])
        np.testing.assert_allclose(batch.mean[i], one.mean, atol=1e-6)


@pytest.mark.parametrize("name", FEW)
def test_plans_are_within_the_bounds(name):
    """Far from the goal all that is allowed is done; bounds are arrays, which say how many entries an action has."""
    low, high = jnp.full(1, -0.3), jnp.full(1, 0.1)
    for state, bound in ((8.0 * np.abs(START), low), (-8.0 * np.abs(START), high)):
        plan = FEW[name].plan(steering(low=low, high=high), at(state), KEY)
        assert plan.mean.shape == (HORIZON, 1)
        assert np.all((plan.mean >= low[0]) & (plan.mean <= high[0]))
        assert abs(plan.mean[0, 0] - bound[0]) < 0.15


@pytest.mark.parametrize("name", ["cross-entropy", "gradient", "quadratic"])
def test_what_lies_behind_the_horizon_counts(name):
    """With Riccati's value behind it a plan of few steps is the beginning of a long one."""
    long, ahead = best(300)
    behind = best(300 - HORIZON)[1]
    value = lambda state: -0.5 * state.latent @ jnp.asarray(behind) @ state.latent  # noqa: E731
    planner = {"cross-entropy": CrossEntropy(HORIZON, candidates=512)}.get(name, PLANNERS[name])
    plan = planner.plan(steering(value=value), at(START), KEY, NOTHING)
    exact = followed(long[:HORIZON], START)
    tolerance = {"quadratic": 1e-9}.get(name, 0.05)
    np.testing.assert_allclose(plan.mean, exact, atol=tolerance)
    assert np.abs(followed(best(HORIZON)[0], START) - exact).max() > 0.1  # what a plan without it comes to
    if name != "cross-entropy":
        np.testing.assert_allclose(plan.metrics["best"], -0.5 * START @ ahead @ START, rtol=1e-3)


def test_the_rest_of_a_plan_is_where_the_next_begins():
    np.testing.assert_array_equal(shifted(jnp.array([[1.0], [2.0], [3.0]])), [[2.0], [3.0], [0.0]])
    gains, _ = best(HORIZON)
    exact = followed(gains, START)
    little = CrossEntropy(HORIZON, 0.05, 16, 4, 1)
    cold, warm = (little.plan(steering(), at(START), KEY, start) for start in (NOTHING, exact))
    assert returned(cold.mean) < 1.1 * returned(exact)  # costs are negative
    assert returned(warm.mean) > 1.01 * returned(exact)
    # what is given to begin with is never made worse by those that keep the best
    for name in ("shooting", "gradient", "quadratic"):
        found = FEW[name].plan(steering(low=-2.0, high=2.0), at(START), KEY, exact)
        assert returned(found.mean) > returned(exact) - 1e-9


def test_a_planner_of_ones_own_writes_one_method():
    class Same(Planner):
        horizon: int = 2

        def improved(self, problem, state, key, start):
            return Plan(problem.cut(start + 5.0), {})

    plan = Same().plan(Imagined(world(), Rewarded(earned), low=jnp.full(2, -1.0), high=jnp.ones(2)), at(START), KEY)
    np.testing.assert_array_equal(plan.mean, np.ones((2, 2)))


def test_choices_of_cross_entropy():
    """What is kept, how rounds shrink, and the best instead of the mean; each can be seen in the plan."""
    planner = CrossEntropy.improving(HORIZON, candidates=40, elites=8, rounds=4, shrink=2.0)
    assert planner._sizes() == [(40, False), (20, False), (16, False), (16, True)]
    problem = steering()
    plan = planner.plan(problem, at(START), KEY, NOTHING)
    np.testing.assert_allclose(plan.metrics["best"], returned(plan.mean), rtol=1e-9)  # it was a candidate
    # without noise what is kept is never lost: round by round the best gets no worse
    keys = jax.random.split(KEY, 16)
    bests = np.stack(
        [
            jax.vmap(
                lambda key, rounds=rounds: (
                    CrossEntropy(HORIZON, 1.0, 24, 4, rounds, 1.0, kept=1)
                    .plan(problem, at(START), key, NOTHING)
                    .metrics["best"]
                )
            )(keys)
            for rounds in (1, 2, 3)
        ]
    )
    assert np.all(np.diff(bests, axis=0) >= -1e-12)
    least = CrossEntropy(HORIZON, 1.0, 24, 4, 6, 0.5).plan(problem, at(START), KEY, NOTHING)
    assert least.metrics["spread"] >= 0.5 - 1e-12
    np.testing.assert_allclose(
        CrossEntropy(HORIZON, 1.0, 9, 1, 1, best=True).plan(problem, at(START), KEY, followed(best(4)[0], START)).mean,
        followed(best(4)[0], START),  # the mean is a candidate of the last round, and the best one
    )


def test_what_is_no_number_is_not_chosen():
    def broken(step):
        return jnp.where(step.evidence[0] > 0.3, jnp.nan, earned(step))

    problem = Imagined(world(), Rewarded(broken), low=-1.0, high=1.0)
    for name in ("shooting", "cross-entropy, improved", "path integral"):
        plan = FEW[name].plan(problem, at(START), KEY, NOTHING)
        assert np.all(plan.mean <= 0.3)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"start: expected actions \[H, U\] to begin with, or bounds"):
        CrossEntropy(3).plan(steering(low=-1.0, high=1.0), at(START), KEY)
    with pytest.raises(ValueError, match=r"start: expected actions \[3, U\], one for each step; got the shape"):
        CrossEntropy(3).plan(steering(), at(START), KEY, np.zeros((2, 1)))
    with pytest.raises(ValueError, match="expected fewer elites than candidates"):
        CrossEntropy(3, 1.0, 8, 8)
    with pytest.raises(ValueError, match=r"kept, share: expected fewer candidates that are given .*; got 9 of 8"):
        CrossEntropy(3, 1.0, 8, 4, 2, kept=4, best=True, policy=towards, share=0.5)
    with pytest.raises(ValueError, match="colour, shrink"):
        CrossEntropy(3, colour=-1.0)
    with pytest.raises(ValueError, match="problem: Shooting draws between its bounds"):
        Shooting(3).plan(steering(), at(START), KEY, np.zeros((3, 1)))
