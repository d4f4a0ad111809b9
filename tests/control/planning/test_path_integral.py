"""Control as inference by sampling: beside exact messages of a linear-quadratic problem, and on a pendulum."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil import distributions
from veil.control import (
    Hoped,
    Imagined,
    LinearQuadratic,
    PathIntegral,
    PlanningActor,
    Rewarded,
    WentWell,
    solve_linear_quadratic,
    successes,
)
from veil.evaluation.particles import particle_bound

MOVED, STEERED = np.array([[0.9, 0.3], [-0.2, 0.8]]), np.array([[0.4], [1.0]])
COST, PRICE = np.array([[1.0, 0.2], [0.2, 0.5]]), np.array([[0.8]])
START, HORIZON, TEMPERATURE = np.array([1.0, -0.5]), 4, 0.7


class Linear(veil.Stepwise):
    """A user's own: s' = A s + B u + noise; the latent is the next state, and so is the carry."""

    spread: float = 0.2
    start: jax.Array = eqx.field(default_factory=lambda: jnp.asarray(START))

    def carry(self, evidence):
        return self.start

    def advance(self, carry, latent, query, evidence, observed):
        return latent

    def step_prior(self, carry, evidence):
        return distributions.normal(MOVED @ carry + STEERED @ evidence, jnp.full(2, self.spread))

    def step_likelihood(self, carry, latent, evidence):
        return distributions.normal(latent, jnp.full(2, 0.1))

    @property
    def remembers(self):
        return False

    def latent_of(self, carry):
        return veil.model.stepwise.Marginal(None, carry, jnp.zeros(2))


def earned(step):
    """What the state is worth to which an action leads; that of the action is in p(u)."""
    return -0.5 * step.after @ COST @ step.after


@pytest.fixture(autouse=True)
def exactly():
    with jax.enable_x64(True):
        yield


def exact(noise, luck=None):
    """log E_p(u)[exp(R / τ)] and the mean of the posterior's first action."""
    given = LinearQuadratic(MOVED, STEERED, COST, PRICE, HORIZON, noise**2 * np.eye(2), COST)
    found = solve_linear_quadratic(given, TEMPERATURE, luck)
    value = found.value(jnp.asarray(START)) + 0.5 * START @ COST @ START  # the start itself earns nothing here
    whole = HORIZON * 0.5 * np.log(2 * np.pi * TEMPERATURE / PRICE[0, 0])  # ∫ exp(-½ R u² / τ) du, of each decision
    return value / TEMPERATURE - whole, -found.gain[0] @ START, found


NOTHING = np.zeros((HORIZON, 1))
PRIOR = float(np.sqrt(TEMPERATURE / PRICE[0, 0]))


def test_particles_hope_for_luck_as_the_exact_messages():
    problem = WentWell(
        Linear(), earned, distributions.normal(jnp.zeros(1), jnp.full(1, PRIOR)), jnp.asarray(START), TEMPERATURE
    )
    evidence, first, _ = exact(0.2, Hoped())
    runs = [successes(problem, HORIZON, key, 4000) for key in jax.random.split(jax.random.key(0), 8)]
    logs = np.array([float(log) for _, log in runs])
    assert abs(logs.mean() - evidence) < 4 * logs.std() / np.sqrt(8) + 1e-3
    assert logs.std() < 0.05
    firsts = np.array([actions[:, 0].mean(0) for actions, _ in runs])
    assert np.all(np.abs(firsts.mean(0) - first) < 4 * firsts.std(0) / np.sqrt(8) + 0.01)
    held = exact(0.2)[0]
    assert abs(evidence - held) > 10 * logs.std() / np.sqrt(8)  # so that the test can tell one from the other


def test_it_is_a_model_that_the_bounds_take():
    problem = WentWell(
        Linear(), earned, distributions.normal(jnp.zeros(1), jnp.full(1, PRIOR)), jnp.asarray(START), TEMPERATURE
    )
    went = veil.data.episodes([np.ones(HORIZON)])
    found = particle_bound(problem, veil.posterior.Bootstrap(), went, key=jax.random.key(1), particles=2000)
    assert abs(found.combined_average.value - exact(0.2, Hoped())[0]) < 0.05


def test_path_integrals_are_the_posterior_over_actions():
    planner = PathIntegral(HORIZON, PRIOR, TEMPERATURE, candidates=20_000, rounds=3)
    problem = Imagined(Linear(spread=1e-6), Rewarded(earned))
    plan = planner.plan(problem, jnp.asarray(START), jax.random.key(0), NOTHING)
    evidence, _, found = exact(1e-6)
    assert abs(plan.metrics["log_evidence"] - evidence) < 0.02
    assert plan.metrics["effective"] > 2000
    state, expected = START, []
    for gain in found.gain:  # the linear-quadratic regulator, open loop
        expected.append(-gain @ state)
        state = MOVED @ state + STEERED @ expected[-1]
    np.testing.assert_allclose(plan.mean, expected, atol=0.03)


