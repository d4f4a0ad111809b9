"""Soft actor-critic: soft-optimal control of continuous actions by two networks, one pure step at a time."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.continuous.learning import Learner
from veil.control.continuous.networks import Critic, Learnt, drawn, policy_like
from veil.control.continuous.objectives import CriticObjective, SoftBellman, Values
from veil.control.continuous.temperatures import LearnedTemperature, Temperature
from veil.control.continuous.transitions import Transitions
from veil.parts.nets import MLP

Added = Callable[[Float[Array, " O"], Float[Array, " A"]], Float[Array, ""]]  # of (o, a), in units of reward


def nothing(observation: Float[Array, " O"], action: Float[Array, " A"]) -> Float[Array, ""]:
    """Nothing is added."""
    return jnp.zeros((), action.dtype)


class AgentState(eqx.Module):
    """All that must be carried from step to step: what is ``learnt``, the ``slow`` critics, and the optimiser's own."""

    learnt: Learnt
    slow: tuple[Critic, ...]
    optimiser: Any


class SoftActorCritic(Learner):
    """π ∝ exp(Q / τ), as near as a squashed normal comes, for a critic that says Q of the policy itself.

    A step lowers, all at once, by Adam,

        critics      ``objective``: ½ (Q(o, a) - r - γ V̄(o'))², V = E_π[Q - τ log π]             (``SoftBellman()``)
        policy       E[τ log π(a | o) - min Q(o, a)], a ~ π: τ KL(π || exp(Q / τ) / Z)
        log τ        what its ``temperature`` says

    ``critics`` of them learn side by side, of which the least is believed; V̄ is of a slow copy, which a share of
    ``follow`` a step takes after them. ``trunk`` is the network of all. ``rate``: Adam's; ``policy_rate``: the
    policy's (None: the same). Imitation wants it ten times smaller: a policy that runs after critics that have not
    settled goes round the expert's, and not into it. In an environment it learns from the ``newest`` transitions
    (None: from all that are kept). Haarnoja et al. 2018, "Soft actor-critic algorithms and applications".

    >>> agent = SoftActorCritic(trunk=MLP((8,)))
    >>> zeros = jnp.zeros
    >>> rows = Transitions(zeros((4, 3)), zeros((4, 1)), zeros(4), zeros((4, 3)), zeros(4, bool), zeros(4, bool))
    >>> state = agent.start(rows, jax.random.key(0))
    >>> state, info = agent.step(state, rows, jax.random.key(1))
    >>> sorted(info)
    ['critic', 'entropy', 'temperature', 'value']
    """

    discount: float = eqx.field(static=True, default=0.99)
    trunk: MLP = MLP((128, 128), "relu")
    critics: int = eqx.field(static=True, default=2)
    objective: CriticObjective = SoftBellman()
    temperature: Temperature = LearnedTemperature()
    rate: float = eqx.field(static=True, default=1e-3)
    policy_rate: float | None = eqx.field(static=True, default=None)
    follow: float = eqx.field(static=True, default=0.005)
    newest: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if not 0 < self.discount < 1:
            raise ValueError(f"discount: expected a number above 0 and below 1; got {self.discount!r}")
        for name in ("rate", "policy_rate"):
            value = vars(self)[name]
            if value is not None and not value > 0:
                raise ValueError(f"{name}: expected a positive learning rate; got {value!r}")
        if not 0 < self.follow <= 1:
            raise ValueError(f"follow: expected a share above 0 and up to 1; got {self.follow!r}")
        if isinstance(self.critics, bool) or not isinstance(self.critics, int) or self.critics < 1:
            raise ValueError(f"critics: expected a positive whole number; got {self.critics!r}")

    @property
    def imitates(self) -> bool:
        return self.objective.imitates

    def start(self, example: Transitions, key: PRNGKeyArray) -> AgentState:
        """The first state, from some transitions: the policy starts as wide as their actions are."""
        key_policy, *keys = jax.random.split(key, 1 + self.critics)
        policy = policy_like(example.observation, example.action, self.trunk, key_policy)
        inputs = example.observation.shape[-1] + example.action.shape[-1]
        critics = tuple(Critic.initialise(self.trunk, inputs, each) for each in keys)
        learnt = Learnt(policy, critics, jnp.log(jnp.asarray(self.temperature.start, float)))
        return AgentState(learnt, critics, optax.adam(self.rate).init(eqx.filter(learnt, eqx.is_inexact_array)))

    def step(
        self, state: AgentState, batch: Transitions, key: PRNGKeyArray, added: Added = nothing
    ) -> tuple[AgentState, dict[str, Float[Array, ""]]]:
        """The state after a step on a batch; ``added`` is had for an action beside its reward."""
        grad = eqx.filter_grad(self.loss, has_aux=True)
        slopes, info = grad(state.learnt, state.slow, batch, key, added)
        updates, optimiser = optax.adam(self.rate).update(slopes, state.optimiser)
        if self.policy_rate is not None:
            share = self.policy_rate / self.rate  # Adam's steps are in proportion to its rate
            slower = jax.tree.map(lambda leaf: share * leaf, updates.policy)
            updates = eqx.tree_at(lambda each: each.policy, updates, slower)
        learnt = eqx.apply_updates(state.learnt, updates)
        follow = lambda old, new: old + self.follow * (new - old)  # noqa: E731
        return AgentState(learnt, jax.tree.map(follow, state.slow, learnt.critics), optimiser), info

    def learnt(self, state: AgentState) -> Learnt:
        return state.learnt

    def loss(
        self,
        learnt: Learnt,
        slow: tuple[Critic, ...],
        batch: Transitions,
        key: PRNGKeyArray,
        added: Added = nothing,
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The sum of what critics, policy and temperature minimise, none of which has a gradient for the others.

        The policy is after Q(o, a) + ``added``(o, a), and V = E_π[Q + added - τ log π]: Q has that of later steps only.
        """
        still = jax.lax.stop_gradient
        key_here, key_ahead = jax.random.split(key)
        count = len(batch.reward)
        act = lambda seen, key: jax.vmap(lambda o, k: drawn(learnt.policy, o, k))(seen, jax.random.split(key, count))  # noqa: E731
        action, log_prob = act(batch.observation, key_here)
        later, later_log_prob = still(act(batch.following, key_ahead))
        temperature = still(jnp.exp(learnt.log_temperature))
        more = jax.vmap(added)(batch.observation, action)
        bonus = still(more) - temperature * still(log_prob)
        later_bonus = jax.vmap(added)(batch.following, later) - temperature * later_log_prob
        of = lambda critic, seen, done: jax.vmap(critic)(seen, done)  # noqa: E731
        behind = jnp.stack([of(critic, batch.following, later) for critic in slow])
        target = still(jnp.min(behind, 0) + later_bonus)
        total = jnp.zeros(())
        for critic in learnt.critics:
            values = Values(
                of(critic, batch.observation, batch.action),
                of(critic, batch.observation, still(action)) + bonus,
                of(critic, batch.following, later) + later_bonus,
                target,
                critic.ended,
            )
            total = total + self.objective(values, batch, self.discount)
        worth = jnp.min(jnp.stack([of(critic, batch.observation, action) for critic in still(learnt.critics)]), 0)
        entropy = -batch.mean(log_prob)
        policy = -temperature * entropy - batch.mean(worth + more)
        info = {"critic": total, "entropy": entropy, "temperature": temperature, "value": batch.mean(worth)}
        return total + policy + self.temperature.loss(learnt.log_temperature, still(entropy), action.shape[-1]), info
