"""What a policy meets in imagination, laid out for learning."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.imagination.networks import StatePolicy
from veil.control.imagined import Imagined
from veil.maths.returns import lambda_returns, reached


class Dream(eqx.Module):
    """Futures of a batch, H steps each: what is seen of states s_0..s_H, actions, rewards, chances of going on.

    ``weight`` w_h: what a step counts for, its start's weight times Π γ c of the steps before it.
    """

    seen: Float[Array, "B T F"]  # T = H + 1
    action: Float[Array, "B H U"]
    reward: Float[Array, "B H"]
    going: Float[Array, "B H"]
    weight: Float[Array, "B H"]

    def returns(self, values: Float[Array, "B T"], discount: float, mixing: float) -> Float[Array, "B H"]:
        """λ-returns, given V of s_0..s_H."""
        each = jax.vmap(lambda reward, going, following: lambda_returns(reward, going, following, discount, mixing))
        return each(self.reward, self.going, values[:, 1:])


def dreamt(
    problem: Imagined,
    policy: StatePolicy,
    states: Any,
    horizon: int,
    discount: float,
    weight: Float[Array, " B"] | None,
    key: PRNGKeyArray,
) -> Dream:
    """The futures of a batch of states (carries) under a policy, by the model alone."""
    count = jax.tree.leaves(states)[0].shape[0]

    def one(state: Any, key: PRNGKeyArray) -> tuple[Array, ...]:
        steps, outcome = problem.future(state, policy, horizon, key)
        seen = jax.vmap(policy.features)(steps.before)
        last = policy.features(jax.tree.map(lambda leaf: leaf[-1], steps.after))
        return jnp.concatenate([seen, last[None]]), steps.evidence, outcome.reward, outcome.going

    seen, action, reward, going = jax.vmap(one)(states, jax.random.split(key, count))
    counts = jax.vmap(lambda each: reached(each, discount))(jax.lax.stop_gradient(going))
    counts = counts if weight is None else weight[:, None] * counts
    return Dream(seen, action, reward, going, counts)
