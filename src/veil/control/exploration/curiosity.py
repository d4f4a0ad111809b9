"""Prediction errors: of what a step leads to, and of those features of it that tell what was done (ICM)."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.exploration.bonus import About, Bonus, Transition, left
from veil.control.exploration.learning import Descending, Network, adam, descended, descending
from veil.control.exploration.standards import Running, Standard, vector
from veil.parts.nets import MLP, positive


class Actions(eqx.Module):
    """What an action is to a network: a vector, and how far off another one's guess of it is."""

    @abstractmethod
    def vector(self, action: Any) -> Float[Array, " U"]:
        """What a network sees of it."""

    @abstractmethod
    def loss(self, guess: Float[Array, " U"], action: Any) -> Float[Array, ""]:
        """How far off a network's numbers are."""


class Discrete(Actions):
    """One of ``count``, a whole number from 0: one number for each, and the loss is -log p(u) of a softmax, nats."""

    count: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        positive("count", self.count)

    def vector(self, action: Any) -> Float[Array, " U"]:
        return jax.nn.one_hot(jnp.ravel(action)[0], self.count, dtype=float)

    def loss(self, guess: Float[Array, " U"], action: Any) -> Float[Array, ""]:
        return -jnp.sum(jax.nn.log_softmax(guess) * self.vector(action))


class Continuous(Actions):
    """Real numbers, as they are; the loss is half the squared distance."""

    def vector(self, action: Any) -> Float[Array, " U"]:
        return vector(action)

    def loss(self, guess: Float[Array, " U"], action: Any) -> Float[Array, ""]:
        return 0.5 * jnp.sum((guess - self.vector(action)) ** 2)


class Minds(eqx.Module):
    """φ(o); from φ(o) and φ(o') what was done; from φ(o) and u the next φ."""

    features: Network
    inverse: Network
    forward: Network


class Curious(eqx.Module):
    """What has been learned, and the units of observations."""

    learned: Descending
    seen: Any


class Curiosity(Bonus):
    """½ |φ̂ - φ(o')|², φ̂ what a network predicts from φ(o) and u: the intrinsic curiosity module. No nats.

    The features φ, ``size`` of them, are those by which another network tells u from φ(o) and φ(o'). All three learn
    together: ``update`` takes ``steps`` steps of the ``optimiser`` (an optax one; Adam at 0.001 if None) down the mean
    over the batch of (1 - β) L_inverse + β ½ |φ̂ - φ(o')|², ``weight`` β. ``actions``: ``Continuous()`` or
    ``Discrete(count)``. Observations are in the units of ``standard``, by default of all that were learned from.

    Pathak et al. 2017, "Curiosity-driven exploration by self-supervised prediction", eqs. 2-7, with η = 1.

    >>> step = Transition(jnp.zeros(2), jnp.array(1), jnp.ones(2))
    >>> bonus = Curiosity(Discrete(3), size=4)
    >>> state = bonus.init(step, jax.random.key(0))
    >>> value, _ = bonus(state, step.observation, step.action, step.following)
    >>> bool(value > 0)
    True
    """

    actions: Actions = Continuous()
    size: int = eqx.field(static=True, default=32)
    net: Any = MLP((64,), "elu")
    weight: float = eqx.field(static=True, default=0.2)
    standard: Standard = Running()
    optimiser: Any = eqx.field(static=True, default=None)
    steps: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        if not isinstance(self.actions, Actions):
            raise TypeError(f"actions: expected Continuous() or Discrete(count); got {self.actions!r}")
        positive("size", self.size)
        positive("steps", self.steps)
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight: expected a share from 0 to 1; got {self.weight!r}")

    def init(self, example: Transition, key: PRNGKeyArray) -> Curious:
        seen, done = vector(example.observation).size, self.actions.vector(example.action).size
        sizes = (seen, self.size), (2 * self.size, done), (self.size + done, self.size)
        each = zip(sizes, jax.random.split(key, 3), strict=True)
        minds = Minds(*(Network.initialise(self.net, *size, key) for size, key in each))
        return Curious(descending(minds, adam(self.optimiser)), self.standard.init(seen))

    def _losses(self, minds: Minds, units: Any, step: Transition) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """L_inverse and ½ |φ̂ - φ(o')|²."""
        before, after = (
            minds.features(self.standard(units, vector(each))) for each in (step.observation, step.following)
        )
        guess = minds.inverse(jnp.concatenate([before, after]))
        ahead = minds.forward(jnp.concatenate([before, self.actions.vector(step.action)]))
        return self.actions.loss(guess, step.action), 0.5 * jnp.sum((ahead - after) ** 2)

    def __call__(
        self, state: Curious, observation: Any, action: Any, following: Any
    ) -> tuple[Float[Array, ""], Curious]:
        step = Transition(observation, action, following)
        return self._losses(state.learned.networks, state.seen, step)[1], state

    def update(self, state: Curious, batch: Transition) -> Curious:
        units = self.standard.update(state.seen, jax.vmap(vector)(batch.following))

        def loss(minds: Minds) -> Float[Array, ""]:
            inverse, forward = jax.vmap(lambda step: self._losses(minds, units, step))(batch)
            return jnp.mean((1.0 - self.weight) * inverse + self.weight * forward)

        return Curious(descended(state.learned, adam(self.optimiser), loss, self.steps), units)


