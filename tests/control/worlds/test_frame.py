"""What all worlds share: actors with a memory of the episode, where episodes end, the entropy of outcomes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil import Actor
from veil.control.worlds import Tree, drive, drives, entropy, tree
from veil.control.worlds.frame import begin

WORLD = Tree()


class Decided(Actor):
    """A side drawn when the episode begins, and kept; with ``forgets`` it is drawn anew for each action."""

    forgets: bool = eqx.field(static=True, default=False)

    def init(self, key):
        return jax.random.bernoulli(key), jnp.array(0)

    def act(self, memory, observation, key):
        left, step = memory
        key_side, key_action = jax.random.split(key)
        left = jnp.where(self.forgets, jax.random.bernoulli(key_side), left)
        return tree.Demonstrator(WORLD, jnp.where(left, 1.0, -1.0))(observation, key_action), (left, step + 1)


@pytest.fixture(scope="module")
def driven():
    return drives(WORLD, Decided(), 300, jax.random.key(0))


def test_the_memory_is_the_episodes_own(driven):
    assert driven.success.all()
    assert 0.4 < driven.outcome.mean() < 0.6
    assert drives(WORLD, Decided(forgets=True), 300, jax.random.key(0)).rate()[0] < 0.9


def test_the_memory_begins_with_a_key_of_its_own(driven):
    keys = jax.random.split(jax.random.key(0), 300)
    wanted = [bool(jax.random.bernoulli(begin(WORLD, key)[2])) for key in keys[:20]]
    np.testing.assert_array_equal(driven.outcome[:20], wanted)


def test_one_drive_is_the_same_step_by_step():
    """A plain loop in Python over the world's functions."""
    key = jax.random.key(7)
    found = jax.jit(lambda key: drive(WORLD, Decided(), key))(key)
    state, keys, key_actor = begin(WORLD, key)
    actor, path, over = Decided(), [np.asarray(state)[None]], False
    memory = actor.init(key_actor)
    for step in range(int(found.length)):
        assert not over
        np.testing.assert_allclose(found.states[step], state, rtol=1e-6, atol=1e-6)
        key_actor, key_world = jax.random.split(keys[step])
        action, memory = actor.act(memory, WORLD.observe(state), key_actor)
        np.testing.assert_allclose(found.actions[step], action, rtol=1e-5, atol=1e-5)
        state, reward, over, way = WORLD.step(state, action, key_world)
        assert float(reward) == float(found.rewards[step])
        path.append(np.asarray(way))
    assert over
    path = np.concatenate(path)
    np.testing.assert_allclose(found.path[: len(path)], path, rtol=1e-5, atol=1e-5)
    assert float(found.rewards.sum()) == 1.0


def test_who_hits_the_tree_stays_there(key):
    some = drives(WORLD, lambda seen, key: -seen[2:] / 0.5, 50, key)
    assert some.hit.all()
    assert some.terminated.all()
    assert not some.passed.any()
    ends = some.paths[np.arange(50), some.lengths * 10, 0]
    assert (np.abs(ends - WORLD.tree) < 2.5 + 1.5).all()
    assert (some.paths[:, -1, 0] == ends).all()


def test_who_never_ends_is_cut_off(key):
    circle = drives(Tree(length=1e4, width=1e2, tree=-50.0), lambda seen, key: jnp.array([1.5]), 5, key)
    assert not circle.terminated.any()
    assert (circle.lengths == WORLD.steps).all()
    assert all(episode.truncated and not episode.terminated for episode in circle.recording("circle").episodes)


def test_entropy_by_pencil():
    assert entropy(np.repeat(np.arange(24), 4), 24)[0] == pytest.approx(1.0)
    assert entropy(np.array([3, 3, 3]), 24) == (0.0, 0.0)
    assert entropy(np.array([], int), 24) == (0.0, 0.0)
    value, _ = entropy(np.array([0, 0, 0, 1]), 2)
    assert value == pytest.approx(-(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25)))


@pytest.mark.parametrize("p", [np.full(24, 1 / 24), np.arange(1, 9) / 36], ids=["uniform", "uneven"])
def test_the_error_of_the_entropy_is_its_spread(p):
    rng = np.random.default_rng(0)
    values = np.array([entropy(rng.choice(len(p), 200, p=p), 24) for _ in range(3000)])
    assert values[:, 0].std() == pytest.approx(values[:, 1].mean(), rel=0.15)
