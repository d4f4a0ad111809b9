"""Soft actor-critic against plain numpy, closed forms, and what environments do at the end of an episode."""

from dataclasses import replace

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import veil
from aiming import Aim, random_rows, trained
from veil.control import FixedTemperature, LearnedTemperature, SoftActorCritic
from veil.control.continuous.learning import Playground
from veil.control.continuous.networks import drawn
from veil.control.continuous.transitions import Replay, Transitions
from veil.parts.nets import MLP

KEY = jax.random.key(0)
SMALL = MLP((8,), "tanh")


def naive_network(critic, *parts):
    """A network of one hidden layer, written down."""
    x = np.concatenate(parts, -1)
    (layer,) = critic.trunk.layers
    hidden = np.tanh(x @ np.asarray(layer.weight).T + np.asarray(layer.bias))
    return (hidden @ np.asarray(critic.last.weight).T + np.asarray(critic.last.bias))[:, 0]


def naive_draws(policy, seen, key):
    """Actions and their log-densities: y = tanh(b / 2), b normal, by the change of variables."""
    (layer,) = policy.trunk.layers
    hidden = np.tanh(seen @ np.asarray(layer.weight).T + np.asarray(layer.bias))
    numbers = np.concatenate([np.ones((len(seen), 1)), hidden], 1) @ np.asarray(policy.experts.weight[0]).T
    mean, scale = numbers[:, :1], np.exp(numbers[:, 1:]) + 1e-3
    noise = jax.vmap(lambda key: jax.random.normal(key, (1,), seen.dtype))(jax.random.split(key, len(seen)))
    inside = mean + scale * np.asarray(noise)
    action = np.tanh(inside / 2)
    return action, (stats.norm.logpdf(inside, mean, scale) - np.log((1 - action**2) / 2)).sum(1)


def naive_losses(learnt, slow, rows, key, discount):
    """Of critics, policy and temperature (Haarnoja et al. 2018, eqs. 5, 7 and 18), each on its own."""
    seen, done, earned, following = (
        np.asarray(each) for each in (rows.observation, rows.action, rows.reward, rows.following)
    )
    key_here, key_ahead = jax.random.split(key)
    action, log_prob = naive_draws(learnt.policy, seen, key_here)
    later, later_log_prob = naive_draws(learnt.policy, following, key_ahead)
    temperature = np.exp(float(learnt.log_temperature))
    ahead = np.minimum(*(naive_network(each, following, later) for each in slow)) - temperature * later_log_prob
    wanted = earned + discount * (1 - np.asarray(rows.terminated)) * ahead
    critics = sum(0.5 * np.mean((naive_network(each, seen, done) - wanted) ** 2) for each in learnt.critics)
    worth = np.minimum(*(naive_network(each, seen, action) for each in learnt.critics))
    policy = np.mean(temperature * log_prob - worth)
    return critics, policy, float(learnt.log_temperature) * (-np.mean(log_prob) + 0.7)


def begun(agent, rows):
    """A state whose slow critics are others, so that it shows which are used where."""
    state = agent.start(rows, KEY)
    other = agent.start(rows, jax.random.key(1))
    return state.learnt, other.learnt.critics


@pytest.mark.usefixtures("x64")
def test_losses_and_their_gradients_are_those_of_plain_numpy():
    """Each part has the gradient of its own loss, and none of the others': by finite differences of each."""
    agent = SoftActorCritic(0.9, SMALL, temperature=LearnedTemperature(0.3, entropy=-0.7))
    rows, key = random_rows(12), jax.random.key(3)
    learnt, slow = begun(agent, rows)
    value, slopes = jax.jit(jax.value_and_grad(lambda learnt: agent.loss(learnt, slow, rows, key)[0]))(learnt)
    parts = naive_losses(learnt, slow, rows, key, 0.9)
    np.testing.assert_allclose(value, sum(parts), rtol=1e-9)
    rng, size = np.random.default_rng(0), 1e-5
    for which, place in enumerate((lambda t: t.critics, lambda t: t.policy, lambda t: t.log_temperature)):
        leaves, tree = jax.tree.flatten(place(learnt))
        way = [jnp.asarray(rng.normal(size=leaf.shape)) for leaf in leaves]

        def moved(by, place=place, leaves=leaves, way=way, tree=tree):
            there = [leaf + by * each for leaf, each in zip(leaves, way, strict=True)]
            return eqx.tree_at(place, learnt, jax.tree.unflatten(tree, there))

        up, down = (naive_losses(moved(sign * size), slow, rows, key, 0.9)[which] for sign in (1, -1))
        along = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(place(slopes)), way, strict=True))
        np.testing.assert_allclose(along, (up - down) / (2 * size), rtol=1e-5, atol=1e-8)


