"""The size of returns, by which they are divided, so that one temperature suits rewards of any size."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Spread(eqx.Module):
    """Running 5th and 95th percentiles of returns, and of how many batches: their distance is the size of returns."""

    low: Float[Array, ""]
    high: Float[Array, ""]
    count: Int[Array, ""]

    @staticmethod
    def empty() -> "Spread":
        """Before anything is known."""
        return Spread(jnp.zeros(()), jnp.zeros(()), jnp.zeros((), jnp.int32))

    def updated(self, returns: Float[Array, "..."], decay: float) -> "Spread":
        """With one more batch; the first ones are averaged, the later ones forget with ``decay``."""
        share = jnp.maximum(1.0 - decay, 1.0 / (self.count + 1.0)).astype(returns.dtype)
        low, high = jnp.quantile(returns, jnp.array([0.05, 0.95], returns.dtype))
        return Spread(self.low + share * (low - self.low), self.high + share * (high - self.high), self.count + 1)

    @property
    def size(self) -> Float[Array, ""]:
        """max(1, their distance), in units of reward: small returns are not made large. Hafner et al. 2023, eq. 12."""
        return jnp.maximum(1.0, self.high - self.low)
