"""Returns and bootstraps beside their definition, in a world so small that everything about it is known.

Its state is how many steps were taken. Returns are linear in the rewards r_n and the values V_n of state n, so what
each of them counts for is found by setting one to 1 and all others to 0, and must be

    of r_n   γ^(n-1) c_1 ... c_n-1,   n = 1..H        of V_H   γ^H c_1 ... c_H        of any other V_n   0,

c_n the chance that the episode goes on after the step into n; of λ-returns with λ = 0, V_h+1 counts γ c_h+1 at h.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from veil import distributions
from veil.control.diagnosis.findings import (
    CONTINUATION,
    FAULT,
    FINE,
    NOT_ADVANCED,
    TWO_AHEAD,
    UNDEFINED_RETURNS,
    Finding,
)
from veil.control.imagination.actions import Within
from veil.control.imagination.dreams import dreamt
from veil.control.imagination.networks import StatePolicy
from veil.control.imagined import Imagined, Outcome, Outcomes
from veil.distributions import Distribution
from veil.model import Stepwise
from veil.model.stepwise import Marginal, Rollout

STEPS = 4  # H
BEYOND = 3  # states behind the last that have rewards and values, too
DISCOUNT = 0.8
GOING = np.array([1.0, 0.9, 0.5, 0.7, 0.6, 0.3, 0.4, 0.2])  # c_n
CLOSE = 1e-4
HELP_GOING = "multiply by the chance that the episode goes on, Outcome.going: behind an end nothing is earned"
HELP_AHEAD = "the value behind the last step is that of the state it led to, discounted once a step"


class _Counting(Stepwise):
    """z_t = t: nothing else happens."""

    @property
    def remembers(self) -> bool:
        return False

    def carry(self, evidence: Any) -> Any:
        return jnp.zeros(())

    def advance(self, carry: Any, latent: Any, query: Any, evidence: Any, observed: Any) -> Any:
        return latent

    def step_prior(self, carry: Any, evidence: Any) -> Distribution:
        return distributions.Point(carry + 1.0)

    def step_likelihood(self, carry: Any, latent: Any, evidence: Any) -> Distribution:
        return distributions.Point(latent)

    def latent_of(self, carry: Any) -> Marginal:
        return Marginal(None, carry, jnp.zeros_like(carry))


def _entry(table: Float[Array, " N"], number: Float[Array, ""]) -> Float[Array, ""]:
    return table[jnp.clip(number.astype(int), 0, len(table) - 1)]


class _Listed(Outcomes):
    """Rewards and chances of going on are those of a list."""

    rewards: Float[Array, " N"]
    going: Float[Array, " N"]

    def __call__(self, model: Stepwise, step: Rollout) -> Outcome:
        return Outcome(_entry(self.rewards, step.latent), _entry(self.going, step.latent))


def _setup(problem: Imagined, rewards: Any, values: Any) -> Imagined:
    """The same kind of problem, in the small world."""
    going = jnp.asarray(GOING, jnp.result_type(float))
    value = lambda carry: _entry(values, carry)  # noqa: E731
    inside: dict[str, Any] = {"model": _Counting(), "outcomes": _Listed(rewards, going), "value": value}
    return replace(problem, **inside, low=None, high=None, discount=DISCOUNT, draws=1)


def return_checks(problem: Imagined) -> list[Finding]:
    """Whether a plan's return is what it is defined to be."""
    count = len(GOING)
    assert count == STEPS + BEYOND + 1
    actions = jnp.zeros((STEPS, 1))

    def counted(both: Float[Array, " M"]) -> Float[Array, ""]:
        here = _setup(problem, both[:count], both[count:])
        return here.returns(jnp.zeros(()), actions, jax.random.key(0))

    found = np.asarray(jax.jit(jax.vmap(counted))(jnp.eye(2 * count)), np.float64)
    rewards, values = found[:count], found[count:]
    reached = np.concatenate([[1.0], np.cumprod(DISCOUNT * GOING[1:])])  # of state n: γ^n c_1..c_n
    plain = DISCOUNT ** np.arange(count)
    wanted, without = np.zeros(count), np.zeros(count)
    wanted[1 : STEPS + 1], without[1 : STEPS + 1] = reached[:STEPS], plain[:STEPS]
    last, last_without = np.zeros(count), np.zeros(count)
    last[STEPS], last_without[STEPS] = reached[STEPS], plain[STEPS]
    out = []
    right = _same(rewards, wanted)
    if not right and _same(rewards, without):
        out.append(Finding(CONTINUATION, FAULT, "plans: what follows an end is earned in full", HELP_GOING))
    elif not right:
        words = f"plans: r_1.. count {_numbers(rewards[1:])}, by definition {_numbers(wanted[1:])}"
        out.append(Finding(UNDEFINED_RETURNS, FAULT, words, "see Imagined.returns"))
    out += _bootstrap("plans", values, last, last_without, STEPS)
    fine = all(each.severity == FINE for each in out)
    return [*out, *([Finding(CONTINUATION, FINE, "plans: rewards and values count as defined")] if fine else [])]