class Guessing(eqx.Module):
    """What has been learned, and the units of what it sees and what it predicts."""

    learned: Descending
    seen: Any
    told: Any


class PredictionError(Bonus):
    """1/D Σ_d (f_d(o, u) - o'_d)², f a network that learns to predict o' (D numbers), all standardised. No nats.

    What cannot be predicted keeps it for ever: it is here to be compared with. ``inputs``: what f sees of a step, not
    ``following``. ``update`` takes ``steps`` steps of the ``optimiser`` (an optax one; Adam at 0.001 if None) down the
    mean over the batch. Schmidhuber 1991, "A possibility for implementing curiosity and boredom in model-building
    neural controllers".

    >>> step = Transition(jnp.zeros(2), jnp.zeros(1), jnp.ones(2))
    >>> bonus = PredictionError(MLP((8,)))
    >>> state = bonus.init(step, jax.random.key(0))
    >>> value, _ = bonus(state, step.observation, step.action, step.following)
    >>> bool(value > 0)
    True
    """

    net: Any = MLP((64, 64), "silu")
    inputs: About = eqx.field(static=True, default=left)
    standard: Standard = Running()
    optimiser: Any = eqx.field(static=True, default=None)
    steps: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        positive("steps", self.steps)

    def init(self, example: Transition, key: PRNGKeyArray) -> Guessing:
        sizes = vector(self.inputs(example)).size, vector(example.following).size
        network = Network.initialise(self.net, *sizes, key)
        return Guessing(descending(network, adam(self.optimiser)), *map(self.standard.init, sizes))

    def _error(self, network: Network, seen: Any, told: Any, step: Transition) -> Float[Array, ""]:
        guess = network(self.standard(seen, vector(self.inputs(step))))
        return jnp.mean((guess - self.standard(told, vector(step.following))) ** 2)

    def __call__(
        self, state: Guessing, observation: Any, action: Any, following: Any
    ) -> tuple[Float[Array, ""], Guessing]:
        step = Transition(observation, action, following)
        return self._error(state.learned.networks, state.seen, state.told, step), state

    def update(self, state: Guessing, batch: Transition) -> Guessing:
        seen = self.standard.update(state.seen, jax.vmap(lambda step: vector(self.inputs(step)))(batch))
        told = self.standard.update(state.told, jax.vmap(vector)(batch.following))

        def loss(network: Network) -> Float[Array, ""]:
            return jnp.mean(jax.vmap(lambda step: self._error(network, seen, told, step))(batch))

        return Guessing(descended(state.learned, adam(self.optimiser), loss, self.steps), seen, told)
