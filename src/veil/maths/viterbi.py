"""The most likely path of a hidden Markov chain (Viterbi), with the arguments of ``maths.markov``.

A long sequence is cut into chunks that run side by side, as in ``maths.scaled``: how good each state is where a chunk
begins is guessed, and the chunks run again from where their neighbours ended until nothing changes, beyond rounding.
What is best later on depends on so little of what was before that two or three rounds are enough; where it does not
settle soon (states that are never left), the sequence is worked on in one piece. Then each chunk says through which
states it came, for every state that it may end in, and from the last chunk to the first one of them is chosen.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from veil.maths import markov
from veil.maths.scaled import everywhere

ROUNDS = 6  # of all chunks, which cost as much as one piece; more are hardly ever needed


def best_path(
    first: Float[Array, " K"],
    move: Float[Array, "*T K K"],
    seen: Float[Array, "T K"],
    starts: Bool[Array, " T"],
    there: Bool[Array, " T"],
) -> tuple[Int[Array, " T"], Float[Array, ""]]:
    """The most likely path [T] and its log p(z, y) (Viterbi; Bishop 2006, section 13.2.5). Padding repeats the last."""
    first, move, seen = (markov.floored(array) for array in (first, move, seen))
    logs = jax.lax.stop_gradient((first, move, seen))
    count = len(seen)
    length = markov.chunk_length(count)
    path = _whole(*logs, starts, there) if length == count else _chunked(*logs, starts, there, length)
    before = jnp.concatenate([path[:1], path[:-1]])
    moved = move[before, path] if move.ndim == 2 else move[jnp.arange(count), before, path]
    scores = jnp.where(starts, first[path], moved) + jnp.take_along_axis(seen, path[:, None], 1)[:, 0]
    return path, jnp.sum(jnp.where(there, scores, 0.0))


def _whole(first: Array, move: Array, seen: Array, starts: Array, there: Array) -> Int[Array, " T"]:
    """In one piece."""

    def step(carry: Array, now: tuple[Any, ...]) -> tuple[Array, Array]:
        part, look, start, real = now
        candidates = carry[:, None] + (move if part is None else part)
        # at a start the best path before does not matter to what follows: it comes from its own best end
        score = jnp.where(start, first, jnp.max(candidates, 0)) + look
        back = jnp.where(start, jnp.argmax(carry), jnp.argmax(candidates, 0))
        back = jnp.where(real, back, jnp.arange(first.size))
        # what is carried is less than the best by so much: of long sequences the sum itself has no digits for that
        return jnp.where(real, score - jnp.max(score), carry), back

    parts = (move if move.ndim == 3 else None, seen, starts, there)
    last, backs = jax.lax.scan(step, jnp.zeros_like(first), parts)
    return jax.lax.scan(lambda state, back: (back[state], state), jnp.argmax(last), backs, reverse=True)[1]


class _Steps(NamedTuple):
    """Of L steps of C chunks: ``move`` [L, K, K, C], or None for the same everywhere; ``seen`` [L, K, C]; flags."""

    move: Array | None
    seen: Array
    starts: Array
    there: Array


def _chunked(first: Array, move: Array, seen: Array, starts: Array, there: Array, length: int) -> Int[Array, " T"]:
    count, states = seen.shape
    chunks = -(-count // length)

    def cut(array: Array) -> Array:
        """[L, ..., C]: chunks last, the axis that processors like."""
        padded = jnp.pad(array, [(0, chunks * length - count)] + [(0, 0)] * (array.ndim - 1))
        return jnp.moveaxis(padded.reshape(chunks, length, *array.shape[1:]), 0, -1)

    parts = _Steps(cut(move) if move.ndim == 3 else None, cut(seen), cut(starts)[:, None], cut(there)[:, None])
    into = lambda part: move[:, :, None] if part is None else part  # noqa: E731

    def run(begin: Array) -> tuple[Array, Array]:
        """How much less than the best each state is, before each step [L, K, C] and at the ends [K, C]."""

        def step(carry: Array, now: _Steps) -> tuple[Array, Array]:
            score = jnp.where(now.starts, first[:, None], jnp.max(carry[:, None] + into(now.move), 0)) + now.seen
            return jnp.where(now.there, score - jnp.max(score, 0, keepdims=True), carry), carry

        last, before = jax.lax.scan(step, begin, parts)
        return before, last

    nothing = jnp.zeros((states, chunks), seen.dtype)
    # padding changes nothing: a chunk of nothing else begins where the last one that is there ended
    from_chunk = jax.lax.cummax(jnp.where(jnp.any(parts.there, (0, 1)), jnp.arange(chunks), 0))
    borders = lambda last: jnp.concatenate([nothing[:, :1], last[:, from_chunk[:-1]]], 1)  # noqa: E731

    def settled(begin: Array, last: Array) -> Array:
        now = borders(last)
        return everywhere(jnp.all(jnp.abs(now - begin) <= 16 * jnp.finfo(now.dtype).eps * (1.0 + jnp.abs(now))))

    def again(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        rounds, _, _, last = carry
        begin = borders(last)
        return rounds + 1, begin, *run(begin)

    unsettled = lambda carry: (carry[0] < ROUNDS) & ~settled(carry[1], carry[3])  # noqa: E731
    found = jax.lax.while_loop(unsettled, again, (jnp.ones((), int), nothing, *run(nothing)))
    _, begin, before, last = found

    def traced() -> Array:
        def step(state: Array, now: tuple[Array, _Steps]) -> tuple[Array, Array]:
            """From the states at a step, one for each end of a chunk [K, C], to those before."""
            before, part = now
            back = jnp.where(
                part.starts, jnp.argmax(before, 0, keepdims=True), jnp.argmax(before[:, None] + into(part.move), 0)
            )
            return jnp.where(part.there, jnp.take_along_axis(back, state, 0), state), state

        every = jnp.broadcast_to(jnp.arange(states)[:, None], (states, chunks))
        begins, ways = jax.lax.scan(step, every, (before, parts), reverse=True)
        chosen = jax.lax.scan(lambda end, begin: (begin[end], end), jnp.argmax(last[:, -1]), begins.T, reverse=True)[1]
        path = jnp.take_along_axis(ways, chosen[None, None], 1)[:, 0]
        return path.T.reshape(-1)[:count]

    return jax.lax.cond(settled(begin, last), traced, lambda: _whole(first, move, seen, starts, there))
