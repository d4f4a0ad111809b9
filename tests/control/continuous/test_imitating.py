"""Learning from an expert who is told no reward: the judge's closed forms, and acting as the expert does."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from aiming import Aim, random_rows
from veil.control import Adversarial, FixedTemperature, InverseSoftQ, LearnedTemperature, SoftActorCritic
from veil.control.continuous.networks import Judge, log_density
from veil.control.continuous.transitions import transitions
from veil.parts.nets import MLP

KEY = jax.random.key(0)
SMALL = MLP((16,), "tanh")


@pytest.mark.usefixtures("x64")
def test_the_judge_is_right_where_f_is_the_log_density_of_the_expert():
    """Expert's steps as often as own ones times exp(f) / π: log-odds are f - log π, and no parameter moves the loss."""
    learner = Adversarial(trunk=SMALL, bound=np.inf)
    own = replace(random_rows(40), terminated=jnp.zeros(40, bool))
    judge = Judge.initialise(SMALL, 2, 1, KEY)
    policy = learner.start(own, KEY).agent.learnt.policy
    log_probs = jax.vmap(lambda o, a: log_density(policy, o, a))(own.observation, own.action)
    slope = jax.jit(jax.grad(learner.loss))

    def seen(judge):
        odds = judge.scores(own, learner.discount) - log_probs
        rows = own.together(replace(own, demonstrated=jnp.ones(40, bool)))
        return replace(rows, weight=jnp.concatenate([jnp.ones(40), jnp.exp(odds)])), odds

    level = jnp.log(jnp.mean(jnp.exp(seen(judge)[1])))  # a density sums to one
    right = eqx.tree_at(lambda each: each.reward_last.bias, judge, judge.reward_last.bias - level)
    found = slope(right, seen(right)[0], jnp.tile(log_probs, 2))
    for leaf in jax.tree.leaves(found):
        np.testing.assert_allclose(leaf, 0.0, atol=1e-12)
    wrong = slope(judge, seen(judge)[0], jnp.tile(log_probs, 2))
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(wrong)) > 1e-2


@pytest.mark.usefixtures("x64")
def test_the_judge_s_loss_is_that_of_plain_numpy_with_the_stay_after_an_end():
    """An end is followed by γ / (1 - γ) discounted steps, at which only the reward of having ended tells who it is."""
    learner, rows = Adversarial(trunk=SMALL, bound=3.0), random_rows(12, demonstrated=5)
    judge = eqx.tree_at(lambda each: each.ended, Judge.initialise(SMALL, 2, 1, KEY), jnp.asarray(0.3))
    log_probs = jnp.asarray(np.random.default_rng(1).normal(size=12))
    score = lambda o, a: float(judge.rewarded(o, a))  # noqa: E731
    shape = lambda o: float(judge.shaping_last(judge.shaping(o))[0])  # noqa: E731
    expert, own, scores = [], [], []
    for n in range(12):
        o, a, following, over = (each[n] for each in (rows.observation, rows.action, rows.following, rows.terminated))
        scores.append(score(o, a) + (0.0 if over else 0.99 * shape(following)) - shape(o))
        odds = scores[-1] - float(log_probs[n])
        sign = -1.0 if n < 5 else 1.0
        each = np.log1p(np.exp(sign * odds)) + float(over) * 99.0 * np.log1p(np.exp(sign * 0.3))
        (expert if n < 5 else own).append(each)
    expected = np.mean(expert) + np.mean(own) + np.mean(np.square(scores)) / 12.0
    np.testing.assert_allclose(learner.loss(judge, rows, log_probs), expected, rtol=1e-10)


