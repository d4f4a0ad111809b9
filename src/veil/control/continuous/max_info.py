"""MaxInfoSAC: soft actor-critic that is also after what its actions are expected to tell of the dynamics."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.continuous.agent import AgentState, SoftActorCritic
from veil.control.continuous.learning import Learner
from veil.control.continuous.networks import Learnt, drawn
from veil.control.continuous.transitions import Transitions
from veil.control.exploration.bonus import Bonus, Episodic, Transition
from veil.control.exploration.ensemble import Disagreement
from veil.model import Model


class GainWeight(eqx.Module):
    """w in units of reward a nat: what a nat of information gain is worth."""

    start: eqx.AbstractVar[float]

    @abstractmethod
    def loss(
        self, log_weight: Float[Array, ""], gain: Float[Array, ""], slow_gain: Float[Array, ""]
    ) -> Float[Array, ""]:
        """What log w minimises at the mean gains of the policy and of the slow one, nats; 0 if it stays."""


class FixedGainWeight(GainWeight):
    """w as it is given; 0 is soft actor-critic."""

    start: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        if not 0 <= self.start < float("inf"):
            raise ValueError(f"start: expected a weight from 0, in units of reward a nat; got {self.start!r}")

    def loss(
        self, log_weight: Float[Array, ""], gain: Float[Array, ""], slow_gain: Float[Array, ""]
    ) -> Float[Array, ""]:
        return jnp.zeros(())


class LearnedGainWeight(GainWeight):
    """w rises where the policy's mean gain is below the slow policy's, and falls where it is above: a multiplier.

    It is that of "gain as much as the policy of a while ago would here". Sukhija et al. 2024, section 4.
    """

    start: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        if not 0 < self.start < float("inf"):
            raise ValueError(f"start: expected a positive weight, in units of reward a nat; got {self.start!r}")

    def loss(
        self, log_weight: Float[Array, ""], gain: Float[Array, ""], slow_gain: Float[Array, ""]
    ) -> Float[Array, ""]:
        return log_weight * (gain - slow_gain)


class MaxInfoState(eqx.Module):
    """All that must be carried: the agent's, the bonus's, the ``slow`` policy, log w, and its optimiser's own."""

    agent: AgentState
    bonus: Any
    slow: Model
    log_weight: Float[Array, ""]
    optimiser: Any


