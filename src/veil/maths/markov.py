"""Hidden Markov chains: filter, smoother, best path and posterior paths of ONE sequence, in logarithms.

Everywhere T steps, K states; ``first`` [K] is log p(z) at the start of an episode; ``move`` log p(z_t = j | z_t-1 = i)
as [K, K], rows i, or as [T, K, K] with move[t] leading INTO step t; ``seen`` [T, K] log p(y_t | z_t); ``starts`` and
``there`` bool [T] from ``steps``. Logarithms of zero count as -1e30: no result is ever NaN or infinite, and impossible
data have a log-likelihood of about -1e30. Rabiner 1989; Bishop 2006, section 13.2.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

LEAST = -1e30  # stands for log 0
LONG = 1024  # steps from which on a sequence is worked on in chunks


class Smoothed(NamedTuple):
    """``log_likelihood``, nats; ``marginals`` p(z_t | y) [T, K]; ``pairs`` p(z_t-1 = i, z_t = j | y) [T, K, K].

    Pairs are zero at starts and at padding; marginals at padding are those of the last step.
    """

    log_likelihood: Float[Array, ""]
    marginals: Float[Array, "T K"]
    pairs: Float[Array, "T K K"]


def steps(
    count: int, mask: Bool[Array, " T"] | None, reset: Bool[Array, " T"] | None
) -> tuple[Bool[Array, " T"], Bool[Array, " T"]]:
    """Which of T steps start an episode (the first that is there, and resets), and which are there (not padding)."""
    there = jnp.ones(count, bool) if mask is None else mask
    starts = jnp.zeros(count, bool) if reset is None else reset
    starts = (starts | (jnp.cumsum(there) <= 1)) & there
    return starts, there


def log_sum(values: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """log Σ exp along an axis, of finite numbers."""
    most = jax.lax.stop_gradient(jnp.max(values, axis, keepdims=True))
    return jnp.log(jnp.sum(jnp.exp(values - most), axis)) + jnp.squeeze(most, axis)


def floored(logarithms: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The same numbers, none below log 0 as it is written here."""
    return jnp.maximum(logarithms, LEAST)


def update(
    belief: Float[Array, " K"],
    first: Float[Array, " K"],
    move: Float[Array, "K K"],
    seen: Float[Array, " K"],
    start: Bool[Array, ""],
    there: Bool[Array, ""],
) -> tuple[Float[Array, " K"], Float[Array, ""]]:
    """One step of the filter: log p(z_t | y_1..t) and log p(y_t | y_1..t-1) from log p(z_t-1 | y_1..t-1).

    Bishop 2006, eqs. 13.55-13.59. At padding the belief stays as it was and the log-probability is zero.
    """
    predicted = jnp.where(start, first, log_sum(belief[:, None] + move, 0))
    joint = floored(predicted + seen)
    normaliser = log_sum(joint, 0)
    return jnp.where(there, joint - normaliser, belief), jnp.where(there, normaliser, 0.0)


def forward(
    first: Float[Array, " K"],
    move: Float[Array, "*T K K"],
    seen: Float[Array, "T K"],
    starts: Bool[Array, " T"],
    there: Bool[Array, " T"],
) -> tuple[Float[Array, "T K"], Float[Array, " T"]]:
    """Filter: log p(z_t | y_1..t) [T, K] and log p(y_t | y_1..t-1) [T], whose sum is the log-likelihood."""
    first, move, seen = floored(first), floored(move), floored(seen)
    if len(seen) < LONG:
        return _forward(first, first, move, seen, starts, there)
    parts = _chunked(move, seen, starts, there)
    before, _ = _borders(first, *_summaries(first, *parts))
    beliefs, normalisers = jax.vmap(lambda belief, *part: _forward(belief, first, *part), (0, *_axes(move)))(
        before, *parts
    )
    count = len(seen)
    return beliefs.reshape(-1, first.size)[:count], normalisers.ravel()[:count]


def smooth(
    first: Float[Array, " K"],
    move: Float[Array, "*T K K"],
    seen: Float[Array, "T K"],
    starts: Bool[Array, " T"],
    there: Bool[Array, " T"],
) -> Smoothed:
    """Forward-backward: the marginals of states and of successive pairs given all data. Bishop 2006, section 13.2."""
    first, move, seen = floored(first), floored(move), floored(seen)
    count, states = seen.shape
    beliefs, normalisers, messages = _both(first, move, seen, starts, there)
    # messages of long sequences are known up to a factor for each chunk, so that everything is normalised here
    marginals = jax.nn.softmax(beliefs + messages, axis=1)
    before_each = jnp.concatenate([first[None], beliefs[:-1]])
    into = move if move.ndim == 3 else jnp.broadcast_to(move, (1, states, states))
    joint = before_each[:, :, None] + into + (seen + messages)[:, None, :]
    flat = jax.nn.softmax(joint.reshape(count, -1), axis=1).reshape(joint.shape)
    pairs = jnp.where((there & ~starts)[:, None, None], flat, 0.0)
    return Smoothed(jnp.sum(normalisers), marginals, pairs)


