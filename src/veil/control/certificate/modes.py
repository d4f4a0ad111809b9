"""Where demonstrated actions are: neighbours of an observation, the modes of their actions, and what is off them.

Everything is calibrated on the demonstrations themselves. Row j is a datum (o_j, a_j); N_j are the k rows with the
nearest observations, without j. With d(a, N) the distance of an action to the nearest action of N, and r_j the median
of d within N_j, an action at o_j is off the demonstrations where

    t_j(a) = d(a, N_j) / r_j  >  the 99th percentile of t_j(a_j) over all rows.

Given o_j the demonstrated action a_j and a draw a' ~ π(a | o_j) of the policy that gave the demonstrations are of one
distribution, and neither is in N_j: so the true policy's draws are off in 1 % of cases, whatever the distribution.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

OFF = 0.01  # of demonstrations that count as off
APART = 5.0  # standard deviations within two parts between their means, for two modes
FEW = 4  # of n points they must be 1 + 4 / n times as far apart
LEAST = 0.1  # of the neighbours, in the smaller of two parts
AXES = 3  # principal directions that are looked at
BLOCK = 2**23  # numbers of an array that is made at once
TINY = 1e-3  # standard deviations: distances below are no differences


@dataclass(frozen=True)
class Standard:
    """Numbers side by side, in units of their standard deviations; columns that never change are left out."""

    mean: np.ndarray
    spread: np.ndarray
    moving: np.ndarray

    @staticmethod
    def of(values: Float[np.ndarray, "N D"]) -> "Standard":
        """That of values: mean zero, variance one."""
        mean, spread = np.mean(values, axis=0), np.std(values, axis=0)
        moving = np.flatnonzero(spread > 1e-6 * (1 + np.abs(mean)))
        return Standard(mean[moving], spread[moving], moving)

    def __call__(self, values: Float[np.ndarray, "*N D"]) -> Float[np.ndarray, "*N E"]:
        some: np.ndarray = (values[..., self.moving] - self.mean) / self.spread
        return some


def nearest(points: Float[np.ndarray, "N D"], count: int) -> Int[np.ndarray, "N K"]:
    """Of each point the ``count`` others that are nearest."""
    square = np.sum(points**2, axis=1)
    found = np.empty((len(points), count), np.int64)
    step = max(1, BLOCK // len(points))
    for at in range(0, len(points), step):
        part = points[at : at + step]
        apart = square[at : at + step, None] + square[None] - 2 * part @ points.T
        apart[np.arange(len(part)), at + np.arange(len(part))] = np.inf
        found[at : at + step] = np.argpartition(apart, count - 1, axis=1)[:, :count]
    return found


def distances(one: Float[np.ndarray, "*B N D"], other: Float[np.ndarray, "*B K D"]) -> Float[np.ndarray, "*B N K"]:
    """Between all pairs."""
    return np.sqrt(np.sum((one[..., :, None, :] - other[..., None, :, :]) ** 2, axis=-1))


def halves(values: Float[np.ndarray, " K"]) -> tuple[Bool[np.ndarray, " K"], float]:
    """The split of numbers into lower and upper ones with the least variance within, and how far these are apart.

    D = |m_1 - m_2| / sqrt((s_1² + s_2²) / 2), Ashman, Bird & Zepf 1994, eq. 3; the smaller part has a tenth of them,
    and at least three. Of the best split of a normal D is 2.6, of a uniform 3.5, of two normals their own.
    """
    order = np.sort(values)
    count, least = len(order), max(3, int(np.ceil(LEAST * len(order))))
    if count < 2 * least or not order[-1] - order[0] > TINY:
        return np.zeros(count, bool), 0.0
    sizes = np.arange(1, count)
    sums, squares = np.cumsum(order)[:-1], np.cumsum(order**2)[:-1]
    all_sum, all_square = np.sum(order), np.sum(order**2)
    within = squares - sums**2 / sizes + (all_square - squares) - (all_sum - sums) ** 2 / (count - sizes)
    at = least - 1 + int(np.argmin(within[least - 1 : count - least]))
    low, high = order[: at + 1], order[at + 1 :]
    spread = np.sqrt((np.var(low) + np.var(high)) / 2) + TINY
    return values > (low[-1] + high[0]) / 2, float((np.mean(high) - np.mean(low)) / spread)


def modes(actions: Float[np.ndarray, "K D"]) -> Int[np.ndarray, " K"]:
    """Of each action the number of its mode, from 0.

    Divisive: along each of the first principal directions a part is split in two as well as can be (``halves``, exact
    in one dimension), and the split that sets its parts farthest apart is made if they are ``APART``; the parts
    likewise (a little farther where there are few points). Splitting along principal directions: Boley 1998, Principal
    direction divisive partitioning. It is not searched for in all directions: of many there is one that sets any
    points apart.
    """
    labels, waiting, found = np.zeros(len(actions), np.int64), [np.arange(len(actions))], 0
    while waiting:
        rows = waiting.pop()
        centred = actions[rows] - np.mean(actions[rows], axis=0)[None]
        axes = np.linalg.svd(centred, full_matrices=False)[2][:AXES] if len(rows) > 1 else np.zeros((0, 1))
        splits = [halves(centred @ axis) for axis in axes]
        upper, apart = max(splits, key=lambda each: each[1], default=(np.zeros(len(rows), bool), 0.0))
        if apart > APART * (1 + FEW / len(rows)):
            waiting += [rows[upper], rows[~upper]]
        else:
            labels[rows] = found
            found += 1
    return labels


@dataclass(frozen=True)
class Demonstrations:
    """R demonstrated actions and their neighbours.

    ``near`` [R, K]: the rows of N_j; ``labels`` [R, K]: the modes of their actions, and ``counts`` [R] how many there
    are; ``unit`` [R]: r_j; ``limit``: of t; ``done`` [R, D]: the actions, standardised.
    """

    done: np.ndarray
    near: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    unit: np.ndarray
    limit: float

    @property
    def several(self) -> np.ndarray:
        """The rows whose neighbours have several modes."""
        return np.flatnonzero(self.counts > 1)

    def place(self, rows: np.ndarray, actions: Float[np.ndarray, "M S D"]) -> "Placed":
        """Where actions, standardised, are among the neighbours of ``rows`` [M]."""
        count, width = self.near.shape[1], max(1, actions.shape[2])
        step = max(1, BLOCK // (actions.shape[1] * count * width))
        parts = [self._placed(rows[at : at + step], actions[at : at + step]) for at in range(0, len(rows), step)]
        return Placed(*(np.concatenate([vars(part)[name] for part in parts]) for name in ("mode", "off", "between")))

    def _placed(self, rows: np.ndarray, actions: np.ndarray) -> "Placed":
        apart = distances(actions, self.done[self.near[rows]])
        closest = np.argmin(apart, axis=-1)
        off = np.min(apart, axis=-1) / self.unit[rows, None] > self.limit
        mode = np.take_along_axis(self.labels[rows], closest, axis=1)
        return Placed(np.where(off, -1, mode), off, off & self._between(rows, actions))

    def _between(self, rows: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Whether actions are between the means of two modes, along the line from one to the other."""
        found = np.zeros(actions.shape[:2], bool)
        for i, row in enumerate(rows):
            means = self.means(int(row))
            for one in range(len(means)):
                for other in range(one):
                    way = means[other] - means[one]
                    share = (actions[i] - means[one][None]) @ way / np.sum(way**2)
                    found[i] |= (share > 0) & (share < 1)
        return found

    def means(self, row: int) -> Float[np.ndarray, "M D"]:
        """The mean action of each mode at a row."""
        return np.stack(
            [np.mean(self.done[self.near[row]][self.labels[row] == m], axis=0) for m in range(self.counts[row])]
        )

    def shares(self, row: int) -> Float[np.ndarray, " M"]:
        """The share of the demonstrations that each mode has at a row."""
        return np.bincount(self.labels[row], minlength=self.counts[row]) / len(self.labels[row])


