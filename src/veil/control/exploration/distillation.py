"""Random network distillation: what was seen seldom is what a network has not learned to imitate another on."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.exploration.bonus import About, Bonus, Transition, arrived
from veil.control.exploration.learning import Descending, Network, adam, descended, descending
from veil.control.exploration.standards import Running, Standard, vector
from veil.parts.nets import MLP, positive

LIMIT = 5.0  # of the standardised numbers


class Distilled(eqx.Module):
    """The random ``target``, which never changes, what imitates it, and the units of what both see."""

    target: Network
    learned: Descending
    seen: Any


class RandomNetworkDistillation(Bonus):
    """1/D Σ_d (f_d(x) - g_d(x))², f a random network of D ``outputs``, g one that learns to say the same. No nats.

    x is what the step is ``about``, o' by default, standardised by all that was learned from and cut at ±5. ``update``
    takes ``steps`` steps of the ``optimiser`` (an optax one; Adam at 0.0001 if None) down the mean of this over the
    batch, in which all steps count (Burda et al. leave out a random part of them). It falls where g was trained,
    and as a prediction error has no noise in its target; but it says nothing of what a model could learn.

    Burda et al. 2019, "Exploration by random network distillation", section 2.2, their convolutions by ``net``, g by
    ``student``, which is deeper there, too.

    >>> step = Transition(jnp.zeros(2), jnp.zeros(1), jnp.ones(2))
    >>> bonus = RandomNetworkDistillation(MLP((8,)), MLP((8,)), outputs=4)
    >>> state = bonus.init(step, jax.random.key(0))
    >>> value, _ = bonus(state, step.observation, step.action, step.following)
    >>> bool(value > 0)
    True
    """

    net: Any = MLP((64, 64), "relu")
    student: Any = MLP((64, 64, 64), "relu")
    outputs: int = eqx.field(static=True, default=64)
    about: About = eqx.field(static=True, default=arrived)
    standard: Standard = Running()
    optimiser: Any = eqx.field(static=True, default=None)
    steps: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        positive("outputs", self.outputs)
        positive("steps", self.steps)

    def init(self, example: Transition, key: PRNGKeyArray) -> Distilled:
        size = vector(self.about(example)).size
        nets = zip((self.net, self.student), jax.random.split(key), strict=True)
        target, learned = (Network.initialise(net, size, self.outputs, key) for net, key in nets)
        return Distilled(target, descending(learned, adam(self.optimiser, 1e-4)), self.standard.init(size))

    def _seen(self, units: Any, x: Float[Array, " in"]) -> Float[Array, " in"]:
        return jnp.clip(self.standard(units, x), -LIMIT, LIMIT)

    def __call__(
        self, state: Distilled, observation: Any, action: Any, following: Any
    ) -> tuple[Float[Array, ""], Distilled]:
        seen = self._seen(state.seen, vector(self.about(Transition(observation, action, following))))
        return jnp.mean((state.target(seen) - state.learned.networks(seen)) ** 2), state

    def update(self, state: Distilled, batch: Transition) -> Distilled:
        x = jax.vmap(lambda step: vector(self.about(step)))(batch)
        units = self.standard.update(state.seen, x)
        seen = jax.vmap(lambda each: self._seen(units, each))(x)
        wanted = jax.vmap(state.target)(seen)

        def loss(student: Network) -> Float[Array, ""]:
            return jnp.mean((wanted - jax.vmap(student)(seen)) ** 2)

        learned = descended(state.learned, adam(self.optimiser, 1e-4), loss, self.steps)
        return Distilled(state.target, learned, units)
