"""To act by a policy that is learned in imagination; or to plan a short way, and leave the rest to what was learned."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.actors import Actor, FilteringActor
from veil.control.agent.behaviour import Behaviour
from veil.control.agent.planning import Planning
from veil.control.imagination.agent import ActorCriticState, ImaginedActorCritic
from veil.control.imagined import Imagined
from veil.control.planning import CrossEntropy
from veil.model.checks import whole


class Dreaming(Behaviour):
    """A policy and its values learn in dreams that begin at ``starts`` of the states of a batch: Dreamer.

    It explores by drawing from the policy, and is judged by what is central in it. Hafner et al. 2020, algorithm 1.
    """

    actor_critic: ImaginedActorCritic
    starts: int = eqx.field(static=True, default=256)

    def __check_init__(self) -> None:
        whole("starts", self.starts)

    def start(self, problem: Imagined, state: Any, key: PRNGKeyArray) -> ActorCriticState:
        return self.actor_critic.start(state, key)

    def step(
        self, learned: ActorCriticState, problem: Imagined, states: Any, key: PRNGKeyArray
    ) -> tuple[ActorCriticState, dict[str, Float[Array, ""]]]:
        key_starts, key_step = jax.random.split(key)
        there = jax.tree.leaves(states)[0].shape[0]
        chosen = jax.random.choice(key_starts, there, (min(self.starts, there),), replace=False)
        return self.actor_critic.step(learned, problem, jax.tree.map(lambda leaf: leaf[chosen], states), key_step)

    def actor(self, learned: ActorCriticState, problem: Imagined, seer: FilteringActor, exploring: bool) -> Actor:
        policy = self.actor_critic.policy(learned)
        return replace(seer, policy=policy if exploring else policy.settled)


class Guided(Behaviour):
    """It learns as ``dreaming`` does, and plans as ``planning`` does: the policy proposes, and V values what is beyond.

    Temporal-difference learning for model predictive control (Hansen et al. 2022), in a model that was fitted to what
    is seen. The planner is a ``CrossEntropy`` of a short horizon.
    """

    dreaming: Dreaming
    planning: Planning

    def __check_init__(self) -> None:
        if not isinstance(self.planning.planner, CrossEntropy):
            raise TypeError(f"planning: expected a CrossEntropy planner; got {self.planning.planner!r}")

    def start(self, problem: Imagined, state: Any, key: PRNGKeyArray) -> ActorCriticState:
        return self.dreaming.start(problem, state, key)

    def step(
        self, learned: ActorCriticState, problem: Imagined, states: Any, key: PRNGKeyArray
    ) -> tuple[ActorCriticState, dict[str, Float[Array, ""]]]:
        return self.dreaming.step(learned, problem, states, key)

    def actor(self, learned: ActorCriticState, problem: Imagined, seer: FilteringActor, exploring: bool) -> Actor:
        learner = self.dreaming.actor_critic
        planner = replace(self.planning.planner, policy=learner.policy(learned))
        valued = replace(problem, value=learner.value(learned))
        return replace(self.planning, planner=planner).actor((), valued, seer, exploring)
