"""Walks on a grid: a small decision problem from a map that is drawn with characters."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from veil.host.showing import Shown
from veil.parts.decisions import MDP, SparseTransitions

NORTH, EAST, SOUTH, WEST, STAY = range(5)
MOVES = np.array([[-1, 0], [0, 1], [1, 0], [0, -1], [0, 0]])  # rows and columns
WALL, FLOOR, START = "#", ".", "@"
ROOMS = """
A....B..
.##.....
...#..#.
.@.#..#C
......#.
D.......
"""  # four goals, a wall or two on the way


@dataclass(frozen=True, repr=False)
class Grid(Shown):
    """A problem made of a map. States are the cells that are no walls, as they are read.

    ``problem``: the MDP, without a reward; ``places`` [S, 2] row and column of every state; ``shape`` of the map;
    ``ground`` [S] the character of every state; ``goals``: the capital letters of the map, in the alphabet's order.
    """

    problem: MDP
    places: Int[np.ndarray, "S 2"]
    shape: tuple[int, int]
    ground: np.ndarray
    goals: tuple[str, ...]

    def rewards(self, cost: float = 2.0, worth: float = 20.0) -> Float[np.ndarray, "K S A N"]:
        """Of each goal, nats: a step costs ``cost``, and to arrive at the goal earns ``worth``. for ``KnownReward``."""
        arrives = self.ground[np.asarray(self.problem.transitions.next)]  # type: ignore[attr-defined]
        return np.stack([worth * (arrives == goal) - cost for goal in self.goals])

    def features(self, characters: str) -> Float[np.ndarray, "S F"]:
        """Which states are of which ground, 1 or 0: features for ``LinearReward``."""
        return np.stack([(self.ground == each).astype(float) for each in characters], -1)

    def arrivals(self, characters: str) -> Float[np.ndarray, "S A N F"]:
        """Which outcomes lead onto which ground, and 1 for every step behind them: features for ``LinearReward``."""
        arrived = self.ground[np.asarray(self.problem.transitions.next)]  # type: ignore[attr-defined]
        return np.stack([(arrived == each).astype(float) for each in characters] + [np.ones(arrived.shape)], -1)

    def laid(self, values: Any) -> Float[np.ndarray, "rows columns"]:
        """Numbers of states on the map, NaN on walls."""
        found = np.full(self.shape, np.nan)
        found[tuple(self.places.T)] = np.asarray(values)
        return found


def grid(
    text: str, *, slip: float = 0.0, stay: bool = False, discount: float = 0.95, horizon: int | None = None
) -> Grid:
    """A grid world from a map: ``#`` walls, ``.`` floor, ``@`` where episodes start (none: anywhere), others as named.

    Capital letters are goals, where an episode ends. The actions are north, east, south and west, with ``stay`` a fifth
    one; with a chance of ``slip`` a step goes to either side of where it was meant to go. Who would step into a wall or
    off the map stays.

    Raises:
        ValueError: lines of several lengths, no floor, or a chance outside [0, 1].

    >>> world = grid('''
    ... A..B
    ... .##.
    ... .@..
    ... ''')
    >>> world.problem.states, world.goals
    (10, ('A', 'B'))
    """
    lines = [line.strip() for line in text.strip().splitlines()]
    if len({len(line) for line in lines}) != 1:
        raise ValueError(f"text: expected lines of the same length; got {[len(line) for line in lines]}")
    if not 0 <= slip <= 1:
        raise ValueError(f"slip: expected a chance from 0 to 1; got {slip!r}")
    cells = np.array([list(line) for line in lines])
    places = np.argwhere(cells != WALL)
    ground = cells[tuple(places.T)]
    ends = np.array([each.isalpha() and each.isupper() for each in ground], bool)
    begins = ground == START if (ground == START).any() else ~ends
    if not begins.any():
        raise ValueError(f"text: expected some floor to start on, {FLOOR!r} or {START!r}")
    chances = np.array([1 - slip, slip / 2, slip / 2])
    following = np.stack([_following(cells, places, turned) for turned in _turned(5 if stay else 4)], -1)
    kept = chances > 0
    problem = MDP(
        SparseTransitions(following[..., kept], np.broadcast_to(chances[kept], following[..., kept].shape)),
        start=begins / begins.sum(),
        ends=ends,
        discount=discount,
        horizon=horizon,
    )
    return Grid(problem, places, (cells.shape[0], cells.shape[1]), ground, tuple(sorted(set(ground[ends].tolist()))))


def _turned(actions: int) -> list[list[int]]:
    """Where each action may go: as meant, to its left, to its right."""
    return [[action if action == STAY else (action + turn) % 4 for action in range(actions)] for turn in (0, -1, 1)]


def _following(cells: np.ndarray, places: np.ndarray, moves: list[int]) -> Int[np.ndarray, "S A"]:
    """The next state of every state under these moves, one an action."""
    number = np.full(cells.shape, -1)
    number[tuple(places.T)] = np.arange(len(places))
    framed = np.pad(number, 1, constant_values=-1)
    arrived = places[:, None] + MOVES[moves][None] + 1
    found = framed[arrived[..., 0], arrived[..., 1]]
    return np.where(found >= 0, found, np.arange(len(places))[:, None])
