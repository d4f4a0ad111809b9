"""Finite decision problems: transitions as tables, dense or sparse, and a Markov decision process made of them."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from veil.maths import soft
from veil.model.scales import Untrained

FEW = 8  # outcomes that are added one by one
SLACK = 1e-4  # by which probabilities may fail to sum to one: those of float32 tables do


class Transitions(eqx.Module):
    """p(s' | s, a) of S states and A actions, each pair with N possible outcomes."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """S, A and N."""

    @property
    @abstractmethod
    def chances(self) -> Float[Array, "S A N"]:
        """The probability of every outcome."""

    @abstractmethod
    def outcomes(self, values: Num[Array, " S"]) -> Num[Array, "#S #A N"]:
        """A number of the next state, of every outcome; broadcasts to [S, A, N]."""

    @abstractmethod
    def expected(self, values: Float[Array, " S"]) -> Float[Array, "S A"]:
        """Σ_s' p(s' | s, a) v(s')."""

    @abstractmethod
    def expected_at(self, values: Float[Array, "*H S"], place: tuple[Int[Array, ""], ...]) -> Float[Array, " A"]:
        """Σ_s' p(s' | s, a) v(s') at a place (s,), or of values of each step at (t, s).

        Of many places, by ``vmap``, what they have in common is worked out once.
        """

    @abstractmethod
    def pushed(self, flow: Float[Array, "S A"]) -> Float[Array, " S"]:
        """Σ_s,a flow(s, a) p(s' | s, a): where it arrives."""

    @abstractmethod
    def log_probs(self, state: Int[Array, ""], following: Int[Array, ""]) -> Float[Array, " A"]:
        """log p(s' | s, a) of every action."""

    @abstractmethod
    def log_prob_of(self, state: Int[Array, ""], action: Int[Array, ""]) -> Float[Array, " S"]:
        """log p(s' | s, a) of every next state."""


class DenseTransitions(Transitions):
    """``probabilities`` [S, A, S]."""

    probabilities: Float[Array, "S A S"] = eqx.field(converter=jnp.asarray)

    def __check_init__(self) -> None:
        shape = self.probabilities.shape
        if len(shape) != 3 or shape[0] != shape[2]:
            raise ValueError(f"probabilities: expected [states, actions, states]; got the shape {shape}")
        _sum_to_one(self.probabilities)

    @property
    def shape(self) -> tuple[int, int, int]:
        states, actions, _ = self.probabilities.shape
        return states, actions, states

    @property
    def chances(self) -> Float[Array, "S A S"]:
        return self.probabilities

    def outcomes(self, values: Num[Array, " S"]) -> Num[Array, "1 1 S"]:
        return values[None, None, :]

    def expected(self, values: Float[Array, " S"]) -> Float[Array, "S A"]:
        return jnp.tensordot(self.probabilities, values[:, None], 1, precision=jax.lax.Precision.HIGHEST)[..., 0]

    def expected_at(self, values: Float[Array, "*H S"], place: tuple[Int[Array, ""], ...]) -> Float[Array, " A"]:
        table = self.expected(values) if values.ndim == 1 else jax.vmap(self.expected)(values)
        return table[place]

    def pushed(self, flow: Float[Array, "S A"]) -> Float[Array, " S"]:
        return jnp.tensordot(flow, self.probabilities, ((0, 1), (0, 1)), precision=jax.lax.Precision.HIGHEST)

    def log_probs(self, state: Int[Array, ""], following: Int[Array, ""]) -> Float[Array, " A"]:
        return _log(self.probabilities[state, :, following])

    def log_prob_of(self, state: Int[Array, ""], action: Int[Array, ""]) -> Float[Array, " S"]:
        return _log(self.probabilities[state, action])


class SparseTransitions(Transitions):
    """``next`` [S, A, N], the possible next states of every pair, and their ``probabilities`` [S, A, N].

    A state may be named twice, and what has probability zero fills up. Without probabilities there is one outcome,
    ``next`` [S, A]: deterministic dynamics.
    """

    next: Int[Array, "S A N"]
    probabilities: Float[Array, "S A N"]

    def __init__(self, next: Any, probabilities: Any = None) -> None:
        given = next if isinstance(next, jax.core.Tracer) else np.asarray(next)
        if not np.issubdtype(given.dtype, np.integer):
            raise ValueError(f"next: expected the numbers of states, integers; got {given.dtype}")
        self.next = jnp.asarray(given[..., None] if probabilities is None and given.ndim == 2 else given)
        if self.next.ndim != 3:
            raise ValueError(f"next: expected [states, actions, outcomes]; got the shape {given.shape}")
        whole = jnp.ones(self.next.shape) if probabilities is None else jnp.asarray(probabilities)
        if whole.shape != self.next.shape:
            raise ValueError(f"probabilities: expected the shape of next, {self.next.shape}; got {whole.shape}")
        self.probabilities = whole

    def __check_init__(self) -> None:
        states = self.next.shape[0]
        if not isinstance(self.next, jax.core.Tracer) and self.next.size:
            low, high = int(jnp.min(self.next)), int(jnp.max(self.next))
            if low < 0 or high >= states:
                raise ValueError(f"next: expected states 0 to {states - 1}; got {low if low < 0 else high}")
        _sum_to_one(self.probabilities)

    @property
    def shape(self) -> tuple[int, int, int]:
        states, actions, outcomes = self.next.shape
        return states, actions, outcomes

    @property
    def chances(self) -> Float[Array, "S A N"]:
        return self.probabilities

    def outcomes(self, values: Num[Array, " S"]) -> Num[Array, "S A N"]:
        return values[self.next]

    def expected(self, values: Float[Array, " S"]) -> Float[Array, "S A"]:
        if self.next.shape[-1] > FEW:
            return jnp.sum(self.probabilities * values[self.next], -1)
        # one outcome after the other: a sum over a short last axis is not vectorised, and takes 2.5 times as long
        return sum(
            (self.probabilities[..., k] * values[self.next[..., k]] for k in range(self.next.shape[-1])),
            jnp.zeros((), values.dtype),
        )

    def expected_at(self, values: Float[Array, "*H S"], place: tuple[Int[Array, ""], ...]) -> Float[Array, " A"]:
        *step, state = place
        return jnp.sum(self.probabilities[state] * values[(*step, self.next[state])], -1)

    def pushed(self, flow: Float[Array, "S A"]) -> Float[Array, " S"]:
        arriving = flow[:, :, None] * self.probabilities
        return jax.ops.segment_sum(arriving.ravel(), self.next.ravel(), self.next.shape[0])

    def log_probs(self, state: Int[Array, ""], following: Int[Array, ""]) -> Float[Array, " A"]:
        there = self.next[state] == following
        return _log(jnp.sum(jnp.where(there, self.probabilities[state], 0.0), -1))

    def log_prob_of(self, state: Int[Array, ""], action: Int[Array, ""]) -> Float[Array, " S"]:
        chances = self.probabilities[state, action]
        return _log(jax.ops.segment_sum(chances, self.next[state, action], self.next.shape[0]))


class MDP(Untrained):
    """A finite Markov decision process: S states, A actions, numbered from 0. It is known, not learned.

    ``reward`` (None: not known, to be inferred): of the state in which a decision is taken [S], of state and action [S,
    A], or of the outcome, too [S, A, N] (N as in ``transitions``; of dense ones the next state). ``start`` p(s_0) [S]
    (None: uniform). ``ends`` bool [S]: states in which an episode is over, where nothing is decided and nothing more is
    earned but ``final`` [S], which is also what a state is worth after the last decision (None: 0). ``discount`` γ in
    (0, 1]; ``horizon``: how many decisions there are (None: no limit; then γ < 1, or every policy must end for
    certain).

    Raises:
        ValueError: tables whose shapes or numbers are not those; it names the argument.

    >>> chain = MDP(SparseTransitions([[0, 1], [1, 1]]), reward=[-1.0, 0.0], start=[1.0, 0.0], ends=[False, True])
    >>> chain.states, chain.actions
    (2, 2)
    """

    transitions: Transitions
    reward: Float[Array, "S *A"] | None
    start: Float[Array, " S"]
    ends: Bool[Array, " S"]
    final: Float[Array, " S"]
    discount: Float[Array, ""]
    horizon: int | None = eqx.field(static=True)

    def __init__(
        self,
        transitions: Transitions,
        reward: Any = None,
        *,
        start: Any = None,
        ends: Any = None,
        final: Any = None,
        discount: Any = 1.0,
        horizon: int | None = None,
    ) -> None:
        if not isinstance(transitions, Transitions):
            raise TypeError(
                f"transitions: expected DenseTransitions(...) or SparseTransitions(...); got {transitions!r:.80}"
            )
        states, actions, outcomes = transitions.shape
        self.transitions = transitions
        self.reward = None if reward is None else _floats(reward)
        shapes = ((states,), (states, actions), (states, actions, outcomes))
        if self.reward is not None and self.reward.shape not in shapes:
            raise ValueError(f"reward: expected one of the shapes {shapes}; got {self.reward.shape}")
        self.start = jnp.full(states, 1.0 / states) if start is None else _vector("start", _floats(start), states)
        self.ends = jnp.zeros(states, bool) if ends is None else _vector("ends", jnp.asarray(ends, bool), states)
        self.final = jnp.zeros(states) if final is None else _vector("final", _floats(final), states)
        self.discount = jnp.asarray(discount, float)
        self.horizon = horizon

    def __check_init__(self) -> None:
        _sum_to_one(self.start, "start")
        for name, value in (("reward", self.reward), ("final", self.final)):
            if value is None or isinstance(value, jax.core.Tracer):
                continue
            if not bool(jnp.all(jnp.isfinite(value))):
                raise ValueError(f"{name}: expected finite numbers; an action that costs much is one that is not taken")
        if not isinstance(self.discount, jax.core.Tracer) and not 0 < float(self.discount) <= 1:
            raise ValueError(f"discount: expected a number in (0, 1]; got {float(self.discount)!r}")
        if self.horizon is not None and (isinstance(self.horizon, bool) or self.horizon < 1):
            raise ValueError(f"horizon: expected a positive number of decisions, or None; got {self.horizon!r}")

    def rewarded(self, reward: Any) -> "MDP":
        """The same problem with another reward."""
        return self.altered(reward=reward)

    def altered(self, **options: Any) -> "MDP":
        """The same problem but for some of its arguments."""
        kept: dict[str, Any] = {
            "reward": self.reward,
            "start": self.start,
            "ends": self.ends,
            "final": self.final,
            "discount": self.discount,
            "horizon": self.horizon,
        }
        return MDP(self.transitions, **(kept | options))

    @property
    def states(self) -> int:
        return self.transitions.shape[0]

    @property
    def actions(self) -> int:
        return self.transitions.shape[1]

    def rewards(self) -> Float[Array, "S A"]:
        """E[r | s, a]. ValueError where it is not known."""
        if self.reward is None:
            raise ValueError("reward: this problem has none; give MDP(transitions, reward) one")
        return expected_reward(self.transitions, self.reward)


def expected_reward(transitions: Transitions, reward: Float[Array, "S *A"]) -> Float[Array, "S A"]:
    """E[r | s, a] of a reward of the state [S], of state and action [S, A] or of the outcome, too [S, A, N]."""
    states, actions, _ = transitions.shape
    if reward.ndim == 3:
        return jnp.sum(transitions.chances * reward, -1)
    return jnp.broadcast_to(reward[:, None], (states, actions)) if reward.ndim == 1 else reward


def soft_values(
    problem: MDP, reward: Float[Array, "S A"], temperature: Float[Array, ""] | float = 1.0
) -> tuple[Float[Array, "*T S"], Float[Array, "*H S A"]]:
    """V and Q of a reward of state and action, dynamics held fixed: see ``veil.maths.soft``."""
    return messages(problem, reward, lambda value: problem.discount * problem.transitions.expected(value), temperature)


def log_policy_at(
    problem: MDP, reward: Float[Array, "S A"], state: Int[Array, ""], step: Int[Array, ""] | None
) -> Float[Array, " A"]:
    """log π(a | s) of one decision: from the values [H + 1, S] alone, whose policy would be A times as many numbers."""
    values, _ = soft_values(problem, reward)
    place = (state,) if step is None else (step + 1, state)  # no slice of the values, which would be a copy
    return jax.nn.log_softmax(reward[state] + problem.discount * problem.transitions.expected_at(values, place))


def messages(
    problem: MDP, reward: Float[Array, "S A"], ahead: soft.Ahead, temperature: Float[Array, ""] | float
) -> tuple[Float[Array, "*T S"], Float[Array, "*H S A"]]:
    """V and Q, however the future is looked at."""
    if problem.horizon is None:
        return soft.forever(reward, ahead, problem.final, problem.ends, temperature)
    return soft.finite(reward, ahead, problem.final, problem.ends, problem.horizon, temperature)


def visits(problem: MDP, log_policy: Float[Array, "*H S A"]) -> Float[Array, "*H S A"]:
    """How often each pair is decided under a policy: p(s_t, a_t) of H steps, or Σ_t γ^t p(s_t, a_t) [S, A]."""
    policy = jnp.exp(log_policy)
    if problem.horizon is not None:
        return soft.visits(problem.start, policy, problem.transitions.pushed, problem.ends)
    carried = lambda flow: problem.discount * problem.transitions.pushed(flow)  # noqa: E731
    return soft.visits_forever(problem.start, policy, carried, problem.ends)


def _floats(given: Any) -> Array:
    return jnp.asarray(given, jnp.result_type(float))


def _vector(name: str, given: Array, states: int) -> Array:
    if given.shape != (states,):
        raise ValueError(f"{name}: expected one entry for each of the {states} states; got the shape {given.shape}")
    return given


def _sum_to_one(table: Array, name: str = "probabilities") -> None:
    if isinstance(table, jax.core.Tracer | jax.ShapeDtypeStruct):
        return
    sums = np.asarray(jnp.sum(table, -1))
    if np.any(np.asarray(table) < 0) or not np.all(np.abs(sums - 1.0) <= SLACK):
        worst = float(sums.ravel()[np.argmax(np.abs(sums - 1.0))])
        raise ValueError(f"{name}: expected numbers from 0 that sum to 1 along the last axis; got a sum of {worst:.6g}")


def _log(chances: Float[Array, "..."]) -> Float[Array, "..."]:
    """log p, -inf of zero, with a gradient of zero there."""
    return jnp.where(chances > 0, jnp.log(jnp.where(chances > 0, chances, 1.0)), -jnp.inf)
