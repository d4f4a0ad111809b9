"""Both ways between actors and agents with a ``predict`` as stable-baselines3 has it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key, PRNGKeyArray

from veil.control.actors import Actor, OnHost, act, begin, refuse_nan
from veil.control.collecting import shown
from veil.model import checks


class Predicting(OnHost):
    """An agent with ``predict(observation, state, episode_start, deterministic) -> (action, state)`` as an actor.

    That is what the agents of stable-baselines3 and sb3-contrib have, recurrent ones too: an expert for ``collect`` and
    ``dagger``. With ``deterministic=False`` it draws by its own generator, not by the keys it is given: seed that.

    >>> class Still:
    ...     def predict(self, observation, state=None, episode_start=None, deterministic=False):
    ...         return np.zeros(1), state
    >>> actor = Predicting(Still())
    >>> actor.act(actor.init(jax.random.key(0)), np.ones(3), jax.random.key(1))[0].tolist()
    [0.0]
    """

    agent: Any = eqx.field(static=True)
    deterministic: bool = eqx.field(static=True, default=True)

    def init(self, key: PRNGKeyArray) -> tuple[Any, bool]:
        """The agent's state, none yet, and that an episode starts."""
        return None, True

    def act(self, memory: tuple[Any, bool], observation: Any, key: PRNGKeyArray) -> tuple[Any, tuple[Any, bool]]:
        state, starts = memory
        action, state = self.agent.predict(
            observation, state=state, episode_start=np.array([starts]), deterministic=self.deterministic
        )
        return action, (state, False)


class Playing:
    """An actor with what it remembers, asked for one action after the other, as an agent of stable-baselines3 is.

    ``predict`` answers to the observation of one Gymnasium environment, or with ``environments=N`` to those of a vector
    of N, [N, ...], each of which has a memory of its own. Which actions come follows from ``key`` and the observations.

    >>> from veil import RandomActor
    >>> playing = Playing(RandomActor(jnp.zeros(2), jnp.ones(2)), jax.random.key(0), environments=3)
    >>> playing.predict(np.zeros((3, 5)))[0].shape
    (3, 2)
    """

    def __init__(self, actor: Any, key: PRNGKeyArray, environments: int | None = None) -> None:
        if not isinstance(actor, Actor):
            raise TypeError(f"actor: expected an actor, such as veil.Policy(fit); got {actor!r}")
        checks.random_key(key)
        if environments is not None:
            checks.whole("environments", environments)
        self.actor, self.environments = actor, environments
        self._key, self._episode, self._step, self._memory = key, 0, 0, None

    def reset(self) -> None:
        """New episodes begin in all environments."""
        self._memory = None

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """(actions, state): for what is seen now, as numpy arrays; the state is given back as it came.

        ``episode_start``: a bool, or [N] of them: where an episode starts at this observation, as one does after
        ``reset``. ``deterministic`` says nothing here: how an action is chosen is the actor's own (``choose``).
        """
        observation = shown(observation)
        refuse_nan(observation)
        starts = np.ones(1, bool)
        if self._memory is not None:
            starts = np.zeros(1, bool) if episode_start is None else np.ravel(np.asarray(episode_start, bool))
        action = self._many(observation, starts) if self.environments else self._one(observation, bool(starts.any()))
        return jax.tree.map(np.asarray, action), state

    def _one(self, observation: Any, starts: bool) -> Any:
        if starts:
            self._episode, self._step = self._episode + 1, 0
            self._memory = begin(self.actor, self._keys()[0])
        action, self._memory = act(self.actor, self._memory, observation, self._keys()[1], self._step)
        self._step += 1
        return action

    def _keys(self) -> Any:
        """Of the present episode: that of its beginning and that of its steps."""
        return jax.random.split(jax.random.fold_in(self._key, self._episode))

    def _many(self, observation: Any, starts: np.ndarray) -> Any:
        count = len(jax.tree.leaves(observation)[0])
        starts = np.broadcast_to(starts, (self.environments or 1,))
        if count != self.environments:
            raise ValueError(f"observation: expected those of {self.environments} environments; got {count}")
        if isinstance(self.actor, OnHost):
            raise TypeError(f"actor: a {type(self.actor).__name__} acts in one environment at a time")
        key = jax.random.fold_in(self._key, self._step)
        self._step += 1
        if self._memory is None:
            self._memory = _begun(self.actor, jax.random.split(key, count))
        action, self._memory = _acted(self.actor, self._memory, observation, key, jnp.asarray(starts))
        return action


@eqx.filter_jit
def _begun(actor: Actor, keys: Key[Array, " N"]) -> Any:
    return jax.vmap(actor.init)(keys)


@eqx.filter_jit
def _acted(actor: Actor, memory: Any, observation: Any, key: PRNGKeyArray, starts: Bool[Array, " N"]) -> Any:
    key_begin, key_act = jax.random.split(key)
    count = starts.shape[0]

    def chosen(new: Array, old: Array) -> Array:
        return jnp.where(starts.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    memory = jax.tree.map(chosen, jax.vmap(actor.init)(jax.random.split(key_begin, count)), memory)
    return jax.vmap(actor.act)(memory, observation, jax.random.split(key_act, count))
