"""Control as inference on finite decision problems: to act well is to infer actions, given that it went well.

The model: states and actions are latent, start and dynamics are given, and at every decision there is one observation,
"it went well", with p(O_t = 1 | s, a) ∝ exp(r(s, a) / τ). Its messages are in ``veil.maths.soft``.
"""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from veil.maths import soft
from veil.parts.decisions import MDP, messages, visits


class Luck(eqx.Module):
    """How the future is looked at, when dynamics are random."""

    @abstractmethod
    def scores(self, problem: MDP, temperature: Float[Array, ""] | float) -> tuple[Float[Array, "S A"], soft.Ahead]:
        """What is earned at once, and what lies ahead of every state and action, from values of next states."""


class Fixed(Luck):
    """Dynamics are held fixed: E[r + γ V(s')]. The causal, variational answer, which maximises E[Σ r] + τ entropy.

    The posterior over actions alone, q(s_1..H, a_1..H) = p(s_1) Π p(s_t+1 | s_t, a_t) π(a_t | s_t). Levine 2018,
    section 3; Ziebart 2010, chapter 5.
    """

    def scores(self, problem: MDP, temperature: Float[Array, ""] | float) -> tuple[Float[Array, "S A"], soft.Ahead]:
        return problem.rewards(), lambda values: problem.discount * problem.transitions.expected(values)


class Hoped(Luck):
    """The posterior over states, too: τ log E exp((r + V(s')) / τ). It takes risks as if luck came with success.

    What Bayes' rule gives of p(s, a | O_1..H = 1), in which success is evidence of good luck. A discount is a chance of
    1 - γ to stop after each step, at a value of 0. Levine 2018, section 2.
    """

    def scores(self, problem: MDP, temperature: Float[Array, ""] | float) -> tuple[Float[Array, "S A"], soft.Ahead]:
        known = isinstance(temperature, float)
        if known and temperature == 0:
            raise ValueError("temperature: at 0 all that is hoped for comes true; expected a positive one with Hoped()")
        transitions = problem.transitions
        paid, now = jnp.zeros(()), problem.rewards()
        if problem.reward is not None and problem.reward.ndim == 3:
            paid, now = problem.reward, jnp.zeros_like(now)
        chances = transitions.chances

        def ahead(values: Float[Array, " S"]) -> Float[Array, "S A"]:
            going = (paid + transitions.outcomes(values)) / temperature
            stopping = paid / temperature
            going, stopping = (jnp.broadcast_to(each, chances.shape) for each in (going, stopping))
            both = jnp.concatenate([going, stopping], -1)
            shares = jnp.concatenate([problem.discount * chances, (1.0 - problem.discount) * chances], -1)
            return temperature * jax.nn.logsumexp(both, -1, b=shares)

        return now, ahead


class Solution(eqx.Module):
    """Soft values of a problem, its soft-optimal policy, and how often that comes where.

    With a horizon of H decisions ``values`` [H + 1, S], ``action_values`` and ``log_policy`` [H, S, A]; without one [S]
    and [S, A]. In units of reward; ``log_policy`` in nats.
    """

    problem: MDP
    temperature: Float[Array, ""] | float
    values: Float[Array, "*T S"]
    action_values: Float[Array, "*H S A"]
    log_policy: Float[Array, "*H S A"]

    @property
    def visits(self) -> Float[Array, "*H S A"]:
        """p(s_t, a_t) at each of H decisions; without a horizon Σ_t γ^t p(s_t, a_t)."""
        return visits(self.problem, self.log_policy)

    @property
    def expected_return(self) -> Float[Array, ""]:
        """E[Σ_t γ^t r_t] under the policy, with what ends are worth; in truth, whatever was hoped for."""
        return returned(self.problem, self.log_policy)


def solve(problem: MDP, temperature: float = 1.0, luck: Luck | None = None) -> Solution:
    """The soft-optimal policy of a finite decision problem, exactly: backward messages of control as inference.

        Q_t(s, a) = E[r + γ V_t+1(s')]      V_t(s) = τ log Σ_a exp(Q_t(s, a) / τ)      π_t(a | s) = exp((Q_t - V_t) / τ)

    ``temperature`` τ: at 0 the optimal policy (value iteration), towards infinity all actions alike. ``luck``:
    ``Fixed()`` (None), or ``Hoped()``, the naive posterior. Source: Levine 2018, "Reinforcement learning and control as
    probabilistic inference".

    Raises:
        ValueError: a negative temperature, or no horizon and no discount where an episode need not end.

    >>> import jax.numpy as jnp
    >>> from veil.parts.decisions import MDP, SparseTransitions
    >>> chain = MDP(SparseTransitions([[0, 1], [1, 1]]), reward=[-1.0, 0.0], ends=[False, True], horizon=3)
    >>> solve(chain, temperature=0.0).values[0]
    Array([-1.,  0.], dtype=float32)
    """
    if not temperature >= 0:
        raise ValueError(f"temperature: expected a number from 0; got {temperature!r}")
    found = _solved(problem, float(temperature), Fixed() if luck is None else luck)
    if not bool(jnp.all(jnp.isfinite(found.values))):
        raise ValueError(
            "horizon: these values have no limit, since without a horizon some policy never ends, or earns for ever; "
            "give MDP(horizon=...), or a discount below 1 (which is no help to Hoped() where much is earned)"
        )
    return found


@eqx.filter_jit
def _solved(problem: MDP, temperature: float, luck: Luck) -> Solution:
    now, ahead = luck.scores(problem, temperature)
    values, scores = messages(problem, now, ahead, temperature)
    return Solution(problem, temperature, values, scores, soft.log_policy(scores, temperature))


def returned(problem: MDP, log_policy: Float[Array, "*H S A"]) -> Float[Array, ""]:
    """E[Σ_t γ^t r_t + γ^T final(s_T)] of any policy, exactly."""
    policy = jnp.exp(log_policy)
    rewards, transitions = problem.rewards(), problem.transitions

    def back(value: Float[Array, " S"], chosen: Float[Array, "S A"]) -> Float[Array, " S"]:
        scores = rewards + problem.discount * transitions.expected(value)
        return jnp.where(problem.ends, problem.final, jnp.sum(jnp.where(chosen > 0, chosen * scores, 0.0), -1))

    if problem.horizon is None:
        value = soft.settled(lambda value: back(value, policy), problem.final)
    else:
        value = jax.lax.scan(lambda value, now: (back(value, now), None), problem.final, policy, reverse=True)[0]
    return problem.start @ value
