"""One step of learning: the model from windows of what was seen, and a behaviour in what the model imagines."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.agent.behaviour import Behaviour
from veil.control.agent.models import TERMINATED
from veil.control.agent.novelty import Novelty
from veil.control.agent.replay import numbers
from veil.control.imagined import Imagined, Outcomes
from veil.learning.trainer import Trainer, TrainerState
from veil.model import Datum
from veil.model.chains import without_memory
from veil.model.datum import frozen
from veil.model.stepwise import same_types, where
from veil.units import in_user_units


class AgentState(eqx.Module):
    """All that an agent carries from step to step: what a checkpoint holds."""

    trained: TrainerState
    learned: Any
    new: Any = None  # what a bonus has learned


class Curriculum:
    """What stays the same in all steps: who trains the model, who learns in it, and the problem that they have."""

    def __init__(
        self,
        trainer: Trainer,
        behaviour: Behaviour,
        outcomes: Outcomes,
        discount: float,
        low: Any,
        high: Any,
        novelty: Novelty | None = None,
        remembers: bool = False,
    ) -> None:
        self.trainer, self.behaviour, self.outcomes = trainer, behaviour, outcomes
        self.novelty, self.remembers = novelty, remembers
        self._rest = low, high, discount
        self.step = jax.jit(self._step)
        self.told = jax.jit(self._told)

    def problem(self, model: Any) -> Imagined:
        """What is imagined with a model in the user's units."""
        return Imagined(model, self.outcomes, *self._rest)

    def start(self, data: Any, key: PRNGKeyArray) -> AgentState:
        """The state before the first step, from some data."""
        key_model, key_behaviour = jax.random.split(key)
        trained = self.trainer.start(data, key_model)
        model = trained.learned.model
        nothing = None if data.evidence is None else jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[2:]), data.evidence)
        state = jax.tree.map(jnp.asarray, model.carry(nothing))
        problem = self.problem(in_user_units(model, self.trainer.units))
        new = None if self.novelty is None else self.novelty.start(data, jax.random.fold_in(key, 1))
        return AgentState(trained, self.behaviour.start(problem, state, key_behaviour), new)

    def begin(self, state: AgentState) -> Any:
        """What is known before an episode, for a replay that remembers; None for one that does not."""
        learned = state.trained.learned
        return learned.posterior.begin(learned.model) if self.remembers else None

    def _step(
        self, state: AgentState, raw: Datum, before: Any, key: PRNGKeyArray
    ) -> tuple[AgentState, dict[str, Any], Any]:
        """One step on a batch of windows as a replay has them, and queries ``before`` them, where there is a bonus;

        what may be looked at; and what is known after each of their steps, leaves [B, T, ...], for a replay that
        remembers.
        """
        key_states, key_behaviour = jax.random.split(key)
        batch = numbers(raw)
        if self.novelty is not None:
            batch = self.novelty.added(state.new, batch, numbers(before))
        trained, seen = self.trainer.step(state.trained, batch)
        model, posterior = frozen((trained.learned.model, trained.learned.posterior))
        standard = jax.vmap(self.trainer.units.standard)(batch)
        keys = jax.random.split(key_states, len(batch))
        found, known = jax.vmap(lambda datum, key: self._known(model, posterior, datum, key))(standard, keys)
        states = jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:]), found)
        problem = self.problem(in_user_units(model, self.trainer.units))
        learned, more = self.behaviour.step(state.learned, problem, states, going(batch), key_behaviour)
        info = {"value": seen.value, "skipped": seen.skipped, **seen.metrics, **more}
        return AgentState(trained, learned, state.new), info, known

    def _told(self, state: AgentState, before: Any, after: Datum) -> AgentState:
        """The bonus has learned from steps more."""
        assert self.novelty is not None
        return replace(state, new=self.novelty.told(state.new, numbers(before), numbers(after)))

    def _known(self, model: Any, posterior: Any, datum: Datum, key: PRNGKeyArray) -> tuple[Any, Any]:
        """States of the model after every step of a sequence, and of one who remembers the beliefs there."""
        if not self.remembers:
            return inferred(model, posterior, datum, key), None
        path = posterior(model, datum).sample(key)
        known = jax.vmap(lambda step: posterior.after(model, datum, path, step))(jnp.arange(len(datum)))
        filter = posterior.filter(model)
        return jax.vmap(lambda belief: filter.draw(belief, key))(known), known


def going(batch: Datum) -> Float[Array, " N"]:
    """Of every step of a batch [B, T, ...], in a row, whether something is behind it: 0 where an episode ended."""
    steps = jax.tree.leaves(batch.query)[0].shape[:2]
    if not isinstance(batch.query, dict) or TERMINATED not in batch.query:
        return jnp.ones(steps[0] * steps[1])
    return 1.0 - batch.query[TERMINATED].reshape(steps[0] * steps[1])


def inferred(model: Any, posterior: Any, datum: Datum, key: PRNGKeyArray) -> Any:
    """States of the model (carries) after every step of a sequence [T, ...], drawn from the posterior."""
    path = posterior(model, datum).sample(key)
    begin = jax.tree.map(jnp.asarray, model.carry(datum.evidence))

    def again(carry: Any, now: tuple[Any, ...]) -> tuple[Any, Any]:
        latent, step, start, real = now
        before = where(start, begin, carry)
        after = same_types(model.advance(before, latent, step.query, step.evidence, step.observed), before)
        after = where(real, after, carry)
        return after, after

    steps = without_memory(path), datum.each_step(), datum.starts, datum.there
    return jax.lax.scan(again, begin, steps)[1]
