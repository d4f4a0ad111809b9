"""Densities that learn as they go, and what they say of counts: pseudo-counts and prediction gain."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


class Density(eqx.Module):
    """ρ_n(x), the probability (or density) of the next x given n of them, and how it learns one more.

    ρ'_n(x), the probability of x after one more observation of it, is that of ``update`` with x alone.
    """

    @abstractmethod
    def init(self, example: Any, key: PRNGKeyArray) -> Any:
        """The state before anything was seen, for x like this one."""

    @abstractmethod
    def log_prob(self, state: Any, x: Any) -> Float[Array, ""]:
        """log ρ_n(x), nats."""

    @abstractmethod
    def update(self, state: Any, batch: Any) -> Any:
        """The state after x [B, ...], one after the other."""


def gain(density: Density, state: Any, x: Any) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """log ρ_n(x) and log ρ'_n(x), nats."""
    after = density.update(state, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], x))
    return density.log_prob(state, x), density.log_prob(after, x)
