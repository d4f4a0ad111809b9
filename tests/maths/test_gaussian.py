"""The Gaussian formulas against numpy, scipy and index lists."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import oracles
from compiled import called
from veil.maths import gaussian

pytestmark = pytest.mark.usefixtures("x64")


def covariance(rng, size):
    a = rng.normal(size=(size, size))
    return a @ a.T + 0.3 * np.eye(size)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_packing_is_the_upper_triangle(size):
    rng = np.random.default_rng(size)
    u, symmetric = rng.normal(size=size), covariance(rng, size)
    packed = gaussian.pack_outer(jnp.array(u))
    assert packed.shape == (gaussian.packed_size(size),)
    np.testing.assert_allclose(packed, np.outer(u, u)[np.triu_indices(size)], rtol=1e-15)
    np.testing.assert_allclose(gaussian.unpack_symmetric(packed, size), np.outer(u, u), rtol=1e-15)
    np.testing.assert_allclose(gaussian.pack_quadratic(jnp.array(symmetric)) @ packed, u @ symmetric @ u, rtol=1e-12)
    both = jnp.array(np.stack([symmetric, 2 * symmetric]))
    np.testing.assert_allclose(gaussian.pack_quadratic(both) @ packed, u @ symmetric @ u * np.array([1, 2]), rtol=1e-12)


def test_packing_a_block_is_packing_each_and_has_derivatives():
    rng = np.random.default_rng(0)
    rows, coefficients = jnp.array(rng.normal(size=(4, 3))), jnp.array(rng.normal(size=(2, 6)))
    i, j = np.triu_indices(3)

    def packed(u):
        return jnp.tanh(gaussian.evaluate(coefficients, gaussian.pack_outer(u)))

    def plain(u):
        return jnp.tanh(coefficients @ (u[i] * u[j]))

    np.testing.assert_allclose(jax.vmap(gaussian.pack_outer)(rows), rows[:, i] * rows[:, j], rtol=1e-15)

    @jax.jit
    def derivatives(rows):
        each = [jax.vmap(derivative(f))(rows) for derivative in (jax.jacrev, jax.jacfwd, jax.hessian) for f in both]
        return [*each, *(jax.jacrev(jax.vmap(f))(rows) for f in both)]

    both = packed, plain
    found = derivatives(rows)
    for mine, other in zip(found[::2], found[1::2], strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_log_density_is_scipys(size):
    rng = np.random.default_rng(size)
    s, r = covariance(rng, size), rng.normal(size=size)
    factor = jnp.array(np.linalg.cholesky(s))
    expected = scipy.stats.multivariate_normal(np.zeros(size), s).logpdf(r)
    np.testing.assert_allclose(gaussian.log_density(jnp.array(r), factor), expected, rtol=1e-12)
    _, log_det = np.linalg.slogdet(2 * np.pi * s)
    np.testing.assert_allclose(gaussian.log_normaliser(factor), -0.5 * log_det, rtol=1e-12)


@pytest.mark.parametrize("pattern", range(8))
def test_missing_entries(pattern):
    """All patterns of three entries: the marginal density, E[r | r_o] and Cov[r | r_o] by index lists."""
    rng = np.random.default_rng(0)
    s, r, seen = covariance(rng, 3), rng.normal(size=3), np.array([pattern >> i & 1 for i in range(3)], bool)
    factor, zero = jnp.array(np.linalg.cholesky(s)), np.zeros(3)
    arguments = jnp.array(np.where(seen, r, 1e9)), factor, jnp.array(seen)  # the hidden values must not matter
    expected = oracles.gaussian_log_density(r, zero, s, seen)
    np.testing.assert_allclose(called(gaussian.observed_log_density, *arguments), expected, atol=1e-12)
    for unit in (1e200, 1e-200):  # whose squares are beyond the precision
        found = called(gaussian.observed_log_density, arguments[0] * unit, factor * unit, arguments[2])
        np.testing.assert_allclose(found, expected - seen.sum() * np.log(unit), rtol=1e-12)
    filled, conditional = called(gaussian.fill_missing, *arguments)
    expected, spread = oracles.gaussian_fill(r, zero, s, seen)
    np.testing.assert_allclose(filled, expected, atol=1e-12)
    np.testing.assert_allclose(conditional, spread, atol=1e-12)


@pytest.mark.parametrize(("query", "evidence"), [((0,), (1,)), ((2, 0), (3,)), ((1,), (0, 2, 3)), ((3, 1), ())])
def test_conditioning_divides_the_joint_by_the_marginal(query, evidence):
    rng = np.random.default_rng(0)
    mean, s, y = rng.normal(size=4), covariance(rng, 4), rng.normal(size=4)
    weight, conditional = gaussian.condition(jnp.array(mean), jnp.array(s), query, evidence)
    a, b = list(query), list(evidence)
    density = lambda i: oracles.gaussian_log_density(y[i], mean[i], s[np.ix_(i, i)])  # noqa: E731
    centre = np.asarray(weight) @ np.concatenate([[1.0], y[b]])
    found = oracles.gaussian_log_density(y[a], centre, np.asarray(conditional))
    np.testing.assert_allclose(found, density(a + b) - density(b), rtol=1e-11)


def test_safe_cholesky_is_cholesky_and_survives_rounding():
    rng = np.random.default_rng(0)
    s = covariance(rng, 4)
    scale = np.array([1e-6, 1.0, 1e3, 1e6])
    s = s * scale[:, None] * scale
    factor = np.asarray(gaussian.safe_cholesky(jnp.array(s)))
    np.testing.assert_allclose(factor, np.linalg.cholesky(s), rtol=1e-9)


@pytest.mark.parametrize("size", [3, 70], ids=["array code", "LAPACK"])
def test_safe_cholesky_and_whitener_of_both_kinds_of_code(size):
    rng = np.random.default_rng(1)
    several = np.stack([covariance(rng, size) for _ in range(6)]).reshape(2, 3, size, size)
    factor = np.asarray(gaussian.safe_cholesky(jnp.array(several)))
    np.testing.assert_allclose(factor, np.linalg.cholesky(several), rtol=1e-9, atol=1e-12)
    white = np.asarray(gaussian.whitener(jnp.array(factor))) @ factor
    np.testing.assert_allclose(white, np.broadcast_to(np.eye(size), white.shape), atol=1e-9)
    singular = np.ones((size, size)) - 1e-16 * np.eye(size)
    factor = np.asarray(gaussian.safe_cholesky(jnp.array(singular)))
    np.testing.assert_allclose(factor @ factor.T, singular, atol=1e-12)
    noise = np.full((size, size), 3.0) - 2.0 * np.eye(size)  # correlations of three: nothing is known of them
    noise *= 1e-8
    factor = np.asarray(gaussian.safe_cholesky(jnp.array(noise)))
    np.testing.assert_allclose(factor @ factor.T, 1e-8 * np.eye(size), rtol=1e-12, atol=1e-20)
    assert np.isnan(np.asarray(gaussian.safe_cholesky(jnp.full((size, size), jnp.nan)))).any()
