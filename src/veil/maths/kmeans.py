"""Starting points for mixtures: k-means++ seeding and a few Lloyd iterations, on the host.

numpy and not JAX: it runs once, on a sample, before anything is compiled.
"""

import numpy as np


def squared_distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """|x_n - c_k|², shape [N, K]; differences, not the expansion, so that nothing cancels far from the origin."""
    return np.stack([np.sum((points - centre) ** 2, axis=1) for centre in centres], axis=1)


def draw(weights: np.ndarray, rng: np.random.Generator) -> int:
    """One index with probability proportional to ``weights`` (all-zero weights: uniform), by the inverse CDF.

    The inverse CDF makes a row of weight 2 and two equal neighbouring rows the same draw for the same random number.
    """
    cumulative = np.cumsum(weights)
    if not cumulative[-1] > 0:
        return int(rng.random() * len(weights))
    return min(int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")), len(weights) - 1)


def seed(points: np.ndarray, weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++ centres [count, D]: each next one drawn with probability ∝ weight x squared distance to the nearest.

    Arthur & Vassilvitskii 2007, algorithm 1. With fewer distinct points than ``count`` some centres coincide.
    """
    centres = [points[draw(weights, rng)]]
    nearest = np.sum((points - centres[0]) ** 2, axis=1)
    for _ in range(count - 1):
        centres.append(points[draw(weights * nearest, rng)])
        nearest = np.minimum(nearest, np.sum((points - centres[-1]) ** 2, axis=1))
    return np.stack(centres)


def lloyd(points: np.ndarray, weights: np.ndarray, centres: np.ndarray, iterations: int) -> np.ndarray:
    """Labels [N] after at most ``iterations`` of Lloyd's algorithm; a centre left without points stays where it is."""
    labels = np.argmin(squared_distances(points, centres), axis=1)
    for _ in range(iterations):
        mass = np.bincount(labels, weights, minlength=len(centres))
        sums = np.stack([np.bincount(labels, weights * column, minlength=len(centres)) for column in points.T], axis=1)
        centres = np.where(mass[:, None] > 0, sums / np.maximum(mass, 1e-300)[:, None], centres)
        previous, labels = labels, np.argmin(squared_distances(points, centres), axis=1)
        if np.array_equal(previous, labels):
            break
    return labels


def canonical_order(points: np.ndarray) -> np.ndarray:
    """A row order that depends only on the rows' values, so that a start does not depend on how data were sorted."""
    return np.lexsort(points.T[::-1])
