"""What a cook knows at each step of a game, as numbers that mean the same in every kitchen.

A network for people in five kitchens should not learn anew in each that who holds an onion goes to a pot. So most of
it is relative: how far it is to what can be done, which steps lead nearer, what lies on the four sides, and what both
players did lately. Everything is of the present state and the past; nothing is of the action that is to be predicted.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from veil.control.worlds.floor import FACINGS, Floor
from veil.control.worlds.overcooked import DISH, INTERACT, ONION, SOUP, STAY
from veil.data.bundled.overcooked import ACTIONS, COOKING, KITCHENS, NEVER, ONIONS, THINGS, Trial

TILES = (
    " XODPS"  # in this order; then counters with an onion, a dish, a soup, pots that cook, that are done, the partner
)
COOKS, DONE, PARTNER = 9, 10, 11
KINDS = 12
LAGS, PARTNER_LAGS = 10, 4  # of the last actions
MEMORIES = (0.8, 0.95, 0.99)  # what a step leaves of running averages of what was done
SPANS = (3.0, 10.0)  # steps, in which an event is forgotten
FLOORS = [len(kitchen.floor) for kitchen in KITCHENS.values()]


def known(trial: Trial, player: int) -> Float[np.ndarray, "T F"]:
    """What a player knows before each action of a game, F numbers.

    >>> from veil.data.bundled.overcooked import trials
    >>> known(trials("cramped-room")[0], 0).shape
    (1204, 564)
    """
    groups = [*_around(trial, player), *_kitchen(trial, player), *_lately(trial, player)]
    return np.concatenate(groups, 1, dtype=np.float32)


def errands(trial: Trial) -> dict[str, np.ndarray]:
    """[T+1, cells] by name: where each of the things that one can go for is at every step."""
    kitchen, length = KITCHENS[trial.kitchen], len(trial) + 1
    found = {name: np.tile(kitchen.tiles == letter, (length, 1)) for name, letter in (("onion", "O"), ("dish", "D"))}
    found["serve"] = np.tile(kitchen.tiles == "S", (length, 1))

    def some(cells: np.ndarray, which: np.ndarray) -> np.ndarray:
        there = np.zeros((length, len(kitchen.tiles)), bool)
        there[:, cells] = which
        return there

    full, done = trial.onions == ONIONS, trial.ticks >= COOKING
    for name, which in (("open pot", ~full), ("done pot", done), ("cooking pot", full & ~done)):
        found[name] = some(kitchen.pots, which)
    found["begun pot"] = some(kitchen.pots, ~full & (trial.onions > 0))
    for kind, name in enumerate(("free counter", "laid onion", "laid dish", "laid soup")):
        found[name] = some(kitchen.counters, trial.counters == kind)
    return found


def _hot(number: np.ndarray, count: int) -> np.ndarray:
    return np.asarray(number)[..., None] == np.arange(count)


def _around(trial: Trial, player: int) -> Iterator[np.ndarray]:
    """How far what can be done is for both, which steps lead nearer, what is on the four sides, and the partner."""
    kitchen, length, other = KITCHENS[trial.kitchen], len(trial), 1 - player
    floor = Floor(kitchen)
    masks = np.stack(list(errands(trial).values()), 1)[:length]  # [T, errands, cells]

    def far(state: np.ndarray) -> np.ndarray:
        return np.where(masks, floor.distances[:, state].T[:, None], np.inf).min(-1)

    states = floor.state(trial.place, trial.facing)[:length]
    now = far(states[:, player])
    then = np.stack([far(floor.following[states[:, player], step]) for step in range(FACINGS)], -1)
    reached = np.isfinite(now)
    with np.errstate(invalid="ignore"):
        nearer = np.where(reached[..., None], np.clip(now[..., None] - then, -1, 1), 0.0)
    partner = far(states[:, other])
    yield from (np.minimum(now, 12) / 6, ~reached, np.exp(-now / 2), now == 0, nearer.reshape(length, -1))
    yield from (np.minimum(partner, 12) / 6, np.exp(-partner / 2))
    for who in (player, other):
        yield from (_hot(trial.facing[:length, who], FACINGS), _hot(trial.held[:length, who], len(THINGS)))
    steps, place = np.arange(length), trial.place[:length]
    tiles = _tiles(trial)[:length]
    tiles[steps, place[:, other]] = PARTNER
    for step in kitchen.steps:
        yield _hot(tiles[steps, place[:, player] + step], KINDS)
    ahead = tiles[steps, place[:, player] + kitchen.steps[trial.facing[:length, player]]]
    held = trial.held[:length, player]
    yield from (_hot(ahead, KINDS), _hot(_use(ahead, held), 9), _hot(4 * ahead + held, 4 * KINDS))
    away = kitchen.at(place[:, other]) - kitchen.at(place[:, player])
    blocks = np.abs(away).sum(1)
    yield from (away / 4, blocks[:, None] <= np.array([1, 2]))


def _tiles(trial: Trial) -> Int[np.ndarray, "T1 cells"]:
    """What every cell is, 0 to 10: of TILES, and beyond."""
    kitchen = KITCHENS[trial.kitchen]
    found = np.tile([TILES.index(letter) for letter in kitchen.tiles], (len(trial) + 1, 1))
    found[:, kitchen.counters] = np.where(trial.counters > 0, 5 + trial.counters, 1)
    found[:, kitchen.pots] = np.where(trial.ticks >= COOKING, DONE, np.where(trial.onions == ONIONS, COOKS, 4))
    return found


def _use(ahead: np.ndarray, held: np.ndarray) -> np.ndarray:
    """What an interaction would do: nothing, or take an onion, a dish, fill a pot, ..."""
    empty = held == 0
    return np.select(
        [
            (ahead == 2) & empty,
            (ahead == 3) & empty,
            (ahead == 4) & (held == ONION),
            (ahead == DONE) & (held == DISH),
            (ahead == 5) & (held == SOUP),
            (ahead == 1) & ~empty,
            (ahead >= 6) & (ahead <= 8) & empty,
            (ahead == COOKS) & (held == DISH),
        ],
        range(1, 9),
        0,
    )


def _kitchen(trial: Trial, player: int) -> Iterator[np.ndarray]:
    """The two nearest pots, what lies on counters, which kitchen it is, both places in it, and the time."""
    kitchen, length = KITCHENS[trial.kitchen], len(trial)
    floor, steps = Floor(kitchen), np.arange(length)
    states = floor.state(trial.place[:length, player], trial.facing[:length, player])
    order = np.argsort(np.minimum(floor.distances[kitchen.pots][:, states].T, 30), 1, kind="stable")
    for i in range(2):
        if i < len(kitchen.pots):
            pot = order[:, i]
            yield from (
                _hot(trial.onions[steps, pot], ONIONS + 1),
                np.minimum(trial.ticks, COOKING)[steps, pot, None] / 20,
            )
        else:
            yield np.zeros((length, ONIONS + 2))
    yield np.stack([np.sum(trial.counters[:length] == kind, 1) / 2 for kind in (ONION, DISH, SOUP)], -1)
    number = list(KITCHENS).index(trial.kitchen)
    for who in (player, 1 - player):
        cell = np.searchsorted(kitchen.floor, trial.place[:length, who])
        yield _hot(sum(FLOORS[:number]) + cell, sum(FLOORS))
    yield from (_hot(np.full(length, number), len(KITCHENS)), np.full((length, 1), player))
    yield np.stack([np.minimum(steps, 100) / 100, steps / 1200], -1)


def _lately(trial: Trial, player: int) -> Iterator[np.ndarray]:
    """The last actions of both, what came of them, how long ago things happened, and averages over the past."""
    length, other = len(trial), 1 - player
    last, partner = (np.concatenate([[NEVER], trial.action[:-1, who]]) for who in (player, other))
    for actions, lags in ((last, LAGS), (partner, PARTNER_LAGS)):
        for lag in range(lags):
            yield _hot(_before(actions, lag, NEVER), len(ACTIONS))

    def changed(part: np.ndarray, who: int) -> np.ndarray:
        return np.concatenate([[False], part[1:length, who] != part[: length - 1, who]])

    moved, took, turned = (changed(part, player) for part in (trial.place, trial.held, trial.facing))
    for lag in range(4):
        yield np.stack([_before(event, lag, False) for event in (moved, took, turned)], -1)
    acted = last != STAY
    events = [acted, moved, took, last == INTERACT, changed(trial.place, other), changed(trial.held, other)]
    for event in [*events, partner != STAY, *(last == step for step in range(FACINGS))]:
        ago = _since(event)
        yield np.stack([*(np.exp(-ago / span) for span in SPANS), np.log1p(ago) / 4], -1)
    yield _hot(np.minimum(_since(acted), 12), 13)
    gaps = _gaps(acted & (last != NEVER))
    yield from (np.log1p(gaps) / 3, _hot(np.minimum(gaps[:, 0], 6), 7))
    bumped = (last < STAY) & ~moved & ~turned
    done = np.concatenate(
        [_hot(last, len(ACTIONS)), np.stack([moved, bumped, (last == INTERACT) & ~took, took], -1)], 1
    )
    for memory in MEMORIES:
        yield _averaged(done.astype(float), memory)
    yield np.cumsum(done, 0) / (np.arange(length)[:, None] + 20)
    kitchen, steps = KITCHENS[trial.kitchen], np.arange(length)
    for lag in (2, 4, 8, 16):
        yield (
            kitchen.at(trial.place[:length, player]) - kitchen.at(trial.place[np.maximum(steps - lag, 0), player])
        ) / 3


def _before(values: np.ndarray, lag: int, none: int | bool) -> np.ndarray:
    """The values so many steps before."""
    return np.concatenate([np.full(min(lag, len(values)), none), values[: max(0, len(values) - lag)]])


def _since(event: np.ndarray) -> np.ndarray:
    """Steps since an event, 0 where it is now; since before the beginning where there was none."""
    steps = np.arange(len(event))
    last = np.maximum.accumulate(np.where(event, steps, -1))
    return steps - last


def _gaps(event: np.ndarray) -> Float[np.ndarray, "T 3"]:
    """Steps between each two of the last events, up to the present one: the last gap first, 20 before the first."""
    times = np.flatnonzero(event)
    between = np.concatenate([[0.0, 0.0, 0.0], [20.0] * min(1, len(times)), np.diff(times)])
    seen = np.cumsum(event)  # how many so far
    return np.stack([between[seen + 2 - i] for i in range(3)], -1)


def _averaged(values: Float[np.ndarray, "T F"], memory: float) -> Float[np.ndarray, "T F"]:
    """m_t = memory m_t-1 + (1 - memory) v_t, m_0 before the beginning zero."""
    found, now = np.empty_like(values), np.zeros(values.shape[1])
    for t, value in enumerate(values):
        now = memory * now + (1 - memory) * value
        found[t] = now
    return found


__all__ = ["errands", "known"]
