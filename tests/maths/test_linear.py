"""Small factorisations against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.maths import linear


def positive(n: int) -> np.ndarray:
    rows = np.random.default_rng(n).normal(size=(n, n + 2))
    return rows @ rows.T


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_factors_and_solutions_are_numpys(x64: None, n: int) -> None:
    matrix, right = positive(n), np.random.default_rng(7).normal(size=(n, 3))
    factor = linear.cholesky(jnp.array(matrix))
    np.testing.assert_allclose(factor, np.linalg.cholesky(matrix), atol=1e-12)
    np.testing.assert_allclose(linear.solve_lower(factor, jnp.array(right)), np.linalg.solve(factor, right), atol=1e-11)
    np.testing.assert_allclose(
        linear.solve_upper(factor, jnp.array(right)), np.linalg.solve(np.asarray(factor).T, right), atol=1e-11
    )
    found = linear.solve_positive(factor, jnp.array(right))
    np.testing.assert_allclose(found, np.linalg.solve(matrix, right), rtol=1e-8, atol=1e-9)


def test_under_vmap_they_are_the_same(x64: None) -> None:
    many = jnp.array(np.stack([positive(4) * scale for scale in (1.0, 1e-8, 1e8)]))
    np.testing.assert_allclose(jax.vmap(linear.cholesky)(many), np.linalg.cholesky(many), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_singular_matrix_has_a_finite_factor_that_gives_it_back(x64: None, dtype: type) -> None:
    line = np.array([[1.0, 2.0, -1.0]])
    for matrix in (line.T @ line, np.zeros((3, 3)), np.diag([1.0, 0.0, 2.0])):
        factor = linear.cholesky(jnp.array(matrix, dtype))
        assert np.all(np.isfinite(factor))
        assert np.all(np.diagonal(factor) > 0)
        np.testing.assert_allclose(factor @ factor.T, matrix, atol=40 * jnp.finfo(dtype).eps)