def test_the_policy_has_a_rate_of_its_own():
    """A tenth of the step, of the policy alone."""
    rows, key = random_rows(12), jax.random.key(3)

    def moved(agent):
        state = agent.start(rows, KEY)
        after = agent.step(state, rows, key)[0].learnt
        flat = lambda tree: jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])  # noqa: E731
        pairs = (state.learnt.policy, after.policy), (state.learnt.critics, after.critics)
        return [flat(new) - flat(old) for old, new in pairs]

    same, slow = (moved(SoftActorCritic(0.9, SMALL, rate=1e-2, policy_rate=rate)) for rate in (None, 1e-3))
    assert np.abs(same[0]).max() > 1e-3
    np.testing.assert_allclose(slow[0], 0.1 * same[0], atol=1e-6)
    np.testing.assert_array_equal(slow[1], same[1])


def test_densities_of_actions_keep_their_digits_at_the_ends():
    """A policy far out: log π and its gradient in float32 are those of float64; from the action they are lost."""
    rows = jax.tree.map(lambda leaf: leaf.astype(jnp.result_type(leaf.dtype, jnp.float32)), random_rows(4))
    policy = SoftActorCritic(trunk=SMALL).start(rows, KEY).learnt.policy
    far = eqx.tree_at(lambda p: p.experts.weight, policy, policy.experts.weight.at[0, 0, 0].set(18.0))

    def slope(policy, seen):
        return jax.grad(lambda policy: drawn(policy, seen, KEY)[1])(policy).experts.weight[0, :, 0]

    found = jax.jit(slope)(far, rows.observation[0])
    inside = far.likelihood(jnp.zeros(0), rows.observation[0]).base
    b, scale = (np.asarray(each, np.float64) for each in (inside.sample(KEY), inside.scale))
    noise = (b - float(inside.location[0])) / scale
    toward = np.tanh(b / 2)  # d log π / db of -log(1 - y²) at the drawn noise
    np.testing.assert_allclose(found[0], toward, rtol=1e-5)
    np.testing.assert_allclose(found[1], (toward * noise * (scale - 1e-3) - (scale - 1e-3) / scale), rtol=1e-3)


@pytest.mark.parametrize("temperature", [0.05, 0.2])
def test_one_step_of_a_quadratic_reward_is_a_normal_of_known_mean_and_variance(temperature):
    """π ∝ exp(-½ k (a - o/2)² / τ) = N(o/2, τ / k), V = ½ τ log(2π τ / k): here k = 20."""
    agent = SoftActorCritic(trunk=MLP((32, 32), "tanh"), temperature=FixedTemperature(temperature), rate=3e-3)

    def rows(key, size):
        seen, done = jax.random.uniform(key, (2, size, 1), minval=-1, maxval=1)
        earned = -10.0 * (done - 0.5 * seen)[:, 0] ** 2
        over = jnp.ones(size, bool)
        return Transitions(seen, done, earned, jnp.full((size, 1), 9.0), over, ~over)

    state = trained(agent, agent.start(rows(KEY, 256), KEY), rows, jax.random.key(1), 3000)
    seen = jnp.linspace(-0.9, 0.9, 7)[:, None]
    draw = jax.jit(jax.vmap(lambda o: jax.vmap(lambda key: drawn(state.learnt.policy, o, key)[0])(keys)))
    keys = jax.random.split(KEY, 2000)
    found = np.asarray(draw(seen))[..., 0]
    np.testing.assert_allclose(found.mean(1), 0.5 * seen[:, 0], atol=0.03)
    np.testing.assert_allclose(np.mean(found.std(1)), np.sqrt(temperature / 20), rtol=0.12)


