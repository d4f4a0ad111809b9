"""Proximal policy optimisation beside textbook code, and whether it learns."""

from dataclasses import replace

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil.control.exploration.counts import Counted, Tally
from veil.control.imagination.actions import OneOf, Within
from veil.control.proximal.agent import ProximalPolicy, Rollout, Rows, standard
from veil.control.proximal.learning import proximal
from veil.parts.nets import MLP


def rollout(key, steps=7, count=2):
    keys = jax.random.split(key, 8)
    over = jax.random.bernoulli(keys[6], 0.4, (steps, count))
    seen = jax.random.normal(keys[0], (steps + 1, count, 3))
    return Rollout(
        seen[:-1],
        jax.nn.one_hot(jax.random.randint(keys[1], (steps, count), 0, 2), 2),
        -jnp.ones((steps, count)),
        jax.random.normal(keys[2], (steps, count)),
        jax.random.normal(keys[3], (steps, count)),
        jnp.where(over[..., None], jax.random.normal(keys[4], (steps, count, 3)), seen[1:]),
        over & jax.random.bernoulli(keys[7], 0.5, (steps, count)),
        over,
        seen[-1],
    )


def test_advantages_are_generalised_ones_and_ends_are_no_cuts():
    agent = ProximalPolicy(OneOf(2), MLP((4,)), 0.9, 0.8, 0.7, earned=2.0, new=0.5)
    state = agent.start(3, jax.random.key(0))
    critic = replace(state.critic, last=replace(state.critic.last, weight=100.0 * state.critic.last.weight))
    state, played = replace(state, critic=critic), rollout(jax.random.key(1))
    value = lambda seen: np.asarray(state.critic(standard(state.moments, seen)), float)  # noqa: E731
    returns, advantage = agent.judged(state, played)
    for n in range(2):
        later = np.zeros(2)
        for t in reversed(range(7)):
            here = value(played.observation[t, n])
            final = value(played.final[t, n])[0]
            beyond = value(played.last[n] if t == 6 else played.observation[t + 1, n])[1]
            going = 0.0 if played.terminated[t, n] else 1.0
            error = played.reward[t, n] + 0.9 * going * final - here[0], played.new[t, n] + 0.8 * beyond - here[1]
            # what is behind the end of an episode is another episode's, of which only what is new counts
            follows = (0.0 if played.over[t, n] else 0.9 * 0.7) * (t < 6), 0.8 * 0.7 * (t < 6)
            later = np.array([e + f * r for e, f, r in zip(error, follows, later, strict=True)])
            np.testing.assert_allclose(advantage[t, n], 2.0 * later[0] + 0.5 * later[1], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(returns[t, n], later + here, rtol=1e-4, atol=1e-5)


def test_a_policy_that_went_far_enough_is_pulled_no_further():
    agent = ProximalPolicy(OneOf(2, even=0.0), MLP((4,)), entropy=0.0)
    state = agent.start(3, jax.random.key(0))
    rows = Rows(jnp.ones((2, 3)), jnp.eye(2), jnp.log(jnp.full(2, 0.5)), jnp.zeros((2, 2)), jnp.array([1.0, -1.0]))

    def slope(log_prob):
        asked = replace(rows, log_prob=log_prob)
        found = jax.grad(lambda actor: agent.loss(actor, state.critic, asked, jax.random.key(0))[0])(state.actor)
        return float(jnp.abs(found.last.bias).sum())

    assert slope(rows.log_prob) > 0.1
    assert slope(rows.log_prob + jnp.array([-0.5, 0.5])) == 0.0  # ratios 1.65 and .61, both the way they should go
    assert slope(rows.log_prob + jnp.array([0.5, -0.5])) > 0.1  # those that went the wrong way come back


@pytest.mark.parametrize("actions", [OneOf(2, even=0.0), Within((-1.0,), (1.0,))])
def test_it_learns_what_to_do_where(actions):
    agent = ProximalPolicy(actions, MLP((16,)), rate=3e-3, entropy=0.0)
    state = agent.start(1, jax.random.key(0))

    @jax.jit
    def turn(state, key):
        key_see, key_act, key_learn = jax.random.split(key, 3)
        seen = jax.random.normal(key_see, (64, 1, 1))
        decide = lambda seen, key: agent.seen(state, seen)[0].sample(key)  # noqa: E731
        done = jax.vmap(decide)(seen[:, 0], jax.random.split(key_act, 64))[:, None]
        log_prob = jax.vmap(lambda s, a: agent.seen(state, s)[0].log_prob(a))(seen[:, 0], done[:, 0])[:, None]
        earned = jnp.sign(seen[..., 0]) * (done[..., -1] if actions.continuous else 2.0 * done[..., 1] - 1.0)
        over = jnp.ones((64, 1), bool)
        played = Rollout(seen, done, log_prob, earned, jnp.zeros((64, 1)), seen, over, over, seen[-1])
        return agent.step(state, played, key_learn)[0], jnp.mean(earned)

    for key in jax.random.split(jax.random.key(1), 60):
        state, mean = turn(state, key)
    assert float(mean) > 0.75


def test_in_environments_with_a_bonus_and_back_from_the_disk(tmp_path):
    make = lambda: gymnasium.make("veil.control.worlds:veil/DeepSea-v0", size=4)  # noqa: E731
    words = []
    found = proximal(
        make, 200, key=jax.random.key(0), agent=ProximalPolicy(trunk=MLP((8,)), minibatches=2),
        bonus=Counted(Tally(17)), together=2, length=16, watch=lambda *told: words.append(told),
    )  # fmt: skip
    assert len(found.returns) == len(found.steps) == 2 * 6 * 16 // 4
    assert words[-1][:2] == (192, 192)
    assert np.all(found.new > 0)
    assert float(found.bonus_state.sum()) == 192
    veil.save(tmp_path / "actor", found.actor)
    again = veil.load(tmp_path / "actor")
    key = jax.random.key(3)
    assert int(again.act((), np.int64(3), key)[0]) == int(found.actor.act((), np.int64(3), key)[0])
    assert found.first_reward() is not None


def test_wrong_usage():
    with pytest.raises(TypeError, match="actions: expected Within"):
        ProximalPolicy(3)
    with pytest.raises(ValueError, match="clip: expected a positive number"):
        ProximalPolicy(OneOf(2), clip=0.0)
    with pytest.raises(ValueError, match="steps: expected 1024 or more"):
        proximal("CartPole-v1", 10, key=jax.random.key(0))
