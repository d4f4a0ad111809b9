"""Forward and backward recursions of hidden Markov chains with probabilities, not logarithms: K x K matrix products.

Scaling loses numbers below the smallest float. Nothing changes if all entries of the transition matrix are far above
it (``safe``): the predicted p(z_t = j | y_1..t-1) = Σ_i p_i M_ij is then at least min M, and what was lost is at most K
times the smallest float: below rounding. Logarithms of beliefs are taken from predictions and data, outside the scan,
so that they are exact far below the smallest float too.

A long sequence is cut into chunks that run side by side. Where a chunk begins is not known: all are guessed, and run
again from where their neighbours ended until nothing changes, beyond rounding (relative, every entry). Chains forget,
so that two or three rounds are enough; after as many rounds as chunks everything is exact in any case.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Passes(NamedTuple):
    """``before`` [T, K]: p(z_t-1 | y_1..t-1), of no meaning at starts; ``messages`` [T, K] ∝ p(y_t+1..T | z_t)."""

    before: Float[Array, "T K"]
    messages: Float[Array, "T K"] | None


class _Steps(NamedTuple):
    """Time first; chunks last, the axis that processors like, but first where ``vmap`` over sequences is the wide one.

    ``move`` p(z_t | z_t-1) [K, K] or [L, K, K, C]; ``seen`` p(y_t | z_t) up to a factor and ``fresh`` p(z_t | y_t) at a
    start [L, K, C], or [L, 1, K] of a single chunk; flags [L, 1, C].
    """

    move: Array | None
    seen: Array
    fresh: Array
    starts: Array
    there: Array


@jax.custom_batching.custom_vmap
def everywhere(flag: Bool[Array, ""]) -> Bool[Array, ""]:
    """The flag itself; under ``vmap`` whether it holds for all, not batched: ``cond`` on it stays a branch.

    >>> jax.vmap(everywhere)(jnp.array([True, False])).tolist()
    [False, False]
    """
    return flag


@everywhere.def_vmap
def _all(size: int, batched: list[bool], flag: Array) -> tuple[Array, bool]:
    return everywhere(jnp.all(flag)), False


def safe(move: Float[Array, "*T K K"]) -> Bool[Array, ""]:
    """Whether probabilities can stand for logarithms, from log p(z_t | z_t-1)."""
    least = 0.65 * jnp.log(jnp.finfo(move.dtype).tiny)
    return everywhere(jnp.all((move > least) & (move < -0.1 * least)))


def passes(
    first: Float[Array, " K"],
    move: Float[Array, "*T K K"],
    seen: Float[Array, "T K"],
    starts: Bool[Array, " T"],
    there: Bool[Array, " T"],
    length: int,
    backward: bool = True,
) -> Passes:
    """Both recursions over chunks of ``length`` steps, or the forward one; arguments of ``maths.markov``, ``safe``."""
    count, states = seen.shape
    chunks = -(-count // length)
    probabilities = jnp.exp(seen - jnp.max(seen, 1, keepdims=True))
    fresh = jax.nn.softmax(first[None] + seen, 1)

    def cut(array: Array) -> Array:
        padded = jnp.pad(array, [(0, chunks * length - count)] + [(0, 0)] * (array.ndim - 1))
        return jnp.moveaxis(padded.reshape(chunks, length, *array.shape[1:]), 0, -1 if chunks > 1 else 1)

    matrices = jnp.exp(move)
    parts = _Steps(
        matrices if move.ndim == 2 else cut(matrices),
        cut(probabilities),
        cut(fresh),
        cut(starts)[:, None],
        cut(there)[:, None],
    )
    uniform = jnp.full((states, chunks) if chunks > 1 else (1, states), 1.0 / states, seen.dtype)
    guess = (uniform, uniform if backward else None)
    if chunks == 1:
        return Passes(*jax.tree.map(lambda array: array[:, 0], _run(parts, guess, 1)[0]))
    found = _settled(parts, guess, _run(parts, guess, 0))
    flat = lambda array: jnp.moveaxis(array, 2, 0).reshape(-1, states)[:count]  # noqa: E731
    return Passes(*jax.tree.map(flat, found[0]))


def _move(now: _Steps, same: Array | None) -> Array:
    move = now.move if same is None else same
    assert move is not None
    return move


Pair = tuple[Array, Array | None]  # of the forward recursion, and of the backward one where it is wanted


def _run(parts: _Steps, begin: Pair, axis: int) -> tuple[Pair, Pair]:
    """One round: beliefs before and messages behind each step [L, K, C]; beliefs at chunks' ends, messages before them.

    ``axis`` is that of the states.
    """
    uniform = 1.0 / begin[0].shape[axis]
    same = None if parts.move is None or parts.move.ndim == 4 else parts.move

    def forward(belief: Array, now: _Steps) -> tuple[Array, Array]:
        joint = _into(belief, _move(now, same), axis) * now.seen
        after = jnp.where(now.starts, now.fresh, joint / jnp.sum(joint, axis, keepdims=True))
        return jnp.where(now.there, after, belief), belief

    def backward(message: Array, now: _Steps) -> tuple[Array, Array]:
        # normalised before the product, so that no message is below the least entry of the matrix
        weighed = now.seen * message
        weighed = weighed / jnp.sum(weighed, axis, keepdims=True)
        earlier = jnp.where(now.starts, uniform, _out_of(weighed, _move(now, same), axis))
        return jnp.where(now.there, earlier, message), message

    steps = parts if same is None else parts._replace(move=None)
    last, before = jax.lax.scan(forward, begin[0], steps)
    if begin[1] is None:
        return (before, None), (last, None)
    first, messages = jax.lax.scan(backward, begin[1], steps, reverse=True)
    return (before, messages), (last, first)


def _into(belief: Array, move: Array, axis: int) -> Array:
    """Σ_i b_i M_ij."""
    if move.ndim == 2:
        return _product(move.T, belief) if axis == 0 else _product(belief, move)
    return jnp.sum(belief[:, None] * move, 0) if axis == 0 else jnp.sum(belief[:, :, None] * move, 1)


def _out_of(message: Array, move: Array, axis: int) -> Array:
    """Σ_j M_ij m_j."""
    if move.ndim == 2:
        return _product(move, message) if axis == 0 else _product(message, move.T)
    return jnp.sum(message[None] * move, 1) if axis == 0 else jnp.sum(message[:, None] * move, 2)


def _product(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


def _settled(parts: _Steps, guess: Pair, found: tuple[Pair, Pair]) -> tuple[Pair, Pair]:
    """Rounds until the borders do not change."""
    uniform = guess[0]
    eps, tiny = jnp.finfo(uniform.dtype).eps, jnp.finfo(uniform.dtype).tiny

    def borders(ends: Pair) -> Pair:
        begin = jnp.concatenate([uniform[:, :1], ends[0][:, :-1]], 1)
        return begin, None if ends[1] is None else jnp.concatenate([ends[1][:, 1:], uniform[:, -1:]], 1)

    def go_on(carry: tuple[Array, Pair, tuple[Pair, Pair]]) -> Array:
        rounds, guess, (_, ends) = carry
        pairs = zip(jax.tree.leaves(guess), jax.tree.leaves(borders(ends)), strict=True)
        moved = [jnp.any(jnp.abs(a - b) > 16 * eps * b + 1e3 * tiny) for a, b in pairs]
        return (rounds < uniform.shape[1]) & jnp.any(jnp.stack(moved))

    # the carry holds the borders of the last round, and what came of them
    def again(carry: tuple[Array, Pair, tuple[Pair, Pair]]) -> tuple[Array, Pair, tuple[Pair, Pair]]:
        rounds, _, (_, ends) = carry
        guess = borders(ends)
        return rounds + 1, guess, _run(parts, guess, 0)

    return jax.lax.while_loop(go_on, again, (jnp.ones((), int), guess, found))[2]
