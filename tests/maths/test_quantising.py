"""Residual codes against naive loops, and k-means that finds what is there."""

import jax
import jax.numpy as jnp
import numpy as np

from veil.maths import quantising

KEY = jax.random.key(0)


def test_codes_are_those_of_a_naive_loop():
    rng = np.random.default_rng(0)
    books, points = rng.normal(size=(3, 5, 4)).astype(np.float32), rng.normal(size=(20, 4)).astype(np.float32)
    codes, left = jax.vmap(lambda point: quantising.residual_codes(point, jnp.array(books)))(jnp.array(points))
    for n, point in enumerate(points):
        rest = point.copy()
        for level in range(3):
            np.testing.assert_allclose(left[n, level], rest, atol=1e-5)
            best = min(range(5), key=lambda k: np.sum((rest - books[level, k]) ** 2))
            assert np.asarray(codes[n, level]).tolist() == np.eye(5)[best].tolist()
            rest = rest - books[level, best]


def test_levels_find_a_sum_of_two_grids():
    """Points that are sums of a coarse and a fine choice are coded without error."""
    coarse, fine = np.array([[-4.0, 0], [4, 0], [0, 9]]), 0.3 * np.array([[-1.0, 1], [1, 1], [0, -1]])
    points = jnp.array((coarse[:, None] + fine[None]).reshape(-1, 2).repeat(10, 0), jnp.float32)
    books = quantising.residual_kmeans(points, 2, 3, KEY)
    _, left = jax.vmap(lambda point: quantising.residual_codes(point, books))(points)
    codes, _ = jax.vmap(lambda point: quantising.residual_codes(point, books))(points)
    found = jnp.einsum("nlc,lcd->nd", codes, books)
    np.testing.assert_allclose(found, points, atol=1e-4)
    assert left.shape == (90, 2, 2)


def test_no_centre_is_left_without_points():
    """Two far outliers draw seeds; every centre has points in the end, if there are points enough."""
    rng = np.random.default_rng(1)
    points = jnp.array(np.concatenate([rng.normal(size=(200, 2)), [[50.0, 0], [0, 60]]]), jnp.float32)
    for number in range(5):
        _, labels = quantising.kmeans(points, 8, jax.random.key(number))
        assert len(np.unique(labels)) == 8
    _, labels = quantising.kmeans(jnp.ones((5, 2)), 3, KEY)  # fewer points than centres
    assert np.all(np.isfinite(labels))
