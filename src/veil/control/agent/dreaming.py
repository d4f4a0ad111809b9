"""To act by a policy that is learned in imagination; or to plan a short way, and leave the rest to what was learned."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.actors import Actor, FilteringActor
from veil.control.agent.behaviour import Acting, Behaviour
from veil.control.agent.planning import Planning
from veil.control.imagination.agent import ActorCriticState, ImaginedActorCritic
from veil.control.imagination.networks import StatePolicy, StateValue
from veil.control.imagined import Imagined
from veil.control.planning import CrossEntropy
from veil.model.checks import whole
from veil.saved.registry import register


@register(name="veil.control.Dreamt")
class Dreamt(Acting):
    """By a policy: to explore by draws of it, else by what is central in it."""

    policy: StatePolicy

    def actor(self, problem: Imagined, seer: FilteringActor, exploring: bool) -> Actor:
        return replace(seer, policy=replace(self.policy, settled=not exploring))


@register(name="veil.control.GuidedPlanning")
class GuidedPlanning(Acting):
    """By planning a short way, with V for what is beyond."""

    planning: Planning
    value: StateValue

    def actor(self, problem: Imagined, seer: FilteringActor, exploring: bool) -> Actor:
        valued = replace(problem, value=self.value)
        return self.planning.actor(valued, seer, exploring)


class Dreaming(Behaviour):
    """A policy and its values learn in dreams that begin at ``starts`` of the states of a batch: Dreamer.

    It explores by drawing from the policy, and is judged by what is central in it. Hafner et al. 2020, algorithm 1.
    """

    actor_critic: ImaginedActorCritic
    starts: int = eqx.field(static=True, default=128)

    def __check_init__(self) -> None:
        whole("starts", self.starts)

    def start(self, problem: Imagined, state: Any, key: PRNGKeyArray) -> ActorCriticState:
        return self.actor_critic.start(state, key)

    def step(
        self, learned: ActorCriticState, problem: Imagined, states: Any, weight: Float[Array, " N"], key: PRNGKeyArray
    ) -> tuple[ActorCriticState, dict[str, Float[Array, ""]]]:
        key_starts, key_step = jax.random.split(key)
        chosen = jax.random.choice(key_starts, len(weight), (min(self.starts, len(weight)),), replace=False)
        begins, counts = jax.tree.map(lambda leaf: leaf[chosen], (states, weight))
        return self.actor_critic.step(learned, problem, begins, key_step, counts)

    def acting(self, learned: ActorCriticState) -> Dreamt:
        return Dreamt(self.actor_critic.policy(learned))


class Guided(Behaviour):
    """It learns as ``dreaming`` does, and acts by ``planning``: the policy proposes, and V values what is beyond.

    Temporal-difference learning for model predictive control (Hansen et al. 2022), in a model that was fitted to what
    is seen. The planner is a ``CrossEntropy`` of a short horizon.
    """

    dreaming: Dreaming
    planning: Planning

    def __check_init__(self) -> None:
        if not isinstance(self.planning.planner, CrossEntropy):
            raise TypeError(f"planning: expected one by CrossEntropy; got {self.planning.planner!r}")

    def start(self, problem: Imagined, state: Any, key: PRNGKeyArray) -> ActorCriticState:
        return self.dreaming.start(problem, state, key)

    def step(
        self, learned: ActorCriticState, problem: Imagined, states: Any, weight: Float[Array, " N"], key: PRNGKeyArray
    ) -> tuple[ActorCriticState, dict[str, Float[Array, ""]]]:
        return self.dreaming.step(learned, problem, states, weight, key)

    def acting(self, learned: ActorCriticState) -> GuidedPlanning:
        learner, planner = self.dreaming.actor_critic, self.planning.planner
        assert isinstance(planner, CrossEntropy)
        proposing = replace(self.planning, planner=replace(planner, policy=learner.policy(learned)))
        return GuidedPlanning(proposing, learner.value(learned))
