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


class InverseSoftQ(CriticObjective):
    """Maximum causal entropy inverse reinforcement learning, of Q itself: r = Q(o, a) - γ V(o') is its reward.

        max_Q   E_expert[r] - E[V(o) - γ V(o')] - E[r²] / (4 ``bound``)

    The second is (1 - γ) E[V(o_0)], the soft return of the best there is, taken from expectations over whatever was
    done; the third holds rewards within some ``bound``, of all transitions or, without ``everywhere``, of the expert's,
    which is the χ² divergence. At its maximum the policy, soft-optimal for r, comes where the expert comes, but for
    what the bound takes. Garg et al. 2021, "IQ-Learn: inverse soft-Q learning for imitation", eqs. 9 to 11.

    An episode that ended goes on in an absorbing state whose value, and so whose reward, is learned like any other
    (``ended``): for 1 / (1 - γ) discounted steps it counts γ / (1 - γ) times the last one. Taken for zero it would say,
    by the sign that rewards happen to have, that to end is good or bad. What was cut off went on.
    """

    imitates: ClassVar[bool] = True
    bound: float = eqx.field(static=True, default=0.5)
    everywhere: bool = eqx.field(static=True, default=True)

    def __check_init__(self) -> None:
        if not self.bound > 0:
            raise ValueError(f"bound: expected a positive size of rewards; got {self.bound!r}")

    def __call__(self, values: Values, batch: Transitions, discount: float) -> Float[Array, ""]:
        stays = jnp.where(batch.terminated, discount / (1.0 - discount), 0.0)
        reward_there = (1.0 - discount) * values.ended
        after = discount * jnp.where(batch.terminated, values.ended, values.ahead)
        reward = values.chosen - after
        earned = batch.mean(reward + stays * reward_there, batch.demonstrated)
        soft_return = batch.mean(values.here - after + stays * reward_there)
        squares = reward**2 + stays * reward_there**2
        size = batch.mean(squares, None if self.everywhere else batch.demonstrated)
        return soft_return - earned + size / (4.0 * self.bound)
