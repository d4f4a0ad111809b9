"""Hidden Markov chains: filter, smoother and posterior paths of ONE sequence; the best path is ``maths.viterbi``.

Everywhere T steps, K states; ``first`` [K] is log p(z) at the start of an episode; ``move`` log p(z_t = j | z_t-1 = i)
as [K, K], rows i, or as [T, K, K] with move[t] leading INTO step t; ``seen`` [T, K] log p(y_t | z_t); ``starts`` and
``there`` bool [T] from ``steps``. Logarithms of zero count as -1e30: no result is ever NaN, and impossible data have a
log-likelihood of about -1e30, which learning can climb from; ``log_likelihood``, which verbs show, is -inf for them.
Rabiner 1989; Bishop 2006, section 13.2.

Arguments and results are logarithms. The recursions are matrix products of probabilities (``maths.scaled``) where the
transition matrix has no entry so small that numbers could be lost, and run in logarithms where it has.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil.maths import scaled

LEAST = -1e30  # stands for log 0
LONG = 1024  # steps from which on a sequence is worked on in chunks


class Marginals(NamedTuple):
    """``log_likelihood``, nats; ``marginals`` p(z_t | y) [T, K]; ``pairs`` p(z_t-1 = i, z_t = j | y) [T, K, K].

    Pairs are zero at starts and at padding; marginals at padding are those of the last step.
    """

    log_likelihood: Float[Array, ""]
    marginals: Float[Array, "T K"]
    pairs: Float[Array, "T K K"]


def steps(
    count: int,
    mask: Bool[Array, " T"] | None,
    reset: Bool[Array, " T"] | None,
    fresh: Bool[Array, ""] | None = None,
) -> tuple[Bool[Array, " T"], Bool[Array, " T"]]:
    """Which of T steps start an episode (the first that is there, and resets), and which are there (not padding).

    With ``fresh`` False the first goes on with an episode unless it is reset.
    """
    there = jnp.ones(count, bool) if mask is None else mask
    starts = jnp.zeros(count, bool) if reset is None else reset
    first = jnp.cumsum(there) <= 1
    starts = (starts | (first if fresh is None else first & fresh)) & there
    return starts, there


def log_sum(values: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """log Σ exp along an axis, of finite numbers."""
    most = jax.lax.stop_gradient(jnp.max(values, axis, keepdims=True))
    return jnp.log(jnp.sum(jnp.exp(values - most), axis)) + jnp.squeeze(most, axis)


def bayes(joints: Float[Array, " K"]) -> tuple[Float[Array, " K"], Float[Array, ""]]:
    """p(z | y) [K] and log p(y), from log p(y, z) [K] of any numbers.

    Where all are -inf so is log p(y), with a gradient of zero, and nothing has weight.
    """
    most = jax.lax.stop_gradient(jnp.max(joints))
    shift = jnp.where(jnp.isfinite(most), most, 0.0)
    each = jnp.exp(joints - shift)
    total = jnp.sum(each)
    some = jnp.where(total == 0, 1.0, total)
    return each / some, jnp.where(total == 0, -jnp.inf, jnp.log(some) + shift)


def log_total(values: Float[Array, " K"]) -> Float[Array, ""]:
    """log Σ exp of any numbers: -inf where all are, with a gradient of zero there."""
    return bayes(values)[1]


def possible(log_likelihood: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """What is a number of impossible data here as -inf."""
    return jnp.where(log_likelihood > 0.5 * LEAST, log_likelihood, -jnp.inf)


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
    return _filter(floored(first), floored(move), floored(seen), starts, there)


def smooth(
    first: Float[Array, " K"],
    move: Float[Array, "*T K K"],
    seen: Float[Array, "T K"],
    starts: Bool[Array, " T"],
    there: Bool[Array, " T"],
) -> Marginals:
    """Forward-backward: the marginals of states and of successive pairs given all data. Bishop 2006, section 13.2."""
    first, move, seen = floored(first), floored(move), floored(seen)
    return _smoothed(first, move, seen, starts, there, *_both(first, move, seen, starts, there))


def expected(
    first: Float[Array, " K"],
    move: Float[Array, "*T K K"],
    seen: Float[Array, "T K"],
    starts: Bool[Array, " T"],
    there: Bool[Array, " T"],
) -> Marginals:
    """``smooth`` for learning: of a ``move`` that is the same at every step, ``pairs`` [K, K] is the sum over steps."""
    if move.ndim == 3:
        return smooth(first, move, seen, starts, there)
    first, move, seen = floored(first), floored(move), floored(seen)

    def fast() -> Marginals:
        found = scaled.passes(first, move, seen, starts, there, chunk_length(len(seen)))
        assert found.messages is not None
        beliefs, normalisers = _exact(first, move, seen, starts, there, found.before)
        marginals = jax.nn.softmax(beliefs + jnp.log(found.messages), 1)
        # p(z_t-1 = i, z_t = j | y) = before_i M_ij after_j, so that the sum over steps is one matrix product
        weighed = jnp.exp(seen - jnp.max(seen, 1, keepdims=True)) * found.messages
        weighed = weighed / jnp.max(weighed, 1, keepdims=True)
        matrix = jnp.exp(move)
        total = jnp.sum(_product(found.before, matrix) * weighed, 1, keepdims=True)
        after = jnp.where((there & ~starts)[:, None], weighed / total, 0.0)
        return Marginals(jnp.sum(normalisers), marginals, matrix * _product(found.before.T, after))

    def slow() -> Marginals:
        found = _smoothed(first, move, seen, starts, there, *_both_of_logs(first, move, seen, starts, there))
        return found._replace(pairs=jnp.sum(found.pairs, 0))

    return jax.lax.cond(scaled.safe(move), fast, slow)


@jax.custom_jvp
def log_likelihood(
    first: Float[Array, " K"],
    move: Float[Array, "*T K K"],
    seen: Float[Array, "T K"],
    starts: Bool[Array, " T"],
    there: Bool[Array, " T"],
) -> Float[Array, ""]:
    """log p(y), nats. Its gradient in a log-probability is the expected number of its uses (Fisher's identity)."""
    return possible(jnp.sum(forward(first, move, seen, starts, there)[1]))


@log_likelihood.defjvp
def _fisher(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    starts, there = primals[3:]
    found = expected(*primals)
    marginals = jnp.where(there[:, None], found.marginals, 0.0)
    begun = jnp.sum(jnp.where(starts[:, None], marginals, 0.0), 0)
    terms = zip((begun, found.pairs, marginals), tangents[:3], strict=True)
    return possible(found.log_likelihood), sum((jnp.sum(used * tangent) for used, tangent in terms), jnp.zeros(()))


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


def _smoothed(
    first: Array,
    move: Array,
    seen: Array,
    starts: Array,
    there: Array,
    beliefs: Array,
    normalisers: Array,
    messages: Array,
) -> Marginals:
    count, states = seen.shape
    # messages are known up to a factor for each step, so that everything is normalised here
    marginals = jax.nn.softmax(beliefs + messages, axis=1)
    before_each = jnp.concatenate([first[None], beliefs[:-1]])
    into = move if move.ndim == 3 else jnp.broadcast_to(move, (1, states, states))
    joint = before_each[:, :, None] + into + (seen + messages)[:, None, :]
    flat = jax.nn.softmax(joint.reshape(count, -1), axis=1).reshape(joint.shape)
    pairs = jnp.where((there & ~starts)[:, None, None], flat, 0.0)
    return Marginals(jnp.sum(normalisers), marginals, pairs)


# -- one recursion, in probabilities where these are exact, else in logarithms -----------------------------------------


def chunk_length(count: int) -> int:
    """Steps of a chunk: long sequences are worked on in chunks side by side, short ones in one piece."""
    long = LONG if jax.default_backend() == "cpu" else LONG // 8  # an accelerator's steps cost more, and width nothing
    return count if count < long else max(1, LONG // 16, int(count**0.5 / 4))


def _product(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


def _exact(first: Array, move: Array, seen: Array, starts: Array, there: Array, before: Array) -> tuple[Array, Array]:
    """Logarithms of the filter, from p(z_t-1 | y_1..t-1)."""
    matrix = jnp.exp(move)
    into = _product(before, matrix) if move.ndim == 2 else jnp.sum(before[:, :, None] * matrix, 1)
    joint = floored(jnp.where(starts[:, None], first[None], jnp.log(into)) + seen)
    normalisers = log_sum(joint, 1)
    last = jax.lax.cummax(jnp.where(there, jnp.arange(len(seen)), 0))
    return (joint - normalisers[:, None])[last], jnp.where(there, normalisers, 0.0)


@jax.custom_jvp
def _filter(first: Array, move: Array, seen: Array, starts: Array, there: Array) -> tuple[Array, Array]:
    """What ``forward`` gives, of finite numbers."""

    def fast() -> tuple[Array, Array]:
        found = scaled.passes(first, move, seen, starts, there, chunk_length(len(seen)), backward=False)
        return _exact(first, move, seen, starts, there, found.before)

    slow = lambda: _forward(first, first, move, seen, starts, there)  # noqa: E731
    return jax.lax.cond(scaled.safe(move), fast, slow)


@jax.custom_jvp
def _both(first: Array, move: Array, seen: Array, starts: Array, there: Array) -> tuple[Array, Array, Array]:
    """Beliefs and normalisers as ``forward`` gives them, and log backward messages up to a factor for each step."""

    def fast() -> tuple[Array, Array, Array]:
        found = scaled.passes(first, move, seen, starts, there, chunk_length(len(seen)))
        assert found.messages is not None
        return *_exact(first, move, seen, starts, there, found.before), jnp.log(found.messages)

    slow = lambda: _both_of_logs(first, move, seen, starts, there)  # noqa: E731
    return jax.lax.cond(scaled.safe(move), fast, slow)


def _both_of_logs(first: Array, move: Array, seen: Array, starts: Array, there: Array) -> tuple[Array, Array, Array]:
    beliefs, normalisers = _forward(first, first, move, seen, starts, there)
    return beliefs, normalisers, _backward(jnp.zeros_like(first), move, seen, normalisers, starts, there)


# Loops without a fixed end have no derivatives: those are taken of the recursions in logarithms.


@_filter.defjvp
def _filter_derivative(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    starts, there = primals[3:]
    slow = lambda first, move, seen: _forward(first, first, move, seen, starts, there)  # noqa: E731
    return jax.jvp(slow, primals[:3], tangents[:3])


@_both.defjvp
def _both_derivative(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    slow = lambda *logs: _both_of_logs(*logs, *primals[3:])  # noqa: E731
    return jax.jvp(slow, primals[:3], tangents[:3])


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
