"""Particle filters of ONE sequence: sequential Monte Carlo with K particles, for any model that runs step by step.

At each step every particle draws a latent and is weighted by w = p(z_t, y_t | past) / q(z_t). The mean weight of a step
estimates p(y_t | y_1..t-1), and the product Ẑ over steps p(y) without bias, whatever K: log Ẑ is below log p(y) in
expectation, and comes to it as K grows. Doucet & Johansen 2011, algorithm 3; Särkkä & Svensson 2023, chapter 11.

Logarithms of zero count as -1e30, as in ``markov``: nothing is ever NaN, and where all weights are zero the particles
go on with equal ones, and log Ẑ is -inf.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil.maths.importance import effective_sample_size
from veil.maths.markov import LEAST, possible

Resampling = Callable[[PRNGKeyArray, Float[Array, " K"]], Int[Array, " K"]]


class Particles(NamedTuple):
    """What a particle filter found: K weighted particles for p(z_t | y_1..t) at each of T steps.

    ``log_likelihoods`` [T]: log of the estimate of p(y_t | y_1..t-1), zero at padding; their sum is log Ẑ. ``latents``
    leaves [T, K, ...]; ``log_weights`` [T, K], normalised; ``ancestors`` [T, K]: which particle of step t-1 particle k
    of step t goes on from; ``effective`` [T]: effective sample size, in particles, of the weights; ``recorded``, leaves
    [T, K, ...], what was asked for of the carries after each step; ``carries``, leaves [K, ...], those after the last.
    """

    log_likelihoods: Float[Array, " T"]
    latents: Any
    log_weights: Float[Array, "T K"]
    ancestors: Int[Array, "T K"]
    effective: Float[Array, " T"]
    recorded: Any = None
    carries: Any = None

    @property
    def log_likelihood(self) -> Float[Array, ""]:
        """log Ẑ, nats; -inf where no particle can have made the data."""
        return possible(jnp.sum(self.log_likelihoods))


def _inverse(positions: Float[Array, " S"], log_weights: Float[Array, " K"]) -> Int[Array, " S"]:
    """The particles at these places, from 0 to 1, of the cumulative distribution; none whose weight is zero."""
    weights = jnp.exp(log_weights - jnp.max(log_weights))
    cumulative = jnp.cumsum(weights)
    found = jnp.searchsorted(cumulative, positions * cumulative[-1], side="right")
    last = jnp.max(jnp.where(weights > 0, jnp.arange(weights.size), 0))
    return jnp.minimum(found, last)


def systematic(key: PRNGKeyArray, log_weights: Float[Array, " K"], draws: int | None = None) -> Int[Array, " S"]:
    """S ancestors in order, K by default, by one random number: particle i is there ⌊S W_i⌋ times or once more.

    Kitagawa 1996.

    >>> systematic(jax.random.key(0), jnp.log(jnp.array([0.5, 0.0, 0.25, 0.25]))).tolist()
    [0, 0, 2, 3]
    """
    count = log_weights.size if draws is None else draws
    shift = jax.random.uniform(key, (), log_weights.dtype)
    return _inverse((jnp.arange(count) + shift) / count, log_weights)


def stratified(key: PRNGKeyArray, log_weights: Float[Array, " K"]) -> Int[Array, " K"]:
    """K ancestors in order, one random number in each K-th part of the unit interval. Kitagawa 1996."""
    count = log_weights.size
    shifts = jax.random.uniform(key, (count,), log_weights.dtype)
    return _inverse((jnp.arange(count) + shifts) / count, log_weights)


def multinomial(key: PRNGKeyArray, log_weights: Float[Array, " K"]) -> Int[Array, " K"]:
    """K independent ancestors. Gordon, Salmond & Smith 1993."""
    return _inverse(jax.random.uniform(key, (log_weights.size,), log_weights.dtype), log_weights)


def filtered(
    key: PRNGKeyArray,
    carry: Any,
    propose: Callable[[PRNGKeyArray, Any, Any], tuple[Any, Float[Array, ""]]],
    advance: Callable[[Any, Any, Any], Any],
    given: Any,
    starts: Bool[Array, " T"],
    there: Bool[Array, " T"],
    count: int,
    threshold: float = 0.5,
    resampling: Resampling = systematic,
    record: Callable[[Any], Any] | None = None,
) -> Particles:
    """Sequential importance resampling with ``count`` particles.

    ``propose(key, carry, given_t)`` is of one particle: it draws z_t and gives log w = log p(z_t, y_t | past) -
    log q(z_t); ``advance(carry, z_t, given_t)`` gives its next carry. ``carry`` is the one before an episode, and
    ``given`` a pytree of [T, ...]. Particles are resampled before a step if the effective sample size is below
    ``threshold`` times their number (1: always, 0: never), and before a start, where each begins anew.
    ``record(carry)`` is kept of every particle and step.

    No gradient passes through the choice of ancestors: gradients are those of FIVO (Maddison et al. 2017, section 4).
    """
    shapes = jax.eval_shape(propose, key, carry, jax.tree.map(lambda leaf: leaf[0], given))[0]
    nothing = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), shapes)

    def step(before: tuple[Swarm, Any], now: tuple[Any, ...]) -> tuple[tuple[Swarm, Any], Any]:
        given, start, real, key = now
        after, latents, value, ancestors = stepped(
            key, before[0], carry, propose, advance, given, start, real, threshold, resampling
        )
        latents = _where(real, latents, before[1])
        found = (value, latents, after.log_weights, ancestors, effective_sample_size(after.log_weights))
        return (after, latents), (*found, None if record is None else jax.vmap(record)(after.carries))

    xs = (given, starts, there, jax.random.split(key, len(there)))
    (last, _), found = jax.lax.scan(step, (swarm(carry, count), nothing), xs)
    return Particles(*found)._replace(carries=last.carries)


class Swarm(NamedTuple):
    """K weighted particles after a step: ``carries``, leaves [K, ...], and ``log_weights`` [K], normalised."""

    carries: Any
    log_weights: Float[Array, " K"]


def swarm(carry: Any, count: int) -> Swarm:
    """Particles before the first step."""
    return Swarm(_wide(carry, count), jnp.full(count, -jnp.log(count), jnp.result_type(float)))


def stepped(
    key: PRNGKeyArray,
    before: Swarm,
    carry: Any,
    propose: Callable[[PRNGKeyArray, Any, Any], tuple[Any, Float[Array, ""]]],
    advance: Callable[[Any, Any, Any], Any],
    given: Any,
    start: Bool[Array, ""],
    there: Bool[Array, ""],
    threshold: float = 0.5,
    resampling: Resampling = systematic,
) -> tuple[Swarm, Any, Float[Array, ""], Int[Array, " K"]]:
    """One step of ``filtered``: particles, latents [K, ...], log of the estimate of p(y_t | past), ancestors [K]."""
    count = before.log_weights.size
    equal = jnp.full(count, -jnp.log(count), before.log_weights.dtype)
    key_choice, key_draws = jax.random.split(key)
    poor = effective_sample_size(before.log_weights) < threshold * count
    choose = there & (poor | start) if threshold < 1 else there
    drawn = resampling(key_choice, jax.lax.stop_gradient(before.log_weights))
    ancestors = jnp.where(choose, drawn, jnp.arange(count))
    carries = jax.tree.map(lambda leaf: leaf[ancestors], before.carries)
    carries = _where(start, _wide(carry, count), carries)
    prior = jnp.where(choose, equal, before.log_weights)
    latents, weights = jax.vmap(propose, (0, 0, None))(jax.random.split(key_draws, count), carries, given)
    joint = prior + finite(weights.astype(equal.dtype))
    most = jax.lax.stop_gradient(jnp.max(joint))
    total = jnp.log(jnp.sum(jnp.exp(joint - most))) + most
    normalised = jnp.where(most > 0.5 * LEAST, joint - total, equal)
    after = jax.vmap(advance, (0, 0, None))(carries, latents, given)
    kept = Swarm(_where(there, after, before.carries), jnp.where(there, normalised, before.log_weights))
    return kept, latents, jnp.where(there, total, 0.0), ancestors


def _wide(carry: Any, count: int) -> Any:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *jnp.shape(leaf))), carry)


def finite(logarithms: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The same numbers between -1e30 and 1e30; what is not a number counts as log 0."""
    return jnp.clip(jnp.where(jnp.isnan(logarithms), LEAST, logarithms), LEAST, -LEAST)


