"""Gaussian densities and their sufficient statistics, for one datum and K experts at a time.

Second moments are kept *packed*: the upper triangle of u uᵀ, row by row, as one vector of F = n(n+1)/2 numbers.
A sum over data of weight times packed features is then one matrix product, and so is a quadratic form.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from veil.maths import linear

LOG_2PI = math.log(2.0 * math.pi)
FEW, MANY = 64, 10  # rows of a matrix up to which array code is used, for some matrices and for thousands of them


def packed_size(n: int) -> int:
    """Length of the packed upper triangle of an n x n matrix."""
    return n * (n + 1) // 2


def pack_outer(u: Float[Array, " n"]) -> Float[Array, " F"]:
    """Upper triangle of u uᵀ, row by row."""
    return products(u, *np.triu_indices(u.shape[0]))


def products(u: Float[Array, " n"], rows: np.ndarray, columns: np.ndarray) -> Float[Array, " F"]:
    """u_i u_j for each of F pairs (i, j); of a block of data as [F, N], so that each is one long contiguous row."""

    @jax.custom_batching.custom_vmap
    def of_one(u: Array) -> Array:
        return u[rows] * u[columns]

    @of_one.def_vmap
    def of_a_block(_: int, batched: list[bool], u: Array) -> tuple[Array, bool]:
        # the row of zeros is a boundary to XLA's fusion, which else reads the transposed block anew for every product
        across = jnp.pad(u.T, ((0, 1), (0, 0)))
        return (across[rows] * across[columns]).T, True

    @jax.custom_jvp
    def differentiable(u: Array) -> Array:
        return of_one(u)

    @differentiable.defjvp
    def tangent(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
        (u,), (change,) = primals, tangents
        return differentiable(u), change[rows] * u[columns] + u[rows] * change[columns]

    return differentiable(u)


def evaluate(coefficients: Float[Array, "K F"], packed: Float[Array, " F"]) -> Float[Array, " K"]:
    """c · packed for each of K.

    For a block it is [K, F] x [F, N], and the barrier keeps XLA from turning it around, to a form for which it has no
    fast code on processors: an iteration of EM on 100k rows of 33 numbers with 16 experts takes 58 ms so (on one core),
    143 the other way, and 100 with the packed products as [N, F].
    """
    return jax.lax.optimization_barrier(coefficients @ packed)


def unpack_symmetric(packed: Float[Array, "*batch F"], n: int) -> Float[Array, "*batch n n"]:
    """The symmetric matrix whose upper triangle is ``packed``."""
    rows, columns = np.triu_indices(n)
    position = np.zeros((n, n), dtype=np.int32)
    position[rows, columns] = np.arange(rows.size)
    position[columns, rows] = np.arange(rows.size)
    return packed[..., position]


def pack_quadratic(matrix: Float[Array, "*batch n n"]) -> Float[Array, "*batch F"]:
    """Coefficients c with c · pack_outer(u) = uᵀ M u for a symmetric M: the diagonal once, the rest twice."""
    n = matrix.shape[-1]
    rows, columns = np.triu_indices(n)
    times = np.where(rows == columns, 1.0, 2.0).astype(matrix.dtype)
    return matrix[..., rows, columns] * times.reshape(*[1] * (matrix.ndim - 2), -1)


@partial(jax.jit, static_argnames="most")
def safe_cholesky(matrix: Float[Array, "*batch n n"], most: int = FEW) -> Float[Array, "*batch n n"]:
    """Cholesky factor of a covariance that is positive definite in exact arithmetic but perhaps not in this one.

    The correlations are factored, whatever the scales of the variables; where rounding has made them indefinite, a few
    units in the last place are added to their diagonal, and where they are noise altogether they are dropped.

    Beyond ``most`` rows by LAPACK, one after the other: a call for several slows down what runs beside and after it (an
    iteration of EM on 100k rows took 105 ms with one for 16 matrices of 32 rows, and 59 without), or stands still.
    """
    tiny = jnp.finfo(matrix.dtype).tiny
    scale = jnp.sqrt(jnp.maximum(jnp.diagonal(matrix, axis1=-2, axis2=-1), tiny))
    correlation = matrix / scale[..., :, None] / scale[..., None, :]
    n = matrix.shape[-1]
    identity = jnp.broadcast_to(jnp.eye(n, dtype=matrix.dtype), matrix.shape)
    if n <= most:
        factor = jnp.vectorize(linear.cholesky, signature="(n,n)->(n,n)")(correlation)
        ones = jnp.sum(factor * factor, -1, keepdims=True)  # the diagonal that it has
        return scale[..., :, None] * jnp.where(jnp.all(jnp.abs(ones - 1) < 0.1, -2, keepdims=True), factor, identity)
    return scale[..., :, None] * _one_by_one(_by_lapack, correlation)


def _by_lapack(correlation: Float[Array, "n n"]) -> Float[Array, "n n"]:
    factor = jnp.linalg.cholesky(correlation)
    n, eps = len(correlation), jnp.finfo(correlation.dtype).eps
    identity = jnp.eye(n, dtype=correlation.dtype)
    second = jnp.linalg.cholesky(linear.after(correlation, factor) + 16 * n * eps * identity)
    second = jnp.where(jnp.all(jnp.isfinite(second)), second, identity)
    return jnp.where(jnp.all(jnp.isfinite(factor)), factor, second)


def _one_by_one(function: Callable[..., Array], matrices: Float[Array, "*batch n n"]) -> Float[Array, "*batch n n"]:
    """A function of one matrix for each of them, in turn: LAPACK for several at a time can stand still."""
    if matrices.ndim == 2:
        return function(matrices)
    found = jax.lax.map(function, matrices.reshape(-1, *matrices.shape[-2:]))
    return found.reshape(matrices.shape)


@jax.jit
def whitener(factor: Float[Array, "*batch n n"]) -> Float[Array, "*batch n n"]:
    """L⁻¹ of a lower L, of a few of them."""
    one = jnp.eye(factor.shape[-1], dtype=factor.dtype)
    if factor.shape[-1] <= FEW:
        identity = jnp.broadcast_to(one, factor.shape)
        return jnp.vectorize(linear.solve_lower, signature="(n,n),(n,m)->(n,m)")(factor, identity)
    return _one_by_one(lambda each: jax.scipy.linalg.solve_triangular(each, one, lower=True), factor)


def log_normaliser(factor: Float[Array, "*batch D D"]) -> Float[Array, "*batch"]:
    """-½ log|2π Σ| for Σ = L Lᵀ, from the factor L (nats)."""
    diagonal = jnp.abs(jnp.diagonal(factor, axis1=-2, axis2=-1))
    return -jnp.sum(jnp.log(diagonal), -1) - 0.5 * factor.shape[-1] * LOG_2PI


def log_density(residual: Float[Array, " D"], factor: Float[Array, "D D"]) -> Float[Array, ""]:
    """log N(r; 0, L Lᵀ) in nats: -½ |L⁻¹ r|² - ½ log|2π L Lᵀ|."""
    white = jax.scipy.linalg.solve_triangular(factor, residual, lower=True)
    return -0.5 * jnp.sum(white * white) + log_normaliser(factor)


def log_mass(low: Float[Array, "..."] | None, high: Float[Array, "..."] | None) -> Float[Array, "..."]:
    """log(Φ(b) - Φ(a)) of a standard normal between ends a < b; None: it has no end there."""
    if low is None or high is None:
        assert low is not None or high is not None
        return jax.scipy.special.log_ndtr(high if low is None else -low)
    width, middle = high - low, 0.5 * (low + high)
    right = middle > 0  # where Φ is nearly one it has no digits: the mirror image has
    near, far = (jax.scipy.special.log_ndtr(jnp.where(right, -one, other)) for one, other in ((low, high), (high, low)))
    narrow = width * jnp.maximum(1.0, jnp.abs(middle)) < 1e-2
    gap = jnp.where(narrow, -1.0, jnp.minimum(far - near, -jnp.finfo(near.dtype).eps))
    flat = (
        jnp.log(width) - 0.5 * (middle**2 + LOG_2PI) + jnp.log1p(jnp.where(narrow, (middle**2 - 1) * width**2, 0) / 24)
    )
    return jnp.where(narrow, flat, near + jnp.log(-jnp.expm1(gap)))


def observed_factor(factor: Float[Array, "D D"], observed: Bool[Array, " D"]) -> Float[Array, "D D"]:
    """Cholesky factor of Σ with the rows and columns of missing entries replaced by the identity's."""
    both = observed[:, None] & observed[None, :]
    # of rows of size one: in the user's units Σ itself may be beyond what the precision holds
    size = jnp.where(observed, jnp.max(jnp.abs(factor), axis=1), 1.0)[:, None]
    rows = factor / size
    identity = jnp.eye(factor.shape[0], dtype=factor.dtype)
    return size * safe_cholesky(jnp.where(both, rows @ rows.T, identity), MANY)  # one for each datum


