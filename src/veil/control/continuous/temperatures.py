"""How much entropy is worth: a temperature that is given, or one that keeps the entropy at a target."""

from abc import abstractmethod

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class Temperature(eqx.Module):
    """τ in units of reward a nat: what the entropy of the policy is worth."""

    start: eqx.AbstractVar[float]

    @abstractmethod
    def loss(self, log_temperature: Float[Array, ""], entropy: Float[Array, ""], actions: int) -> Float[Array, ""]:
        """What log τ minimises, at an entropy in nats of ``actions`` numbers between -1 and 1; 0 if it stays."""


def _positive(value: float) -> None:
    if not value > 0:
        raise ValueError(f"start: expected a positive temperature, in units of reward a nat; got {value!r}")


class FixedTemperature(Temperature):
    """τ as it is given."""

    start: float = eqx.field(static=True, default=0.1)

    def __check_init__(self) -> None:
        _positive(self.start)

    def loss(self, log_temperature: Float[Array, ""], entropy: Float[Array, ""], actions: int) -> Float[Array, ""]:
        return jnp.zeros(())


class LearnedTemperature(Temperature):
    """τ rises where the policy's entropy is below its target, and falls where it is above: a Lagrange multiplier.

    ``entropy``: the target in nats for each number of an action between -1 and 1 (uniform: log 2; default -1). Haarnoja
    et al. 2018, section 5.
    """

    start: float = eqx.field(static=True, default=1.0)
    entropy: float = eqx.field(static=True, default=-1.0)

    def __check_init__(self) -> None:
        _positive(self.start)
        if not self.entropy < 0.6931:
            raise ValueError(
                f"entropy: expected nats below log 2, that of a uniform number from -1 to 1; got {self.entropy!r}"
            )

    def loss(self, log_temperature: Float[Array, ""], entropy: Float[Array, ""], actions: int) -> Float[Array, ""]:
        return log_temperature * (entropy - actions * self.entropy)
