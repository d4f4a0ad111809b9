"""Coordinate ascent on the mean-field posterior q(s) q(z) of switching linear dynamics."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from veil.maths import linear, markov, tridiagonal, viterbi
from veil.model import Datum
from veil.parts.nets import each_with_one
from veil.posterior.mean_field import Fields
from veil.zoo.lds import LDS


class Tracked(eqx.Module):
    """Of one path of regimes: the last one, and p(z_t | it, y_1..t) = N(mean, covariance); ``fresh`` at the start."""

    state: Int[Array, "*paths"]
    mean: Float[Array, "*paths L"]
    covariance: Float[Array, "*paths L L"]
    fresh: Bool[Array, "*paths"]


def fields(model: Any, datum: Datum, sweeps: int) -> Fields:
    """q(s) q(z) after ``sweeps`` rounds of coordinate ascent from an interacting-filters start; the ELBO rises.

    Ghahramani & Hinton 2000, section 3.1. With one regime the first round is the exact smoother.
    """
    starts, there = datum.starts, datum.there
    first, move = model._gates()
    whites = model._whites(datum)
    seen = _interacting(model, datum, whites, starts, there)
    discrete = markov.smooth(first, move, seen, starts, there)

    def sweep(_: Array | int, before: tuple[Any, ...]) -> tuple[Any, ...]:
        found = _continuous(model, datum, whites, before[-1].marginals, starts, there)
        seen = _expected(model, datum, whites, found, starts, there)
        return found, seen, markov.smooth(first, move, seen, starts, there)

    shapes = jax.eval_shape(lambda: _continuous(model, datum, whites, discrete.marginals, starts, there))
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    found, seen, discrete = jax.lax.fori_loop(0, sweeps, sweep, (nothing, seen, discrete))
    elbo = discrete.log_likelihood + jnp.sum(jnp.where(there, found.entropies, 0.0))
    path, _ = viterbi.best_path(first, move, seen, starts, there)
    return Fields(seen, discrete.marginals, discrete.pairs, found.mean, found.covariance, found.lagged, path, elbo)


def _interacting(model: Any, datum: Datum, whites: Any, starts: Array, there: Array) -> Float[Array, "T K"]:
    """log p(y_t | s_t, y_1..t-1), the past's paths merged into one Gaussian a regime (Blom & Bar-Shalom 1988)."""
    first, move = model._gates()
    states = jnp.arange(model.states)

    def step(carry: tuple[Array, Tracked], now: tuple[Any, ...]) -> tuple[Any, Array]:
        logits, beliefs = carry
        x, white, start, real = now
        joint = logits[:, None] + move
        mixing = jax.nn.softmax(joint, axis=0)
        mean = mixing.T @ beliefs.mean
        away = beliefs.mean[:, None] - mean[None]
        spread = jnp.einsum("ij,ikl->jkl", mixing, beliefs.covariance)
        spread = spread + jnp.einsum("ij,ijk,ijl->jkl", mixing, away, away)
        mixed = Tracked(states, mean, spread, jnp.broadcast_to(start, states.shape))
        after, values = jax.vmap(lambda c, s, w: model._updated(c, s, x, w))(mixed, states, white)
        predicted = jnp.where(start, first, markov.log_sum(joint, 0))
        found = markov.floored(predicted + values)
        found = found - markov.log_sum(found, 0)
        after = Tracked(states, after.mean, after.covariance, jnp.zeros(model.states, bool))
        kept = jax.tree.map(lambda a, b: jnp.where(real, a, b), (found, after), carry)
        return kept, values

    one = model.carry(None)
    wide = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (model.states, *leaf.shape)), one)
    begin = (first, replace(wide, state=states, fresh=jnp.zeros(model.states, bool)))
    return jax.lax.scan(step, begin, (datum.evidence, whites, starts, there))[1]


def _inverses(model: Any) -> tuple[Array, ...]:
    """Of every regime P⁻¹ and P⁻¹ m, the whitener G⁻¹ of Q = G Gᵀ, and -½ log|2π P|, -½ log|2π Q|."""

    def one(regime: LDS) -> tuple[Array, ...]:
        mean, factor, _, _, process, *_ = regime._parts()
        identity = jnp.eye(model.latent, dtype=factor.dtype)
        # factors that a user gives, or a gradient step makes, may have any signs and shape
        first = linear.solve_lower(linear.cholesky(factor @ factor.T), identity)
        whitener = linear.solve_lower(linear.cholesky(process @ process.T), identity)
        logs = [jnp.sum(jnp.log(jnp.diagonal(w))) - 0.5 * model.latent * np.log(2 * np.pi) for w in (first, whitener)]
        return first, first @ mean, whitener, logs[0], logs[1]

    return jax.vmap(one)(model._stacked())


