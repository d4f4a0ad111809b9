"""The floor against the game's own steps, what a cook knows, and errands with their sub-goals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.control.worlds import Overcooked, cooks, subgoals
from veil.control.worlds.floor import Floor
from veil.control.worlds.overcooked import INTERACT, STAY
from veil.data.bundled.overcooked import KITCHENS, trials

NORTH, SOUTH, EAST, WEST = range(4)


@pytest.mark.parametrize("name", KITCHENS)
def test_the_floor_is_that_of_the_game(name):
    """Every step from every state with the partner far away, by ``Overcooked.step``."""
    world, floor = Overcooked(KITCHENS[name]), Floor(KITCHENS[name])
    place, facing = np.repeat(floor.kitchen.floor, 4), np.tile(np.arange(4), len(floor.kitchen.floor))
    np.testing.assert_array_equal(floor.state(place, facing), np.arange(floor.states))

    def after(place, facing, action):
        state = world.start()._replace(place=jnp.array([place, 0]), facing=jnp.array([facing, 0]))
        state, _ = world.step(state, jnp.array([action, STAY]))
        return state.place[0], state.facing[0]

    many = jax.jit(jax.vmap(jax.vmap(after, (None, None, 0)), (0, 0, None)))
    found = many(jnp.asarray(place), jnp.asarray(facing), jnp.arange(4))
    np.testing.assert_array_equal(floor.following, floor.state(*map(np.asarray, found)))


def test_distances_by_hand():
    """In the cramped room, whose pot is above the middle: turn; walk and turn; come from below; a corner never."""
    floor = Floor(KITCHENS["cramped-room"])
    pot = floor.distances[2]
    assert [pot[floor.state(*where)] for where in ((7, NORTH), (7, WEST), (6, NORTH), (11, NORTH))] == [0, 1, 2, 2]
    assert np.isinf(floor.distances[0]).all()


def test_what_is_known_is_of_the_past():
    """Other actions and states from a step on change nothing of what was known before it."""
    game = trials("cramped-room")[0]
    short = dataclasses.replace(
        game, **{part: vars(game)[part][:301] for part in ("place", "facing", "held", "counters", "onions", "ticks")},
        action=game.action[:300], reward=game.reward[:300],
    )  # fmt: skip
    for player in range(2):
        whole = cooks.known(game, player)
        np.testing.assert_array_equal(whole[:300], cooks.known(short, player))
        assert np.isfinite(whole).all()
    other = dataclasses.replace(short, action=np.where(np.arange(300)[:, None] == 200, NORTH, short.action))
    assert short.action[200, 0] != NORTH
    differ = (cooks.known(other, 0) != cooks.known(short, 0)).any(1)
    assert not differ[:201].any()
    assert differ[201]


def test_known_columns():
    """Distances and uses at the beginning: nothing in hand, no pot begun, and every player where the game starts."""
    game = trials("cramped-room")[0]
    there = cooks.errands(game)
    assert there["onion"][0].nonzero()[0].tolist() == [5, 9]
    assert there["open pot"][0].nonzero()[0].tolist() == [2]
    assert not there["begun pot"][0].any()
    assert not there["done pot"][0].any()
    served = int(np.flatnonzero(game.reward)[0])
    assert game.held[served].max() == 3


def test_errands_end_where_hands_change():
    game = trials("cramped-room")[0]
    floor = Floor(KITCHENS["cramped-room"])
    for player in range(2):
        found = subgoals.errands(game, player)
        changes = np.flatnonzero(np.diff(game.held[:, player]))
        assert [each.end - 1 for each in found if each.goal is not None] == changes.tolist()
        for each in found:
            if each.goal is not None:
                assert game.action[each.end - 1, player] == INTERACT
                assert floor.ahead[each.states[-1]] == each.goal
                assert each.actions[-1] == 4
            assert (game.held[each.begin : each.end, player] == each.held).all()


def test_sub_goals_sharpen_and_see_nothing_of_what_follows():
    """Learned from two games: the belief at a step is that of the game up to it, and better than before a step."""
    games = [each for each in trials("cramped-room") if not each.held_out][:2]
    model = subgoals.learn(games, key=jax.random.key(0), steps=40)
    new = next(each for each in trials("cramped-room") if each.held_out)
    belief = model.belief(new, 0)
    assert belief.shape == (len(new) + 1, len(model.cells))
    np.testing.assert_allclose(belief.sum(1), 1, atol=1e-4)
    kept = {part: vars(new)[part][:401] for part in ("place", "facing", "held", "counters", "onions", "ticks")}
    short = dataclasses.replace(new, **kept, action=new.action[:400], reward=new.reward[:400])
    np.testing.assert_allclose(model.belief(short, 0), belief[:401], atol=1e-4)
    gained = []
    for each in subgoals.errands(new, 0):
        if each.goal is not None:
            cell = np.flatnonzero(model.cells == each.goal)[0]
            gained.append(np.log(belief[each.end - 1, cell]) - np.log(model.base(each.held)[cell]))
    assert np.mean(gained) > 0.3
    with pytest.raises(ValueError, match="one kitchen"):
        subgoals.learn([*games, trials("coordination-ring")[0]], key=jax.random.key(0))


def test_a_film(tmp_path):
    pytest.importorskip("PIL")
    from PIL import Image

    games = [each for each in trials("cramped-room") if not each.held_out][:1]
    model = subgoals.learn(games, key=jax.random.key(0), steps=2)
    subgoals.film(model, games[0], tmp_path / "game.gif", range(20, 24))
    with Image.open(tmp_path / "game.gif") as film:
        assert film.n_frames >= 2
        assert film.size == (5 * 48, 4 * 48)
