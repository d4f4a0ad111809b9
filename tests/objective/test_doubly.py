"""The doubly reparameterised gradient: its formula, draw by draw, and its price."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import veil
from veil import distributions
from veil.objective import DoublyReparameterised, Pathwise
from veil.objective.estimators import Problem

SAMPLES = 6


def problem(phi, theta):
    mean, log_scale = phi
    normal = lambda m, s: distributions.normal(m, jnp.exp(s))  # noqa: E731
    return Problem(
        q=normal(mean, log_scale),
        fix=lambda: normal(*jax.lax.stop_gradient((mean, log_scale))),
        p=normal(jnp.zeros(2), jnp.zeros(2)),
        log_likelihood=lambda z: -0.5 * jnp.sum((theta @ z - 1.5) ** 2),
        term=lambda kl: kl,
        local=lambda key: jnp.zeros(()),
    )


def test_it_is_the_squared_weights_times_the_slopes_along_the_draws(x64, key):
    phi = jnp.array([0.3, -0.4]), jnp.array([-0.5, 0.2])
    theta = jnp.array([[1.0, 0.5], [-0.3, 0.8], [0.1, -1.2]])
    estimator = DoublyReparameterised()
    value, (by_phi, by_theta) = jax.value_and_grad(
        lambda phi, theta: estimator.weighted(problem(phi, theta), key, SAMPLES), (0, 1)
    )(phi, theta)

    z = np.asarray(estimator._draws(problem(phi, theta).q, key, SAMPLES))
    mean, scale = np.asarray(phi[0]), np.exp(np.asarray(phi[1]))
    noise, rest = (z - mean) / scale, np.asarray(theta) @ z[..., None]
    rest = rest[..., 0] - 1.5
    logs = -0.5 * (rest**2).sum(-1) + (-0.5 * z**2 + 0.5 * noise**2 + np.log(scale)).sum(-1)
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    slopes = -(rest @ np.asarray(theta)) - z + noise / scale  # of log w along z, with q as it is
    squared = weights[:, None] ** 2 * slopes
    np.testing.assert_allclose(value, np.log(np.mean(np.exp(logs))), rtol=1e-12)
    np.testing.assert_allclose(by_phi[0], squared.sum(0), rtol=1e-10)
    np.testing.assert_allclose(by_phi[1], (squared * noise * scale).sum(0), rtol=1e-10)
    np.testing.assert_allclose(by_theta, -np.einsum("s,si,sj->ij", weights, rest, z), rtol=1e-10)


def test_it_costs_no_more_than_the_path(key):
    """Both need the likelihood's slopes in every draw once: one pass forward and one back."""
    model = veil.VAE(4, veil.heads.Bernoulli(), veil.MLP((32, 32)))
    images = np.asarray(jax.random.bernoulli(key, 0.5, (16, 64)), np.float32)
    fitted = veil.fit(model, images, key=key, steps=1, batch_size=16, progress=False)
    pair, datum = (fitted.model, fitted.posterior), veil.Datum(jnp.asarray(images[0]))
    arrays, rest = eqx.partition(pair, eqx.is_array)

    def operations(gradient):
        objective = veil.ImportanceWeighted(20, gradient)
        value = lambda arrays: objective(*eqx.combine(arrays, rest), datum, key).value  # noqa: E731
        return jax.jit(jax.grad(value)).lower(arrays).compile().cost_analysis()["flops"]

    assert operations(DoublyReparameterised()) < 1.05 * operations(Pathwise())
