"""Cholesky factors and triangular solves of small matrices, in plain array code.

Batched LAPACK calls wait for threads of the pool that they run in (see ``after``); inside a scan over time, under
``vmap``, that is slow and can hang. These are as fast or faster up to about 10 x 10 (8192 factorisations of 10 x 10:
5.3 against 8.5 ms on two cores) and cannot hang. Each is a loop of n steps of O(n²), whatever the batch, and a function
of its own to the compiler: a program that calls it several times traces and lowers it once.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def after(tree: Any, number: Float[Array, "*any"]) -> Any:
    """The same arrays, which the compiler cannot have before ``number``: a way to run LAPACK calls one by one.

    A batched factorisation waits for threads of the pool it runs in (jaxlib 0.10), and two at the same time on two
    processors wait for each other for ever. Whatever might meet another one goes through here.

    >>> after({"a": jnp.ones(2), "b": jnp.array(True), "name": "c"}, jnp.array(jnp.nan))
    {'a': Array([1., 1.], dtype=float32), 'b': Array(True, dtype=bool), 'name': 'c'}
    """
    zero = 0.0 * jnp.nan_to_num(jnp.ravel(number)[0])

    def held(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array | np.ndarray):
            return leaf
        if leaf.dtype == bool:
            return leaf ^ (zero != 0)
        return leaf + zero.astype(leaf.dtype) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf

    return jax.tree.map(held, tree)


def _row(array: Array, j: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(array, j, keepdims=False)  # which is traced much faster than array[j]


def _with_row(array: Array, row: Array, j: Array) -> Array:
    return jax.lax.dynamic_update_index_in_dim(array, row, j, 0)


@jax.jit
def cholesky(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Lower L with L Lᵀ = A, of a symmetric A that is positive definite up to rounding.

    A pivot that rounding has made smaller than n eps times its diagonal entry is set to that: L is finite and has a
    positive diagonal for every finite A with a positive diagonal. (A zero diagonal entry is the smallest number.)
    Golub & Van Loan 2013, algorithm 4.2.2 (column by column).

    >>> cholesky(jnp.array([[4.0, 2.0], [2.0, 5.0]])).tolist()
    [[2.0, 0.0], [1.0, 2.0]]
    """
    n = matrix.shape[0]
    eps = jnp.finfo(matrix.dtype).eps
    tiny = jnp.finfo(matrix.dtype).tiny / eps
    least = n * eps * jnp.maximum(jnp.abs(jnp.diagonal(matrix)), tiny)
    rows = jnp.arange(n)

    def column(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        factor, left = carry  # Lᵀ, and the Schur complement of the columns before
        here = _row(left, j)
        pivot = jax.lax.sqrt(jax.lax.max(_row(here, j), _row(least, j)))
        entries = jnp.where(rows > j, here / pivot, jnp.where(rows == j, pivot, 0.0))
        return _with_row(factor, entries, j), left - entries[:, None] * entries[None, :]

    return jax.lax.fori_loop(0, n, column, (jnp.zeros_like(matrix), matrix))[0].T


@jax.jit
def solve_lower(factor: Float[Array, "n n"], right: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """X with L X = B, by forward substitution. Golub & Van Loan 2013, algorithm 3.1.1.

    >>> solve_lower(jnp.array([[2.0, 0.0], [1.0, 2.0]]), jnp.array([[2.0], [5.0]])).tolist()
    [[1.0], [2.0]]
    """

    columns = factor.T

    def row(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        found, left = carry
        column = _row(columns, j)
        entries = _row(left, j) / _row(column, j)
        return _with_row(found, entries, j), left - column[:, None] * entries[None, :]

    return jax.lax.fori_loop(0, factor.shape[0], row, (jnp.zeros_like(right), right))[0]


@jax.jit
def solve_upper(factor: Float[Array, "n n"], right: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """X with Lᵀ X = B, L lower, by back substitution.

    >>> solve_upper(jnp.array([[2.0, 0.0], [1.0, 2.0]]), jnp.array([[4.0], [4.0]])).tolist()
    [[1.0], [2.0]]
    """
    n = factor.shape[0]

    def row(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        found, left = carry
        j = n - 1 - i
        column = _row(factor, j)
        entries = _row(left, j) / _row(column, j)
        return _with_row(found, entries, j), left - column[:, None] * entries[None, :]

    return jax.lax.fori_loop(0, n, row, (jnp.zeros_like(right), right))[0]


def solve_positive(factor: Float[Array, "n n"], right: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """X with A X = B for A = L Lᵀ, from the factor."""
    return solve_upper(factor, solve_lower(factor, right))


def symmetric(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """½ (A + Aᵀ): what rounding has made of a symmetric matrix, made symmetric again."""
    return 0.5 * (matrix + matrix.T)
