"""The exact field of Gaussian data, as a user would write a field of their own."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from veil.parts.fields import Field
from veil.parts.paths import Path


class GaussianField(Field):
    """E[v | z_t, x] of y | x ~ N(mean + gain x, covariance)."""

    path: Path
    mean: Array
    covariance: Array
    gain: Array
    shape: tuple = (2,)
    inputs: int = 1

    def __call__(self, value, time, given):
        mean = self.mean if given is None else self.mean + self.gain @ given
        alpha, sigma = self.path.alpha(time), self.path.sigma(time)
        total = alpha**2 * self.covariance + sigma**2 * jnp.eye(len(mean))
        away = jnp.linalg.solve(total, value - alpha * mean)
        return self.path.direction(mean + alpha * self.covariance @ away, sigma * away, time)


MEAN, COVARIANCE, GAIN = np.array([0.3, -0.2]), np.array([[1.0, 0.4], [0.4, 0.5]]), np.array([[0.5], [-1.0]])


def gaussian(path):
    """That field; with its density, log N(y; mean + gain x, covariance) of one datum."""
    return GaussianField(path, jnp.asarray(MEAN), jnp.asarray(COVARIANCE), jnp.asarray(GAIN))


def log_density(query, evidence):
    away = np.asarray(query) - MEAN - GAIN @ np.asarray(evidence)
    _, determinant = np.linalg.slogdet(2 * np.pi * COVARIANCE)
    return -0.5 * (away @ np.linalg.solve(COVARIANCE, away) + determinant)
