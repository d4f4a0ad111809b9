"""Affine recursions m_t = A_t m_t-1 + c_t with covariances P_t = A_t P_t-1 A_tᵀ + S_t, of one sequence.

T steps of L numbers. ``columns`` works on many sequences side by side.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from veil.maths import linear

LONG = 512  # steps from which on a recursion is worked on in chunks
MANY = 64  # sequences from which on long ones, too, are faster side by side than in chunks
SMALL = 12  # rows of matrices whose products are written out


def recursion(
    gain: Float[Array, "T L L"],
    offset: Float[Array, "T L"],
    spread: Float[Array, "T L L"] | None,
    reverse: bool = False,
) -> tuple[Float[Array, "T L"], Float[Array, "T L L"] | None]:
    """m_t = A_t m_t-1 + c_t and P_t = A_t P_t-1 A_tᵀ + S_t from m = 0 and P = 0 before; ``reverse``: from t + 1 to t.

    Long ones in chunks side by side: within each from zero, with the product of its A; then from border to border; then
    both are put together (Särkkä & García-Fernández 2021, in two levels instead of a tree).
    """
    count, size = offset.shape
    if count < LONG:

        def one(carry: tuple[Array, Any], now: tuple[Array, Array, Any]) -> tuple[tuple[Array, Any], tuple[Array, Any]]:
            mean, covariance = carry
            a, c, s = now
            mean = a @ mean + c
            covariance = None if s is None else linear.symmetric(a @ covariance @ a.T) + s
            return (mean, covariance), (mean, covariance)

        start = (jnp.zeros_like(offset[0]), None if spread is None else jnp.zeros_like(spread[0]))
        return jax.lax.scan(one, start, (gain, offset, spread), reverse=reverse)[1]

    length = int(count**0.5)
    chunks = -(-count // length)

    def cut(array: Array) -> Array:
        """[L, ..., C]: chunks last, the axis that processors like. What is added comes after all others."""
        rest = chunks * length - count
        padded = jnp.pad(array, [(rest, 0) if reverse else (0, rest)] + [(0, 0)] * (array.ndim - 1))
        return jnp.moveaxis(padded.reshape(chunks, length, *array.shape[1:]), 0, -1)

    parts: Any = (cut(gain), cut(offset), None if spread is None else cut(spread))

    def step(carry: tuple[Array, Array, Any], now: tuple[Array, Array, Any]) -> tuple[Any, Any]:
        total, mean, covariance = carry
        a, c, s = now
        mean = times(a, mean) + c
        if s is not None:
            # (A (A P)ᵀ): P is symmetric
            covariance = times(a, jnp.swapaxes(times(a, covariance), 0, 1)) + s
        carry = (times(a, total), mean, covariance)
        return carry, carry

    identity = jnp.broadcast_to(jnp.eye(size, dtype=offset.dtype)[:, :, None], (size, size, chunks))
    zero = jnp.zeros((size, chunks), offset.dtype)
    begin: Any = (identity, zero, None if spread is None else 0.0 * identity)
    ends, (totals, means, covariances) = jax.lax.scan(step, begin, parts, reverse=reverse)

    def border(carry: tuple[Array, Any], now: tuple[Array, Array, Any]) -> tuple[Any, Any]:
        mean, covariance = carry
        a, c, s = now
        after = None if s is None else linear.symmetric(a @ covariance @ a.T) + s
        return (a @ mean + c, after), carry

    last = jax.tree.map(lambda array: jnp.moveaxis(array, -1, 0), ends)
    nothing = (jnp.zeros_like(offset[0]), None if spread is None else jnp.zeros_like(spread[0]))
    mean, covariance = jax.lax.scan(border, nothing, last, reverse=reverse)[1]

    def joined(array: Array) -> Array:
        flat = jnp.moveaxis(array, -1, 0).reshape(chunks * length, *array.shape[1:-1])
        return flat[-count:] if reverse else flat[:count]

    every = jax.vmap(times, (0, None))
    means = means + every(totals, mean.T)
    if spread is None:
        return joined(means), None
    grown = every(totals, jnp.moveaxis(covariance, 0, -1))
    added = [grown[:, :, None, j] * totals[:, None, :, j] for j in range(size)]
    covariances = joined(sum(added, covariances))
    return joined(means), 0.5 * (covariances + jnp.swapaxes(covariances, 1, 2))


Function = Callable[[Any, Any], Any]


def columns(alone: Function, beside: Function) -> Function:
    """``alone(matrices, vectors)``, of one sequence, which under ``vmap`` is ``beside``, of many at once.

    In ``beside`` every array has one more axis, the last, as processors like it: of the sequences, or of length one
    where all share it. All that it gives has the sequences' axis. A step is a few products (``times``) of small
    matrices with long rows. Where sequences have large matrices of their own, and of a few long ones, it is ``vmap`` of
    ``alone``, whose derivatives both have.
    """

    @jax.custom_batching.custom_vmap
    def side_by_side(matrices: Any, vectors: Any) -> Any:
        return alone(matrices, vectors)

    @side_by_side.def_vmap
    def many(count: int, batched: list[Any], matrices: Any, vectors: Any) -> tuple[Any, Any]:
        flags, leaves = jax.tree.leaves(tuple(batched)), jax.tree.leaves((matrices, vectors))
        own = [leaf.shape[2:] for leaf, flag in zip(leaves, flags, strict=True) if flag and leaf.ndim > 3]
        first, flag = jax.tree.leaves(vectors)[0], jax.tree.leaves(batched[1])[0]
        chunked = first.shape[1 if flag else 0] >= LONG and count < MANY
        if chunked or max(map(max, own), default=0) > SMALL:
            axes = jax.tree.map(lambda flag: 0 if flag else None, tuple(batched))
            found = jax.vmap(alone, axes)(matrices, vectors)
        else:
            last = lambda flag, leaf: jnp.moveaxis(leaf, 0, -1) if flag else leaf[..., None]  # noqa: E731
            found = beside(*jax.tree.map(last, tuple(batched), (matrices, vectors)))
            found = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0), found)
        return found, jax.tree.map(lambda _: True, found)

    def derivative(primals: Any, tangents: Any) -> tuple[Any, Any]:
        # Whether there is an axis of sequences, and where, JAX takes from ``many`` for its derivative, too, unchecked:
        # the first, of everything. So all that is given back here depends on all that came, and has its axis first.
        nothing = jnp.array(False)
        for leaf in jax.tree.leaves(primals):
            nothing = nothing | (jnp.ravel(leaf)[0] != jnp.ravel(leaf)[0])
        nothing = nothing & False
        found = jax.jvp(alone, primals, tangents)
        return jax.tree.map(lambda leaf: jnp.where(nothing, 0.0, leaf)[None][0], found)

    differentiable = jax.custom_jvp(side_by_side)
    differentiable.defjvp(derivative)
    return differentiable


def zeros(tree: Any, *sizes: int) -> Float[Array, "... #N"]:
    """[*sizes, N]: with as many columns as there are in a tree, and of its precision."""
    leaves = jax.tree.leaves(tree)
    real = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.zeros((*sizes, max(leaf.shape[-1] for leaf in leaves)), jnp.result_type(*real))


def times(matrix: Float[Array, "i j #N"], right: Float[Array, "j *k #N"]) -> Float[Array, "i *k #N"]:
    """Σ_j A_ij x_j of every column."""
    if matrix.shape[-1] == 1:
        return (matrix[..., 0] @ right.reshape(len(right), -1)).reshape(len(matrix), *right.shape[1:])
    wide = matrix.reshape(*matrix.shape[:2], *[1] * (right.ndim - 2), matrix.shape[-1])
    terms = [wide[:, j] * right[j, None] for j in range(len(right))]
    return sum(terms[1:], terms[0])


def product(left: Float[Array, "#T i j"], right: Float[Array, "#T j k"]) -> Float[Array, "T i k"]:
    """A_t B_t of every step."""
    # written out: ten times as fast as XLA's batched dots on CPUs; jnp.sum of a product was wrong under vmap (0.10.2)
    terms = [left[:, :, j, None] * right[:, j, None, :] for j in range(right.shape[1])]
    return sum(terms[1:], terms[0])


def apply(left: Float[Array, "T i j"], right: Float[Array, "T j"]) -> Float[Array, "T i"]:
    """A_t x_t of every step."""
    return jnp.einsum("tij,tj->ti", left, right)