def _continuous(
    model: Any, datum: Datum, whites: Any, regimes: Array, starts: Array, there: Array
) -> tridiagonal.Solved:
    """q(z) given q(s): a Gaussian chain whose log-density is the average over regimes."""
    first, centred, whitener, *_ = _inverses(model)
    stacked = model._stacked()
    features = each_with_one(datum.evidence, len(datum))
    queries, rows, _ = whites
    real = there.astype(regimes.dtype)
    begun = regimes * (starts.astype(regimes.dtype))[:, None]
    moved = regimes * (real - starts.astype(regimes.dtype))[:, None]
    seen = regimes * real[:, None]
    gain = jnp.einsum("kij,kjl->kil", whitener, stacked.transition)  # G⁻¹ F
    pushed = jnp.einsum("kij,kjp,tp->tki", whitener, stacked.drift, features)  # G⁻¹ B [1, x_t]
    diagonal = (
        jnp.einsum("tk,kai,kaj->tij", begun, first, first)
        + jnp.einsum("tk,kai,kaj->tij", moved, whitener, whitener)
        + jnp.einsum("tk,tkdi,tkdj->tij", seen, rows, rows)
    )
    leaving = jnp.einsum("tk,kai,kaj->tij", moved, gain, gain)
    term = (
        jnp.einsum("tk,kai,ka->ti", begun, first, centred)
        + jnp.einsum("tk,kai,tka->ti", moved, whitener, pushed)
        + jnp.einsum("tk,tkdi,tkd->ti", seen, rows, queries)
    )
    term_before = -jnp.einsum("tk,kai,tka->ti", moved, gain, pushed)
    below = -jnp.einsum("tk,kai,kaj->tij", moved, whitener, gain)
    shift = lambda array: jnp.concatenate([array[1:], jnp.zeros_like(array[:1])])  # noqa: E731
    identity = jnp.eye(model.latent, dtype=regimes.dtype)[None]
    diagonal = jnp.where(there[:, None, None], diagonal, identity) + shift(leaving)
    return tridiagonal.solved(diagonal, below, term + shift(term_before))


def _expected(
    model: Any, datum: Datum, whites: Any, found: tridiagonal.Solved, starts: Array, there: Array
) -> Float[Array, "T K"]:
    """E_q(z)[log p(z_t, y_t | z_t-1, s_t = k)], nats."""
    first, centred, whitener, log_first, log_process = _inverses(model)
    stacked = model._stacked()
    features = each_with_one(datum.evidence, len(datum))
    queries, rows, normalisers = whites
    mean, covariance = found.mean, found.covariance
    before = jnp.concatenate([jnp.zeros_like(mean[:1]), mean[:-1]])
    spread = jnp.concatenate([jnp.zeros_like(covariance[:1]), covariance[:-1]])

    def one(first, centred, whitener, log_first, log_process, transition, drift, query, rows, logs):  # type: ignore[no-untyped-def]
        start = jnp.sum((mean @ first.T - centred[None]) ** 2, 1)
        start = log_first - 0.5 * (start + jnp.einsum("ai,aj,tij->t", first, first, covariance))
        gain = whitener @ transition
        away = mean @ whitener.T - before @ gain.T - features @ (whitener @ drift).T
        square = jnp.sum(away**2, 1) + jnp.einsum("ai,aj,tij->t", whitener, whitener, covariance)
        square = square + jnp.einsum("ai,aj,tij->t", gain, gain, spread)
        square = square - 2 * jnp.einsum("ai,aj,tij->t", whitener, gain, found.lagged)
        moved = log_process - 0.5 * square
        left = query - jnp.einsum("tdi,ti->td", rows, mean)
        seen = jnp.sum(left**2, 1) + jnp.einsum("tdi,tdj,tij->t", rows, rows, covariance)
        return jnp.where(starts, start, moved) + logs - 0.5 * seen

    across = [jnp.swapaxes(leaf, 0, 1) for leaf in (queries, rows, normalisers)]
    values = jax.vmap(one)(
        first, centred, whitener, log_first, log_process, stacked.transition, stacked.drift, *across
    ).T
    return jnp.where(there[:, None], values, 0.0)