@pytest.mark.parametrize("terminated", [False, True])
def test_what_follows_counts_where_an_episode_was_cut_off_and_not_where_it_ended(terminated):
    """A reward of 1 forever is worth 1 / (1 - γ), one that ends 1."""
    agent = SoftActorCritic(0.8, SMALL, temperature=FixedTemperature(1e-6), rate=1e-2, follow=0.05)

    def rows(key, size):
        done, over = jax.random.uniform(key, (size, 1), minval=-1, maxval=1), jnp.full(size, terminated)
        return Transitions(jnp.zeros((size, 1)), done, jnp.ones(size), jnp.zeros((size, 1)), over, ~over)

    state = trained(agent, agent.start(rows(KEY, 64), KEY), rows, jax.random.key(1), 1500, 32)
    found = state.learnt.critics[0](jnp.zeros(1), jnp.zeros(1))
    np.testing.assert_allclose(found, 1.0 if terminated else 5.0, rtol=0.02)


def test_the_temperature_finds_the_entropy_that_is_asked_for():
    agent = SoftActorCritic(trunk=SMALL, temperature=LearnedTemperature(1.0, entropy=-0.5), rate=1e-2)

    def rows(key, size):
        seen, done = jax.random.uniform(key, (2, size, 1), minval=-1, maxval=1)
        over = jnp.ones(size, bool)
        return Transitions(seen, done, -5.0 * (done - 0.5 * seen)[:, 0] ** 2, seen, over, ~over)

    state = trained(agent, agent.start(rows(KEY, 256), KEY), rows, jax.random.key(1), 1500)
    info = agent.step(state, rows(KEY, 2000), KEY)[1]
    np.testing.assert_allclose(info["entropy"], -0.5, atol=0.08)
    # of a normal of that entropy the variance is τ / k
    np.testing.assert_allclose(info["temperature"], 10.0 * np.exp(2 * -0.5 - 1) / (2 * np.pi), rtol=0.3)


# -- the ring ----------------------------------------------------------------------------------------------------------


def numbered(numbers):
    rows = random_rows(len(numbers))
    return replace(rows, reward=jnp.asarray(numbers, float))


def test_the_ring_keeps_the_last_ones_and_draws_them_alike():
    replay = Replay.of(numbered(range(3)), 8).added(numbered(range(3)))
    some = np.asarray(replay.drawn(KEY, 300).reward)
    assert set(some) == {0.0, 1.0, 2.0}
    for first in (3, 6, 9):
        replay = replay.added(numbered(range(first, first + 3)))
    drawn = np.asarray(replay.drawn(KEY, 4000).reward)
    count = np.bincount(drawn.astype(int), minlength=12)
    assert np.all(count[:4] == 0)
    assert np.all(np.abs(count[4:] - 500) < 5 * np.sqrt(500))
    assert set(np.asarray(replay.drawn(KEY, 300, newest=2).reward)) == {10.0, 11.0}


# -- environments ------------------------------------------------------------------------------------------------------

AGENT = SoftActorCritic(trunk=MLP((16,), "relu"), temperature=FixedTemperature(0.2), rate=5e-3)
FAST = {"begin": 200, "every": 100, "batch_size": 64}


@pytest.fixture(scope="module")
def skill():
    return AGENT.learn(Aim, 2500, key=KEY, **FAST)


def test_it_learns_to_aim_in_the_environment_s_units(skill):
    """The best action is 1 + 3 o / 2."""
    seen = jnp.linspace(-0.9, 0.9, 9)[:, None]
    found = jnp.stack([skill.act((), each, KEY)[0] for each in seen])
    np.testing.assert_allclose(found, 1.0 + 1.5 * seen, atol=0.35)
    assert len(skill.returns) == 2500  # an episode a step
    assert skill.returns[-100:].mean() > skill.returns[:100].mean() + 1.0


def test_a_skill_is_an_actor(skill):
    """It jits and maps over environments; its centre is the same whatever the key, a draw is not."""
    seen, keys = jnp.linspace(-0.9, 0.9, 5)[:, None], jax.random.split(KEY, 5)
    memory = jax.vmap(skill.init)(keys)
    together, after = jax.jit(jax.vmap(skill.act))(memory, seen, keys)
    assert after == memory == ()
    alone = jnp.stack([skill.act((), each, jax.random.key(7))[0] for each in seen])
    np.testing.assert_allclose(together, alone, rtol=1e-6)
    many, _ = skill.act((), seen, KEY)
    np.testing.assert_allclose(many, alone, rtol=1e-6)
    noisy = replace(skill, choose=veil.Sample())
    assert np.std([noisy.act((), seen[0], key)[0] for key in keys]) > 0.01
    with pytest.raises(ValueError, match=r"observation: expected finite numbers"):
        skill.act((), jnp.array([jnp.nan]), KEY)


