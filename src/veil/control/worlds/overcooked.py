"""Overcooked (Carroll et al. 2019) as an exact Markov decision process: what joint actions do, in integers.

Two players on a grid carry onions into pots, three a soup, fetch what is done with a dish, and serve it for a reward of
5. A step has three parts, in this order:

    hands     the first player's interaction with the tile that it faces, then the second's
    feet      who goes in a direction faces it, and is there if it is floor; where both would come to one cell, or would
              change places, both stay
    fire      a pot with three onions counts a step; at 20 its soup is done

Nothing is drawn: p(s' | s, a) is one at ``Overcooked.step``. It makes of the logged joint actions every logged state of
the human games, but the steps after 20, which matter to nobody (a test).
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from veil.data.bundled.overcooked import COOKING, KITCHENS, NEVER, ONIONS, Kitchen, Trial

ONION, DISH, SOUP = 1, 2, 3  # of THINGS; nothing is 0
STAY, INTERACT = 4, 5  # of ACTIONS; the four before are directions
SERVED = 5  # the reward of a soup
LETTERS = " XODPS"


class State(NamedTuple):
    """All that matters of a game: of the players [2], the counters [C] and the pots [P], as in ``Trial``.

    ``place`` cells, ``facing`` directions, ``held`` things; ``counters`` things; ``onions`` 0 to 3, ``ticks`` 0 to 20.
    """

    place: Int[Array, "*many 2"]
    facing: Int[Array, "*many 2"]
    held: Int[Array, "*many 2"]
    counters: Int[Array, "*many C"]
    onions: Int[Array, "*many P"]
    ticks: Int[Array, "*many P"]


class Overcooked(eqx.Module):
    """The dynamics in a kitchen, by default the cramped room.

    >>> import jax.numpy as jnp
    >>> world = Overcooked()
    >>> state, reward = world.step(world.start(), jnp.array([3, 1]))  # west, into a counter; south
    >>> state.place.tolist(), state.facing.tolist(), float(reward)
    ([11, 13], [3, 1], 0.0)
    """

    kitchen: Kitchen = eqx.field(static=True, default=KITCHENS["cramped-room"])

    def start(self) -> State:
        """Where every game begins: players face north with empty hands, pots and counters are empty."""
        pots, counters = len(self.kitchen.pots), len(self.kitchen.counters)
        nothing = jnp.zeros(2, int)
        start = jnp.asarray(self.kitchen.starts)
        return State(start, nothing, nothing, jnp.zeros(counters, int), jnp.zeros(pots, int), jnp.zeros(pots, int))

    def step(self, state: State, actions: Int[Array, "2"]) -> tuple[State, Int[Array, ""]]:
        """(next state, reward): what the two players' actions, numbers of ACTIONS, lead to."""
        state, first = self._hands(state, 0, actions[0])
        state, second = self._hands(state, 1, actions[1])
        place, facing = self._feet(state, actions)
        ticks = jnp.where(state.onions == ONIONS, jnp.minimum(state.ticks + 1, COOKING), state.ticks)
        return state._replace(place=place, facing=facing, ticks=ticks), first + second

    def ahead(self, state: State) -> Int[Array, "2"]:
        """The cells that the players face."""
        return state.place + jnp.asarray(self.kitchen.steps)[state.facing]

    def _hands(self, state: State, player: int, action: Int[Array, ""]) -> tuple[State, Int[Array, ""]]:
        cell, held = self.ahead(state)[player], state.held[player]
        acts = action == INTERACT
        letter = jnp.asarray(_numbers(self.kitchen))[cell]
        tile = {name: acts & (letter == i) for i, name in enumerate(LETTERS)}
        at = jnp.asarray(self.kitchen.counters) == cell
        there = jnp.sum(jnp.where(at, state.counters, 0))
        moved = (
            jnp.any(at) & acts & ((held == 0) != (there == 0))
        )  # laid down or taken up: full and empty change places
        pot = (jnp.asarray(self.kitchen.pots) == cell) & acts
        put = pot & (held == ONION) & (state.onions < ONIONS)
        taken = pot & (held == DISH) & (state.ticks >= COOKING)
        served = tile["S"] & (held == SOUP)
        new = jnp.select(
            [moved, jnp.any(put) | served, jnp.any(taken), tile["O"] & (held == 0), tile["D"] & (held == 0)],
            [there, 0, SOUP, ONION, DISH],
            held,
        )
        return state._replace(
            held=state.held.at[player].set(new),
            counters=jnp.where(at & moved, held, state.counters),
            onions=jnp.where(taken, 0, state.onions + put),
            ticks=jnp.where(taken, 0, state.ticks),
        ), SERVED * served

    def _feet(self, state: State, actions: Int[Array, "2"]) -> tuple[Int[Array, "2"], Int[Array, "2"]]:
        facing = jnp.where(actions < STAY, actions, state.facing)
        wanted = state.place + jnp.asarray(self.kitchen.steps)[facing]
        free = jnp.asarray(self.kitchen.tiles == " ")[wanted] & (actions < STAY)
        new = jnp.where(free, wanted, state.place)
        same = new[0] == new[1]
        swapped = (new[0] == state.place[1]) & (new[1] == state.place[0])
        return jnp.where(same | swapped, state.place, new), facing

    def observe(
        self, state: State, last: Int[Array, "*many 2"], time: Int[Array, "*many"], player: int
    ) -> dict[str, Any]:
        """What a player sees: the parts of ``veil.data.recording("overcooked-...")``, by name.

        ``last``: the joint action before, 6 for none (``NEVER``); ``time``: steps since the beginning.
        """
        width, found = self.kitchen.width, {}
        for prefix, who in (("", player), ("partner/", 1 - player)):
            place = state.place[..., who]
            found[f"{prefix}place"] = jnp.stack([place % width, place // width], -1)
            found |= {f"{prefix}facing": state.facing[..., who], f"{prefix}held": state.held[..., who]}
        rest = {"counters": state.counters, "onions": state.onions, "ticks": state.ticks}
        order = jnp.array([player, 1 - player])
        return found | rest | {"last": last[..., order], "time": time}


def _numbers(kitchen: Kitchen) -> np.ndarray:
    return np.array([LETTERS.index(letter) for letter in kitchen.tiles])


@eqx.filter_jit
def replay(world: Overcooked, state: State, actions: Int[Array, "T 2"]) -> tuple[State, Int[Array, " T"]]:
    """(states [T+1, ...], rewards [T]) of joint actions from a state.

    >>> states, rewards = replay(Overcooked(), Overcooked().start(), jnp.full((3, 2), STAY))
    >>> states.place.shape, rewards.tolist()
    ((4, 2), [0, 0, 0])
    """

    def one(before: State, action: Int[Array, "2"]) -> tuple[State, tuple[State, Int[Array, ""]]]:
        after, reward = world.step(before, action)
        return after, (after, reward)

    _, (states, rewards) = jax.lax.scan(one, state, actions)
    return jax.tree.map(lambda first, others: jnp.concatenate([first[None], others]), state, states), rewards


def logged(trial: Trial) -> State:
    """The states of a human game [T+1, ...], a soup's steps after 20 left out."""
    parts = {name: jnp.asarray(trial.__dict__[name]) for name in State._fields}
    return State(**parts | {"ticks": jnp.minimum(parts["ticks"], COOKING)})


__all__ = ["DISH", "INTERACT", "NEVER", "ONION", "SERVED", "SOUP", "STAY", "Overcooked", "State", "logged", "replay"]
