"""What critics learn from, and how the temperature is found: small strategies of one agent."""

from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from veil.control.continuous.transitions import Transitions


class Values(eqx.Module):
    """What one critic says of transitions (o, a, o'), in units of reward: ``chosen`` Q(o, a), ``here`` V(o), ``ahead``

    V(o'), each of which its gradient goes through, and ``ended``, the value of having ended. ``slow``: V(o') of the
    slowly following critics, the least of them. Values are soft, V = E_π[Q - τ log π].
    """

    chosen: Float[Array, " N"]
    here: Float[Array, " N"]
    ahead: Float[Array, " N"]
    slow: Float[Array, " N"]
    ended: Float[Array, ""]


class CriticObjective(eqx.Module):
    """What a critic minimises."""

    imitates: ClassVar[bool]  # learns from what an expert did, and not from rewards

    @abstractmethod
    def __call__(self, values: Values, batch: Transitions, discount: float) -> Float[Array, ""]:
        """A number to minimise, of one critic."""


class SoftBellman(CriticObjective):
    """½ E[(Q(o, a) - r - γ V̄(o'))²], V̄ = 0 behind the end of an episode: soft policy evaluation.

    Haarnoja et al. 2018, "Soft actor-critic algorithms and applications", eqs. 5 and 6.
    """

    imitates: ClassVar[bool] = False

    def __call__(self, values: Values, batch: Transitions, discount: float) -> Float[Array, ""]:
        after = jnp.where(batch.terminated, 0.0, values.slow)
        wanted = jax.lax.stop_gradient(batch.reward + discount * after)
        return 0.5 * batch.mean((values.chosen - wanted) ** 2)