class MaxInfoActorCritic(Learner):
    """π ∝ exp((Q + w I) / τ): what is earned, entropy, and the information I(o, a) that an action is expected to gain.

        E[Σ γ^t (r + w I(o, a) + τ H(π(· | o)))]        is what the ``agent`` is after, in place of the same without I

    I is a ``bonus`` that does not depend on o', such as ``Disagreement`` or ``LinearGain``: of what is known *now* of
    the actions that the policy would choose now, in the states that were seen, so that it does not grow old in the
    replay, and with its gradient in a. After that the bonus learns from the same batch. ``weight``: how w is found, by
    Adam at ``rate``, from the mean gain of the policy and of a slow copy, which takes the agent's share ``follow`` a
    step after it, both with the same noise. It learns from its ``newest`` transitions (None: from all that are kept).

    Values of what has learned (``Skill.action_value``) are of rewards, entropy *and* later gains. Sukhija et al. 2024,
    "MaxInfoRL: boosting exploration in reinforcement learning through information gain maximization" (MaxInfoSAC).

    >>> from veil.parts.nets import MLP
    >>> from veil.zoo.ensemble import DynamicsEnsemble
    >>> small = Disagreement(ensemble=DynamicsEnsemble(2, MLP((8,))))
    >>> learner, zeros = MaxInfoActorCritic(SoftActorCritic(trunk=MLP((8,))), small), jnp.zeros
    >>> rows = Transitions(zeros((4, 3)), zeros((4, 1)), zeros(4), zeros((4, 3)), zeros(4, bool), zeros(4, bool))
    >>> state = learner.start(rows, jax.random.key(0))
    >>> state, info = eqx.filter_jit(learner.step)(state, rows, jax.random.key(1))
    >>> sorted(info)
    ['critic', 'entropy', 'gain', 'gain_weight', 'temperature', 'value']
    """

    agent: SoftActorCritic = SoftActorCritic()
    bonus: Any = Disagreement()
    weight: GainWeight = LearnedGainWeight()
    rate: float = eqx.field(static=True, default=1e-3)
    newest: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if self.agent.imitates:
            raise ValueError("agent: expected one that learns from rewards, with objective=SoftBellman()")
        if not isinstance(self.bonus, Bonus):
            raise TypeError(f"bonus: expected one, such as Disagreement(); got {self.bonus!r}")
        if isinstance(self.bonus, Episodic):
            raise ValueError(
                f"bonus: a {type(self.bonus).__name__} remembers an episode, and learning is from steps of many; "
                "take Disagreement()"
            )
        if not self.rate > 0:
            raise ValueError(f"rate: expected a positive learning rate; got {self.rate!r}")

    @property
    def imitates(self) -> bool:
        return False

    @property
    def discount(self) -> float:
        return self.agent.discount

    def start(self, example: Transitions, key: PRNGKeyArray) -> MaxInfoState:
        """The first state. Raises ValueError for a bonus that asks where a step leads, which nobody knows yet."""
        first = jax.tree.map(lambda leaf: leaf[0], Transition(example.observation, example.action, example.following))
        bonus = self.bonus.init(first, jax.random.fold_in(key, 0))
        elsewhere = first.following, first.following + 1.0
        values = [self.bonus(bonus, first.observation, first.action, there)[0] for there in elsewhere]
        if not isinstance(values[0], jax.core.Tracer) and float(values[0]) != float(values[1]):
            raise ValueError(
                f"bonus: expected one of (o, a), which says what an action may tell before it is done; that of "
                f"{type(self.bonus).__name__} depends on where it leads. Take Disagreement() or LinearGain()"
            )
        agent = self.agent.start(example, key)
        log_weight = jnp.log(jnp.asarray(self.weight.start, float))
        return MaxInfoState(agent, bonus, agent.learnt.policy, log_weight, optax.adam(self.rate).init(log_weight))

    def step(
        self, state: MaxInfoState, batch: Transitions, key: PRNGKeyArray
    ) -> tuple[MaxInfoState, dict[str, Float[Array, ""]]]:
        weight = jnp.exp(state.log_weight)
        agent, info = self.agent.step(state.agent, batch, key, lambda o, a: weight * self.gain(state.bonus, o, a))
        gains = [self.mean_gain(state.bonus, each, batch, key) for each in (state.agent.learnt.policy, state.slow)]
        slope = jax.grad(self.weight.loss)(state.log_weight, *gains)
        change, optimiser = optax.adam(self.rate).update(slope, state.optimiser)
        follow = lambda old, new: old + self.agent.follow * (new - old)  # noqa: E731
        bonus = self.bonus.update(state.bonus, Transition(batch.observation, batch.action, batch.following))
        slow = jax.tree.map(follow, state.slow, agent.learnt.policy)
        after = MaxInfoState(agent, bonus, slow, state.log_weight + change, optimiser)
        return after, info | {"gain": gains[0], "gain_weight": weight}

    def learnt(self, state: MaxInfoState) -> Learnt:
        return self.agent.learnt(state.agent)

    def gain(self, bonus: Any, observation: Float[Array, " O"], action: Float[Array, " A"]) -> Float[Array, ""]:
        """I(o, a), nats, or what the bonus is in."""
        return self.bonus(bonus, observation, action, observation)[0]

    def mean_gain(self, bonus: Any, policy: Model, batch: Transitions, key: PRNGKeyArray) -> Float[Array, ""]:
        """E[I(o, a)], o of the batch, a ~ π: by one action each, with noise that is the same for every policy."""
        draw = lambda seen, key: self.gain(bonus, seen, drawn(policy, seen, key)[0])  # noqa: E731
        return batch.mean(jax.vmap(draw)(batch.observation, jax.random.split(key, len(batch.reward))))
