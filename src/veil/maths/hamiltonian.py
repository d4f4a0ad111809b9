"""Hamiltonian Monte Carlo: one transition that leaves a density unchanged."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def transition(
    log_density: Callable[[Any], tuple[Any, Any]],
    position: Float[Array, "*event"],
    key: PRNGKeyArray,
    step: Float[Array, ""],
    leaps: int,
    scale: Float[Array, "*event"],
) -> tuple[Float[Array, "*event"], Any, Float[Array, ""]]:
    """The next position, whatever ``log_density`` returns beside the log-density there, and the chance to be accepted.

    Momentum is drawn afresh, ``leaps`` leapfrog steps of size ``step`` · ``scale`` follow, and Metropolis' rule
    corrects their error (Neal 2011, section 3.2): the transition is reversible with respect to exp(log_density). The
    step varies by a fifth from call to call, whatever the position, so that no orbit closes.
    """
    key_momentum, key_step, key_accept = jax.random.split(key, 3)
    momentum = jax.random.normal(key_momentum, position.shape, position.dtype)
    reach = step * jax.random.uniform(key_step, (), position.dtype, 0.8, 1.2) * scale
    value_and_gradient = jax.value_and_grad(log_density, has_aux=True)
    (value, beside), gradient = value_and_gradient(position)

    def leap(state: Any, _: None) -> tuple[Any, None]:
        z, p, g, _, _ = state
        p = p + 0.5 * reach * g
        z = z + reach * p
        (v, aux), g = value_and_gradient(z)
        return (z, p + 0.5 * reach * g, g, v, aux), None

    (end, final, _, reached, beside_end), _ = jax.lax.scan(
        leap, (position, momentum, gradient, value, beside), length=leaps
    )
    gain = reached - value - 0.5 * jnp.sum(final**2) + 0.5 * jnp.sum(momentum**2)
    chance = jnp.where(jnp.isnan(gain), 0.0, jnp.exp(jnp.minimum(gain, 0.0)))  # NaN: it left the density's support
    accepted = jax.random.uniform(key_accept, (), position.dtype) < chance
    chosen = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), (end, beside_end), (position, beside))
    return *chosen, chance
