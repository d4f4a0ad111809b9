"""Policies of models of sequences: what they choose from is the filter's prediction."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil.control.recurrent import RecurrentPolicy
from veil.model import Datum

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def fit():
    """Two skills that stay for a while: up or down, ten times the observation."""
    rng = np.random.default_rng(0)

    def episode():
        skill, seen, done = rng.integers(2), rng.normal(size=(12, 1)), []
        for x in seen:
            skill = skill if rng.random() < 0.9 else 1 - skill
            done.append((2 * skill - 1) * (5.0 + x) + 0.2 * rng.normal(size=1))
        return {"observations": np.concatenate([seen, seen[-1:]]), "actions": np.stack(done)}

    recording = veil.data.trajectories([episode() for _ in range(40)])
    data = recording.data("action", "observation", sequences=True)
    return veil.fit(veil.HMM(veil.LinearGaussian(), states=2), data, key=KEY, steps=40), data


def test_an_action_is_drawn_from_the_filters_prediction(fit):
    found, data = fit
    policy, model = RecurrentPolicy.of(found), found.model
    seen, done = jnp.asarray(data.evidence[0, :4]), jnp.asarray(data.query[0, :3])
    memory = policy.init(KEY)
    for x, u in zip(seen[:3], done, strict=True):
        memory = policy.filter.update(memory, Datum(u, x), KEY)
    # the chance of each skill, from the exact likelihood of the past: p(z_4 | past) = A' p(z_3 | past)
    chances = np.exp(np.asarray(memory.state))
    ahead = np.stack(
        [
            np.exp(np.asarray(model.step_prior(veil.Before(jnp.array(k), jnp.array(False)), seen[3]).logits))
            for k in (0, 1)
        ]
    )
    ahead = chances / chances.sum() @ (ahead / ahead.sum(1, keepdims=True))
    centres = np.array(
        [
            float(model.step_likelihood(veil.Before(jnp.array(0), jnp.array(False)), jnp.array(k), seen[3]).mean[0])
            for k in (0, 1)
        ]
    )
    drawn = jax.vmap(lambda key: policy.act(memory, seen[3], key)[0])(jax.random.split(KEY, 2000))[:, 0]
    nearer = np.mean(np.abs(drawn - centres[0]) > np.abs(drawn - centres[1]))
    assert nearer == pytest.approx(ahead[1], abs=0.03)
    assert np.min(np.abs(np.subtract.outer(np.asarray(drawn), centres)), 1).max() < 1.5


def test_a_skill_stays_and_the_belief_follows(fit):
    found, data = fit
    policy = RecurrentPolicy.of(found, veil.LowNoise(0.0))

    def step(memory, now):
        x, key = now
        action, memory = policy.act(memory, x, key)
        return memory, action

    seen = jnp.asarray(data.evidence[0])
    run = lambda key: jax.lax.scan(step, policy.init(key), (seen, jax.random.split(key, len(seen))))[1][:, 0]  # noqa: E731
    sides = np.asarray(jax.jit(jax.vmap(run))(jax.random.split(KEY, 200))) > 0
    changes = np.mean(sides[:, 1:] != sides[:, :-1])
    assert changes == pytest.approx(0.1, abs=0.04)  # as in the data; drawn anew at every step it were one half
    assert 0.3 < sides[:, 0].mean() < 0.7


def test_what_is_refused(fit):
    found, _ = fit
    with pytest.raises(TypeError, match="HMM remembers its latent; use veil"):
        veil.Policy(found)
    with pytest.raises(TypeError, match="Mixture has no memory"):
        RecurrentPolicy.of(veil.fit(veil.Mixture(), np.zeros((9, 1)) + np.arange(9.0)[:, None], key=KEY))
    with pytest.raises(TypeError, match="choose: expected Sample"):
        RecurrentPolicy.of(found, "sample")
    policy = RecurrentPolicy.of(found, low=-1.0, high=1.0)
    action, _ = policy.act(policy.init(KEY), jnp.zeros(1), KEY)
    assert -1.0 <= float(action[0]) <= 1.0


def test_limits_are_those_of_the_environment(key):
    """An angle is its cosine and sine to the model: what is clipped is the angle."""
    rng = np.random.default_rng(0)
    episodes = [{"observations": rng.normal(size=(7, 1)), "actions": rng.uniform(-1, 1, 6)} for _ in range(20)]
    recording = replace(veil.data.trajectories(episodes), angles={"action": True})
    data = recording.data("action", "observation", sequences=True)
    found = veil.fit(veil.HMM(veil.LinearGaussian(), states=2), data, key=key, steps=5)
    policy = RecurrentPolicy.of(found, low=-0.3, high=0.3)
    acted = [policy.act(policy.init(k), jnp.zeros(1), k) for k in jax.random.split(key, 12)]
    actions = np.array([float(action) for action, _ in acted])
    assert np.all(np.abs(actions) <= 0.3 + 1e-6)
    assert np.sum(np.abs(actions) < 0.299) >= 2  # not all at the limits
    assert np.allclose(found.view.done(jnp.asarray(0.25), jnp), [np.cos(0.25), np.sin(0.25)])
    chunks = replace(found, view=replace(found.view, horizon=2))
    with pytest.raises(ValueError, match="it remembers by itself"):
        RecurrentPolicy.of(chunks)
