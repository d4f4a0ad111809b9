"""The parts that act and learn, driven by their contracts: what may change what they infer, and what may not.

Everything is run twice with the same key, on data that differ where it must not matter, and must come out the same to
the last digits. No part is looked into.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from veil.control.diagnosis.findings import (
    ACTION_KEPT,
    ACTION_SHIFTED,
    FAULT,
    FILTER_DIFFERS,
    FINE,
    LEAKED,
    NOT_ADVANCED,
    RESET_MISSING,
    UNKNOWN,
    Finding,
)
from veil.control.imagined import Imagined
from veil.model import Datum
from veil.model.chains import without_memory
from veil.model.filter import Filter
from veil.model.stepwise import same_types

CLOSE = 1e-4  # of their size: numbers that differ by less are the same


@eqx.filter_jit
def _found(model: Any, posterior: Any, filter: Filter, variants: Datum, key: PRNGKeyArray) -> tuple[Any, Any]:
    """Of each variant [V, T, ...] a path of the posterior, and the states that the filter has drawn, leaves [V, T]."""

    def one(datum: Datum) -> tuple[Any, Any]:
        path = without_memory(posterior(model, datum).sample(key))
        keys = jax.vmap(lambda t: jax.random.fold_in(key, t))(jnp.arange(len(datum)))

        def step(belief: Any, now: tuple[Any, ...]) -> tuple[Any, Any]:
            each, reset, key = now
            belief = filter.update(belief, Datum(each.query, each.evidence, reset=reset), key)
            return belief, filter.draw(belief, key)

        return path, jax.lax.scan(step, filter.init(), (datum.each_step(), datum.starts, keys))[1]

    return jax.lax.map(one, variants)


def inference_checks(model: Any, posterior: Any, filter: Filter, pieces: Datum, key: PRNGKeyArray) -> list[Finding]:
    """Whether starts forget all that was before, and nothing knows what is to come.

    ``pieces`` [3, L, ...]: stretches of different episodes. The first two are put in a row, with a reset between them;
    the third stands in where something is changed.
    """
    length = int(jax.tree.leaves(pieces.query)[0].shape[1])
    row = lambda a, b: jax.tree.map(  # noqa: E731
        lambda leaf: np.concatenate([np.asarray(leaf)[a], np.asarray(leaf)[b]]), (pieces.query, pieces.evidence)
    )
    reset = np.arange(2 * length) % length == 0
    (query, evidence), (before, led_before), (after, led_after) = row(0, 1), row(2, 1), row(0, 2)
    late = np.arange(2 * length) >= length + length // 2
    other_at = lambda where, new, old: jax.tree.map(  # noqa: E731
        lambda a, b: np.where(where.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, old
    )
    led_other = jax.tree.map(lambda leaf: np.roll(leaf, 1 + length // 2, 0), evidence)
    variants = [
        (query, evidence),
        (query, other_at(reset, led_other, evidence)),
        (before, led_before),
        (other_at(late, after, query), other_at(late, led_after, evidence)),
    ]
    stacked = jax.tree.map(lambda *each: jnp.asarray(np.stack(each)), *variants)
    resets = jnp.asarray(np.broadcast_to(reset, (len(variants), 2 * length)))
    path, states = _found(model, posterior, filter, Datum(stacked[0], stacked[1], reset=resets), key)
    path, states = jax.tree.map(np.asarray, (path, states))
    everywhere, second, early = np.ones_like(reset), np.arange(2 * length) >= length, ~late
    led_there = "no action led to a first step: put zeros there"
    told = (
        (ACTION_KEPT, 1, everywhere, "the action that stands at a start", led_there),
        (RESET_MISSING, 2, second, "the episode before", "put the state of the start back where reset says so"),
        (LEAKED, 3, early, "what is seen later", "q of step t may see o_1..t and u_1..t-1 only: Now() or Past()"),
    )
    out = []
    for name, number, where, what, help in told:
        for who, found in (("posterior", path), ("filter", states)):
            away = _away(found, number, where)
            words = f"{who}: {what} moves states by {away:.2g} of their size"
            out.append(Finding(name, FINE if away < CLOSE else FAULT, words, help))
    first = jax.tree.map(jnp.asarray, Datum(query, evidence, reset=reset))
    return [*out, _recursion(model, first, jax.tree.map(lambda leaf: leaf[0], states))]


def _away(found: Any, number: int, where: np.ndarray) -> float:
    """How far a variant is from the first, at some steps, as a share of the numbers' size."""
    far = 0.0
    for leaf in jax.tree.leaves(found):
        if leaf.dtype.kind in "fbiu" and leaf[0].size:
            a, b = leaf[0][where].astype(np.float64), leaf[number][where].astype(np.float64)
            far = max(far, float(np.max(np.abs(a - b), initial=0.0)) / max(float(np.std(leaf[0])), 1e-6))
    return far