def _where(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def paths(found: Particles) -> Any:
    """The paths of the K last particles, traced back through their ancestors: leaves [K, T, ...].

    Weighted by the last weights they stand for p(z_1..T | y); early steps have few different values left.
    """
    count = found.ancestors.shape[1]

    def back(index: Array, now: tuple[Any, Array]) -> tuple[Array, Any]:
        latents, ancestors = now
        return ancestors[index], jax.tree.map(lambda leaf: leaf[index], latents)

    traced = jax.lax.scan(back, jnp.arange(count), (found.latents, found.ancestors), reverse=True)[1]
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), traced)


def sample_path(key: PRNGKeyArray, found: Particles) -> Any:
    """One of the traced paths, leaves [T, ...], by the last weights: a draw from nearly p(z_1..T | y)."""
    chosen = jax.random.categorical(key, found.log_weights[-1])
    return jax.tree.map(lambda leaf: leaf[chosen], paths(found))


def moments(found: Particles) -> tuple[Float[Array, "T L"], Float[Array, "T L L"]]:
    """Mean and covariance of p(z_t | y_1..t) of vector latents [T, K, L]."""
    return weighted_moments(found.latents, jnp.exp(found.log_weights))


def weighted_moments(
    values: Float[Array, "T K L"], weights: Float[Array, "T K"]
) -> tuple[Float[Array, "T L"], Float[Array, "T L L"]]:
    """Mean and covariance at each step of weighted values; the weights of a step sum to one."""
    mean = jnp.einsum("tk,tkl->tl", weights, values)
    away = values - mean[:, None]
    return mean, jnp.einsum("tk,tki,tkj->tij", weights, away, away)


