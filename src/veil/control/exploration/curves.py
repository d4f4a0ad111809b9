"""How a bonus changes while it learns."""

from typing import Any

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.exploration.bonus import Bonus, Transition


def curve(bonus: Bonus, batches: Transition, probes: Transition, key: PRNGKeyArray) -> Float[Array, "T P"]:
    """The bonus of each of ``probes`` [P, ...], which are not learned from, before any of T groups of ``batches`` and

    after each but the last: [T, U, B, ...], U updates from B steps each between two values.

    >>> import jax.numpy as jnp
    >>> from veil.control.exploration.counts import Counted, Tally
    >>> seen = Transition(*[jnp.zeros((3, 1, 1), int)] * 3)
    >>> probe = jax.tree.map(lambda leaf: leaf[0, 0], seen)
    >>> curve(Counted(Tally((1,)), offset=1.0), seen, probe, jax.random.key(0)).shape
    (3, 1)
    """
    state = bonus.init(jax.tree.map(lambda leaf: leaf[0], probes), key)

    def learn(state: Any, batch: Transition) -> tuple[Any, None]:
        return bonus.update(state, batch), None

    def one(state: Any, group: Transition) -> tuple[Any, Float[Array, " P"]]:
        values = jax.vmap(lambda step: bonus(state, step.observation, step.action, step.following)[0])(probes)
        return jax.lax.scan(learn, state, group)[0], values

    return jax.lax.scan(one, state, batches)[1]
