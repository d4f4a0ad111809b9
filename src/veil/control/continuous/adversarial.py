"""Adversarial inverse reinforcement learning: a reward by which an expert's steps are told from one's own."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.continuous.agent import AgentState, SoftActorCritic
from veil.control.continuous.learning import Learner
from veil.control.continuous.networks import Judge, Learnt, log_density
from veil.control.continuous.temperatures import FixedTemperature
from veil.control.continuous.transitions import Transitions
from veil.parts.nets import MLP


class AdversarialState(eqx.Module):
    """All that must be carried from step to step: the agent's, the judge, and its optimiser's own."""

    agent: AgentState
    judge: Judge
    optimiser: Any


class Adversarial(Learner):
    """A judge tells what an expert did from what the agent did; the agent learns from the reward that it tells it by.

        f(o, a, o') = g(o) + γ h(o') - h(o)        log-odds of the expert = f / τ - log π(a | o)

    Each step lowers the logistic loss of the judge, then gives f as the reward of the batch to a step of the ``agent``,
    whose temperature τ is fixed. Where neither can do better f / τ is the log-density of the expert's actions, and g,
    of ``states_only``, the reward up to a constant, which carries over to other dynamics; else g is of actions, too.
    One's own steps are the ``newest`` ones. E[f²] / (4 ``bound``) in the loss of the judge, f in units of τ, keeps a
    few demonstrations from being learned by heart; infinite, it costs nothing. Fu et al. 2018, "Learning robust rewards
    with adversarial inverse reinforcement learning", section 6.

    An episode that ended goes on in an absorbing state, whose reward is learned like any other: the judge sees it γ /
    (1 - γ) times for each end, and f of the last step has what is earned there. Taken for zero it would make episodes
    short or long by the sign of f.
    """

    agent: SoftActorCritic = SoftActorCritic(temperature=FixedTemperature(1.0))
    trunk: MLP = MLP((64, 64), "tanh")
    states_only: bool = eqx.field(static=True, default=False)
    rate: float = eqx.field(static=True, default=1e-3)
    bound: float = eqx.field(static=True, default=25.0)
    newest: int | None = eqx.field(static=True, default=5000)

    def __check_init__(self) -> None:
        if not isinstance(self.agent.temperature, FixedTemperature):
            raise ValueError(f"agent: expected a fixed temperature, the unit of f; got {self.agent.temperature!r}")
        if self.agent.imitates:
            raise ValueError("agent: expected one that learns from rewards, with objective=SoftBellman()")
        if not self.bound > 0:
            raise ValueError(f"bound: expected a positive size of f²; got {self.bound!r}")

    @property
    def imitates(self) -> bool:
        return True

    @property
    def discount(self) -> float:
        return self.agent.discount

    def start(self, example: Transitions, key: PRNGKeyArray) -> AdversarialState:
        key_agent, key_judge = jax.random.split(key)
        sizes = example.observation.shape[-1], 0 if self.states_only else example.action.shape[-1]
        judge = Judge.initialise(self.trunk, *sizes, key_judge)
        optimiser = optax.adam(self.rate).init(eqx.filter(judge, eqx.is_inexact_array))
        return AdversarialState(self.agent.start(example, key_agent), judge, optimiser)

    def step(
        self, state: AdversarialState, batch: Transitions, key: PRNGKeyArray
    ) -> tuple[AdversarialState, dict[str, Float[Array, ""]]]:
        policy, temperature = state.agent.learnt.policy, self.agent.temperature.start
        log_probs = jax.vmap(lambda o, a: log_density(policy, o, a))(batch.observation, batch.action)
        loss, slopes = eqx.filter_value_and_grad(self.loss)(state.judge, batch, log_probs)
        updates, optimiser = optax.adam(self.rate).update(slopes, state.optimiser)
        judge = eqx.apply_updates(state.judge, updates)
        later = self.discount / (1.0 - self.discount) * temperature * judge.ended
        reward = temperature * judge.scores(batch, self.discount) + jnp.where(batch.terminated, later, 0.0)
        agent, info = self.agent.step(state.agent, replace(batch, reward=reward), key)
        return AdversarialState(agent, judge, optimiser), info | {"judge": loss}

    def learnt(self, state: AdversarialState) -> Learnt:
        return replace(state.agent.learnt, judge=state.judge)

    def loss(self, judge: Judge, batch: Transitions, log_probs: Float[Array, " N"]) -> Float[Array, ""]:
        """-E_expert[log D] - E_own[log (1 - D)], D = σ(f / τ - log π), nats, and what holds f; in units of τ."""
        scores = judge.scores(batch, self.discount)
        odds = scores - log_probs
        stays = jnp.where(batch.terminated, self.discount / (1.0 - self.discount), 0.0)
        expert = jax.nn.softplus(-odds) + stays * jax.nn.softplus(-judge.ended)
        own = jax.nn.softplus(odds) + stays * jax.nn.softplus(judge.ended)
        size = batch.mean(scores**2) / (4.0 * self.bound)
        return batch.mean(expert, batch.demonstrated) + batch.mean(own, ~batch.demonstrated) + size