def test_the_agent_is_after_f_and_after_what_is_earned_where_an_episode_has_ended():
    """The critics' targets of a step, with a judge that says 2 of everything and 0.1 a step behind an end."""
    told = []

    class Told(SoftActorCritic):
        def step(self, state, batch, key):
            told.append(batch.reward)
            return state, {}

    agent = Told(trunk=SMALL, temperature=FixedTemperature(0.5))
    learner, rows = Adversarial(agent, SMALL, rate=1e-12), random_rows(6, demonstrated=3)
    state = learner.start(rows, KEY)
    plain = jax.tree.map(lambda leaf: 0.0 * leaf, state.judge)
    plain = eqx.tree_at(lambda j: (j.reward_last.bias, j.ended), plain, (jnp.full(1, 2.0), jnp.asarray(0.1)))
    learner.step(replace(state, judge=plain), rows, KEY)
    expected = 0.5 * (2.0 + np.where(rows.terminated, 0.99 / 0.01 * 0.1, 0.0))
    np.testing.assert_allclose(told[0], expected, rtol=1e-5)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """An expert who aims at 1 + 1.5 o, with a noise of 0.3."""
    script = lambda seen, key: 1.0 + 1.5 * seen + 0.3 * jax.random.normal(key, seen.shape)  # noqa: E731
    place = tmp_path_factory.mktemp("expert") / "aims"
    return veil.collect(Aim, 150, out=place, seed=0, policy=veil.ScriptedActor(script))


LEARNERS = {
    "inverse soft Q": SoftActorCritic(
        trunk=SMALL, objective=InverseSoftQ(), temperature=FixedTemperature(0.1), rate=5e-3
    ),
    "adversarial": Adversarial(
        SoftActorCritic(trunk=SMALL, temperature=FixedTemperature(1.0), rate=5e-3), SMALL, rate=3e-3, newest=400
    ),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_it_acts_as_the_expert_does_and_is_after_what_the_expert_is_after(name, recording):
    skill = LEARNERS[name].learn(Aim, 1500, key=KEY, recording=recording, begin=200, every=100, batch_size=128)
    seen = jnp.linspace(-0.8, 0.8, 5)[:, None]
    found = jnp.stack([skill.act((), each, KEY)[0] for each in seen])
    np.testing.assert_allclose(found, 1.0 + 1.5 * seen, atol=0.6)
    noisy = replace(skill, choose=veil.Sample())
    drawn = np.array([noisy.act((), seen[2], key)[0] for key in jax.random.split(KEY, 100)])
    assert 0.1 < drawn.std() < 1.0
    reward = lambda a: skill.reward(seen[2], jnp.array([a]), seen[2], KEY, terminated=True)  # noqa: E731
    assert reward(1.0) > max(reward(-1.0), reward(3.0))


def test_transitions_of_a_recording(recording):
    rows = transitions(recording)
    assert rows.observation.shape == rows.action.shape == (150, 1)
    assert np.all(rows.terminated)
    assert np.all(rows.demonstrated)
    cut = replace(recording, episodes=[replace(recording.episodes[0], terminated=False, truncated=True)])
    assert not np.any(transitions(cut).terminated)


def test_what_cannot_be_is_said(recording):
    learner = LEARNERS["inverse soft Q"]
    with pytest.raises(ValueError, match=r"recording: .* learns from one; give it"):
        learner.learn(Aim, 2000, key=KEY)
    with pytest.raises(ValueError, match=r"recording: its observation has 1 numbers, and that of the environment 3"):
        learner.learn("Pendulum-v1", 2000, key=KEY, recording=recording)
    one = recording.episodes[0]
    far = replace(recording, episodes=[replace(one, actions={"action": 9.0 + np.zeros((1, 1))})])
    with pytest.raises(ValueError, match=r"recording: expected actions between the environment's bounds"):
        learner.learn(Aim, 2000, key=KEY, recording=far)
    unknown = replace(recording, episodes=[replace(one, rewards=np.full(1, np.nan))])
    with pytest.raises(ValueError, match=r"recording: its rewards are not known"):
        SoftActorCritic().learn(Aim, 2000, key=KEY, recording=unknown)
    other = replace(recording, episodes=[replace(one, actions={"torque": one.actions["action"]})])
    with pytest.raises(ValueError, match=r"recording: expected parts called 'observation' and 'action'"):
        transitions(other)
    chosen = replace(recording, categories={"action": range(3)})
    with pytest.raises(ValueError, match=r"recording: 'action' is a choice among categories"):
        transitions(chosen)
    with pytest.raises(ValueError, match=r"agent: expected a fixed temperature"):
        Adversarial(SoftActorCritic(temperature=LearnedTemperature()))
    with pytest.raises(ValueError, match=r"agent: expected one that learns from rewards"):
        Adversarial(learner)
    for made in (InverseSoftQ, Adversarial):
        with pytest.raises(ValueError, match=r"bound: expected a positive size"):
            made(bound=0.0)
