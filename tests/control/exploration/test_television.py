"""The television: its steps, Gymnasium's the same, and information that is used up although the noise is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.control.exploration.bonus import Transition
from veil.control.exploration.counts import Counted, Tally
from veil.control.exploration.curves import curve
from veil.control.exploration.linear import LinearGain
from veil.control.worlds.television import LEFT, RIGHT, WATCH, Television

KEY = jax.random.key(0)


def test_the_screen_is_noise_where_one_watches_and_dark_elsewhere():
    world = Television(3, 2)
    before, action, after = world.visits(3000, KEY)
    watched = np.asarray(action) == WATCH
    assert np.all(np.asarray(after)[~watched, 3:] == 0)
    screens = np.asarray(after)[watched, 3:]
    np.testing.assert_allclose([screens.mean(), screens.std()], [0, 1], atol=0.1)
    place = lambda seen: np.argmax(np.asarray(seen)[:, :3], 1)  # noqa: E731
    by = np.select([np.asarray(action) == LEFT, np.asarray(action) == RIGHT], [-1, 1], 0)
    np.testing.assert_array_equal(place(after), np.clip(place(before) + by, 0, 2))


def test_it_is_gymnasiums():
    gymnasium = pytest.importorskip("gymnasium")
    env = gymnasium.make("veil.control.worlds:veil/NoisyTelevision-v0", length=3)
    seen, _ = env.reset(seed=1)
    np.testing.assert_array_equal(seen, [1, 0, 0, 0, 0, 0, 0])
    first, again = env.step(WATCH)[0], env.step(WATCH)[0]
    assert np.all(first[3:] != again[3:])
    env.step(RIGHT)
    seen, reward, terminated, truncated, _ = env.step(RIGHT)
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert env.observation_space.contains(seen)
    env.reset(seed=1)
    np.testing.assert_array_equal(env.step(WATCH)[0], first)


def test_after_a_thousand_visits_noise_tells_nothing():
    world = Television(length=2, entries=4)  # one place to be in: a thousand visits of it
    batches = jax.tree.map(lambda leaf: leaf.reshape(2, 150, 20, *leaf.shape[1:]), Transition(*world.visits(6000, KEY)))
    assert np.sum(np.asarray(batches.action[0]) == WATCH) == pytest.approx(1000, abs=60)
    probes = Transition(*world.visits(32, jax.random.key(1), WATCH))
    features = lambda step: jnp.concatenate([jnp.ones(1), step.observation, jax.nn.one_hot(step.action, 3)])  # noqa: E731
    for bonus in (Counted(Tally((3,)), lambda step: step.action, offset=1.0), LinearGain(features, noise=1.0)):
        begin, end = jax.jit(curve, static_argnums=0)(bonus, batches, probes, KEY)
        assert float(jnp.mean(end)) < 0.05 * float(jnp.mean(begin))
