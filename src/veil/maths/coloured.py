"""Coloured noise: normal numbers in a row whose power falls with frequency as 1 / f^β."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def coloured(key: PRNGKeyArray, shape: tuple[int, ...], exponent: float) -> Float[Array, "*shape"]:
    """Normals of variance one whose spectrum along the first axis is ∝ 1 / f^β; β = 0 white, 1 pink, 2 red.

    Independent normals, each of whose frequencies is scaled by f^-β/2, the lowest, a constant, as the next one: Timmer
    & König 1995, "On generating power law noise". The row is a period of a periodic one.
    """
    white = jax.random.normal(key, shape)
    if exponent == 0:
        return white
    steps = shape[0]
    numbers = jnp.arange(steps // 2 + 1)
    scale = jnp.maximum(numbers, 1).astype(white.dtype) ** (-0.5 * exponent)
    twins = jnp.where((numbers == 0) | (2 * numbers == steps), 1.0, 2.0)  # of a real row, f and -f
    scale = scale / jnp.sqrt(jnp.sum(twins * scale**2) / steps)
    spectrum = jnp.fft.rfft(white, axis=0) * scale.reshape(-1, *[1] * (len(shape) - 1))
    return jnp.fft.irfft(spectrum, steps, axis=0)
