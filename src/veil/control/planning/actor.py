"""An actor that plans at every step."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from veil.control.actors import Actor, FilteringActor, Noise
from veil.control.imagined import Imagined, Several
from veil.control.planning.base import Planner, begun, shifted
from veil.model.checks import whole


class Planned(eqx.Module):
    """The memory of a ``PlanningActor``: its belief, the last action as it was done, and the last plan."""

    belief: Any
    action: Any
    mean: Any


class PlanningActor(Actor):
    """It filters as it acts, plans from states drawn of its belief, and does the plan's first action.

    ``planner``: any ``Planner``; the rest of a plan is where the next one begins. ``problem``: an ``Imagined``, whose
    model is the one that it filters with, or another with the same states. ``particles``: how many states are drawn: a
    plan is good on average over them. See ``FilteringActor`` for what observations and actions are; of a ``Fit`` to a
    recording they are the environment's own, and outcomes and bounds are of the model's numbers.
    """

    seer: FilteringActor
    planner: Planner
    problem: Imagined
    particles: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        whole("particles", self.particles)

    @staticmethod
    def of(
        model: Any,
        planner: Planner,
        problem: Imagined,
        nothing: Any = None,
        posterior: Any = None,
        particles: int = 1,
        noise: Any = None,
    ) -> "PlanningActor":
        """From a ``Fit``, or a model and its posterior.

        ``noise``: the spread of what is added to actions to explore, within the bounds of the problem; None: nothing.

        Raises:
            TypeError, ValueError: a model that cannot filter, or whose evidence is no vector of an action's numbers.
        """
        added = None if noise is None else Noise(noise, problem.low, problem.high)
        seer = FilteringActor.of(model, _undecided, nothing, posterior, added)
        shapes = jax.tree.map(jnp.shape, seer.nothing)
        if not isinstance(seer.nothing, jax.Array) or seer.nothing.ndim != 1:
            raise ValueError(f"nothing: a plan is of actions that are one vector [U]; got the evidence {shapes}")
        return PlanningActor(seer, planner, problem, particles)

    def init(self, key: PRNGKeyArray) -> Planned:
        known = self.seer.init(key)
        steps = self.planner.horizon
        start = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (steps, *jnp.shape(leaf))), known.action)
        return Planned(known.belief, known.action, begun(self.problem, steps, start))

    def act(self, memory: Planned, observation: Any, key: PRNGKeyArray) -> tuple[Any, Planned]:
        key_filter, key_state, key_plan, key_done = jax.random.split(key, 4)
        belief, seen = self.seer.updated(memory, observation, key_filter)
        draw = lambda key: self.seer.filter.draw(belief, key)  # noqa: E731
        states = Several(jax.vmap(draw)(jax.random.split(key_state, self.particles)))
        mean = self.planner.plan(self.problem, states, key_plan, shifted(memory.mean)).mean
        action, done = self.seer.done(mean[0], seen, key_done)
        return action, Planned(belief, done, mean)


def _undecided(state: Any, key: PRNGKeyArray) -> Any:
    raise TypeError("policy: this actor plans")
