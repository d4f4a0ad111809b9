"""Actors: what an environment talks to. All of it is pure, so it jits, vmaps over environments and exports."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil.data.recorded.views import View
from veil.learning.result import Fit
from veil.model import Datum
from veil.model.batching import on_device
from veil.model.filter import Filter
from veil.posterior import Online
from veil.posterior.arguments import parts


class Actor(eqx.Module):
    """What an environment talks to, one episode at a time: ``jax.vmap`` both methods over environments.

    Observations must be numbers: one with NaN is refused, and under ``jit``, where nothing can be, its action is NaN.
    """

    # itself, whatever it holds, so that jax.jit(actor.act) works
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    @abstractmethod
    def init(self, key: PRNGKeyArray) -> Any:
        """An episode begins: the memory, with whatever is drawn for the whole of it."""

    @abstractmethod
    def act(self, memory: Any, observation: Any, key: PRNGKeyArray) -> tuple[Any, Any]:
        """(action, memory) for what is seen now: one observation, an array or a tree."""


class OnHost(Actor):
    """It is not pure: it asks something outside JAX. It is called as it is, in one environment, never under jit."""


class Taught(OnHost):
    """Somebody says at each observation what to do there: `collect` keeps that as the action, and beside it as "played"

    what was done, and as "expert" whether that was the expert's doing.
    """

    @abstractmethod
    def lesson(self, memory: Any) -> tuple[Any, bool]:
        """(what to do, whether the expert did it) at the observation of the last `act`."""


@eqx.filter_jit
def _begun(actor: Actor, key: PRNGKeyArray) -> Any:
    return actor.init(key)


@eqx.filter_jit
def _acted(actor: Actor, memory: Any, observation: Any, key: PRNGKeyArray, step: Any) -> tuple[Any, Any]:
    return actor.act(memory, observation, jax.random.fold_in(key, step))


def begin(actor: Actor, key: PRNGKeyArray) -> Any:
    """The memory of an actor as an episode begins; compiled where that can be."""
    return actor.init(key) if isinstance(actor, OnHost) else _begun(actor, key)


def act(actor: Actor, memory: Any, observation: Any, key: PRNGKeyArray, step: int) -> tuple[Any, Any]:
    """(action, memory) at a step of an episode, by its own key; compiled where that can be."""
    if isinstance(actor, OnHost):
        return actor.act(memory, observation, jax.random.fold_in(key, np.uint32(step)))
    return _acted(actor, memory, observation, key, np.uint32(step))


def refuse_nan(observation: Any) -> None:
    """Raise ValueError for an observation that is not finite, where its numbers are there (not under ``jit``)."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(observation):
        if not isinstance(leaf, jax.core.Tracer) and not np.all(np.isfinite(np.asarray(leaf))):
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"observation: expected finite numbers; got {np.asarray(leaf)!s:.200}{where and f' at {where}'}"
            )


def clipped(action: Any, low: Any, high: Any) -> Any:
    """An action of the environment within its limits, if there are any; what is no real number stays as it is."""
    if low is None and high is None:
        return action
    real = lambda leaf: jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)  # noqa: E731
    return jax.tree.map(lambda leaf: jnp.clip(leaf, low, high) if real(leaf) else leaf, action)


def or_nan(action: Any, observation: Any) -> Any:
    """The action of an observation that is finite, else NaN."""
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(observation)]))
    real = lambda leaf: jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)  # noqa: E731
    return jax.tree.map(lambda leaf: jnp.where(finite, leaf, jnp.nan) if real(leaf) else leaf, action)


class Noise(eqx.Module):
    """What is added to actions to explore: N(0, spread²), cut at ``low`` and ``high``, in the model's numbers.

    ``spread``: a number, or one for each entry of an action.
    """

    spread: Any
    low: Any = None
    high: Any = None

    def __call__(self, action: Any, key: PRNGKeyArray) -> Any:
        """An action with noise."""
        return clipped(action + self.spread * jax.random.normal(key, jnp.shape(action)), self.low, self.high)


class Knowing(eqx.Module):
    """The memory of a ``FilteringActor``: its belief, and the last action as it was done (zero before the first)."""

    belief: Any
    action: Any


