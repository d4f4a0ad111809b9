"""What is earned along a path that may end, and from where it is cut off a guess of the rest.

Steps h = 0..H-1: reward r_h, c_h the chance that the step after it is reached, V_h+1 the value there; γ a discount.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def lambda_returns(
    reward: Float[Array, " H"],
    going: Float[Array, " H"],
    following: Float[Array, " H"],
    discount: float | Float[Array, ""],
    mixing: float | Float[Array, "*H"],
) -> Float[Array, " H"]:
    """R_h = r_h + γ c_h ((1 - λ) V_h+1 + λ R_h+1), R_H = V_H: means of guesses after one step, two steps, and so on.

    ``following``: V_1..V_H; ``mixing`` λ: at 0 a step and a guess, at 1 all rewards and a guess at the very end; one,
    or one for each step, 0 where R_h+1 is another path's. Sutton & Barto 2018, eq. 12.2; Hafner et al. 2021, eq. 4.

    >>> lambda_returns(jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0]), jnp.array([5.0, 7.0]), 0.5, 1.0).tolist()
    [2.0, 2.0]
    """

    def before(later: Array, now: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
        reward, going, guess, mixing = now
        whole = reward + discount * going * ((1.0 - mixing) * guess + mixing * later)
        return whole, whole

    each = jnp.broadcast_to(jnp.asarray(mixing, reward.dtype), reward.shape)
    return jax.lax.scan(before, following[-1], (reward, going, following, each), reverse=True)[1]


def reached(going: Float[Array, " H"], discount: float | Float[Array, ""]) -> Float[Array, " H"]:
    """w_h = Π_s<h γ c_s: what a step counts for, seen from the first.

    >>> reached(jnp.array([1.0, 0.5, 0.0, 1.0]), 0.5).tolist()
    [1.0, 0.5, 0.125, 0.0]
    """
    return jnp.concatenate([jnp.ones_like(going[:1]), jnp.cumprod(discount * going)[:-1]])
