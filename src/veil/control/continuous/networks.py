"""The two networks of an agent: critics, and a policy that is a model p(action | observation) like any other."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.model import Datum, Model
from veil.parts.experts import Linear
from veil.parts.heads import DiagonalGaussian
from veil.parts.heads import Squashed as SquashedHead
from veil.parts.nets import MLP, Dense
from veil.saved.registry import register
from veil.zoo.mixture import density


@register(name="veil.control.Critic")
class Critic(eqx.Module):
    """Q(o, a), a network, and beside it ``ended``, the value of having ended; in units of reward."""

    trunk: MLP
    last: Dense
    ended: Float[Array, ""]

    @staticmethod
    def initialise(trunk: MLP, inputs: int, key: PRNGKeyArray) -> "Critic":
        key_trunk, key_last = jax.random.split(key)
        trunk = trunk.initialise(inputs, key_trunk)
        return Critic(trunk, Dense.initialise(trunk.outputs(inputs), 1, key_last), jnp.zeros(()))

    def __call__(self, observation: Float[Array, " O"], action: Float[Array, " A"]) -> Float[Array, ""]:
        return self.last(self.trunk(jnp.concatenate([observation, action])))[0]


class Learnt(eqx.Module):
    """What gradients change: the policy, its critics, and log τ."""

    policy: Model
    critics: tuple[Critic, ...]
    log_temperature: Float[Array, ""]


def policy_like(
    observations: Float[Array, "N O"], actions: Float[Array, "N A"], trunk: MLP, key: PRNGKeyArray
) -> Model:
    """π(a | o) between -1 and 1, a normal squashed, that starts as wide as these actions are, whatever is observed."""
    blank = density(Linear(SquashedHead(head=DiagonalGaussian(), margin=1e-3)), trunk=trunk)
    inside = jnp.clip(actions, -0.998, 0.998)
    return blank.initialise(Datum(inside, observations), jnp.ones((len(actions), 1)), key)


def drawn(
    policy: Model, observation: Float[Array, " O"], key: PRNGKeyArray
) -> tuple[Float[Array, " A"], Float[Array, ""]]:
    """a ~ π(a | o), a differentiable function of the policy's parameters, and log π(a | o), nats.

    The density is that of the normal behind, from which the action is made: of the action itself, which rounds to an
    end, digits would be missing that gradients need (Haarnoja et al. 2018, appendix C).
    """
    squashed: Any = policy.likelihood(policy.prior(observation).sample(key), observation)
    inside = squashed.base.sample(key)
    slopes = jnp.log(squashed.high - squashed.low) + jax.nn.log_sigmoid(inside) + jax.nn.log_sigmoid(-inside)
    action = squashed.low + (squashed.high - squashed.low) * jax.nn.sigmoid(inside)
    return action, squashed.base.log_prob(inside) - jnp.sum(slopes)
