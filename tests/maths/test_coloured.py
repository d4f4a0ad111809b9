"""Coloured noise: its spectrum's slope, its variance, and white noise as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.maths.coloured import coloured


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.5])
@pytest.mark.parametrize("steps", [30, 31])
def test_power_falls_as_the_exponent_says(exponent, steps):
    rows = jax.vmap(lambda key: coloured(key, (steps, 2), exponent))(jax.random.split(jax.random.key(0), 4000))
    power = np.mean(np.abs(np.fft.rfft(np.asarray(rows, np.float64), axis=1)) ** 2, (0, 2))
    inside = np.arange(1, (steps + 1) // 2)
    slope = np.polyfit(np.log(inside), np.log(power[inside]), 1)[0]
    assert abs(slope + exponent) < 0.03
    assert abs(power[0] / power[1] - 1.0) < 0.06  # the constant part is as strong as the slowest wave
    np.testing.assert_allclose(np.var(rows, axis=0), 1.0, atol=0.12)  # at every step alike


def test_entries_are_independent_and_a_single_step_is_normal():
    rows = jax.vmap(lambda key: coloured(key, (8, 2), 2.0))(jax.random.split(jax.random.key(1), 4000))
    assert np.max(np.abs(np.mean(rows[:, :, 0] * rows[:, :, 1], 0))) < 0.08
    white = coloured(jax.random.key(2), (5, 3), 0.0)
    np.testing.assert_array_equal(white, jax.random.normal(jax.random.key(2), (5, 3)))
    one = jax.vmap(lambda key: coloured(key, (1, 1), 2.0))(jax.random.split(jax.random.key(3), 4000))
    assert abs(jnp.var(one) - 1.0) < 0.1
