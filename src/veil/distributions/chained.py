"""Codes one after the other, each depending on those before it."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil.distributions.protocol import Central, Distribution, Finite


class ChainedCodes(Distribution, Finite, Central):
    """p(z) = Π_l p(z_l | z_<l): ``levels`` categorical codes of ``codes`` values, as one-hot rows [L, C].

    ``logits``: (known [L, C], level) -> [C], the logits of p(z_l | z_<l); of ``known`` only the rows before the level
    are not zero.

    >>> likes_to_repeat = ChainedCodes(lambda known, level: 3.0 * known.sum(0), 2, 4)
    >>> likes_to_repeat.sample(jax.random.key(0)).shape
    (2, 4)
    """

    logits: Callable[[Any, Any], Any]
    levels: int = eqx.field(static=True)
    codes: int = eqx.field(static=True)

    def sample(self, key: PRNGKeyArray) -> Float[Array, "L C"]:
        draws = lambda level, logits: jax.random.categorical(jax.random.fold_in(key, level), logits)  # noqa: E731
        return self._built(draws)

    def _built(self, pick: Callable[[int, Array], Array]) -> Float[Array, "L C"]:
        known = jnp.zeros((self.levels, self.codes))
        for level in range(self.levels):
            chosen = pick(level, self.logits(known, jnp.asarray(level)))
            known = known.at[level].set(jax.nn.one_hot(chosen, self.codes))
        return known

    def level_log_probs(self, value: Float[Array, "L C"]) -> Float[Array, " L"]:
        """log p(z_l | z_<l) of each level, nats."""
        levels = jnp.arange(self.levels)

        def one(level: Array) -> Array:
            known = jnp.where((levels < level)[:, None], value, 0.0)
            row = value[level]
            logs = jax.nn.log_softmax(self.logits(known, level))
            inside = jnp.all(row >= 0) & (jnp.abs(jnp.sum(row) - 1.0) < 1e-3)
            return jnp.where(inside, jnp.sum(jnp.where(row > 0, row * logs, 0.0)), -jnp.inf)

        return jax.vmap(one)(levels)

    def log_prob(self, value: Float[Array, "L C"]) -> Float[Array, ""]:
        return jnp.sum(self.level_log_probs(value))

    @property
    def values(self) -> int:
        """C^L."""
        return self.codes**self.levels

    def enumerate_support(self) -> Float[Array, "V L C"]:
        numbers = np.stack(np.unravel_index(np.arange(self.values), (self.codes,) * self.levels), 1)
        return jax.nn.one_hot(numbers, self.codes)

    def central(self) -> Float[Array, "L C"]:
        """The most probable code of each level, given those before it."""
        return self._built(lambda level, logits: jnp.argmax(logits))
