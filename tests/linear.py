"""A linear-Gaussian latent variable model with everything exact: z ~ N(0, I), y | z ~ N(W z + b, s² I)."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from veil import distributions
from veil.model import Datum, Model
from veil.posterior import Posterior


class LinearGaussianLatent(Model):
    loadings: Array
    offset: Array
    scale: Array

    @property
    def tractable(self):
        return False

    def prior(self, evidence):
        size = self.loadings.shape[1]
        return distributions.normal(jnp.zeros(size), jnp.ones(size))

    def likelihood(self, latent, evidence):
        mean = self.offset + self.loadings @ latent
        return distributions.normal(mean, jnp.broadcast_to(self.scale, mean.shape))


class Linear(Posterior):
    """q(z | y) = N(A y + c, L Lᵀ): all parameters free."""

    gain: Array
    shift: Array
    factor: Array

    def __call__(self, model, datum):
        return distributions.multivariate_normal(self.gain @ datum.query + self.shift, jnp.tril(self.factor))


def made(seed=0, size=4, latent=2):
    rng = np.random.default_rng(seed)
    return LinearGaussianLatent(
        jnp.asarray(rng.normal(size=(size, latent))), jnp.asarray(rng.normal(size=size)), jnp.asarray(0.7)
    )


def exact_posterior(model):
    """The exact posterior as a ``Linear``."""
    w, b, s = (np.asarray(part) for part in (model.loadings, model.offset, model.scale))
    covariance = np.linalg.inv(np.eye(w.shape[1]) + w.T @ w / s**2)
    gain = covariance @ w.T / s**2
    return Linear(jnp.asarray(gain), jnp.asarray(-gain @ b), jnp.asarray(np.linalg.cholesky(covariance)))


def log_likelihood(model, query):
    """log N(y; b, W Wᵀ + s² I), textbook."""
    w, b, s = (np.asarray(part) for part in (model.loadings, model.offset, model.scale))
    covariance = w @ w.T + s**2 * np.eye(len(b))
    residual = np.asarray(query) - b
    return -0.5 * (residual @ np.linalg.solve(covariance, residual) + np.linalg.slogdet(2 * np.pi * covariance)[1])


def datum(model, key):
    return Datum(model.sample(key)[1])


__all__ = ["Linear", "LinearGaussianLatent", "datum", "exact_posterior", "log_likelihood", "made"]
