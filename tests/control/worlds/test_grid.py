"""Grid worlds from maps, and walks in finite problems."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.control import KnownReward, solve
from veil.control.worlds.finite import deep_sea, people, random_problem, simulate
from veil.control.worlds.grid import EAST, NORTH, STAY, WEST, grid
from veil.zoo.intent import Intent

KEY = jax.random.key(0)
MAP = """
A.#B
.@..
~..~
"""


def test_a_map_is_a_problem() -> None:
    world = grid(MAP, slip=0.2, stay=True)
    problem = world.problem
    assert (problem.states, problem.actions, world.goals, world.shape) == (11, 5, ("A", "B"), (3, 4))
    number = {tuple(place): state for state, place in enumerate(world.places.tolist())}
    dense = np.zeros((11, 5, 11))
    s, a, _ = np.indices(problem.transitions.shape)
    np.add.at(dense, (s, a, np.asarray(problem.transitions.next)), np.asarray(problem.transitions.probabilities))
    here = number[(1, 1)]
    assert dense[here, NORTH, number[(0, 1)]] == pytest.approx(0.8)
    assert dense[here, NORTH, number[(1, 0)]] == dense[here, NORTH, number[(1, 2)]] == pytest.approx(0.1)
    assert dense[here, STAY, here] == pytest.approx(1.0)
    assert dense[number[(0, 1)], EAST, number[(0, 1)]] == pytest.approx(0.9)  # a wall, and the map's edge above
    assert dense[number[(2, 0)], WEST, number[(2, 0)]] == pytest.approx(0.9)
    assert np.flatnonzero(problem.start).tolist() == [here]
    assert np.flatnonzero(problem.ends).tolist() == [number[(0, 0)], number[(0, 3)]]
    laid = world.laid(np.arange(11))
    assert np.isnan(laid[0, 2])
    assert laid[1, 1] == here
    assert world.features("~").sum() == 2
    earned = world.rewards(cost=1.0, worth=5.0)
    assert earned.shape == (2, *problem.transitions.shape)
    assert earned[0, number[(0, 1)], WEST, 0] == 4.0
    assert earned[1, number[(0, 1)], WEST, 0] == -1.0


def test_what_is_no_map_is_refused() -> None:
    with pytest.raises(ValueError, match=r"text: expected lines of the same length; got \[3, 2\]"):
        grid("...\n..")
    with pytest.raises(ValueError, match=r"slip: .* got 2"):
        grid("..", slip=2.0)
    with pytest.raises(ValueError, match="text: expected some floor"):
        grid("#A")


@pytest.mark.parametrize("horizon", [None, 6])
def test_walks_follow_policy_and_dynamics(horizon: int | None) -> None:
    """The visits of many walks are those of the solution, and every step is one that can be."""
    world = grid(MAP, slip=0.2, discount=1.0 if horizon else 0.9, horizon=horizon)
    solution = solve(world.problem.rewarded(world.rewards()[0]))
    data = simulate(solution, KEY, 3000, outcomes=True)
    there = np.ones(data.query["action"].shape[:2], bool) if data.mask is None else data.mask
    state = (data.evidence["state"] if horizon else data.evidence)[there][:, 0].astype(int)
    action, following = (data.query[name][there][:, 0].astype(int) for name in ("action", "next"))
    assert np.all(np.any(np.asarray(world.problem.transitions.next)[state, action] == following[:, None], -1))
    assert not np.asarray(world.problem.ends)[state].any()
    step = np.nonzero(there)[1]
    if horizon:
        np.testing.assert_array_equal(data.evidence["step"][there][:, 0], step)
    weights = np.ones(len(step)) if horizon else 0.9**step
    counted = np.zeros((world.problem.states, world.problem.actions))
    np.add.at(counted, (state, action), weights / 3000)
    expected = np.asarray(solution.visits)
    np.testing.assert_allclose(counted, expected.sum(0) if horizon else expected, atol=0.04)


def test_people_differ() -> None:
    world = grid(MAP)
    model = Intent(world.problem, KnownReward(world.rewards()), logits=jnp.log(jnp.array([0.25, 0.75])))
    kinds, data = people(model, KEY, 400, steps=40)
    assert kinds.mean() == pytest.approx(0.75, abs=0.07)
    last = data.mask.sum(1) - 1 if data.mask is not None else np.full(400, 39)
    where, turn = data.evidence[np.arange(400), last, 0].astype(int), data.query[np.arange(400), last, 0].astype(int)
    arrived = world.ground[np.asarray(world.problem.transitions.next)[where, turn, 0]]
    assert np.mean(arrived == np.array(["A", "B"])[kinds]) > 0.95


def test_known_problems() -> None:
    problem = random_problem(KEY)
    assert (problem.states, problem.actions, float(problem.discount)) == (16, 4, pytest.approx(0.9))
    for size in (2, 7):
        sea = deep_sea(size)
        assert float(solve(sea, temperature=0.0).expected_return) == pytest.approx(0.99, abs=1e-6)
        chance = solve(sea.rewarded(np.eye(size * size + 1)[-2][:, None] * np.array([0.0, 1.0])), temperature=1e6)
        assert float(chance.expected_return) == pytest.approx(2.0**-size, rel=1e-3)
    started = np.zeros(3)
    started[2] = 1.0
    ended = grid("..A").problem
    with pytest.raises(ValueError, match="start: this problem may begin where an episode has ended"):
        simulate(
            solve(type(ended)(ended.transitions, np.zeros(3), start=started, ends=ended.ends, discount=0.9)), KEY, 1
        )