def conditioned(
    first: Float[Array, " K"],
    move: Float[Array, "*T K K"],
    seen: Float[Array, "T K"],
    starts: Bool[Array, " T"],
    there: Bool[Array, " T"],
) -> Float[Array, "T K K"]:
    """log p(z_t = j | z_t-1 = i, y): the posterior as a chain of its own, whose rows at starts are all p(z_t | y)."""
    first, move, seen = floored(first), floored(move), floored(seen)
    messages = _both(first, move, seen, starts, there)[2]
    return jax.nn.log_softmax(transitions(first, move, starts) + (seen + messages)[:, None, :], axis=2)


def transitions(
    first: Float[Array, " K"], move: Float[Array, "*T K K"], starts: Bool[Array, " T"]
) -> Float[Array, "T K K"]:
    """log p(z_t = j | z_t-1 = i) of every step, whose rows at starts are all ``first``."""
    into = move if move.ndim == 3 else jnp.broadcast_to(move, (1, *move.shape))
    return jnp.where(starts[:, None, None], first[None, None, :], into)


def _both(first: Array, move: Array, seen: Array, starts: Array, there: Array) -> tuple[Array, Array, Array]:
    """Beliefs and normalisers as ``forward`` gives them, and backward messages up to a factor for each chunk."""
    count, states = seen.shape
    if count < LONG:
        beliefs, normalisers = _forward(first, first, move, seen, starts, there)
        ends = jnp.zeros(states, seen.dtype)
        return beliefs, normalisers, _backward(ends, move, seen, normalisers, starts, there)
    parts = _chunked(move, seen, starts, there)
    before, after = _borders(first, *_summaries(first, *parts))
    axes = _axes(move)
    beliefs, normalisers = jax.vmap(lambda belief, *part: _forward(belief, first, *part), (0, *axes))(before, *parts)
    back = jax.vmap(lambda end, part, c: _backward(end, part[0], part[1], c, *part[2:]), (0, axes, 0))
    messages = back(after, parts, normalisers)
    flat = (beliefs.reshape(-1, states), normalisers.ravel(), messages.reshape(-1, states))
    return flat[0][:count], flat[1][:count], flat[2][:count]


def best_path(
    first: Float[Array, " K"],
    move: Float[Array, "*T K K"],
    seen: Float[Array, "T K"],
    starts: Bool[Array, " T"],
    there: Bool[Array, " T"],
) -> tuple[Int[Array, " T"], Float[Array, ""]]:
    """The most likely path [T] and its log p(z, y) (Viterbi; Bishop 2006, section 13.2.5). Padding repeats the last."""
    first, move, seen = floored(first), floored(move), floored(seen)

    def step(carry: Array, now: tuple[Any, ...]) -> tuple[Array, Array]:
        part, look, start, real = now
        into = move if part is None else part
        candidates = carry[:, None] + into
        # at a start the best path before does not matter to what follows: it comes from its own best end
        fresh = jnp.max(carry) + first
        score = jnp.where(start, fresh, jnp.max(candidates, 0)) + look
        back = jnp.where(start, jnp.argmax(carry), jnp.argmax(candidates, 0))
        back = jnp.where(real, back, jnp.arange(first.size))
        return jnp.where(real, score, carry), back

    begin = jnp.zeros_like(first)
    last, backs = jax.lax.scan(step, begin, (move if move.ndim == 3 else None, seen, starts, there))
    end = jnp.argmax(last)
    _, path = jax.lax.scan(lambda state, back: (back[state], state), end, backs, reverse=True)
    return path, jnp.max(last)


def sample_path(
    key: PRNGKeyArray,
    beliefs: Float[Array, "T K"],
    move: Float[Array, "*T K K"],
    starts: Bool[Array, " T"],
    there: Bool[Array, " T"],
) -> Int[Array, " T"]:
    """A path from p(z_1..T | y), backwards from the filter's ``beliefs``. Frühwirth-Schnatter 2006, algorithm 11.5."""
    move = floored(move)
    count = len(beliefs)
    noise = jax.random.gumbel(key, beliefs.shape, beliefs.dtype)
    following = jnp.concatenate([starts[1:], jnp.ones(1, bool)])  # a path is cut before a start
    padding = jnp.concatenate([~there[1:], jnp.zeros(1, bool)])

    def step(after: Array, now: tuple[Any, ...]) -> tuple[Array, Array]:
        part, belief, cut, copy, gumbel = now
        into = move if part is None else part
        logits = belief + jnp.where(cut | copy, 0.0, into[:, after])
        drawn = jnp.argmax(logits + gumbel)
        return drawn, drawn

    nexts = jnp.concatenate([move[1:], move[:1]]) if move.ndim == 3 else None
    _, path = jax.lax.scan(step, jnp.zeros((), int), (nexts, beliefs, following, padding, noise), reverse=True)
    # padding repeats the last step that is there
    real = jnp.maximum(jax.lax.cummax(jnp.where(there, jnp.arange(count), 0)), 0)
    return path[real]


