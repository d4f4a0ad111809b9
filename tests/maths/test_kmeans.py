"""Starting points: what k-means promises, and that order and duplication of rows do not matter."""

import numpy as np
import scipy.cluster.vq

from veil import KMeans, RandomResponsibilities, RandomRows
from veil.maths import kmeans


def blobs(rng, count=30):
    return np.concatenate([rng.normal(size=(count, 2)) * 0.2 + centre for centre in ([0, 0], [5, 0], [0, 5])])


def test_distances_far_from_the_origin_keep_their_digits():
    points = 1e9 + np.array([[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_array_equal(kmeans.squared_distances(points, points), [[0, 25], [25, 0]])


def test_lloyd_is_scipys():
    rng = np.random.default_rng(0)
    points = blobs(rng)
    centres = kmeans.seed(points, np.ones(len(points)), 3, rng)
    labels = kmeans.lloyd(points, np.ones(len(points)), centres, 50)
    expected, theirs = scipy.cluster.vq.kmeans2(points, centres, iter=50, minit="matrix")
    np.testing.assert_array_equal(labels, theirs)
    np.testing.assert_allclose(points[labels == 0].mean(0), expected[0])


def test_seeds_are_drawn_by_weight_times_squared_distance():
    points, weights = np.array([[0.0], [1.0], [3.0]]), np.array([1.0, 2.0, 1.0])
    first, second = np.zeros(3), np.zeros(3)
    rng = np.random.default_rng(0)
    for _ in range(4000):
        a, b = kmeans.seed(points, weights, 2, rng)[:, 0]
        first[[0, 1, 3].index(a)] += 1
        if a == 0:
            second[[0, 1, 3].index(b)] += 1
    np.testing.assert_allclose(first / 4000, [0.25, 0.5, 0.25], atol=0.04)
    np.testing.assert_allclose(second / second.sum(), [0, 2 / 11, 9 / 11], atol=0.06)  # 2·1², 1·3²


def test_weights_are_duplicates_and_order_does_not_matter():
    rng = np.random.default_rng(1)
    points, weights = blobs(rng), rng.integers(1, 4, 90)
    shuffled, repeated = rng.permutation(90), np.repeat(np.arange(90), weights)
    for start in (KMeans(), RandomRows()):
        draw = lambda rows, w, start=start: start(points[rows], w, 3, np.random.default_rng(5))  # noqa: E731
        plain = draw(np.arange(90), weights.astype(float))
        np.testing.assert_array_equal(draw(shuffled, weights[shuffled].astype(float)), plain[shuffled])
        np.testing.assert_array_equal(draw(repeated, np.ones(len(repeated))), plain[repeated])


def test_responsibilities_sum_to_one():
    points = blobs(np.random.default_rng(2))
    for start in (KMeans(), RandomRows(), RandomResponsibilities()):
        r = start(points, np.ones(90), 7, np.random.default_rng(0))
        assert r.shape == (90, 7)
        assert np.all(r >= 0)
        np.testing.assert_allclose(r.sum(1), 1)


def test_more_centres_than_points():
    points = np.zeros((2, 1))
    assert np.all(np.isfinite(KMeans()(points, np.ones(2), 5, np.random.default_rng(0))))
