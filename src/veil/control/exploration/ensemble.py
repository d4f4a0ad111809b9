"""What the members of an ensemble of dynamics disagree about is what can still be learned."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.exploration.bonus import About, Bonus, Transition
from veil.control.exploration.learning import adam, ascended
from veil.control.exploration.measures import GainBound, Measure
from veil.control.exploration.standards import Running, Standard, vector
from veil.learning.choices import as_optimiser
from veil.learning.gradient import Gradient, GradientState
from veil.model import Datum
from veil.objective import Bagging
from veil.parts.heads import BoundedGaussian
from veil.parts.nets import MLP, positive
from veil.posterior import Undecided
from veil.zoo.ensemble import DynamicsEnsemble


def done(step: Transition) -> Any:
    """u, what was done."""
    return step.action


class Team(eqx.Module):
    """An ensemble with the optimiser's state, the units of states and of actions, and the key of learning."""

    learned: GradientState
    seen: Any
    told: Any
    key: PRNGKeyArray


class Disagreement(Bonus):
    """How much the members of a ``veil.DynamicsEnsemble`` disagree about where a step leads, by a ``measure``.

    It does not depend on o'. The ensemble's state is the observation, all its numbers in a row, its action
    ``action(step)``: of a choice give one number for each, as ``jax.nn.one_hot`` does. Both are in the units of
    ``standard``, by default of all steps so far, from the batches of ``update``; each change of the state is at first
    taken for that between two steps that have nothing to do with each other.

    ``update`` takes ``steps`` steps of the ``optimiser`` (an optax one or a ``veil.Optimiser``, whose moving averages
    are what disagrees, without the noise of the last batches; Adam at 0.001 if None) up ``Bagging()``, the whole batch
    in each. The members' last weights begin ``apart`` times as large as they would, so that what is said where nothing
    was learned differs about as much as the steps do. ``GainBound`` is of the noise that is learned, which the head
    bounds from below: where nothing is random, that bound is what disagreement is measured by. Which steps a member
    learns from follows from their numbers: with units that still change, a step that comes again may go to other
    members.

    >>> step = Transition(jnp.ones(2), jnp.zeros(1), jnp.ones(2))
    >>> bonus = Disagreement(ensemble=DynamicsEnsemble(3, MLP((8,))))
    >>> state = bonus.init(step, jax.random.key(0))
    >>> value, _ = bonus(state, step.observation, step.action, step.following)
    >>> bool(value > 0)
    True
    """

    measure: Measure = GainBound()
    ensemble: DynamicsEnsemble = DynamicsEnsemble(
        members=5, trunk=MLP((64, 64), "silu"), head=BoundedGaussian(0.1, 1.0)
    )
    action: About = eqx.field(static=True, default=done)
    standard: Standard = Running()
    optimiser: Any = eqx.field(static=True, default=None)
    steps: int = eqx.field(static=True, default=1)
    apart: float = eqx.field(static=True, default=3.0)

    def __check_init__(self) -> None:
        if not isinstance(self.measure, Measure):
            raise TypeError(f"measure: expected one, such as GainBound(); got {self.measure!r}")
        positive("steps", self.steps)

    @property
    def _learner(self) -> Gradient:
        return Gradient(Bagging(), as_optimiser(adam(self.optimiser)))

    def init(self, example: Transition, key: PRNGKeyArray) -> Team:
        key_model, key = jax.random.split(key)
        seen, told = vector(example.observation), vector(self.action(example))
        # of mean 0 and deviation 1, as are the units
        signs = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        data = Datum(*(jnp.repeat(signs[:, :, None], size, 2) for size in (seen.size, told.size)))
        model = self.ensemble.initialise(data, None, key_model)
        model = eqx.tree_at(lambda each: each.outputs.weight, model, replace_fn=lambda weight: self.apart * weight)
        standards = self.standard.init(seen.size), self.standard.init(told.size)
        return Team(self._learner.init((model, Undecided()), data), *standards, key)

    def __call__(self, state: Team, observation: Any, action: Any, following: Any) -> tuple[Float[Array, ""], Team]:
        told = vector(self.action(Transition(observation, action, following)))
        seen = self.standard(state.seen, vector(observation))
        model, _ = self._learner.learned(state.learned)
        return self.measure(*model.predictions(seen, self.standard(state.told, told))), state

    def update(self, state: Team, batch: Transition) -> Team:
        before, after = jax.vmap(vector)(batch.observation), jax.vmap(vector)(batch.following)
        told = jax.vmap(lambda step: vector(self.action(step)))(batch)
        seen_units, told_units = self.standard.update(state.seen, after), self.standard.update(state.told, told)
        states = jax.vmap(jax.vmap(lambda each: self.standard(seen_units, each)))(jnp.stack([before, after], 1))
        actions = jax.vmap(lambda each: self.standard(told_units, each))(told)
        data = Datum(states, jnp.stack([jnp.zeros_like(actions), actions], 1))
        key_steps, key = jax.random.split(state.key)
        return Team(ascended(self._learner, state.learned, data, key_steps, self.steps), seen_units, told_units, key)
