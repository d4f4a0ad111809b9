"""To act by planning at every step, with nothing to learn but the model."""

from dataclasses import replace
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.actors import Actor, FilteringActor, Noise
from veil.control.agent.behaviour import Acting, Behaviour
from veil.control.imagined import Imagined
from veil.control.planning import Planner, PlanningActor
from veil.model.checks import whole
from veil.saved.registry import register


@register(name="veil.control.Planning")
class Planning(Behaviour, Acting):
    """It plans by ``planner`` from ``particles`` states drawn of its belief, and does the plan's first action.

    ``noise``: the spread of what is added to actions while it explores, as a share of half the width between their
    bounds.
    """

    planner: Planner
    particles: int = eqx.field(static=True, default=1)
    noise: float = eqx.field(static=True, default=0.3)

    def __check_init__(self) -> None:
        whole("particles", self.particles)
        if not isinstance(self.planner, Planner):
            raise TypeError(f"planner: expected one, such as CrossEntropy(12); got {self.planner!r}")
        if not self.noise >= 0:
            raise ValueError(f"noise: expected a share, zero or more; got {self.noise!r}")

    def start(self, problem: Imagined, state: Any, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def step(
        self, learned: Any, problem: Imagined, states: Any, weight: Float[Array, " N"], key: PRNGKeyArray
    ) -> tuple[Any, dict[str, Float[Array, ""]]]:
        return (), {}

    def acting(self, learned: Any) -> "Planning":
        return self

    def actor(self, problem: Imagined, seer: FilteringActor, exploring: bool) -> Actor:
        if exploring and self.noise > 0:
            spread = self.noise * (problem.high - problem.low) / 2
            seer = replace(seer, noise=Noise(spread, problem.low, problem.high))
        return PlanningActor(seer, self.planner, problem, self.particles)
