"""What an actor-critic in imagination learns: a policy and a critic, networks of what is seen of a model's state."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.control.imagination.actions import Actions, Decision
from veil.model.chains import State
from veil.parts.heads import Head, TwoHot
from veil.parts.nets import Dense
from veil.saved.registry import register

SMALL = 0.01  # of a last layer's weights at first: a policy as wide as it may be, and values that are alike


@register(name="veil.control.Flattened")
class Flattened(eqx.Module):
    """What networks see of a state (a carry of the model): memory and latent of a ``State``, of others all numbers."""

    def __call__(self, state: Any) -> Float[Array, " F"]:
        seen = (state.memory, state.latent, state.seen) if isinstance(state, State) else state
        leaves = [jnp.ravel(leaf).astype(jnp.result_type(float)) for leaf in jax.tree.leaves(seen)]
        return jnp.concatenate(leaves)


@register(name="veil.control.Net")
class Net(eqx.Module):
    """A trunk and a linear layer."""

    trunk: Any
    last: Dense

    @staticmethod
    def initialise(trunk: Any, inputs: int, start: Float[Array, " out"], key: PRNGKeyArray) -> "Net":
        """It says nearly ``start``, whatever it sees."""
        key_trunk, key_last = jax.random.split(key)
        trunk = trunk.initialise(inputs, key_trunk)
        last = Dense.initialise(trunk.outputs(inputs), len(start), key_last)
        return Net(trunk, Dense(SMALL * last.weight, start))

    def __call__(self, seen: Float[Array, " F"]) -> Float[Array, " out"]:
        return self.last(self.trunk(seen))


class Learnt(eqx.Module):
    """What is learned: the networks of π(a | s) and of V(s), and log τ."""

    actor: Net
    critic: Net
    log_temperature: Float[Array, ""]


@register(name="veil.control.StatePolicy")
class StatePolicy(eqx.Module):
    """π(a | s) of a model's state (a carry): called as ``policy(state, key)``, it draws, as ``FilteringActor`` wants.

    ``settled``: it does what is central instead (``replace(policy, settled=True)``), and no key matters.
    """

    net: Any
    actions: Actions
    features: Callable[[Any], Float[Array, " F"]]
    settled: bool = eqx.field(static=True, default=False)

    def decision(self, state: Any) -> Decision:
        """π(a | s)."""
        return self.actions.decision(self.net(self.features(state)))

    def __call__(self, state: Any, key: PRNGKeyArray) -> Float[Array, " U"]:
        found = self.decision(state)
        return found.central() if self.settled else found.sample(key)


@register(name="veil.control.StateValue")
class StateValue(eqx.Module):
    """V(s) of a model's state (a carry), in units of reward: the ``value`` of an ``Imagined`` problem, for planners."""

    net: Any
    head: Head
    features: Callable[[Any], Float[Array, " F"]]

    def __call__(self, state: Any) -> Float[Array, ""]:
        return expected(self.head, self.net(self.features(state)))


def first_values(head: Head) -> Float[Array, " P"]:
    """The numbers of returns about zero, of which one is usual; of bins the rarer the larger they are, but none rare.

    A return of any size is then soon learned, and no bin so large that its noise would drown the mean.
    """
    if isinstance(head, TwoHot):
        return -jnp.log1p(jnp.abs(jnp.asarray(head.grid, jnp.result_type(float))))
    both = [head.features(jnp.asarray(value, float), None) for value in (-1.0, 1.0)]
    return head.from_sums(sum(both[1:], both[0]))


def expected(head: Head, vector: Float[Array, " P"]) -> Float[Array, ""]:
    """The mean of a critic's head."""
    return distributions.moments(head(vector, ()))[0]


def scored(head: Head, vector: Float[Array, " P"], value: Float[Array, ""]) -> Float[Array, ""]:
    """log p of a return under a critic's head, nats; of bins what is beyond their ends counts as there."""
    if isinstance(head, TwoHot):
        value = jnp.clip(value, float(head.grid[0]), float(head.grid[-1]))
    return head(vector, ()).log_prob(value)
