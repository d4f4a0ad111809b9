"""The two networks of an agent: critics, and a policy that is a model p(action | observation) like any other."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.continuous.transitions import Transitions
from veil.model import Datum, Model
from veil.parts.experts import Linear
from veil.parts.heads import DiagonalGaussian
from veil.parts.heads import Squashed as SquashedHead
from veil.parts.nets import MLP, Dense
from veil.saved.registry import register
from veil.zoo.mixture import density

INSET = 2e-3


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


@register(name="veil.control.Judge")
class Judge(eqx.Module):
    """f = g(o, a) + γ h(o') - h(o), in nats, and ``ended``, the reward of having ended, where h is 0."""

    reward: MLP
    reward_last: Dense
    shaping: MLP
    shaping_last: Dense
    ended: Float[Array, ""]
    acts: bool = eqx.field(static=True)  # whether g sees actions

    @staticmethod
    def initialise(trunk: MLP, observations: int, actions: int, key: PRNGKeyArray) -> "Judge":
        """Without ``actions`` g is of observations only."""
        keys, sizes = jax.random.split(key, 4), (observations + actions, observations)
        reward, shaping = (trunk.initialise(size, each) for size, each in zip(sizes, keys[:2], strict=True))
        wide = trunk.outputs(observations)
        lasts = [Dense.initialise(wide, 1, each) for each in keys[2:]]
        return Judge(reward, lasts[0], shaping, lasts[1], jnp.zeros(()), actions > 0)

    def rewarded(self, observation: Float[Array, " O"], action: Float[Array, " A"]) -> Float[Array, ""]:
        """g(o, a), nats."""
        seen = jnp.concatenate([observation, action]) if self.acts else observation
        return self.reward_last(self.reward(seen))[0]

    def scores(self, batch: Transitions, discount: float) -> Float[Array, " N"]:
        """f of transitions, nats."""
        shape = jax.vmap(lambda seen: self.shaping_last(self.shaping(seen))[0])
        after = jnp.where(batch.terminated, 0.0, shape(batch.following))
        return jax.vmap(self.rewarded)(batch.observation, batch.action) + discount * after - shape(batch.observation)


class Learnt(eqx.Module):
    """What is learned: the policy, its critics, log τ, and the judge of an adversarial reward, if there is one."""

    policy: Model
    critics: tuple[Critic, ...]
    log_temperature: Float[Array, ""]
    judge: Judge | None = None


def policy_like(
    observations: Float[Array, "N O"], actions: Float[Array, "N A"], trunk: MLP, key: PRNGKeyArray
) -> Model:
    """π(a | o) between -1 and 1, a normal squashed, that starts as wide as these actions are, whatever is observed."""
    blank = density(Linear(SquashedHead(head=DiagonalGaussian())), trunk=trunk)
    return blank.initialise(Datum(_inside(actions), observations), jnp.ones((len(actions), 1)), key)


def _inside(actions: Float[Array, "*N A"]) -> Float[Array, "*N A"]:
    """Actions at the ends, and next to them, as those a thousandth of the width inside, where they have a density."""
    return jnp.clip(actions, -1.0 + INSET, 1.0 - INSET)


def log_density(policy: Model, observation: Float[Array, " O"], action: Float[Array, " A"]) -> Float[Array, ""]:
    """log π(a | o), nats, of an action that was taken."""
    latent = policy.prior(observation).sample(jax.random.key(0))  # of one expert: there is none
    return policy.likelihood(latent, observation).log_prob(_inside(action))


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