def test_the_same_key_is_the_same_skill():
    first, again, other = (AGENT.learn(Aim, 400, key=key, **FAST) for key in (KEY, KEY, jax.random.key(1)))
    for one, two in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first.returns[:200], other.returns[:200])


def test_a_skill_is_saved_and_loaded(skill, tmp_path):
    again = veil.load(veil.save(tmp_path / "skill", skill))
    seen = jnp.array([0.3])
    np.testing.assert_array_equal(again.act((), seen, KEY)[0], skill.act((), seen, KEY)[0])
    np.testing.assert_array_equal(again.returns, skill.returns)
    assert (again.discount, again.choose) == (skill.discount, skill.choose)


def test_values_in_the_environment_s_units(skill):
    """Q = -10 (a/3 - 1/3 - o/2)² of one step; V is its soft maximum, which the reward adds nothing to."""
    seen = jnp.array([0.4])
    found = jnp.stack([skill.action_value(seen, jnp.array([a])) for a in (1.0, 1.6, 2.2)])
    np.testing.assert_allclose(found, -10 * (np.array([0.0, 0.2, 0.4]) - 0.2) ** 2, atol=0.25)
    value = skill.value(seen, KEY, 500)
    np.testing.assert_allclose(value, 0.1 * np.log(2 * np.pi * 0.2 / 20), atol=0.25)
    reward = skill.reward(seen, jnp.array([1.6]), seen, KEY, terminated=True)
    np.testing.assert_allclose(reward, found[1], rtol=1e-5)


@pytest.mark.parametrize("terminates", [True, False])
def test_transitions_say_how_an_episode_was_over_and_never_reach_into_the_next(terminates):
    played = Playground(Aim(terminates), np.random.default_rng(0))
    rows = played.steps(5, lambda seen: np.array([1.0]))
    np.testing.assert_array_equal(rows.terminated, [terminates] * 5)
    np.testing.assert_array_equal(rows.following, rows.observation)  # of this world, and not the next one's first
    assert len(np.unique(rows.observation)) == 5
    limited = gymnasium.make("Pendulum-v1", max_episode_steps=3)
    rows = Playground(limited, np.random.default_rng(0)).steps(7, lambda seen: np.zeros(1))
    assert not np.any(rows.terminated)
    goes_on = np.all(np.asarray(rows.following[:-1] == rows.observation[1:]), 1)
    np.testing.assert_array_equal(goes_on, [True, True, False, True, True, False])


class Shown(Aim):
    """The same, which shows something else."""

    def __init__(self, parts):
        super().__init__()
        self.observation_space = gymnasium.spaces.Dict(parts)


@pytest.mark.parametrize(
    ("env", "options", "error", "words"),
    [
        ("CartPole-v1", {}, ValueError, r"env: expected actions that are a vector .* got Discrete\(2\)"),
        (lambda: Shown({"eye": Aim.observation_space}), {}, ValueError, r"env: expected observations .* got Dict"),
        ("Nothing-v0", {}, ValueError, r"env: .*Nothing"),
        (3, {}, TypeError, r"env: expected a name"),
        (Aim, {"steps": 10}, ValueError, r"steps: expected more than the 1000 random ones"),
        (Aim, {"batch_size": 0}, ValueError, r"batch_size: expected a positive integer"),
        (Aim, {"capacity": 100}, ValueError, r"capacity: expected place for 1000"),
        (Aim, {"key": 3}, TypeError, r"key: expected one random key"),
    ],
)
def test_what_cannot_be_is_said(env, options, error, words):
    with pytest.raises(error, match=words):
        AGENT.learn(env, **({"steps": 2000, "key": KEY} | options))


def test_numbers_out_of_range_are_said():
    with pytest.raises(ValueError, match=r"discount: expected"):
        SoftActorCritic(discount=1.0)
    with pytest.raises(ValueError, match=r"start: expected a positive temperature"):
        FixedTemperature(0.0)
    with pytest.raises(ValueError, match=r"entropy: expected nats below log 2"):
        LearnedTemperature(entropy=1.0)
