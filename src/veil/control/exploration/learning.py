"""How bonuses learn: a network with a linear layer behind it, and some steps of an optimiser, all of it pure."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from veil.learning.gradient import Gradient, GradientState, trainable
from veil.model import Datum
from veil.parts.nets import Dense


def adam(transform: Any, rate: float = 1e-3) -> Any:
    """An optax optimiser; Adam at ``rate`` if None."""
    import optax

    return optax.adam(rate) if transform is None else transform


class Network(eqx.Module):
    """W net(x) + b."""

    net: Any
    output: Dense

    @staticmethod
    def initialise(net: Any, inputs: int, outputs: int, key: PRNGKeyArray) -> "Network":
        """Random weights, for vectors of so many numbers, of a network without parameters."""
        key_net, key_output = jax.random.split(key)
        return Network(net.initialise(inputs, key_net), Dense.initialise(net.outputs(inputs), outputs, key_output))

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        return self.output(self.net(x))


class Descending(eqx.Module):
    """Networks as they are now, and the optimiser's own state."""

    networks: Any
    optimiser: Any


def descending(networks: Any, transform: Any) -> Descending:
    """Before the first step."""
    return Descending(networks, transform.init(trainable(networks)))


def descended(state: Descending, transform: Any, loss: Callable[[Any], Float[Array, ""]], steps: int = 1) -> Descending:
    """After some steps down ``loss(networks)``."""

    def one(state: Descending, _: None) -> tuple[Descending, None]:
        parameters = trainable(state.networks)
        slope = jax.grad(lambda parameters: loss(eqx.combine(parameters, state.networks)))(parameters)
        change, optimiser = transform.update(slope, state.optimiser, parameters)
        return Descending(eqx.apply_updates(state.networks, change), optimiser), None

    return jax.lax.scan(one, state, length=steps)[0]


def ascended(learner: Gradient, state: GradientState, batch: Datum, key: PRNGKeyArray, steps: int) -> GradientState:
    """After some steps of a learner up its objective, each on the whole batch."""

    def one(state: GradientState, key: PRNGKeyArray) -> tuple[GradientState, None]:
        sums = learner.accumulate(state, batch, key)
        return learner.update(state, sums, sums.weight)[0], None

    return jax.lax.scan(one, state, jax.random.split(key, steps))[0]