def backward_paths(
    key: PRNGKeyArray,
    found: Particles,
    log_move: Callable[[Any, Any, Any], Float[Array, ""]],
    given: Any,
    starts: Bool[Array, " T"],
    there: Bool[Array, " T"],
    count: int,
) -> Any:
    """``count`` paths from p(z_1..T | y), leaves [count, T, ...], each drawn backwards through all particles.

    ``log_move(z_t-1, z_t, given_t)`` is log p(z_t | z_t-1). It costs K evaluations a step and path, and early steps
    keep their variety. Godsill, Doucet & West 2004, algorithm 1; Särkkä & Svensson 2023, algorithm 14.1.
    """
    following = jax.tree.map(lambda leaf: jnp.concatenate([leaf[1:], leaf[:1]]), given)
    cut = jnp.concatenate([starts[1:], jnp.ones(1, bool)])  # a path is cut before a start
    copy = jnp.concatenate([~there[1:], jnp.zeros(1, bool)])  # padding repeats the last step

    def one(key: PRNGKeyArray) -> Any:
        def step(after: Any, now: tuple[Any, ...]) -> tuple[Any, Any]:
            latents, log_weights, given, free, same, key = now
            moves = finite(jax.vmap(log_move, (0, None, None))(latents, after, given))
            chosen = jax.random.categorical(key, log_weights + jnp.where(free, 0.0, moves))
            here = _where(same, after, jax.tree.map(lambda leaf: leaf[chosen], latents))
            return here, here

        last = jax.tree.map(lambda leaf: leaf[-1, 0], found.latents)
        xs = (found.latents, found.log_weights, following, cut, copy, jax.random.split(key, len(there)))
        return jax.lax.scan(step, last, xs, reverse=True)[1]

    return jax.vmap(one)(jax.random.split(key, count))
