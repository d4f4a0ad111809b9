"""The kitchen: every logged state of the human games, rules by hand, what players see, pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil.data
from veil.control.worlds import Overcooked
from veil.control.worlds.kitchens import PLAYERS, film, picture
from veil.control.worlds.overcooked import DISH, INTERACT, ONION, SOUP, STAY, State, logged, replay
from veil.data.bundled.overcooked import ACTIONS, COOKING, KITCHENS, trials

NORTH, SOUTH, EAST, WEST = range(4)


@pytest.mark.parametrize("name", KITCHENS)
def test_every_logged_state_follows_from_the_actions(name):
    """Of all games: places, directions, hands, counters, pots and rewards, from the start that every game has."""
    world, games = Overcooked(KITCHENS[name]), trials(name)
    longest = max(map(len, games))
    actions = np.stack(
        [np.pad(each.action, ((0, longest - len(each)), (0, 0)), constant_values=STAY) for each in games]
    )
    states, rewards = jax.vmap(lambda some: replay(world, world.start(), some))(jnp.asarray(actions))
    for i, game in enumerate(games):
        for part, array in logged(game)._asdict().items():
            np.testing.assert_array_equal(np.asarray(states._asdict()[part])[i, : len(game) + 1], array, part)
        np.testing.assert_array_equal(np.asarray(rewards)[i, : len(game)], game.reward)


def test_the_data_are_the_published_ones():
    """91,102 joint steps of 76 games, 39 to learn from; 57 % of actions stay and 9 % interact."""
    games = [game for name in KITCHENS for game in trials(name)]
    assert (len(games), sum(map(len, games))) == (76, 91102)
    assert [sum(game.held_out == test for game in games) for test in (False, True)] == [39, 37]
    share = np.bincount(np.concatenate([game.action.ravel() for game in games])) / (2 * 91102)
    assert len(share) == len(ACTIONS)
    np.testing.assert_allclose(share[[STAY, INTERACT]], [104365 / 182204, 16722 / 182204])
    assert {(game.kitchen, game.pair) for game in games if game.held_out}.isdisjoint(
        {(game.kitchen, game.pair) for game in games if not game.held_out}
    )
    assert sum(int(game.reward.sum()) for game in games) == 5 * (693 + 668 + 2)


@pytest.mark.parametrize("name", KITCHENS)
def test_a_recording_is_what_each_player_saw(name):
    world, game = Overcooked(KITCHENS[name]), trials(name)[0]
    recording = veil.data.recording(f"overcooked-{name}", "train")
    assert len(recording) == 2 * sum(not each.held_out for each in trials(name))
    last = jnp.concatenate([jnp.full((1, 2), len(ACTIONS)), jnp.asarray(game.action)])
    for player in range(2):
        episode = recording.episodes[player]
        assert (episode.infos["pair"][0], episode.infos["player"][0]) == (game.pair, player)
        np.testing.assert_array_equal(episode.actions["action"], game.action[:, player])
        seen = world.observe(logged(game), last, jnp.arange(len(last)), player)
        assert list(seen) == list(episode.observations)
        for part, array in seen.items():
            np.testing.assert_array_equal(array, episode.observations[part], part)


def test_data_for_a_policy():
    data = veil.data.load("overcooked-cramped-room")
    example = next(each for each in veil.data.available() if each.name == "overcooked-cramped-room")
    assert (len(data), example.present, data.view.taken) == (example.rows, True, True)
    assert example.columns == veil.data.recording(example.name).parts
    np.testing.assert_array_equal(data.query.sum(1), 1)
    with pytest.raises(ValueError, match="cramped-room"):
        veil.data.load("overcooked-cramped-rom")


def after(actions, **parts):
    """The state of the cramped room after joint actions, from its start with other parts."""
    world = Overcooked()
    state = world.start()._replace(**{part: jnp.array(value) for part, value in parts.items()})
    states, rewards = replay(world, state, jnp.array(actions))
    return jax.tree.map(lambda part: part[-1].tolist(), states), rewards.tolist()


@pytest.mark.parametrize(
    ("places", "actions", "ends"),
    [([6, 8], (EAST, WEST), [6, 8]), ([6, 7], (EAST, WEST), [6, 7]), ([6, 7], (EAST, EAST), [7, 8]),
     ([6, 7], (EAST, STAY), [6, 7]), ([6, 7], (EAST, NORTH), [6, 7]), ([6, 8], (SOUTH, SOUTH), [11, 13])],
)  # fmt: skip
def test_feet(places, actions, ends):
    """Both to one cell, through each other, after each other, into one who stands or is stopped, and freely."""
    state, _ = after([actions], place=places)
    assert state.place == ends
    assert state.facing == [action if action < STAY else NORTH for action in actions]


def test_a_soup_from_onions_to_the_counter():
    """At the pot (2, 0): two onions in it, a third, twenty steps, a dish, and served at (3, 3)."""
    state, rewards = after([(INTERACT, STAY)], place=[7, 13], held=[ONION, 0], onions=[2])
    assert (state.onions, state.ticks, state.held, rewards) == ([3], [1], [0, 0], [0])
    kept, _ = after([(INTERACT, STAY)], place=[7, 13], held=[ONION, 0], onions=[3], ticks=[4])
    assert (kept.held, kept.onions) == ([ONION, 0], [3])
    early, _ = after([(INTERACT, STAY)], place=[7, 13], held=[DISH, 0], onions=[3], ticks=[COOKING - 1])
    assert (early.held, early.ticks) == ([DISH, 0], [COOKING])
    state, _ = after([(INTERACT, STAY)], place=[7, 13], held=[DISH, 0], onions=[3], ticks=[COOKING])
    assert (state.held, state.onions, state.ticks) == ([SOUP, 0], [0], [0])
    state, rewards = after([(SOUTH, STAY), (INTERACT, STAY)], place=[13, 6], held=[SOUP, 0])
    assert (state.held, rewards) == ([0, 0], [0, 5])


def test_counters_and_dispensers():
    """An onion from the left, a dish from below, laid on the counter at (1, 0), and taken up there by the other."""
    state, _ = after([(WEST, STAY), (INTERACT, STAY)], place=[6, 8])
    assert state.held == [ONION, 0]
    world = Overcooked()
    at = world.kitchen.counters.tolist().index(1)
    laid, _ = after([(INTERACT, STAY)], place=[6, 8], held=[DISH, 0])
    assert (laid.counters[at], sum(laid.counters), laid.held) == (DISH, DISH, [0, 0])
    full, _ = after([(INTERACT, STAY)], place=[6, 8], held=[ONION, 0], counters=laid.counters)
    assert (full.held, full.counters) == ([ONION, 0], laid.counters)
    taken, _ = after([(STAY, INTERACT)], place=[8, 6], counters=laid.counters)
    assert (taken.held, sum(taken.counters)) == ([0, DISH], 0)


def test_the_first_player_acts_first():
    """Both reach for one onion on a counter: the first has it."""
    grid = Overcooked(KITCHENS["coordination-ring"])
    middle = grid.kitchen.counters.tolist().index(12)
    state = grid.start()._replace(
        place=jnp.array([7, 13]), facing=jnp.array([SOUTH, WEST]), counters=grid.start().counters.at[middle].set(ONION)
    )
    after, _ = grid.step(state, jnp.array([INTERACT, INTERACT]))
    assert after.held.tolist() == [ONION, 0]


def test_pictures():
    pytest.importorskip("PIL")
    world = Overcooked()
    state = State(*map(np.asarray, world.start()))
    drawn = picture(world.kitchen, state, 32)
    assert drawn.shape == (4 * 32, 5 * 32, 3)
    for (x, y), colour in zip(world.kitchen.at(state.place), PLAYERS, strict=True):
        np.testing.assert_array_equal(drawn[32 * y + 16, 32 * x + 16], colour)
    states, _ = replay(world, world.start(), jnp.array([(EAST, WEST)] * 3))
    assert len(film(world.kitchen, states, side=16)) == 4
    assert len(film(world.kitchen, states, [0, 2], side=16)) == 2
