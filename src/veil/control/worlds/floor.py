"""The floor of a kitchen as one player walks on it: where steps lead, and how many it takes to face something."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from veil.data.bundled.overcooked import Kitchen

FACINGS = 4


@dataclass(frozen=True)
class Floor:
    """States are (cell, facing), numbered 4 i + facing for the i-th cell of ``kitchen.floor``; nobody is in the way.

    >>> from veil.data.bundled.overcooked import KITCHENS
    >>> floor = Floor(KITCHENS["cramped-room"])
    >>> pot = 2
    >>> floor.states, float(floor.distances[pot, floor.state(6, 1)])  # of who stands in the corner and looks south
    (24, 2.0)
    """

    kitchen: Kitchen

    @property
    def states(self) -> int:
        return FACINGS * len(self.kitchen.floor)

    def state(self, place: np.ndarray | int, facing: np.ndarray | int) -> np.ndarray:
        """The number of a cell of the floor and a direction."""
        return np.asarray(FACINGS * np.searchsorted(self.kitchen.floor, place) + facing)

    @cached_property
    def following(self) -> Int[np.ndarray, "S 4"]:
        """The state after a step north, south, east, west: one faces there, and is there if it is floor."""
        floor = self.kitchen.floor
        wanted = floor[:, None] + self.kitchen.steps
        arrived = np.where(self.kitchen.tiles[wanted] == " ", wanted, floor[:, None])
        return np.repeat(self.state(arrived, np.arange(FACINGS)), FACINGS, 0)

    @cached_property
    def ahead(self) -> Int[np.ndarray, " S"]:
        """The cell that one faces."""
        return (self.kitchen.floor[:, None] + self.kitchen.steps).ravel()

    @cached_property
    def distances(self) -> Float[np.ndarray, "cells S"]:
        """The fewest steps after which one faces a cell; infinite from where that cannot be."""
        found = np.where(np.arange(len(self.kitchen.tiles))[:, None] == self.ahead, 0.0, np.inf)
        while True:
            nearer = np.minimum(found, 1.0 + found[:, self.following].min(-1))
            if np.array_equal(nearer, found):
                return found
            found = nearer
