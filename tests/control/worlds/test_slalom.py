"""The slalom: its motion and its routes by hand, and demonstrators who take each of the 24."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.control.worlds import Slalom, demonstrate, drives
from veil.control.worlds.slalom import Demonstrator

WORLD = Slalom()
ENDING = jax.jit(WORLD.ending)
ROUTES = list(itertools.product(range(2), range(3), range(4)))


def by_hand(*places):
    """A path straight from place to place, in small steps, which then stays: all of one length, for one program."""
    points = [np.linspace(a, b, 40) for a, b in itertools.pairwise(np.array(places, float))]
    path = np.concatenate(points)
    path = np.concatenate([path, np.repeat(path[-1:], 400 - len(path), 0)])
    return jnp.array(np.tile(path, 2), jnp.float32)


def through(route, *, end=4.2):
    """Straight through the middles of the gaps of a route, upright in them, so that no cylinder is touched."""
    places = [(0.0, 0.0)]
    for row, gap in enumerate(route, 1):
        x = gap - row / 2
        places += [(x, row - 0.3), (x, row + 0.3)]
    return by_hand(*places, (places[-1][0], end))


@pytest.fixture(scope="module")
def endings():
    return jax.jit(jax.vmap(WORLD.ending))(jnp.stack([through(route) for route in ROUTES]))


def test_every_route_has_its_number(endings):
    np.testing.assert_array_equal(endings.outcome, [12 * a + 4 * b + c for a, b, c in ROUTES])
    np.testing.assert_array_equal(endings.outcome, np.arange(24))
    assert endings.passed.all()
    assert not endings.out.any()


def test_hits_are_those_of_naive_geometry():
    """Random zigzags: the distance to each cylinder by many points on each segment."""
    rng = np.random.default_rng(0)
    paths = np.stack([rng.uniform(-1.5, 1.5, (60, 4)), np.linspace(0, 3.5, 4)[None] + rng.normal(0, 0.2, (60, 4))], -1)
    share = np.linspace(0, 1, 400)[:, None, None]
    hit = []
    for path in paths:
        points = (path[:-1] + share * np.diff(path, axis=0)).reshape(-1, 1, 2)
        hit.append(np.linalg.norm(points - np.asarray(WORLD.cylinders()), axis=-1).min() - WORLD.clearance)
    hit = np.array(hit)
    clear = np.abs(hit) > 2e-3  # where the points are close enough to tell
    found = jax.vmap(WORLD.ending)(jnp.array(np.tile(paths, 2), jnp.float32)).hit
    assert 0.1 < (hit < 0).mean() < 0.9
    np.testing.assert_array_equal(found[clear], (hit < 0)[clear])


def test_a_path_cannot_jump_over_a_cylinder():
    jump = jnp.array([[0.0, 0.0, 0, 0]] + 399 * [[0.0, 1.9, 0, 0]])
    assert bool(ENDING(jump).hit)


def test_who_turns_round_has_the_route_that_was_gone_last():
    back = by_hand((0, 0), (-0.5, 0.6), (-0.5, 1.4), (-0.5, 0.6), (0.5, 0.6), (0.5, 1.3), (0, 1.7), (0, 2.3),
                   (0.5, 2.7), (0.5, 4.2))  # fmt: skip
    end = ENDING(back)
    assert (int(end.outcome), bool(end.success)) == (12 + 4 + 2, True)


def test_out_of_the_field_and_not_through():
    aside = ENDING(by_hand((0, 0), (2.1, 0.5), (2.1, 0.6)))
    assert (bool(aside.out), bool(aside.passed), int(aside.outcome)) == (True, False, -1)
    assert bool(ENDING(by_hand((0, 0), (0, -0.6), (0.3, 0.0))).out)
    short = ENDING(through(ROUTES[0], end=3.9))
    assert (bool(short.passed), bool(short.over), int(short.outcome)) == (False, False, 0)
    beyond = ENDING(by_hand((0, 0), (1.0, 0.5), (1.9, 3), (1.9, 4.1), (5, 5)))
    assert (bool(beyond.success), int(beyond.outcome)) == (True, 12 + 8 + 3)  # what comes after the finish is nothing


@pytest.mark.usefixtures("x64")
def test_motion_by_pencil(key):
    world = Slalom(noise=0.0)
    state = jnp.array([0.1, 0.2, 0.2, 0.3])
    path = world.move(state, jnp.array([0.05, 0.5]), key)
    np.testing.assert_allclose(path, [[0.175, 0.3, 0.25, 0.4]], atol=1e-8)  # the second is cut to 0.1
    np.testing.assert_allclose(world.within(jnp.array([-1.0, 0.02])), [-0.1, 0.02], atol=1e-8)


def test_noise_has_the_spread_it_says():
    keys = jax.random.split(jax.random.key(1), 4000)
    ends = jax.vmap(lambda key: Slalom(noise=0.02).move(jnp.zeros(4), jnp.zeros(2), key)[-1])(keys)
    assert abs(float(jnp.std(ends[:, :2])) - 0.02) < 4 * 0.02 / np.sqrt(16000)
    assert float(jnp.max(jnp.abs(ends[:, 2:]))) == 0.0


@pytest.fixture(scope="module")
def shown():
    return demonstrate(WORLD, 480, jax.random.key(0))


def test_all_demonstrators_succeed_by_the_route_they_are_told(shown):
    assert shown.success.all()
    np.testing.assert_array_equal(shown.outcome, np.arange(480) % 24)
    assert shown.lengths.max() < WORLD.steps - 5  # policies may be a little slower
    entropy, error = shown.entropy()
    assert entropy == pytest.approx(1.0)
    assert 0 < error < 0.02


def test_a_demonstration_ends_where_its_path_ends(shown):
    recording = shown.recording("slalom")
    for i in (0, 17):
        episode, length = recording.episodes[i], shown.lengths[i]
        assert len(episode) == length
        np.testing.assert_array_equal(episode.observations["observation"][:-1], shown.states[i, :length])
        last = episode.observations["observation"][-2:, 1]
        assert last[0] <= WORLD.length < last[1]
        assert (episode.terminated, episode.truncated, episode.rewards.sum()) == (True, False, 1)
        assert set(episode.infos["outcome"]) == {shown.outcome[i]}
        # what was done is what moved the point that is wanted
        moved = np.diff(episode.observations["observation"][:, 2:], axis=0)
        np.testing.assert_allclose(moved, episode.actions["action"], atol=1e-5)


def test_a_recording_is_data_for_a_policy(shown):
    data = shown.recording("slalom").data("action", "observation")
    assert (data.query_shape, data.evidence_shape, len(data)) == ((2,), (4,), shown.lengths.sum())


def test_demonstrators_are_told_apart_by_their_routes(key):
    middles = Demonstrator.of(WORLD, jnp.arange(24), key).gates
    gaps = np.round(np.asarray(middles) + np.arange(1, 4) / 2)
    np.testing.assert_array_equal(gaps @ [12, 4, 1], np.arange(24))


def test_nothing_but_the_actor_is_random():
    """An actor that decides nothing goes one way only, so that the entropy of outcomes is the actor's own."""
    one = drives(WORLD, lambda seen, key: jnp.array([0.02, 0.08]), 20, jax.random.key(3))
    assert (one.paths == one.paths[:1]).all()
    np.testing.assert_array_equal(one.states[:, 0], np.zeros((20, 4)))


def test_straight_on_hits_the_first_cylinder(key):
    driven = drives(WORLD, lambda seen, key: jnp.array([0.0, 0.1]), 50, key)
    assert driven.hit.all()
    assert driven.rate() == (0.0, 0.0)
    assert driven.entropy() == (0.0, 0.0)
    assert (driven.lengths < 15).all()
    # nothing moves after the end
    for path, length in zip(driven.paths, driven.lengths, strict=True):
        assert (path[length:] == path[length]).all()