def towards(state, key):
    """A policy that knows roughly what to do."""
    return -0.8 * state[1:] + 0.1 * jax.random.normal(key, (1,))


def test_candidates_of_a_policy_leave_the_weights_exact():
    """Few of the prior's draws are of use under a small temperature: the policy's are, at their true weights."""
    problem = Imagined(Linear(spread=1e-6), Rewarded(earned))
    evidence, *_ = exact(1e-6)
    plans = [
        PathIntegral(HORIZON, PRIOR, TEMPERATURE, 4000, 1, towards, share).plan(
            problem, jnp.asarray(START), jax.random.key(1), NOTHING
        )
        for share in (0.02, 0.5)
    ]
    for plan in plans:
        assert abs(plan.metrics["log_evidence"] - evidence) < 0.06


def test_returns_are_averages_over_luck():
    many = Imagined(Linear(spread=0.2), Rewarded(earned), draws=20_000)
    actions, state, still = jnp.ones((HORIZON, 1)), START, 0.0
    for action in np.asarray(actions):
        state = MOVED @ state + STEERED @ action
        still -= 0.5 * state @ COST @ state
    powers = [np.linalg.matrix_power(MOVED, k) for k in range(HORIZON)]
    lost = 0.5 * 0.2**2 * sum(np.trace(COST @ powers[k] @ powers[k].T) for t in range(1, HORIZON + 1) for k in range(t))
    found = many.returns(jnp.asarray(START), actions, jax.random.key(0))
    assert abs(found - (still - lost)) < 0.07  # four of its standard errors
    assert lost > 0.2


class Pendulum(veil.Stepwise):
    """Gymnasium's Pendulum-v1 by its equations, seen without noise to speak of: angle and speed."""

    def carry(self, evidence):
        return veil.Before(jnp.array([jnp.pi, 0.0]), jnp.array(True))

    def advance(self, carry, latent, query, evidence, observed):
        return veil.Before(latent, jnp.array(False))

    def step_prior(self, carry, evidence):
        angle, speed = carry.latent
        speed = jnp.clip(speed + 0.05 * (15.0 * jnp.sin(angle) + 3.0 * jnp.clip(evidence[0], -2, 2)), -8, 8)
        moved = jnp.stack([angle + 0.05 * speed, speed])
        return distributions.normal(
            jnp.where(carry.fresh, carry.latent, moved), jnp.where(carry.fresh, 3.0, 0.03) * jnp.ones(2)
        )

    def step_likelihood(self, carry, latent, evidence):
        return distributions.normal(jnp.stack([jnp.cos(latent[0]), jnp.sin(latent[0]), latent[1]]), jnp.full(3, 0.05))

    @property
    def remembers(self):
        return False


def swung(step):
    angle = (step.before.latent[0] + jnp.pi) % (2 * jnp.pi) - jnp.pi
    return -(angle**2 + 0.1 * step.before.latent[1] ** 2 + 0.001 * step.evidence[0] ** 2)


def test_an_actor_plans_a_pendulum_up():
    import gymnasium

    planner = PathIntegral(25, 2.0, 1.0, candidates=256, rounds=2)
    problem = Imagined(Pendulum(), Rewarded(swung), low=-2.0, high=2.0)
    actor = PlanningActor.of(Pendulum(), planner, problem, jnp.zeros(1), veil.posterior.Bootstrap())
    env = gymnasium.make("Pendulum-v1")
    observation, _ = env.reset(seed=1)
    memory, act, total = actor.init(jax.random.key(0)), jax.jit(actor.act), 0.0
    for step in range(200):
        action, memory = act(memory, jnp.asarray(observation, float), jax.random.fold_in(jax.random.key(1), step))
        observation, reward, *_ = env.step(np.asarray(action, np.float32))
        total += float(reward)
    env.close()
    assert total > -400  # doing nothing: about -1200


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="horizon: expected a positive integer"):
        PathIntegral(0, 1.0)
    with pytest.raises(ValueError, match="spread: expected positive numbers"):
        PathIntegral(3, 0.0)
    with pytest.raises(ValueError, match="share: expected the part"):
        PathIntegral(3, 1.0, share=1.0)
    vrnn = veil.vrnn(latent=1, memory=2)
    with pytest.raises(TypeError, match="needs its queries"):
        WentWell(vrnn, earned, distributions.normal(jnp.zeros(1), jnp.ones(1)), jnp.zeros(2))
