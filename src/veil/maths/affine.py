"""Affine recursions m_t = A_t m_t-1 + c_t with covariances P_t = A_t P_t-1 A_tᵀ + S_t, of one sequence.

T steps of L numbers. Of many sequences that share their matrices, ``columns`` works on all vectors side by side.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from veil.maths import linear

LONG = 512  # steps from which on a recursion is worked on in chunks
MANY = 64  # sequences from which on long ones, too, are faster side by side than in chunks


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

    def product(left: Array, right: Array) -> Array:
        """Σ_j left[..., i, j, C] right[j, ..., C]."""
        lefts = [left[..., j, :] for j in range(size)]
        if right.ndim == 3:
            lefts = [part[..., None, :] for part in lefts]
        terms = [part * right[j] for j, part in enumerate(lefts)]
        return sum(terms[1:], terms[0])

    def step(carry: tuple[Array, Array, Any], now: tuple[Array, Array, Any]) -> tuple[Any, Any]:
        total, mean, covariance = carry
        a, c, s = now
        mean = product(a, mean) + c
        if s is not None:
            # (A (A P)ᵀ): P is symmetric
            covariance = product(a, jnp.swapaxes(product(a, covariance), 0, 1)) + s
        carry = (product(a, total), mean, covariance)
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

    means = means + product(totals, mean.T)
    if spread is None:
        return joined(means), None
    grown = product(totals, jnp.moveaxis(covariance, 0, -1))
    added = [grown[:, :, None, j] * totals[:, None, :, j] for j in range(size)]
    covariances = joined(sum(added, covariances))
    return joined(means), 0.5 * (covariances + jnp.swapaxes(covariances, 1, 2))


Parts = Callable[[Any, Any], tuple[Any, Any]]


def columns(alone: Parts, beside: Parts) -> Parts:
    """``alone(matrices, vectors)``, of one sequence, which under ``vmap`` over vectors is ``beside``.

    In ``beside`` the last axis of every vector, [T, L, N], is that of the sequences (one where all share it), as
    processors like it: a step is a few products of small matrices with long rows. Both give (what depends on vectors,
    what depends on matrices alone). With matrices that differ, too, and of a few long sequences, it is ``vmap`` of
    ``alone``, whose derivatives both have.
    """

    @jax.custom_batching.custom_vmap
    def each(matrices: Any, vectors: Any) -> tuple[Any, Any]:
        return alone(matrices, vectors)

    @each.def_vmap
    def many(count: int, batched: list[Any], matrices: Any, vectors: Any) -> tuple[Any, Any]:
        first, own = jax.tree.leaves(vectors)[0], jax.tree.leaves(batched[1])[0]
        chunked = first.shape[1 if own else 0] >= LONG and count < MANY
        if chunked or any(jax.tree.leaves(batched[0])):
            axes = jax.tree.map(lambda each: 0 if each else None, tuple(batched))
            found = jax.vmap(alone, axes)(matrices, vectors)
            return found, jax.tree.map(lambda _: True, found)
        last = lambda each, leaf: jnp.moveaxis(leaf, 0, -1) if each else leaf[..., None]  # noqa: E731
        own, shared = beside(matrices, jax.tree.map(last, batched[1], vectors))
        found = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0), own), shared
        return found, (jax.tree.map(lambda _: True, own), jax.tree.map(lambda _: False, shared))

    def derivative(primals: Any, tangents: Any) -> tuple[Any, Any]:
        # a batch's axis is the first, as in ``many``: where it is, JAX takes from the function for its derivative, too
        return jax.tree.map(lambda leaf: leaf[None][0], jax.jvp(alone, primals, tangents))

    differentiable = jax.custom_jvp(each)
    differentiable.defjvp(derivative)
    return differentiable