class FilteringActor(Actor):
    """It filters with a model of sequences, as it acts: ``policy(state, key)`` chooses from a state of the belief.

    The model's query is the observation, its evidence the action that led to it, at the first step ``nothing`` (an
    action of zeros, usually), which says of what shape it is: no model reads it. What it knows is what the batch
    posterior says of the same steps. Of a ``Fit`` to a recording's data observations and actions are the environment's
    own (its ``view`` translates), and ``policy`` chooses among the numbers of the model's evidence. ``noise`` is added
    to the policy's actions, as in collecting data; what is remembered is what was done.
    """

    filter: Filter
    policy: Callable[[Any, PRNGKeyArray], Any]
    nothing: Any
    view: View | None = eqx.field(static=True, default=None)
    noise: Noise | None = None

    @staticmethod
    def of(
        model: Any,
        policy: Callable[[Any, PRNGKeyArray], Any],
        nothing: Any = None,
        posterior: Any = None,
        noise: Noise | None = None,
    ) -> Any:
        """From a ``Fit``, or a model and its posterior. Raises TypeError, ValueError for one that cannot filter."""
        from veil.posterior.choice import chosen

        view = model.view if isinstance(model, Fit) else None
        if view is not None:
            view.check_acting(memory=True)
            nothing = view.nothing() if nothing is None else nothing
        if nothing is None:
            raise ValueError("nothing: expected the action before the first one, such as jnp.zeros(2); got none")
        model, posterior = parts(model, posterior)
        used = chosen(model, posterior, filtering=True)
        if not isinstance(used, Online):
            raise TypeError(
                f"posterior: {type(used).__name__} sees whole sequences and cannot filter; fit one that sees the past, "
                "veil.Sequential(sees=veil.posterior.Past()), or give veil.Bootstrap()"
            )
        return FilteringActor(used.filter(model), policy, on_device(nothing), view, noise)

    def init(self, key: PRNGKeyArray) -> Knowing:
        return Knowing(self.filter.init(), self.nothing)

    def act(self, memory: Knowing, observation: Any, key: PRNGKeyArray) -> tuple[Any, Knowing]:
        key_filter, key_state, key_action, key_noise = jax.random.split(key, 4)
        belief, seen = self.updated(memory, observation, key_filter)
        chosen = self.policy(self.filter.draw(belief, key_state), key_action)
        action, done = self.done(chosen, seen, key_noise)
        return action, Knowing(belief, done)

    def done(self, chosen: Any, seen: Any, key: PRNGKeyArray) -> tuple[Any, Any]:
        """What is done of what was chosen: the environment's action, and the same as the model will be told of it."""
        if self.noise is not None:
            chosen = self.noise(chosen, key)
        done = or_nan(chosen, seen)
        return done if self.view is None else self.view.action(done, jnp), done

    def updated(self, memory: Any, observation: Any, key: PRNGKeyArray) -> tuple[Any, Any]:
        """The belief after an observation, which the ``action`` of the memory led to, and what of it the model sees."""
        refuse_nan(observation)
        query, observed = (observation, None) if self.view is None else self.view.seen(observation, jnp)
        datum = Datum(on_device(query), memory.action, observed=jax.tree.map(jnp.asarray, observed))
        return self.filter.update(memory.belief, datum, key), datum.query


class RandomActor(Actor):
    """Uniform actions between ``low`` and ``high``, arrays of an action's shape."""

    low: Float[Array, "*action"]
    high: Float[Array, "*action"]

    def init(self, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def act(self, memory: tuple[()], observation: Any, key: PRNGKeyArray) -> tuple[Array, tuple[()]]:
        return jax.random.uniform(key, jnp.shape(self.low), minval=self.low, maxval=self.high), ()


class ScriptedActor(Actor):
    """``script(observation, key)`` is the action: a demonstrator that says what it is."""

    script: Callable[[Any, PRNGKeyArray], Any]

    def init(self, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def act(self, memory: tuple[()], observation: Any, key: PRNGKeyArray) -> tuple[Any, tuple[()]]:
        return self.script(observation, key), ()
