"""A linear-Gaussian model by hand, z ~ N(0, I), y ~ N(W z + b, s² I): its posterior and likelihood are known."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.stats

from veil import distributions
from veil.model import Model
from veil.posterior import Posterior


class Linear(Model):
    """With evidence x [D], which shifts the mean: y ~ N(W z + b + x, s² I)."""

    W: jnp.ndarray
    b: jnp.ndarray
    s: np.ndarray = eqx.field(converter=np.asarray)  # an array, so that other values compile nothing

    def prior(self, evidence):
        return distributions.normal(jnp.zeros(self.W.shape[1]), jnp.ones(self.W.shape[1]))

    def likelihood(self, latent, evidence):
        mean = self.W @ latent + self.b
        mean = mean if evidence is None else mean + evidence
        return distributions.normal(mean, jnp.full(mean.shape, self.s))


class Known(Posterior):
    """The exact N(m, S), its scale multiplied by ``width`` and its mean moved; or the best with independent ones."""

    width: np.ndarray = eqx.field(converter=np.asarray, default=1.0)
    moved: np.ndarray = eqx.field(converter=np.asarray, default=0.0)
    independent: bool = eqx.field(static=True, default=False)

    def __call__(self, model, datum):
        latents = model.W.shape[1]
        precision = jnp.eye(latents) + model.W.T @ model.W / model.s**2
        residual = datum.query - model.b - (0.0 if datum.evidence is None else datum.evidence)
        mean = jnp.linalg.solve(precision, model.W.T @ residual) / model.s**2 + self.moved
        if self.independent:
            return distributions.normal(mean, self.width / jnp.sqrt(jnp.diag(precision)))
        return distributions.multivariate_normal(mean, self.width * jnp.linalg.cholesky(jnp.linalg.inv(precision)))


def random_model(latents=2, entries=3, s=0.7, seed=0):
    rng = np.random.default_rng(seed)
    return Linear(jnp.array(rng.normal(size=(entries, latents))), jnp.array(rng.normal(size=entries)), s)


def draws(model, count, seed=1, evidence=None):
    rng = np.random.default_rng(seed)
    W = np.asarray(model.W)
    y = rng.normal(size=(count, W.shape[1])) @ W.T + np.asarray(model.b) + model.s * rng.normal(size=(count, len(W)))
    return y if evidence is None else y + evidence


def log_likelihood(model, y):
    W = np.asarray(model.W)
    covariance = W @ W.T + model.s**2 * np.eye(len(W))
    return scipy.stats.multivariate_normal(np.asarray(model.b), covariance).logpdf(y).reshape(-1)


def mean_field_gap(model):
    """KL from the best N with independent entries, whose variances are 1/Λ_ii, to the posterior of precision Λ."""
    W = np.asarray(model.W)
    precision = np.eye(W.shape[1]) + W.T @ W / model.s**2
    return 0.5 * (np.sum(np.log(np.diag(precision))) - np.linalg.slogdet(precision)[1])
