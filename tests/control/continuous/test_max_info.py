"""MaxInfoSAC: what is new beside what is earned, against closed forms and soft actor-critic itself."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aiming import Aim, random_rows, trained
from veil.control import FixedGainWeight, FixedTemperature, LearnedGainWeight, MaxInfoActorCritic, SoftActorCritic
from veil.control.continuous.networks import drawn
from veil.control.continuous.transitions import Transitions
from veil.control.exploration import Bonus, Disagreement, LinearGain, NetworkGain
from veil.parts.nets import MLP
from veil.zoo.ensemble import DynamicsEnsemble

KEY = jax.random.key(0)
SMALL = MLP((8,), "tanh")
TEAM = Disagreement(ensemble=DynamicsEnsemble(2, MLP((8,))))


class Tilt(Bonus):
    """slope · a[0] + level, and ``grows`` more after every update."""

    slope: float = 0.0
    level: float = 0.0
    grows: float = 0.0

    def init(self, example, key):
        return jnp.zeros(())

    def __call__(self, state, observation, action, following):
        return self.slope * action[0] + self.level + state, state

    def update(self, state, batch):
        return state + self.grows


def test_of_no_weight_it_is_soft_actor_critic_to_the_last_bit():
    """And its bonus learns all the same."""
    agent, rows = SoftActorCritic(0.9, SMALL, rate=1e-2), random_rows(12)
    rows = jax.tree.map(lambda leaf: leaf.astype(jnp.result_type(leaf.dtype, jnp.float32)), rows)
    plain, learner = agent.start(rows, KEY), MaxInfoActorCritic(agent, LinearGain(), FixedGainWeight(0.0))
    state = begun = learner.start(rows, KEY)
    for key in jax.random.split(KEY, 5):
        plain, _ = jax.jit(agent.step)(plain, rows, key)
        state, info = jax.jit(learner.step)(state, rows, key)
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(state.agent), strict=True):
        np.testing.assert_array_equal(one, other)
    assert info["gain_weight"] == 0.0
    gains = [learner.gain(each, rows.observation[0], rows.action[0]) for each in (begun.bonus, state.bonus)]
    assert gains[0] != gains[1]


def test_the_weight_has_the_gradient_of_the_dual():
    """d/d log w of log w (E_π[I] - E_slow[I]), of I = 2 a: by draws that are the same; one step of Adam is its sign."""
    rows = random_rows(64)
    learner = MaxInfoActorCritic(SoftActorCritic(0.9, SMALL), Tilt(2.0), LearnedGainWeight(0.5), rate=1e-2)
    state = learner.start(rows, KEY)
    moved = lambda policy, by: jax.tree.map(lambda leaf: leaf + by, policy)  # noqa: E731
    for by in (-0.3, 0.3):
        slow = moved(state.slow, by)
        there = replace(state, slow=slow)
        keys = jax.random.split(KEY, 64)
        draws = [
            np.asarray(jax.vmap(lambda o, k, policy=policy: drawn(policy, o, k)[0])(rows.observation, keys))
            for policy in (state.agent.learnt.policy, slow)
        ]
        wanted = 2.0 * (draws[0].mean() - draws[1].mean())
        gains = [learner.mean_gain(there.bonus, each, rows, KEY) for each in (state.agent.learnt.policy, slow)]
        slope = jax.grad(learner.weight.loss)(state.log_weight, *gains)
        np.testing.assert_allclose(slope, wanted, rtol=1e-4, atol=1e-6)
        assert abs(wanted) > 0.05
        after, _ = learner.step(there, rows, KEY)
        np.testing.assert_allclose(after.log_weight - np.log(0.5), -0.01 * np.sign(wanted), rtol=1e-3)


def test_the_slow_policy_takes_a_share_of_a_step():
    rows = random_rows(12)
    learner = MaxInfoActorCritic(SoftActorCritic(0.9, SMALL, rate=1e-2, follow=0.25), Tilt(1.0))
    state = learner.start(rows, KEY)
    after, _ = learner.step(state, rows, KEY)
    parts = after.slow, state.slow, after.agent.learnt.policy
    for slow, old, new in zip(*map(jax.tree.leaves, parts), strict=True):
        np.testing.assert_allclose(slow, 0.75 * old + 0.25 * new, rtol=1e-5, atol=1e-7)


def test_a_gain_is_of_what_was_known_before_the_batch():
    """The bonus says how often it has learned."""
    rows = random_rows(12)
    learner = MaxInfoActorCritic(SoftActorCritic(0.9, SMALL), Tilt(grows=1.0))
    state = learner.start(rows, KEY)
    for times in range(3):
        state, info = learner.step(state, rows, KEY)
        assert info["gain"] == times


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_what_is_new_tilts_the_policy_by_a_known_angle(weight):
    """π ∝ exp((-½ k (a - o/2)² + w c a) / τ) has its mean at o/2 + w c / k: here k = 20, c = 6."""
    agent = SoftActorCritic(trunk=MLP((32, 32), "tanh"), temperature=FixedTemperature(0.1), rate=3e-3)
    learner = MaxInfoActorCritic(agent, Tilt(6.0), FixedGainWeight(weight))

    def rows(key, size):
        seen, done = jax.random.uniform(key, (2, size, 1), minval=-1, maxval=1)
        earned = -10.0 * (done - 0.5 * seen)[:, 0] ** 2
        over = jnp.ones(size, bool)
        return Transitions(seen, done, earned, jnp.full((size, 1), 9.0), over, ~over)

    state = trained(learner, learner.start(rows(KEY, 256), KEY), rows, jax.random.key(1), 3000)
    seen, keys = jnp.linspace(-0.9, 0.9, 7)[:, None], jax.random.split(KEY, 2000)
    draw = jax.jit(jax.vmap(lambda o: jax.vmap(lambda key: drawn(learner.learnt(state).policy, o, key)[0])(keys)))
    np.testing.assert_allclose(draw(seen)[..., 0].mean(1), 0.5 * seen[:, 0] + weight * 6.0 / 20.0, atol=0.04)


@pytest.mark.parametrize("terminated", [False, True])
def test_critics_have_what_is_new_later_and_not_what_is_new_now(terminated):
    """A gain of 1 at every step, of which each is worth ½: Q = γ ½ / (1 - γ), and 0 where all is over."""
    agent = SoftActorCritic(0.8, SMALL, temperature=FixedTemperature(1e-6), rate=1e-2, follow=0.05)
    learner = MaxInfoActorCritic(agent, Tilt(0.0, 1.0), FixedGainWeight(0.5))

    def rows(key, size):
        done, over = jax.random.uniform(key, (size, 1), minval=-1, maxval=1), jnp.full(size, terminated)
        return Transitions(jnp.zeros((size, 1)), done, jnp.zeros(size), jnp.zeros((size, 1)), over, ~over)

    state = trained(learner, learner.start(rows(KEY, 64), KEY), rows, jax.random.key(1), 1500, 32)
    found = learner.learnt(state).critics[0](jnp.zeros(1), jnp.zeros(1))
    np.testing.assert_allclose(found, 0.0 if terminated else 2.0, atol=0.04)


def test_it_learns_in_an_environment_and_the_same_key_is_the_same_skill():
    agent = SoftActorCritic(trunk=MLP((16,), "relu"), temperature=FixedTemperature(0.2), rate=5e-3)
    learner = MaxInfoActorCritic(agent, TEAM)
    first, again = (learner.learn(Aim, 1000, key=KEY, begin=200, every=100, batch_size=64) for _ in range(2))
    for one, two in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, two)
    assert first.returns[-100:].mean() > first.returns[:100].mean() + 1.0


def test_what_cannot_be_is_said():
    rows = random_rows(4)
    with pytest.raises(ValueError, match=r"bonus: expected one of \(o, a\).*NetworkGain depends on where it leads"):
        MaxInfoActorCritic(bonus=NetworkGain()).start(rows, KEY)
    MaxInfoActorCritic(bonus=LinearGain()).start(rows, KEY)
    with pytest.raises(TypeError, match=r"bonus: expected one, such as Disagreement\(\)"):
        MaxInfoActorCritic(bonus=3.0)
    with pytest.raises(ValueError, match=r"start: expected a weight from 0"):
        FixedGainWeight(-1.0)
    with pytest.raises(ValueError, match=r"start: expected a positive weight"):
        LearnedGainWeight(0.0)
