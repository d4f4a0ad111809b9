"""Two models small enough for exact gradients: linear-Gaussian with a free Gaussian q, and a code with a free q."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import linear_gaussian
from veil import distributions
from veil.model import Datum, Model
from veil.posterior import Posterior


class Free(Posterior):
    """q(z | y) = N(A y + c, L Lᵀ): all parameters free."""

    gain: Array
    shift: Array
    factor: Array

    def __call__(self, model, datum):
        return distributions.multivariate_normal(self.gain @ datum.query + self.shift, jnp.tril(self.factor))


class Coded(Model):
    """A code of a few values, y | z ~ N(means z, I); everything by enumeration."""

    logits: Array
    means: Array

    def prior(self, evidence):
        return distributions.Codes(self.logits)

    def likelihood(self, latent, evidence):
        mean = (latent @ self.means)[0]
        return distributions.normal(mean, jnp.ones_like(mean))


class Fixed(Posterior):
    """q(z) = Codes(logits)."""

    logits: Array

    def __call__(self, model, datum):
        return distributions.Codes(self.logits)


def linear(seed=0, entries=4, latents=2):
    """A model, its exact posterior as a ``Free`` one, and a datum."""
    model = linear_gaussian.random_model(latents, entries, seed=seed)
    w, s = np.asarray(model.W), float(model.s)
    covariance = np.linalg.inv(np.eye(latents) + w.T @ w / s**2)
    gain = covariance @ w.T / s**2
    exact = Free(jnp.array(gain), jnp.array(-gain @ np.asarray(model.b)), jnp.array(np.linalg.cholesky(covariance)))
    return model, exact, Datum(model.sample(jax.random.key(3))[1])


def log_likelihood(model, datum):
    """log p(y) of the linear model, exact."""
    return float(linear_gaussian.log_likelihood(model, np.asarray(datum.query)[None])[0])


@eqx.filter_jit
def linear_elbo(model, posterior, datum):
    """E_q[log p(y, z)] + H[q] of the linear model, in closed form."""
    q = posterior(model, datum)
    mean, covariance = q.mean, q.factor @ q.factor.T
    left = datum.query - model.b - model.W @ mean
    s2 = model.s**2
    fit = -0.5 * (left @ left + jnp.trace(model.W @ covariance @ model.W.T)) / s2
    fit = fit - 0.5 * len(left) * jnp.log(2 * jnp.pi * s2)
    kl = 0.5 * (jnp.trace(covariance) + mean @ mean - len(mean)) - jnp.sum(jnp.log(jnp.diagonal(q.factor)))
    return fit - kl


def _every(model, posterior, datum):
    support = jnp.eye(model.logits.shape[1])[:, None, :]
    log_q = jax.vmap(posterior(model, datum).log_prob)(support)
    return log_q, jax.vmap(lambda z: model.log_joint(z, datum))(support)


@eqx.filter_jit
def coded_elbo(model, posterior, datum):
    """E_q[log p(y, z) - log q(z)] of the code, by enumeration."""
    log_q, joints = _every(model, posterior, datum)
    return jnp.sum(jnp.exp(log_q) * (joints - log_q))


@eqx.filter_jit
def coded_bound(model, posterior, datum):
    """E[log (w_1 + w_2) / 2] over two draws of the code, by enumeration."""
    log_q, joints = _every(model, posterior, datum)
    log_w = joints - log_q
    pairs = jnp.logaddexp(log_w[:, None], log_w[None, :]) - jnp.log(2.0)
    return jnp.sum(jnp.exp(log_q)[:, None] * jnp.exp(log_q)[None, :] * pairs)


@eqx.filter_jit
def _gradient(function, model, posterior, datum):
    return jax.grad(lambda pair: function(*pair, datum), allow_int=True)((model, posterior))


def gradient(function, model, posterior, datum):
    """The gradient of an exact bound, flat: the model's arrays, then the posterior's."""
    found = _gradient(function, model, posterior, datum)
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(found)])
