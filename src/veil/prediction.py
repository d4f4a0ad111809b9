"""The verbs that use a fitted model: ``sample``, ``infer``, ``predict``."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray

from veil import checks, distributions
from veil.evaluation.likelihood import map_blocks
from veil.model import Datum, Model


@dataclass(frozen=True)
class Samples:
    """Draws of y, and of the latent z that each came from: ``query`` [count, ...], or [N, count, ...] with evidence."""

    query: np.ndarray
    latent: np.ndarray

    def __len__(self) -> int:
        return len(self.query)


@eqx.filter_jit
def _draw(model: Model, evidence: Array | None, keys: Key[Array, "..."]) -> tuple[Array, Array]:
    if evidence is None:
        return jax.vmap(model.sample)(keys)
    return jax.vmap(lambda x, some: jax.vmap(lambda key: model.sample(key, x))(some))(evidence, keys)


def sample(model: Model, count: int, *, key: PRNGKeyArray, evidence: Any = None) -> Samples:
    """Draw y from p(y), ``count`` times; with ``evidence`` [N, P], from p(y | x) ``count`` times for each row.

    Raises ValueError for a count that is not positive, or a model that needs evidence and gets none.

    >>> import jax, veil
    >>> model = veil.fit(veil.Mixture(components=2), veil.data.load("faithful"), key=jax.random.key(0)).model
    >>> sample(model, 5, key=jax.random.key(1)).query.shape
    (5, 2)
    """
    checks.fitted(model)
    checks.whole("count", count)
    checks.random_key(key)
    rows = checks.rows(model, evidence)
    if rows is None:
        latent, query = _draw(model, None, jax.random.split(key, count))
    else:
        given = jnp.asarray(rows, jnp.result_type(float))
        latent, query = _draw(model, given, jax.random.split(key, (len(rows), count)))
    return Samples(np.asarray(query), np.asarray(latent))


@dataclass(frozen=True)
class Inference:
    """The exact posterior p(z | y, x) over a discrete latent, for each datum.

    ``probabilities`` [N, K], ``most_likely`` [N], ``entropy`` [N] in nats.
    """

    probabilities: np.ndarray
    most_likely: np.ndarray
    entropy: np.ndarray


@eqx.filter_jit
def _posterior(model: Model, block: Datum) -> Array:
    return jax.vmap(lambda datum: jax.nn.log_softmax(model.log_joints(datum)))(block)


def infer(model: Model, data: Any) -> Inference:
    """p(z | y, x) for each datum, exact, by Bayes' rule over the values of the latent.

    >>> import jax, veil
    >>> data = veil.data.load("faithful")
    >>> model = veil.fit(veil.Mixture(components=2), data, key=jax.random.key(0)).model
    >>> infer(model, data).probabilities.shape
    (272, 2)
    """
    log_probabilities = map_blocks(_posterior, model, data)
    probabilities = np.exp(log_probabilities)
    entropy = -np.sum(np.where(probabilities > 0, probabilities * log_probabilities, 0.0), 1)
    return Inference(probabilities, np.argmax(log_probabilities, 1), entropy)


@dataclass(frozen=True)
class Prediction:
    """Moments of p(y | x), the latent summed out: ``mean`` and ``standard_deviation`` [N, ...] of each entry of y."""

    mean: np.ndarray
    standard_deviation: np.ndarray


def moments(model: Model, evidence: Float[Array, "*evidence"] | None) -> tuple[Array, Array]:
    """Mean and variance of p(y | x): E[y] = Σ p(z|x) m_z and Var[y] = Σ p(z|x) (v_z + m_z²) - E[y]², exact."""
    prior = model.prior(evidence)
    latents = distributions.support(prior)
    weights = jnp.exp(jax.vmap(prior.log_prob)(latents))

    def of(latent: Array) -> tuple[Array, Array]:
        return distributions.moments(model.likelihood(latent, evidence))

    means, variances = jax.vmap(of)(latents)
    mean = jnp.tensordot(weights, means, 1)
    return mean, jnp.tensordot(weights, variances + (means - mean[None]) ** 2, 1)


@eqx.filter_jit
def _moments(model: Model, evidence: Array) -> tuple[Array, Array]:
    return jax.vmap(lambda x: moments(model, x))(evidence)


def predict(model: Model, evidence: Any) -> Prediction:
    """Mean and standard deviation of p(y | x) for each row of evidence [N, P].

    Of a multimodal p(y | x) the mean may be a place where y never is: look at ``sample`` too.

    >>> import jax, veil
    >>> data = veil.data.load("mcycle")
    >>> model = veil.fit(veil.density(veil.LinearGaussian()), data, key=jax.random.key(0)).model
    >>> predict(model, data.evidence).mean.shape
    (133, 1)
    """
    checks.fitted(model)
    rows = checks.rows(model, evidence)
    if rows is None:
        raise ValueError("evidence: expected an array [N, P], one row for each prediction; got None")
    mean, variance = _moments(model, jnp.asarray(rows, jnp.result_type(float)))
    return Prediction(np.asarray(mean), np.sqrt(np.asarray(variance)))
