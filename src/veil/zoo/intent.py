"""Intent: what somebody is trying to do is the latent of their actions, and its likelihood the soft-optimal policy."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution, Marginals
from veil.maths.markov import log_total
from veil.model import Datum, Enumerable, SecondOrder
from veil.model.abilities import Sized, Sizes
from veil.parts.decisions import MDP, expected_reward, log_policy_at, soft_values
from veil.parts.rewards import KnownReward, LinearReward, Reward, TableReward

ENDLESS = 100  # decisions that one without a horizon is counted as


class Intent(Enumerable, SecondOrder, Sized):
    """p(a | s) = Σ_z p(z) π_z(a | s): a person of kind z acts soft-optimally for the reward r_z. Of ONE decision.

    π_z(a | s) = exp(Q_z(s, a) - V_z(s)) of the maximum causal entropy policy (``veil.control.solve`` at temperature 1).
    Inverse reinforcement learning is ``veil.fit``, which raises this likelihood by its exact gradient; goal inference
    is ``veil.infer``. A person is the same from one decision to the next: ``veil.Episodic(Intent(...))``, of episodes;
    with several kinds that is latent-class inverse reinforcement learning, with ``KnownReward`` goals their
    posterior.

    ``problem``: an ``MDP``, whose own reward, if it has one, is not read. Evidence: the state, as one number, and where
    the problem has a horizon the step, too, decisions counted from 0: {"state", "step"}, or two numbers. Query: the
    action; with ``outcomes=True`` {"action", "next"}, p(a, s' | s) = π(a | s) p(s' | s, a), so that actions that nobody
    saw may be missing: they are summed out. All values are exact, in nats. ``logits`` [K] of p(z).

    Ziebart 2010, "Modeling purposeful adaptive behavior with the principle of maximum causal entropy", chapter 6.

    >>> import numpy as np, veil
    >>> from veil.control import MDP, SparseTransitions, TableReward
    >>> problem = MDP(SparseTransitions([[0, 1], [1, 0]]), discount=0.9)
    >>> seen = veil.Data(query=[1, 1, 0, 0], evidence=[0, 0, 0, 1])
    >>> fit = veil.fit(Intent(problem, TableReward(states=2)), seen, key=jax.random.key(0))
    >>> np.exp(fit.model.log_policies()[0, 0]).round(1).tolist()
    [0.3, 0.7]
    """

    problem: MDP
    reward: Reward
    outcomes: bool = eqx.field(static=True)
    logits: Float[Array, " K"]

    def __init__(self, problem: Any, reward: Any, *, outcomes: bool = False, logits: Any = None) -> None:
        if not isinstance(problem, MDP):
            raise TypeError(f"problem: expected an MDP, with the dynamics; got {problem!r:.80}")
        if not isinstance(reward, Reward):
            raise TypeError(f"reward: expected one with parameters, such as TableReward(states=5); got {reward!r:.80}")
        shape = jax.eval_shape(reward.tables).shape
        known = problem.transitions.shape
        if shape[1:] != known[: len(shape) - 1]:
            raise ValueError(
                f"reward: this one is of the shape {shape[1:]}; the problem's states, actions and outcomes {known}"
            )
        self.problem, self.reward, self.outcomes = problem, reward, outcomes
        self.logits = jnp.zeros(reward.kinds) if logits is None else jnp.asarray(logits, float)

    @property
    def sizes(self) -> Sizes:
        query = (("action", (1,)), ("next", (1,))) if self.outcomes else (1,)
        return Sizes(query, 1 if self.problem.horizon is None else 2, values=self.reward.kinds)

    @property
    def smooth(self) -> bool:
        """Of one kind of person: several come apart by small steps, and a network is not concave at all."""
        return self.reward.kinds == 1 and isinstance(self.reward, LinearReward | TableReward | KnownReward)

    @property
    def work(self) -> int:
        return int(np.prod(self.problem.transitions.shape)) * (self.problem.horizon or ENDLESS)

    def log_policies(self) -> Float[Array, "K *H S A"]:
        """log π_z(a | s) of every kind, with a horizon at each decision."""

        def one(table: Float[Array, "S *A"]) -> Float[Array, "*H S A"]:
            reward = expected_reward(self.problem.transitions, table)
            return jax.nn.log_softmax(soft_values(self.problem, reward)[1], -1)

        return jax.vmap(one)(self.reward.tables())

    def prior(self, evidence: Any) -> Distribution:
        return distributions.categorical(self.logits)

    def likelihood(self, latent: Int[Array, ""], evidence: Any) -> Distribution:
        state, step = self._decision(evidence)
        return self._given(self._policies(state, step)[latent], state)

    def log_likelihoods(self, datum: Datum) -> Float[Array, " K"]:
        state, step = self._decision(datum.evidence)

        def one(policy: Float[Array, " A"]) -> Float[Array, ""]:
            return distributions.log_prob(self._given(policy, state), datum.query, datum.observed)

        return jax.vmap(one)(self._policies(state, step))

    def log_joints(self, datum: Datum) -> Float[Array, " K"]:
        return jax.nn.log_softmax(self.logits) + self.log_likelihoods(datum)

    def _policies(self, state: Int[Array, ""], step: Int[Array, ""] | None) -> Float[Array, "K A"]:
        def one(table: Float[Array, "S *A"]) -> Float[Array, " A"]:  # under vmap over data values are found once
            return log_policy_at(self.problem, expected_reward(self.problem.transitions, table), state, step)

        return jax.vmap(one)(self.reward.tables())

    def _given(self, policy: Float[Array, " A"], state: Int[Array, ""]) -> Distribution:
        return Decided(policy, state, self.problem) if self.outcomes else distributions.categoricals(policy[None])

    def _decision(self, evidence: Any) -> tuple[Int[Array, ""], Int[Array, ""] | None]:
        return decision(self.problem, evidence)


class Decided(Distribution, Marginals):
    """p(a, s' | s) = π(a | s) p(s' | s, a), of {"action": [1], "next": [1]}; either may be missing."""

    policy: Float[Array, " A"]
    state: Int[Array, ""]
    problem: MDP

    def sample(self, key: PRNGKeyArray) -> dict[str, Array]:
        key_action, key_next = jax.random.split(key)
        action = jax.random.categorical(key_action, self.policy)
        following = jax.random.categorical(key_next, self.problem.transitions.log_prob_of(self.state, action))
        return {"action": action[None].astype(self.policy.dtype), "next": following[None].astype(self.policy.dtype)}

    def log_prob(self, value: dict[str, Array]) -> Float[Array, ""]:
        return self.observed_log_prob(value, None)

    def observed_log_prob(self, value: dict[str, Array], observed: dict[str, Array] | None) -> Float[Array, ""]:
        seen = {} if observed is None else {name: each.ravel()[0] for name, each in observed.items()}
        action, following = _index(value["action"]), _index(value["next"])
        acted = jnp.arange(self.policy.shape[0]) == action
        of_action = jnp.where(acted | ~jnp.asarray(seen.get("action", True)), self.policy, -jnp.inf)
        arrived = self.problem.transitions.log_probs(self.state, following)
        return log_total(of_action + jnp.where(jnp.asarray(seen.get("next", True)), arrived, 0.0))


def decision(problem: MDP, evidence: Any) -> tuple[Int[Array, ""], Int[Array, ""] | None]:
    """The state in which a decision is taken and, of a problem with a horizon, which decision it is."""
    timed = problem.horizon is not None
    if not isinstance(evidence, dict):
        numbers = jnp.ravel(jnp.asarray(evidence))
        if numbers.size != 1 + timed:
            wanted = "the state and the step, two numbers," if timed else "the state, one number,"
            raise ValueError(f"evidence: expected {wanted} of each decision; got {numbers.size}")
        return _index(numbers[0]), _index(numbers[1]) if timed else None
    if "state" not in evidence or (timed and "step" not in evidence):
        raise ValueError(
            f"evidence: expected {'state and step' if timed else 'state'} of each decision; got "
            f"{', '.join(sorted(evidence))}"
        )
    return _index(evidence["state"]), _index(evidence["step"]) if timed else None


def _index(number: Array) -> Int[Array, ""]:
    return jnp.asarray(number).ravel()[0].astype(int)
