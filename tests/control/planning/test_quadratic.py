"""Iterative linear-quadratic control: exact where it must be, an optimum where scipy finds it, on deep models too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import veil
from veil import distributions
from veil.control import Imagined, LinearQuadratic, Predicted, Quadratic, Rewarded, solve_linear_quadratic
from veil.control.planning.still import Still
from veil.model import Datum
from veil.parts.dynamics import LocallyLinear

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def exactly():
    with jax.enable_x64(True):
        yield


def linear_quadratic(horizon=6):
    rng = np.random.default_rng(0)
    square = lambda n: (lambda m: m @ m.T + 0.1 * np.eye(n))(rng.normal(size=(n, n)))  # noqa: E731
    moved, steered = 0.6 * rng.normal(size=(3, 3)), rng.normal(size=(3, 2))
    return LinearQuadratic(moved, steered, square(3), square(2), horizon, None, square(3))


def as_problem(given, discount=1.0):
    """The same on a veil.LDS, with noise, which changes no plan."""
    model = veil.LDS(
        3,
        veil.Diagonal(scale=jnp.ones((1, 1))),
        mean=jnp.zeros(3),
        factor=jnp.eye(3),
        transition=given.transition,
        drift=jnp.concatenate([jnp.zeros((3, 1)), given.steering], 1),
        process=0.3 * jnp.eye(3),
        emission=jnp.ones((1, 3)),
        offset=jnp.zeros(1),
    )

    def earned(step):
        z, u = step.before.latent, step.evidence
        return -0.5 * z @ given.state_cost @ z - 0.5 * u @ given.action_cost @ u

    value = lambda state: -0.5 * state.latent @ given.final_cost @ state.latent  # noqa: E731
    return Imagined(model, Rewarded(earned), discount=discount, value=value)


def test_one_round_is_the_linear_quadratic_regulator():
    given, start = linear_quadratic(), np.array([1.0, -2.0, 0.5])
    exact = solve_linear_quadratic(given, temperature=0.0)
    state, actions = start, []
    for gain in np.asarray(exact.gain):
        actions.append(-gain @ state)
        state = np.asarray(given.transition) @ state + np.asarray(given.steering) @ actions[-1]
    begin = np.random.default_rng(1).normal(size=(6, 2))  # wherever it begins
    plan = Quadratic(6, rounds=1, searched=1).plan(
        as_problem(given), veil.Before(jnp.asarray(start), jnp.array(False)), KEY, begin
    )
    np.testing.assert_allclose(plan.mean, actions, atol=1e-9)
    np.testing.assert_allclose(plan.metrics["best"], exact.value(jnp.asarray(start)), rtol=1e-9)


def test_a_discount_is_in_the_recursion():
    """γ^t of costs is that of a system whose state and actions shrink by √γ a step."""
    given, start, discount = linear_quadratic(), np.array([1.0, -2.0, 0.5]), 0.8
    shrunk = LinearQuadratic(
        discount**0.5 * given.transition,
        discount**0.5 * given.steering,
        given.state_cost,
        given.action_cost,
        6,
        None,
        given.final_cost,
    )
    exact = solve_linear_quadratic(shrunk, temperature=0.0)
    here = veil.Before(jnp.asarray(start), jnp.array(False))
    plan = Quadratic(6, rounds=1).plan(as_problem(given, discount), here, KEY, np.zeros((6, 2)))
    np.testing.assert_allclose(plan.mean[0], -exact.gain[0] @ start, atol=1e-9)
    np.testing.assert_allclose(plan.metrics["best"], exact.value(jnp.asarray(start)), rtol=1e-9)


class Pendulum(veil.Stepwise):
    """Angle and speed by Euler's steps; it may fall off where it is fast."""

    def carry(self, evidence):
        return veil.Before(jnp.array([2.0, 0.0]), jnp.array(False))

    def advance(self, carry, latent, query, evidence, observed):
        return veil.Before(latent, jnp.array(False))

    def step_prior(self, carry, evidence):
        angle, speed = carry.latent
        speed = speed + 0.1 * (5.0 * jnp.sin(angle) + 3.0 * evidence[0])
        return distributions.normal(jnp.stack([angle + 0.1 * speed, speed]), jnp.full(2, 0.1))

    def step_likelihood(self, carry, latent, evidence):
        held = jnp.exp(-(latent[0] ** 2) - 0.1 * latent[1] ** 2) - 0.01 * evidence[0] ** 2
        fell = distributions.bernoulli(2.0 * latent[1:] ** 2 - 3.0)
        return distributions.Joint({"reward": distributions.normal(held[None], jnp.ones(1)), "terminated": fell})

    @property
    def remembers(self):
        return False


@pytest.mark.parametrize("ends", [True, False])
def test_its_plan_is_an_optimum_that_scipy_agrees_with(ends):
    outcomes = Predicted(terminated="terminated" if ends else None)
    problem = Imagined(Pendulum(), outcomes, -2.0, 2.0, 0.95)
    state, start = Pendulum().carry(None), np.full((12, 1), -0.5)
    plan = Quadratic(12, rounds=40).plan(problem, state, KEY, start)
    still = Imagined(Still(Pendulum()), outcomes, discount=0.95)
    slope = jax.jit(jax.value_and_grad(lambda u: -still.returns(state, u.reshape(12, 1), KEY)))
    again = scipy.optimize.minimize(
        lambda u: tuple(np.asarray(each) for each in slope(u)),
        np.ravel(plan.mean),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-2.0, 2.0)] * 12,
    )
    np.testing.assert_allclose(-slope(jnp.ravel(plan.mean))[0], plan.metrics["best"], rtol=1e-9)
    assert plan.metrics["best"] > 1.5 * -slope(jnp.ravel(start))[0]
    assert plan.metrics["best"] > -again.fun - 1e-4


DEEP = {
    "locally linear": veil.StateSpace(LocallyLinear(2, veil.MLP((4,)))),
    "recurrent": veil.rssm(2, memory=5),
}


@pytest.mark.parametrize("name", DEEP)
def test_it_plans_in_deep_models(name):
    """From their first step on: the mean of what is seen is to be high."""
    rng = np.random.default_rng(0)
    data = Datum(jnp.asarray(rng.normal(size=(2, 5, 1))), jnp.asarray(rng.normal(size=(2, 5, 1))))
    model = DEEP[name].initialise(data, None, KEY)
    model = jax.tree.map(lambda leaf: leaf + 0.3 * jnp.asarray(rng.normal(size=leaf.shape)), model)

    def seen(step):
        mean = distributions.moments(model.step_likelihood(step.before, step.latent, step.evidence))[0]
        return mean[0] - 0.05 * jnp.sum(step.evidence**2)

    problem = Imagined(model, Rewarded(seen), low=-3.0, high=3.0)
    plan = Quadratic(4, 8).plan(problem, model.carry(None), KEY, np.zeros((4, 1)))
    still = Imagined(Still(model), Rewarded(seen))
    slope = jax.jit(jax.grad(lambda u: still.returns(model.carry(None), u, KEY)))(plan.mean)
    inside = np.abs(plan.mean) < 3.0
    assert np.all(np.abs(slope)[inside] < 1e-4)
    assert np.abs(plan.mean[1:]).max() > 1e-3
    assert abs(plan.mean[0, 0]) < 1e-9  # no action led to a first step: it costs and does nothing
