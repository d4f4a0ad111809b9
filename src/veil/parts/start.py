"""Where a mixture's training starts: responsibilities, drawn on the host from standardised data."""

from abc import abstractmethod

import equinox as eqx
import numpy as np

from veil.maths import kmeans


class Start(eqx.Module):
    """points [N, ·] (standardised query and evidence), weights [N] -> responsibilities [N, K].

    Starts depend on the values of the rows and not on their order, and a row of weight two starts like two rows:
    integer weights are the same as duplicated rows.
    """

    @abstractmethod
    def __call__(
        self, points: np.ndarray, weights: np.ndarray, components: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Responsibilities, rows summing to one."""


def _one_hot(labels: np.ndarray, components: int) -> np.ndarray:
    # a little of every point to every component: one that no point chose starts broad, not undefined
    blur = 0.01
    return (1.0 - blur) * np.eye(components)[labels] + blur / components


class KMeans(Start):
    """k-means++ centres and ``iterations`` of Lloyd's algorithm. Arthur & Vassilvitskii 2007."""

    iterations: int = eqx.field(static=True, default=10)

    def __call__(
        self, points: np.ndarray, weights: np.ndarray, components: int, rng: np.random.Generator
    ) -> np.ndarray:
        order = kmeans.canonical_order(points)
        centres = kmeans.seed(points[order], weights[order], components, rng)
        return _one_hot(kmeans.lloyd(points, weights, centres, self.iterations), components)


class RandomRows(Start):
    """Components at rows drawn at random, each point to the nearest."""

    def __call__(
        self, points: np.ndarray, weights: np.ndarray, components: int, rng: np.random.Generator
    ) -> np.ndarray:
        order = kmeans.canonical_order(points)
        centres = np.stack([points[order][kmeans.draw(weights[order], rng)] for _ in range(components)])
        return _one_hot(np.argmin(kmeans.squared_distances(points, centres), axis=1), components)


class RandomResponsibilities(Start):
    """Every point to a random blend of components: a poor start on purpose, all components alike and in the middle."""

    def __call__(
        self, points: np.ndarray, weights: np.ndarray, components: int, rng: np.random.Generator
    ) -> np.ndarray:
        return rng.dirichlet(np.ones(components), len(points))
