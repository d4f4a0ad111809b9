"""What has learned to act by imagining: a world model, its posterior, and how one acts by them."""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import PRNGKeyArray

from veil.control.actors import Actor, FilteringActor
from veil.control.agent.behaviour import Acting
from veil.control.imagined import Imagined, Outcomes, Predicted, Rewarded
from veil.control.planning import CrossEntropy, GradientPlanner, PathIntegral, Quadratic, Shooting
from veil.data.recorded.views import View
from veil.model.batching import on_device
from veil.posterior import Online
from veil.posterior.arguments import parts
from veil.saved.registry import register

for _part in (Predicted, Rewarded, CrossEntropy, GradientPlanner, PathIntegral, Quadratic, Shooting):
    register(_part, name=f"veil.control.{_part.__name__}")


@register(name="veil.control.ImaginingSkill")
class ImaginingSkill(Actor):
    """What ``ModelBased.learn`` returns: an actor of the environment's own observations and actions.

    ``model`` and ``posterior`` are of the environment's units, and everything that takes models takes them. ``acting``:
    how it acts by them. ``exploring``: whether it acts as it does to learn from (the noise of a planner,
    a policy that is drawn from), by default not. ``returns``: of the episodes that were played while it learned, which
    explored; ``steps``: how many of the environment's steps had been taken when each was over.
    """

    model: Any
    posterior: Any
    acting: Acting
    outcomes: Outcomes
    discount: float = eqx.field(static=True)
    low: Any
    high: Any
    view: View = eqx.field(static=True)
    returns: np.ndarray
    steps: np.ndarray
    exploring: bool = eqx.field(static=True, default=False)

    @property
    def problem(self) -> Imagined:
        """What it imagines in."""
        return Imagined(self.model, self.outcomes, self.low, self.high, self.discount)

    @property
    def actor(self) -> Actor:
        """The actor behind it, with a memory of its own."""
        model, posterior = parts(self.model, self.posterior)
        assert isinstance(posterior, Online)
        seer = FilteringActor(posterior.filter(model), _undecided, on_device(self.view.nothing()), self.view)
        return self.acting.actor(self.problem, seer, self.exploring)

    def init(self, key: PRNGKeyArray) -> Any:
        return self.actor.init(key)

    def act(self, memory: Any, observation: Any, key: PRNGKeyArray) -> tuple[Any, Any]:
        return self.actor.act(memory, observation, key)


def _undecided(state: Any, key: PRNGKeyArray) -> Any:
    raise TypeError("policy: the behaviour decides")