def observed_log_density(
    residual: Float[Array, " D"], factor: Float[Array, "D D"], observed: Bool[Array, " D"]
) -> Float[Array, ""]:
    """log N(r_o; 0, Σ_oo) in nats: the exact marginal over the entries that are present; 0 when none is."""
    part = observed_factor(factor, observed)
    missing = jnp.sum(~observed)
    return log_density(jnp.where(observed, residual, 0.0), part) + 0.5 * LOG_2PI * missing


def fill_missing(
    residual: Float[Array, " D"], factor: Float[Array, "D D"], observed: Bool[Array, " D"]
) -> tuple[Float[Array, " D"], Float[Array, "D D"]]:
    """E[r | r_o] and Cov[r | r_o] for r ~ N(0, L Lᵀ): what EM needs of the entries that are absent.

    E = Σ_·o Σ_oo⁻¹ r_o, Cov = Σ - Σ_·o Σ_oo⁻¹ Σ_o· (zero where observed). Ghahramani & Jordan 1994, eq. 8.
    """
    part = observed_factor(factor, observed)
    covariance = factor @ factor.T
    cross = jnp.where(observed[:, None], covariance, 0.0)  # Σ_o·, zero rows where nothing was observed
    present = jnp.where(observed, residual, 0.0)
    both = jax.scipy.linalg.solve_triangular(part, jnp.concatenate([cross, present[:, None]], 1), lower=True)
    white, white_residual = both[:, :-1], both[:, -1]
    absent = ~observed
    conditional = jnp.where(absent[:, None] & absent[None, :], covariance - white.T @ white, 0.0)
    return jnp.where(observed, residual, white.T @ white_residual), conditional


def condition(
    mean: Float[Array, " D"],
    covariance: Float[Array, "D D"],
    query: tuple[int, ...],
    evidence: tuple[int, ...],
) -> tuple[Float[Array, "A P"], Float[Array, "A A"]]:
    """p(y_a | y_b) of a joint Gaussian as a regression: (W, Σ) with mean W [1, y_b].

    W = [μ_a - G μ_b, G], G = Σ_ab Σ_bb⁻¹, Σ = Σ_aa - G Σ_ba. Bishop 2006, eqs. 2.81-2.82.
    """
    a, b = np.asarray(query, dtype=int), np.asarray(evidence, dtype=int)
    gain = jnp.linalg.solve(covariance[np.ix_(b, b)], covariance[np.ix_(b, a)]).T
    offset = mean[a] - gain @ mean[b]
    conditional = covariance[np.ix_(a, a)] - gain @ covariance[np.ix_(b, a)]
    return jnp.concatenate([offset[:, None], gain], 1), 0.5 * (conditional + conditional.T)
