"""Who plans in what is believed, beside conjugate formulas and planning written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.control import MDP, DenseTransitions, SparseTransitions, solve
from veil.control.exploration import Beliefs, KLearning, PosteriorSampling, SoftQ, search
from veil.control.exploration.believing import Seen
from veil.control.worlds.deep_sea import DeepSea
from veil.control.worlds.walks import Land, Walk

KEY = jax.random.key(0)


def walked(*steps):
    """A walk of steps (state, action, reward, next state, there)."""
    return Walk(*(jnp.asarray(part) for part in zip(*steps, strict=True)))


def land(horizon=2):
    moves = SparseTransitions([[1, 2], [3, 3], [3, 3], [3, 3]])
    problem = MDP(moves, [[0.5, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]], ends=[False] * 3 + [True], horizon=horizon)
    return Land(problem, jnp.full((4, 2), 0.3))


def test_what_was_seen_is_counted_where_it_led():
    beliefs = Beliefs(0.5, [[1, 2], [3, 3], [3, 3], [3, 3]])
    seen = beliefs.start(land())
    seen = beliefs.told(seen, land(), walked((0, 1, 2.0, 2, True), (2, 0, 1.0, 3, True), (3, 0, 9.0, 3, False)))
    seen = beliefs.told(seen, land(), walked((0, 1, 3.0, 2, True), (2, 1, 0.0, 3, True), (3, 0, 9.0, 3, False)))
    reward, chances = beliefs.means(seen)
    np.testing.assert_allclose(reward[0], [0.0, 5.0 / 3.0], rtol=1e-6)  # two rewards, and a prior's of 0
    np.testing.assert_allclose(chances[0], [[0.5, 0.5], [0.5 / 3, 2.5 / 3]], rtol=1e-6)
    assert float(reward[3, 0]) == 0.0
    assert float(seen.episodes) == 2.0
    # any place at all
    anywhere = Beliefs(0.5)
    seen = anywhere.told(anywhere.start(land()), land(), walked((0, 1, 2.0, 2, True)))
    np.testing.assert_allclose(anywhere.means(seen)[1][0, 1], np.array([0.25, 0.25, 1.25, 0.25]) / 2.0, rtol=1e-6)


def test_draws_are_of_the_posterior():
    beliefs = Beliefs(0.5, [[1, 2]] * 4)
    seen = Seen(
        jnp.full((4, 2), 3.0).at[0, 1].set(0.0),
        jnp.full((4, 2), 4.0).at[0, 1].set(0.0),
        jnp.tile(jnp.array([2.0, 1.0]), (4, 2, 1)).at[0, 1].set(0.0),
        jnp.ones(()),
    )
    reward, chances = jax.vmap(lambda key: beliefs.drawn(seen, key))(jax.random.split(KEY, 20_000))
    np.testing.assert_allclose(jnp.mean(reward, 0)[0], [1.0, 0.0], atol=0.02)
    np.testing.assert_allclose(jnp.std(reward, 0)[0], [0.25, 0.5], rtol=0.03)
    first = np.asarray(chances[:, 0, :, 0])
    np.testing.assert_allclose(first.mean(0), [2.5 / 4.0, 0.5], atol=0.01)
    # of Dirichlet(a, b): a b / (a + b)² (a + b + 1)
    np.testing.assert_allclose(first.var(0), [2.5 * 1.5 / 16.0 / 5.0, 0.25 / 2.0], rtol=0.05)
    np.testing.assert_allclose(jnp.sum(chances, -1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("horizon", [2, None])
def test_planning_is_that_of_the_mean_world_written_out(horizon):
    """K-learning's values, state by state, with and without a horizon."""
    beliefs = Beliefs(0.3, [[1, 2], [3, 3], [3, 3], [3, 3]])
    world = land(horizon)
    state = beliefs.start(world)
    for step in ((0, 1, 0.4, 2, True), (2, 0, 1.2, 3, True), (0, 0, 0.1, 1, True)):
        state = beliefs.told(state, world, walked(step))
    temperature = 1.0 / np.sqrt(float(state.episodes) + 1.0)
    reward, chances = (np.asarray(each) for each in beliefs.means(state))
    fond = reward + 0.3**2 / (2.0 * temperature * (np.asarray(state.visits) + 1.0))
    soft = lambda scores: temperature * np.log(np.sum(np.exp(scores / temperature)))  # noqa: E731
    below = [soft(fond[1]), soft(fond[2])]
    wanted = np.array([fond[0, a] + chances[0, a] @ below for a in range(2)])
    act = KLearning(beliefs).begin(state, world, KEY)
    draws = jax.vmap(lambda key: act(jnp.array(0), jnp.array(0), key))(jax.random.split(KEY, 20_000))
    share = np.exp(wanted / temperature) / np.exp(wanted / temperature).sum()
    np.testing.assert_allclose(np.mean(np.asarray(draws) == 1), share[1], atol=0.015)


def test_who_has_seen_enough_does_what_is_best_in_the_true_world():
    world = land()
    chances = np.zeros((4, 2, 4))
    chances[np.arange(4)[:, None], np.arange(2), np.asarray(world.problem.transitions.next[..., 0])] = 1.0
    best = solve(MDP(DenseTransitions(chances), world.problem.reward, ends=world.problem.ends, horizon=2), 0.0)
    number = 1e6
    seen = Seen(
        jnp.full((4, 2), number), number * world.problem.rewards(), number * jnp.asarray(chances), jnp.array(1e6)
    )
    wanted = np.argmax(best.action_values[0][0])
    for player in (SoftQ(Beliefs(0.1)), KLearning(Beliefs(0.1)), PosteriorSampling(Beliefs(0.1))):
        act = player.begin(seen, world, KEY)
        assert int(act(jnp.array(0), jnp.array(0), KEY)) == wanted == 1


@pytest.mark.parametrize("kind", [KLearning, PosteriorSampling])
def test_the_treasure_is_found(kind):
    sea = DeepSea(8)
    found = search(sea, kind(Beliefs(reach=sea.below)), KEY, most=500)
    assert found.solved is not None
    assert found.returns.max() > 0.98


def test_below_holds_every_place_to_which_a_step_leads():
    sea = DeepSea(5)
    following = np.asarray(sea.land.problem.transitions.next).reshape(26, -1)
    for state in range(26):
        assert set(following[state]) <= set(np.asarray(sea.below)[state].tolist())


def test_wrong_usage():
    with pytest.raises(ValueError, match="unsure: expected a positive deviation"):
        Beliefs(0.0)
    with pytest.raises(ValueError, match="reach: expected the numbers of states"):
        Beliefs(reach=[0.5])
    with pytest.raises(ValueError, match="reach: expected a row for each of the 4 states"):
        Beliefs(reach=[[0]]).start(land())
    with pytest.raises(ValueError, match="risk: expected a positive number"):
        KLearning(risk=0.0)
    with pytest.raises(ValueError, match="temperature: expected a positive number"):
        SoftQ(temperature=0.0)
    endless = Land(land(None).problem)
    with pytest.raises(ValueError, match="most: this problem has no horizon"):
        SoftQ().play(SoftQ().start(endless, KEY), endless, 1, KEY)
