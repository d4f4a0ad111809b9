"""Numbers of any size and sign made small: the symmetric logarithm, its inverse, and two neighbours on a grid of it.

    symlog(x) = sign(x) log(1 + |x|)      symexp(b) = sign(b) (exp |b| - 1)

Near zero both are the identity, far out a logarithm of either sign. Webber 2013; Hafner et al. 2023, "Mastering diverse
domains through world models" (DreamerV3), eqs. 8-10.
"""

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float


def symlog(values: Float[Array, "..."]) -> Float[Array, "..."]:
    """sign(x) log(1 + |x|), whose slope is 1 / (1 + |x|).

    >>> symlog(jnp.array([-1.0, 0.0, 1.0])).round(4).tolist()
    [-0.6931, 0.0, 0.6931]
    """
    up = values >= 0
    size = jnp.log1p(jnp.where(up, values, -values))  # not of |x|, which has no slope at zero
    return jnp.where(up, size, -size)


def symexp(values: Float[Array, "..."]) -> Float[Array, "..."]:
    """sign(b) (exp |b| - 1), the inverse.

    >>> symexp(symlog(jnp.array([-300.0, 0.5]))).round(2).tolist()
    [-300.0, 0.5]
    """
    up = values >= 0
    size = jnp.expm1(jnp.where(up, values, -values))
    return jnp.where(up, size, -size)


def symexp_moments(
    mean: Float[Array, "*n"], scale: Float[Array, "*n"]
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """E and Var of y = symexp(b), b ~ N(mean, scale²), in closed form: of each sign of b a shifted log-normal.

    Of b > 0, of probability Φ(m / s), E[exp b | b > 0] = exp(m + s²/2) Φ(m/s + s) / Φ(m/s), and the square likewise.
    """

    def side(mean: Array) -> tuple[Array, Array, Array]:
        """Probability, E[exp |b|] - 1 and Var[exp |b|] of one sign."""
        place = mean / scale
        chance, once, twice = (log_ndtr(place + k * scale) for k in range(3))
        log_size = mean + 0.5 * scale**2 + (once - chance)
        spread = jnp.maximum(scale**2 + (twice - chance) - 2.0 * (once - chance), 0.0)
        return jnp.exp(chance), jnp.expm1(log_size), jnp.exp(2.0 * log_size) * jnp.expm1(spread)

    (up, above, above_spread), (down, below, below_spread) = side(mean), side(-mean)
    between = up * down * (above + below) ** 2
    return up * above - down * below, up * above_spread + down * below_spread + between


def symlog_grid(low: float, high: float, bins: int) -> np.ndarray:
    """symexp of ``bins`` numbers at equal distances from ``low`` to ``high`` [bins], symmetric if these are.

    >>> symlog_grid(-2.0, 2.0, 5).round(3).tolist()
    [-6.389, -1.718, 0.0, 1.718, 6.389]
    """
    places = np.linspace(low, high, bins)
    if low == -high:
        places = 0.5 * (places - places[::-1])  # to the last digit, so that what is alike on both sides cancels
    return np.sign(places) * np.expm1(np.abs(places))


def two_hot(values: Float[Array, "*n"], grid: Float[Array, " B"]) -> Float[Array, "*n B"]:
    """Shares of the two neighbours of each value on a rising grid: w ≥ 0, Σ w = 1 and Σ w_k grid_k = value.

    Beyond an end all is that end's. Hafner et al. 2023, eq. 9.

    >>> two_hot(jnp.array([0.25, 3.0]), jnp.array([0.0, 1.0, 3.0])).tolist()
    [[0.75, 0.25, 0.0], [0.0, 0.0, 1.0]]
    """
    inner = jnp.clip(values, grid[0], grid[-1])[..., None]
    lower, upper = (edge.reshape(*[1] * values.ndim, -1) for edge in (grid[:-1], grid[1:]))
    along = jnp.clip((inner - lower) / (upper - lower), 0.0, 1.0)  # of each gap between neighbours, how far across
    ones = jnp.ones_like(inner)
    return jnp.concatenate([ones, along], -1) - jnp.concatenate([along, jnp.zeros_like(inner)], -1)
