"""Soft values of finite decision problems: the backward messages of control as inference, arrays in, arrays out.

S states, A actions, H decisions. "It went well" at each of them has p(O_t = 1 | s, a) ∝ exp(r(s, a) / τ), τ the
temperature. The message that comes back from the future, β_t(s) = p(O_t..H-1 = 1 | s), is that of any chain, written as
values V_t = τ log β_t, and the posterior over actions is the soft-optimal policy:

    Q_t(s, a) = r(s, a) + ahead(V_t+1)(s, a)      V_t(s) = τ log Σ_a exp(Q_t(s, a) / τ)      log π_t = (Q_t - V_t) / τ

``ahead`` looks one step further: γ Σ_s' p(s' | s, a) V(s') where dynamics are held fixed, γ τ log Σ_s' p exp(V / τ) or
the like where luck may be hoped for (Levine 2018, sections 2 and 3; Ziebart 2010, chapter 6). At τ = 0 V is the
maximum: value iteration. In states where an episode has ended nothing is decided, and V is ``final``.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Values = Float[Array, " S"]
Ahead = Callable[[Values], Float[Array, "S A"]]
Pushed = Callable[[Float[Array, "S A"]], Values]

MOST = 1_000_000  # iterations of what is to converge


def soft_maximum(scores: Float[Array, "*n A"], temperature: Float[Array, ""] | float) -> Float[Array, "*n"]:
    """τ log Σ_a exp(Q(a) / τ) over the last axis; the maximum at τ = 0."""
    if isinstance(temperature, float) and temperature == 0:
        return jnp.max(scores, -1)
    return temperature * jax.nn.logsumexp(scores / temperature, -1)


def log_policy(scores: Float[Array, "*n A"], temperature: Float[Array, ""] | float) -> Float[Array, "*n A"]:
    """log π(a | s) = (Q - V) / τ, nats; at τ = 0 all maxima alike."""
    if isinstance(temperature, float) and temperature == 0:
        best = jnp.max(scores, -1, keepdims=True)
        near = scores >= best - 32 * jnp.finfo(scores.dtype).eps * jnp.maximum(1.0, jnp.abs(best))
        return jnp.where(near, -jnp.log(jnp.sum(near, -1, keepdims=True).astype(scores.dtype)), -jnp.inf)
    return jax.nn.log_softmax(scores / temperature, -1)


def finite(
    reward: Float[Array, "*H S A"],
    ahead: Ahead,
    final: Values,
    ends: Bool[Array, " S"],
    horizon: int,
    temperature: Float[Array, ""] | float,
) -> tuple[Float[Array, "H_1 S"], Float[Array, "H S A"]]:
    """V [H + 1, S], the last of them ``final``, and Q [H, S, A] of H decisions; ``reward`` [S, A] or of each step."""

    @jax.checkpoint  # a gradient needs the values only, not all that made them
    def one(value: Values, now: Float[Array, "S A"]) -> tuple[Values, Float[Array, "S A"]]:
        scores = now + ahead(value)
        return jnp.where(ends, final, soft_maximum(scores, temperature)), scores

    def step(value: Values, now: Float[Array, "S A"] | None) -> tuple[Values, tuple[Values, Float[Array, "S A"]]]:
        before, scores = one(value, reward if now is None else now)
        return before, (before, scores)

    steps = reward if reward.ndim == 3 else None
    final = final.astype(jnp.result_type(final, reward))  # the finer of the two, as of a problem made before x64
    _, (values, scores) = jax.lax.scan(step, final, steps, horizon, reverse=True)
    return jnp.concatenate([values, final[None]]), scores


def forever(
    reward: Float[Array, "S A"],
    ahead: Ahead,
    final: Values,
    ends: Bool[Array, " S"],
    temperature: Float[Array, ""] | float,
) -> tuple[Values, Float[Array, "S A"]]:
    """V [S] and Q [S, A] without a horizon: the fixed point, to rounding; NaN where there is none.

    There is one where values ahead are discounted, or every policy ends for certain. Derivatives are those of the fixed
    point (implicit): one linear equation in the same dynamics, whatever the number of iterations.
    """

    final = final.astype(jnp.result_type(final, reward))

    def back(value: Values) -> Values:
        return jnp.where(ends, final, soft_maximum(reward + ahead(value), temperature))

    def settle(_: object, start: Values) -> Values:
        return settled(back, start)

    def linear(apply: Callable[[Values], Values], right: Values) -> Values:
        # I - J contracts as values do: right + J x again and again; so does its transpose
        solved = lambda matvec, b: settled(lambda x: b + x - matvec(x), b)  # noqa: E731
        return jax.lax.custom_linear_solve(apply, right, solved, solved)

    value = jax.lax.custom_root(lambda value: value - back(value), jnp.zeros_like(final), settle, linear)
    return value, reward + ahead(value)


def settled(function: Callable[[Values], Values], start: Values) -> Values:
    """x = f(x) again and again until it stands still to rounding; NaN if it never does."""
    small = 8 * jnp.finfo(start.dtype).eps

    def going(now: tuple[Values, Array, Array]) -> Array:
        value, change, count = now
        moves = change > small * jnp.maximum(1.0, jnp.max(jnp.abs(value)))
        return moves & (count < MOST) & jnp.isfinite(change)

    def step(now: tuple[Values, Array, Array]) -> tuple[Values, Array, Array]:
        value, _, count = now
        after = function(value)
        return after, jnp.max(jnp.abs(after - value)), count + 1

    begin = (start, jnp.full((), jnp.finfo(start.dtype).max), jnp.zeros((), int))
    value, change, count = jax.lax.while_loop(going, step, begin)
    return jnp.where((count < MOST) & jnp.isfinite(change), value, jnp.nan)


def visits(
    start: Values,
    policy: Float[Array, "H S A"],
    pushed: Pushed,
    ends: Bool[Array, " S"],
) -> Float[Array, "H S A"]:
    """p(s_t = s, a_t = a) of H decisions; where an episode has ended nothing is decided. ``pushed``: a step on."""

    def step(here: Values, now: Float[Array, "S A"]) -> tuple[Values, Float[Array, "S A"]]:
        flow = jnp.where(ends, 0.0, here)[:, None] * now
        return pushed(flow), flow

    return jax.lax.scan(step, start.astype(jnp.result_type(start, policy)), policy)[1]


def visits_forever(
    start: Values,
    policy: Float[Array, "S A"],
    pushed: Pushed,
    ends: Bool[Array, " S"],
) -> Float[Array, "S A"]:
    """Σ_t γ^t p(s_t = s, a_t = a) without a horizon; the discount is in ``pushed``."""
    start = start.astype(jnp.result_type(start, policy))
    decided = lambda here: jnp.where(ends, 0.0, here)[:, None] * policy  # noqa: E731
    return decided(settled(lambda here: start + pushed(decided(here)), start))