def _forward(belief: Array, first: Array, move: Array, seen: Array, starts: Array, there: Array) -> tuple[Array, Array]:
    def step(belief: Array, now: tuple[Any, ...]) -> tuple[Array, tuple[Array, Array]]:
        part, *rest = now
        belief, normaliser = update(belief, first, move if part is None else part, *rest)
        return belief, (belief, normaliser)

    return jax.lax.scan(step, belief, (move if move.ndim == 3 else None, seen, starts, there))[1]


def _backward(end: Array, move: Array, seen: Array, normalisers: Array, starts: Array, there: Array) -> Array:
    """log p(y_t+1..T | z_t) minus log p(y_t+1..T | y_1..t), [T, K]; ``end`` is the last one."""

    def step(after: Array, now: tuple[Any, ...]) -> tuple[Array, Array]:
        part, look, normaliser, start, real = now
        into = move if part is None else part
        before = log_sum(into + (look + after - normaliser)[None, :], 1)
        before = jnp.where(real, jnp.where(start, 0.0, before), after)
        return floored(before), after

    xs = (move if move.ndim == 3 else None, seen, normalisers, starts, there)
    return jax.lax.scan(step, end, xs, reverse=True)[1]


# -- long sequences: chunks side by side -------------------------------------------------------------------------------
# A chunk is a K x K matrix of log p(y of the chunk, z at its end | z before it): K filters, one from each state. They
# run side by side, about sqrt(T) chunks of sqrt(T) steps; beliefs and messages are then carried from border to border,
# and the chunks filtered side by side from those. Särkkä & García-Fernández 2021 describe the tree of such products.

Parts = tuple[Array, Array, Array, Array]


def _axes(move: Array) -> tuple[int | None, int, int, int]:
    return (0 if move.ndim == 3 else None, 0, 0, 0)


def _chunked(move: Array, seen: Array, starts: Array, there: Array) -> Parts:
    """[C, L, ...] of each, with padding behind."""
    length = int(np.ceil(np.sqrt(len(seen))))
    chunks = -(-len(seen) // length)
    rest = chunks * length - len(seen)

    def cut(array: Array) -> Array:
        padded = jnp.pad(array, [(0, rest)] + [(0, 0)] * (array.ndim - 1))
        return padded.reshape(chunks, length, *array.shape[1:])

    return (cut(move) if move.ndim == 3 else move), cut(seen), cut(starts), cut(there)


def _summaries(first: Array, move: Array, seen: Array, starts: Array, there: Array) -> tuple[Array, Array]:
    """Of each chunk: log p(z at its end | y, z before) [C, K, K], and log p(y of the chunk | z before) [C, K]."""
    states = first.size

    def one(part: Array, look: Array, start: Array, real: Array) -> tuple[Array, Array]:
        def step(carry: tuple[Array, Array], now: tuple[Any, ...]) -> tuple[tuple[Array, Array], None]:
            into, *rest = now
            advance = jax.vmap(lambda row: update(row, first, part if into is None else into, *rest))
            rows, normalisers = advance(carry[0])
            return (rows, carry[1] + normalisers), None

        identity = jnp.where(jnp.eye(states, dtype=bool), 0.0, LEAST).astype(look.dtype)
        begin = (identity, jnp.zeros(states, look.dtype))
        return jax.lax.scan(step, begin, (part if part.ndim == 3 else None, look, start, real))[0]

    return jax.vmap(one, _axes_of_chunks(move))(move, seen, starts, there)


def _axes_of_chunks(move: Array) -> tuple[int | None, int, int, int]:
    return (0 if move.ndim == 4 else None, 0, 0, 0)


def _borders(first: Array, ends: Array, weights: Array) -> tuple[Array, Array]:
    """Beliefs before each chunk and messages behind it, [C, K] each (messages up to a factor)."""
    matrices = floored(ends + weights[:, :, None])

    def ahead(belief: Array, matrix: Array) -> tuple[Array, Array]:
        after = log_sum(belief[:, None] + matrix, 0)
        return floored(after - log_sum(after, 0)), belief

    def back(message: Array, matrix: Array) -> tuple[Array, Array]:
        before = log_sum(matrix + message[None, :], 1)
        return floored(before - jnp.max(before)), message

    before = jax.lax.scan(ahead, first, matrices)[1]
    after = jax.lax.scan(back, jnp.zeros_like(first), matrices, reverse=True)[1]
    return before, after
