"""How an agent acts in what it imagines, and what it learns for that: a strategy of the agent."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.actors import Actor, FilteringActor
from veil.control.imagined import Imagined


class Acting(eqx.Module):
    """How one acts in a world model. It is saved with what was learned."""

    @abstractmethod
    def actor(self, problem: Imagined, seer: FilteringActor, exploring: bool) -> Actor:
        """Who acts. ``seer`` filters as it acts; ``exploring``: to learn from, and not to be judged by."""


class Behaviour(eqx.Module):
    """A planner, or something that learns a policy. ``learned`` is what it carries from step to step, a tree."""

    @abstractmethod
    def start(self, problem: Imagined, state: Any, key: PRNGKeyArray) -> Any:
        """What it has learned before the first step: ``state`` is a state of the model (a carry), for its sizes."""

    @abstractmethod
    def step(
        self, learned: Any, problem: Imagined, states: Any, weight: Float[Array, " N"], key: PRNGKeyArray
    ) -> tuple[Any, dict[str, Float[Array, ""]]]:
        """After one more step, and what may be looked at.

        ``states`` [N, ...]: what was inferred of a batch of data; ``weight`` [N]: 0 where an episode had ended, behind
        which there is nothing, else 1.
        """

    @abstractmethod
    def acting(self, learned: Any) -> Acting:
        """How it acts by what it has learned."""