def _bootstrap(
    who: str, found: np.ndarray, wanted: np.ndarray, without: np.ndarray, at: int, back: bool = False
) -> list[Finding]:
    """What is said of the values' shares, of which only that of state ``at`` is to be above 0."""
    if _same(found, wanted):
        return [Finding(TWO_AHEAD, FINE, f"{who}: the value behind a step is that of the state it led to")]
    if _same(found, without):
        return [Finding(CONTINUATION, FAULT, f"{who}: the value behind an end counts in full", HELP_GOING)]
    where = int(np.argmax(np.abs(found)))
    alone = np.abs(found).sum() - np.abs(found[where]) < CLOSE
    again = (
        alone
        and where == at
        and any(
            abs(found[at] - each[at] * factor) < CLOSE
            for each in (wanted, without)
            for factor in (DISCOUNT, DISCOUNT * GOING[at + 1])
        )
    )
    if again or np.abs(found[at + 1 :]).sum() > CLOSE:
        words = f"{who}: V counts {_numbers(found)} for states 0.., by definition {_numbers(wanted)}"
        return [Finding(TWO_AHEAD, FAULT, words, HELP_AHEAD)]
    words = f"{who}: V counts {_numbers(found)} for states 0.., by definition {_numbers(wanted)}"
    return [Finding(UNDEFINED_RETURNS, FAULT, words, "see Imagined.returns and lambda_returns")]


def dream_checks(problem: Imagined) -> list[Finding]:
    """Whether dreams go on step by step, and their λ-returns are what they are defined to be."""
    generator = np.random.default_rng(0)
    rewards, values = generator.normal(size=(2, len(GOING)))
    real = jnp.result_type(float)
    here = _setup(problem, jnp.asarray(rewards, real), jnp.asarray(values, real))
    policy = StatePolicy(lambda seen: jnp.zeros(2), Within((-1.0,), (1.0,)), lambda carry: carry[None])

    def looked() -> tuple[Any, ...]:
        dream = dreamt(here, policy, jnp.zeros(1), STEPS, DISCOUNT, None, jax.random.key(0))
        each = lambda one: dream.returns(one[None], DISCOUNT, 0.0)[0]  # noqa: E731
        zero = each(jnp.zeros(STEPS + 1))
        shares = jax.vmap(each)(jnp.eye(STEPS + 1)) - zero[None]
        whole = dream.returns(jnp.asarray(values[: STEPS + 1], real)[None], DISCOUNT, 0.7)[0]
        return dream.seen[0, :, 0], dream.reward[0], dream.weight[0], shares, whole

    seen, earned, weight, shares, whole = (np.asarray(each, np.float64) for each in jax.jit(looked)())
    steps = np.arange(STEPS + 1)
    out: list[Finding] = []
    if not _same(seen, steps) or not _same(earned, rewards[1 : STEPS + 1]):
        words = f"dreams: the states of {STEPS} steps are {_numbers(seen)}, and should be {_numbers(steps)}"
        out.append(Finding(NOT_ADVANCED, FAULT, words, "each step goes on from the state after the one before it"))
    for h in range(STEPS):
        wanted, without = np.zeros(STEPS + 1), np.zeros(STEPS + 1)
        wanted[h + 1], without[h + 1] = DISCOUNT * GOING[h + 1], DISCOUNT
        out += _bootstrap("dreams", shares[:, h], wanted, without, h + 1)
    reached = np.concatenate([[1.0], np.cumprod(DISCOUNT * GOING[1:STEPS])])
    if not _same(weight, reached):
        plain = _same(weight, DISCOUNT ** np.arange(STEPS))
        words = f"dreams: steps weigh {_numbers(weight)}, by definition {_numbers(reached)}"
        out.append(Finding(CONTINUATION if plain else UNDEFINED_RETURNS, FAULT, words, HELP_GOING))
    naive, later = np.zeros(STEPS), values[STEPS]
    for h in range(STEPS - 1, -1, -1):
        later = rewards[h + 1] + DISCOUNT * GOING[h + 1] * (0.3 * values[h + 1] + 0.7 * later)
        naive[h] = later
    if all(each.severity == FINE for each in out) and not _same(whole, naive):
        words = f"dreams: λ-returns are {_numbers(whole)}, by definition {_numbers(naive)}"
        out.append(Finding(UNDEFINED_RETURNS, FAULT, words, "see veil.maths.returns.lambda_returns"))
    return out


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.all(np.abs(np.asarray(a) - np.asarray(b)) < CLOSE))


def _numbers(values: Any) -> str:
    return "[" + ", ".join(f"{value:.3g}" for value in np.asarray(values)) + "]"
