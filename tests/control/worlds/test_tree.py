"""The world: dynamics by hand, what counts as success, demonstrations both ways, policies that drive."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil.control.worlds import Tree, demonstrate, drives
from veil.control.worlds.frame import distance
from veil.control.worlds.tree import FINE, Demonstrator
from veil.parts.heads import HomoscedasticGaussian


def hand(state, action, speed=5.0, period=0.5, limit=1.5, pieces=20_000):
    """The unicycle x' = v cos θ, y' = v sin θ, θ' = a, by many small steps at their middle."""
    x, y, heading = state
    turn, small = float(np.clip(action, -limit, limit)), period / pieces
    headings = heading + turn * small * (np.arange(pieces) + 0.5)
    x, y = x + speed * small * np.sum(np.cos(headings)), y + speed * small * np.sum(np.sin(headings))
    return np.array([x, y, heading + turn * period])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("state", [(0.0, 0.0, 0.0), (3.0, -1.0, 0.4), (10.0, 2.0, -0.7)])
@pytest.mark.parametrize("action", [0.0, 1e-9, 0.8, -1.5, 4.0])
def test_dynamics_without_noise(key, state, action):
    path = Tree(noise=0.0).move(jnp.array(state), jnp.array([action]), key)
    assert path.shape == (FINE, 3)
    np.testing.assert_allclose(path[-1], hand(state, action), atol=1e-8)
    half = Tree(noise=0.0, period=0.25).move(jnp.array(state), jnp.array([action]), key)
    np.testing.assert_allclose(path[FINE // 2 - 1], half[-1], atol=1e-8)  # on the way, on the same arc


def test_one_step_by_pencil(key):
    """A quarter circle: a = π/2 rad/s for one second at v = 1 ends at (2/π, 2/π), heading π/2."""
    path = Tree(noise=0.0, speed=1.0, period=1.0, limit=2.0).move(jnp.zeros(3), jnp.array([jnp.pi / 2]), key)
    np.testing.assert_allclose(path[-1], [2 / np.pi, 2 / np.pi, np.pi / 2], atol=1e-6)


def test_noise_has_the_spread_it_says():
    world = Tree(noise=0.05)
    ends = jax.vmap(lambda key: world.move(jnp.zeros(3), jnp.zeros(1), key)[-1])(
        jax.random.split(jax.random.key(1), 4000)
    )
    assert abs(float(jnp.std(ends[:, 2])) - 0.05) < 4 * 0.05 / np.sqrt(8000)


def straight(y, length=40.0, points=81):
    x = np.linspace(0.0, length, points)
    return jnp.array(np.stack([x, np.full(points, y), np.zeros(points)], 1), jnp.float32)


@pytest.mark.parametrize(
    ("y", "hit", "left_road", "left"),
    [(0.0, True, False, False), (1.45, True, False, True), (1.55, False, False, True), (-1.55, False, False, False),
     (6.5, False, True, True)],
)  # fmt: skip
def test_outcome_of_straight_paths(y, hit, left_road, left):
    end = Tree().ending(straight(y))
    assert [bool(end.hit), bool(end.out), bool(end.passed), int(end.outcome)] == [hit, left_road, True, left]


def test_a_path_cannot_jump_over_the_tree():
    tree = jnp.array([Tree().tree, 0.0])
    jump = jnp.array([[0.0, 0.0, 0.0], [40.0, 0.0, 0.0]])
    assert float(distance(tree, jump)) == 0.0
    aside = jnp.array([[15.0, 3.0, 0.0], [18.0, 3.0, 0.0]])
    assert float(distance(tree, aside)) == 3.0


def test_who_stops_has_not_passed():
    assert not bool(Tree().ending(straight(3.0, length=29.0)).passed)


def test_after_the_end_of_the_road_nothing_counts():
    path = straight(3.0)
    path = path.at[70:, 1].set(50.0)  # x > 30
    assert not bool(Tree().ending(path).out)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_demonstrator_succeeds_on_either_side(key, side):
    shown = drives(Tree(), Demonstrator(Tree(), side), 500, key)
    assert shown.success.all()
    assert (shown.outcome == (side > 0)).all()


def test_demonstrations_go_both_ways_and_do_not_say_which(key):
    world = Tree()
    shown = demonstrate(world, 400, key)
    assert shown.success.all()
    assert 0.4 < shown.outcome.mean() < 0.6
    # before anything is decided, the sides cannot be told apart: two-sample means within four standard errors
    first = shown.states[:, 0]
    for column in range(3):
        a, b = first[shown.outcome == 1, column], first[shown.outcome == 0, column]
        assert abs(a.mean() - b.mean()) < 4 * np.sqrt(a.var() / len(a) + b.var() / len(b))
    data = shown.recording("tree").data("action", "observation")
    assert np.max(np.abs(data.query)) <= world.limit
    assert np.max(np.asarray(data.evidence)[:, 0]) <= world.length


def test_straight_on_hits_the_tree(key):
    driven = drives(Tree(noise=0.0), lambda state, key: -state[2:] / 0.5, 100, key)
    assert driven.hit.all()
    assert not driven.success.any()
    assert driven.rate() == (0.0, 0.0)


def test_squared_error_drives_into_the_tree_and_a_mixture_round_it(key):
    world = Tree()
    data = demonstrate(world, 200, key).recording("tree").data("action", "observation")
    trunk = veil.MLP((32, 32))
    average = veil.fit(veil.density(veil.Linear(HomoscedasticGaussian()), trunk=trunk), data, key=key, steps=800).model
    both = veil.fit(
        veil.Mixture(veil.Linear(veil.heads.DiagonalGaussian()), components=4, trunk=trunk), data, key=key, steps=800
    ).model
    hitting = drives(world, veil.Policy(average, veil.Mean()), 200, key)
    passing = drives(world, veil.Policy(both), 200, key)
    assert hitting.hit.mean() > 0.8
    assert passing.success.mean() > 0.9
    assert 0.2 < passing.outcome.mean() < 0.8