def _recursion(model: Any, datum: Datum, states: Any) -> Finding:
    """Whether the filter's states follow from its own latents by the model's ``advance``, the actions as recorded."""
    try:
        moments = jax.vmap(model.latent_of)(jax.tree.map(jnp.asarray, states))
    except (TypeError, NotImplementedError) as error:
        return Finding(FILTER_DIFFERS, UNKNOWN, f"the model does not say what the latent of a carry is: {error}")
    if moments.mean is None or bool(jnp.any(moments.variance > 0)):
        return Finding(FILTER_DIFFERS, UNKNOWN, "the model's carries do not hold the latent itself")

    def one(before: Any, latent: Any, each: Datum) -> Any:
        return same_types(model.advance(before, latent, each.query, each.evidence, None), before)

    begin = jax.tree.map(jnp.asarray, model.carry(datum.evidence))
    starts = np.asarray(datum.starts)

    def before_of(first: Any, leaf: Any) -> Any:
        shifted = np.concatenate([np.asarray(first)[None], np.asarray(leaf)[:-1]])
        return jnp.asarray(np.where(starts.reshape(-1, *[1] * (leaf.ndim - 1)), np.asarray(first)[None], shifted))

    before = jax.tree.map(before_of, begin, states)
    steps = jax.tree.map(jnp.asarray, datum.each_step())
    wanted = jax.jit(jax.vmap(one))(before, moments.mean, steps)
    pair = jax.tree.map(lambda a, b: np.stack([np.asarray(a), np.asarray(b)]), wanted, states)
    away = _away(pair, 1, np.ones_like(starts))
    help = "a filter's state after a step is model.advance(state before, z_t, o_t, u_t-1), from model.carry at a start"
    words = f"states of the filter are off those of the model by {away:.2g} of their size"
    return Finding(FILTER_DIFFERS, FINE if away < CLOSE else FAULT, words, help)


@eqx.filter_jit
def _ahead(problem: Imagined, state: Any, actions: Any, key: PRNGKeyArray) -> tuple[Any, ...]:
    """Carries before and after each step of a future, those that ``advance`` makes by hand, and what the prior says."""
    steps, _ = problem.future(state, actions, len(actions), key)

    def by_hand(before: Any, latent: Any, query: Any, evidence: Any) -> Any:
        return same_types(problem.model.advance(before, latent, query, evidence, None), before)

    hand = jax.vmap(by_hand)(steps.before, steps.latent, steps.query, steps.evidence)
    return steps.before, steps.after, hand, steps.evidence, problem.cut(actions)


def rollout_checks(problem: Imagined, state: Any, actions: Any, key: PRNGKeyArray) -> list[Finding]:
    """Whether a future goes on from where it is: by ``advance``, each step from the one before, with its own action.

    ``state``: a carry; ``actions`` [H, U].
    """
    before, after, hand, done, wanted = jax.tree.map(np.asarray, _ahead(problem, state, actions, key))
    first = jax.tree.map(lambda leaf, at: np.stack([leaf[:1], np.asarray(at)[None]]), before, state)
    everywhere = np.ones(len(actions), bool)
    linked = jax.tree.map(lambda a, b: np.stack([a[1:], b[:-1]]), before, after)
    made = jax.tree.map(lambda a, b: np.stack([a, b]), hand, after)
    gaps = {
        "the first step is not from the state given": _away(first, 1, everywhere[:1]),
        "a step is not from where the one before it led": _away(linked, 1, everywhere[1:]),
        "where a step leads is not what advance says": _away(made, 1, everywhere),
    }
    moves = max(
        (
            float(np.max(np.abs(np.diff(leaf.astype(np.float64), axis=0)), initial=0.0))
            for leaf in jax.tree.leaves(after)
        ),
        default=0.0,
    )
    help = "the carry after a step is the carry before the next: advance it, whatever is asked of the step"
    wrong = [f"{words} (by {away:.2g} of their size)" for words, away in gaps.items() if away >= CLOSE]
    if moves == 0.0:
        wrong.append(f"in {len(actions)} steps the state does not change at all")
    told = "; ".join(wrong) or f"{len(actions)} steps, each from where the one before it led"
    given = max(_away(jax.tree.map(lambda a, b: np.stack([a, b]), wanted, done), 1, everywhere), 0.0)
    out = [Finding(NOT_ADVANCED, FAULT if wrong else FINE, f"rollout: {told}", help)]
    if given >= CLOSE:
        words = f"rollout: the actions of its steps are off those given by {given:.2g} of their size"
        out.append(Finding(ACTION_SHIFTED, FAULT, words, "the action at h leads into step h of a future"))
    return out