@dataclass(frozen=True)
class Placed:
    """Of actions [M, S] the ``mode`` they are in (-1: off all of them), whether ``off``, and ``between`` two modes."""

    mode: np.ndarray
    off: np.ndarray
    between: np.ndarray


def demonstrations(seen: Float[np.ndarray, "R P"], done: Float[np.ndarray, "R D"], neighbours: int) -> Demonstrations:
    """From standardised observations and actions."""
    near = nearest(seen, neighbours)
    unit, own = np.empty(len(done)), np.empty(len(done))
    step = max(1, BLOCK // (neighbours * neighbours * max(1, done.shape[1])))
    for at in range(0, len(done), step):
        some = done[near[at : at + step]]
        inside = distances(some, some)
        inside[:, np.arange(neighbours), np.arange(neighbours)] = np.inf
        unit[at : at + step] = np.median(np.min(inside, axis=-1), axis=-1) + TINY
        own[at : at + step] = np.min(distances(done[at : at + step, None], some), axis=(1, 2))
    limit = float(np.quantile(own / unit, 1 - OFF, method="higher"))
    labels = np.stack([modes(done[rows]) for rows in near])
    return Demonstrations(done, near, labels, labels.max(axis=1) + 1, unit, limit)


def apart(one: Float[np.ndarray, "M S D"], other: Float[np.ndarray, "M S D"]) -> float:
    """The energy distance 2 E|p - q| - E|p - p'| - E|q - q'| of draws of two policies, without bias, mean over rows.

    Székely & Rizzo 2013; zero only where the distributions are the same.
    """

    def mean(one: np.ndarray, other: np.ndarray) -> float:
        step = max(1, BLOCK // (one.shape[1] * other.shape[1] * max(1, one.shape[2])))
        parts = range(0, len(one), step)
        return sum(float(np.sum(distances(one[at : at + step], other[at : at + step]))) for at in parts) / len(one)

    count = one.shape[1]
    across, inside = count * count, count * (count - 1)
    return 2 * mean(one, other) / across - (mean(one, one) + mean(other, other)) / inside
