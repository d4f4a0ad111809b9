"""People who cook together: the human pairs of Overcooked (Carroll et al. 2019), which come with the library."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from veil.data.recorded.recordings import Episode, Recording

FILE = Path(__file__).parent / "overcooked.npz"
PREFIX = "overcooked-"
ACTIONS = ("north", "south", "east", "west", "stay", "interact")  # the first four are also where one may face
THINGS = ("nothing", "onion", "dish", "soup")  # in hands and on counters
SECONDS = 0.15  # of one step
COOKING = 20  # steps after the third onion until a soup is done
ONIONS = 3  # of a soup
NEVER = len(ACTIONS)  # the last action, where there was none yet


@dataclass(frozen=True)
class Kitchen:
    """A layout: rows of letters. X a counter, O onions, D dishes, P a pot, S where soups are served, 1 and 2 starts.

    Cells are numbered row by row from the top left, y W + x of W columns; y goes down. Its border has no floor, so that
    every cell of the floor has four neighbours.

    >>> KITCHENS["cramped-room"].floor.tolist()
    [6, 7, 8, 11, 12, 13]
    """

    rows: tuple[str, ...]

    @cached_property
    def tiles(self) -> np.ndarray:
        """[cells] letters, a space for the floor, that where players start included."""
        letters = "".join(self.rows).replace("1", " ").replace("2", " ")
        return np.array(list(letters))

    @property
    def width(self) -> int:
        return len(self.rows[0])

    @property
    def height(self) -> int:
        return len(self.rows)

    @property
    def steps(self) -> np.ndarray:
        """[4] what to add to a cell to go north, south, east, west."""
        return np.array([-self.width, self.width, 1, -1])

    @cached_property
    def floor(self) -> np.ndarray:
        return np.flatnonzero(self.tiles == " ")

    @cached_property
    def pots(self) -> np.ndarray:
        return np.flatnonzero(self.tiles == "P")

    @cached_property
    def counters(self) -> np.ndarray:
        """The counters on which something can be laid: those beside the floor."""
        beside = np.unique(self.floor[:, None] + self.steps)
        return beside[self.tiles[beside] == "X"]

    @cached_property
    def starts(self) -> np.ndarray:
        """[2] the cells where the first and the second player begin."""
        letters = "".join(self.rows)
        return np.array([letters.index("1"), letters.index("2")])

    def at(self, cell: np.ndarray) -> np.ndarray:
        """[..., 2]: column and row of a cell."""
        return np.stack([cell % self.width, cell // self.width], -1)


KITCHENS = {  # names of the paper; in the files forced coordination is random0 and counter circuit random3
    "asymmetric-advantages": Kitchen(("XXXXXXXXX", "O XSXOX S", "X   P 1 X", "X2  P   X", "XXXDXDXXX")),
    "coordination-ring": Kitchen(("XXXPX", "X 1 P", "D2X X", "O   X", "XOSXX")),
    "cramped-room": Kitchen(("XXPXX", "O  2O", "X1  X", "XDXSX")),
    "forced-coordination": Kitchen(("XXXPX", "O X1P", "O2X X", "D X X", "XXXSX")),
    "counter-circuit": Kitchen(("XXXPPXXX", "X      X", "D XXXX S", "X2    1X", "XXXOOXXX")),
}
NAMES = tuple(PREFIX + name for name in KITCHENS)


@dataclass(frozen=True)
class Trial:
    """One game of a pair in a kitchen, T joint actions, as it was logged.

    ``place`` [T+1, 2] cells, ``facing`` [T+1, 2] and ``held`` [T+1, 2] of the two players, in the numbers of ACTIONS
    and THINGS; ``counters`` [T+1, C] things; ``onions`` and ``ticks`` [T+1, pots], steps since the third onion without
    a limit; ``action`` [T, 2] and ``reward`` [T] (5 a soup). ``pair``: who they are; ``held_out``: of the test trials.
    """

    kitchen: str
    pair: int
    held_out: bool
    place: np.ndarray
    facing: np.ndarray
    held: np.ndarray
    counters: np.ndarray
    onions: np.ndarray
    ticks: np.ndarray
    action: np.ndarray
    reward: np.ndarray

    def __len__(self) -> int:
        return len(self.action)


STATES = ("place", "facing", "held", "counters", "onions", "ticks")


@cache
def trials(name: str) -> tuple[Trial, ...]:
    """The games in a kitchen, in the order of the published files, those to learn from first.

    >>> [len([one for one in trials(name) if one.held_out == test]) for name in KITCHENS for test in (False, True)]
    [9, 8, 8, 8, 8, 8, 6, 6, 8, 7]
    """
    kitchen, number = KITCHENS[name], list(KITCHENS).index(name)
    with np.load(FILE, allow_pickle=False) as file:
        parts = {part: file[part] for part in file.files}
    ends = np.cumsum(parts["lengths"])
    found = []
    for i in np.flatnonzero(parts["kitchen"] == number):
        end = int(ends[i])
        begin = end - int(parts["lengths"][i])
        arrays = {part: parts[part][begin + i : end + i + 1].astype(np.int32) for part in STATES}  # one state more
        arrays["counters"] = arrays["counters"][:, : len(kitchen.counters)]
        arrays |= {part: arrays[part][:, : len(kitchen.pots)] for part in ("onions", "ticks")}
        acted = {part: parts[part][begin:end].astype(np.int32) for part in ("action", "reward")}
        found.append(Trial(name, int(parts["pair"][i]), bool(parts["held_out"][i]), **arrays, **acted))
    return tuple(found)


def overcooked(name: str) -> Recording:
    """The games in a kitchen as each of the two players saw them: two episodes a game, that of the first player first.

    Parts: "place" (x, y) in cells, y down; "facing", where one looks, north, south, east, west; "held", nothing, onion,
    dish, soup; the same of the "partner/..."; "counters", what lies on each; "onions" in each pot; "ticks", steps since
    its third onion, at most 20: done; "last", one's own last action and the partner's (6: none yet); "time", steps
    since the beginning, of 0.15 s; "action", north, south, east, west, stay, interact; "reward", 5 for a soup served by
    either. The infos say which "pair" and which "player".

    ``recording(name, "train")`` and ``"test"`` are the published split, by pair and kitchen: a pair that is held out in
    one kitchen may be one to learn from in another. MIT licence; Carroll et al. (2019), On the Utility of Learning
    about Humans for Human-AI Coordination.

    >>> overcooked("cramped-room")
    Recording('overcooked-cramped-room': 32 episodes, place, facing, held, partner/place, partner/facing, partner/held,
    counters, onions, ticks, last, time, action, reward, terminated)
    """
    games = trials(name)
    counters = len(KITCHENS[name].counters)
    hands: dict[str, Any] = {"facing": range(4), "held": range(len(THINGS))}
    categories = hands | {f"partner/{part}": values for part, values in hands.items()}
    categories |= {
        "counters": (range(len(THINGS)),) * counters,
        "last": (range(NEVER + 1),) * 2,
        "action": range(len(ACTIONS)),
    }
    split = {
        "train": [2 * i + player for i, game in enumerate(games) if not game.held_out for player in range(2)],
        "test": [2 * i + player for i, game in enumerate(games) if game.held_out for player in range(2)],
    }
    return Recording(
        [_seen(game, player) for game in games for player in range(2)],
        categories,
        PREFIX + name,
        {"splits": split, "layout": list(KITCHENS[name].rows)},
    )


def _seen(game: Trial, player: int) -> Episode:
    """A game as one of its players saw it."""
    kitchen, other, length = KITCHENS[game.kitchen], 1 - player, len(game) + 1
    last = np.concatenate([np.full((1, 2), NEVER), game.action])[:, [player, other]]
    seen = {}
    for prefix, who in (("", player), ("partner/", other)):
        seen[f"{prefix}place"] = kitchen.at(game.place[:, who])
        seen |= {f"{prefix}facing": game.facing[:, who], f"{prefix}held": game.held[:, who]}
    seen |= {
        "counters": game.counters,
        "onions": game.onions,
        "ticks": np.minimum(game.ticks, COOKING),
        "last": last,
        "time": np.arange(length),
    }
    return Episode(
        seen,
        {"action": game.action[:, player]},
        game.reward.astype(np.float32),
        truncated=True,
        infos={"pair": np.full(length, game.pair), "player": np.full(length, player)},
    )
