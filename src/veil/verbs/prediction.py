"""The verbs that use a fitted model forwards: ``sample``, ``predict``."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray

from veil import distributions
from veil.model import Datum, Model, checks
from veil.model.chains import without_memory
from veil.posterior import Posterior
from veil.posterior.arguments import parts


@dataclass(frozen=True)
class Samples:
    """Draws of y, and of the latent z that each came from: ``query`` [count, ...], or [N, count, ...] with evidence."""

    query: np.ndarray
    latent: np.ndarray

    def __len__(self) -> int:
        return len(self.query)


@eqx.filter_jit
def _draw(model: Model, evidence: Array | None, keys: Key[Array, "..."], steps: int | None) -> tuple[Any, Array]:
    one: Any = model.sample if steps is None else lambda key: model.sample(key, None, steps)  # type: ignore[call-arg]
    if evidence is None:
        return jax.vmap(one)(keys)
    return jax.vmap(lambda x, some: jax.vmap(lambda key: model.sample(key, x))(some))(evidence, keys)


def sample(model: Model, count: int, *, key: PRNGKeyArray, evidence: Any = None, steps: int | None = None) -> Samples:
    """Draw y from p(y), ``count`` times; with ``evidence`` [N, P], from p(y | x) ``count`` times for each row.

    Of a sequence model evidence is [N, T, P], or without evidence ``steps`` says how long the sequences are to be.

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
    if steps is not None:
        checks.whole("steps", steps)
        if not model.sequential or rows is not None:
            raise ValueError("steps: only of a sequence model without evidence; leave it out")
    if rows is None:
        latent, query = _draw(model, None, jax.random.split(key, count), steps)
    else:
        given = jnp.asarray(rows, jnp.result_type(float))
        latent, query = _draw(model, given, jax.random.split(key, (len(rows), count)), None)
    return Samples(np.asarray(query), np.asarray(without_memory(latent)))


@dataclass(frozen=True)
class Prediction:
    """Moments of p(y | x), the latent summed out: ``mean`` and ``standard_deviation`` [N, ...] of each entry of y."""

    mean: np.ndarray
    standard_deviation: np.ndarray


def moments(model: Model, evidence: Float[Array, "*evidence"] | None) -> tuple[Array, Array]:
    """Mean and variance of p(y | x): E[y] = Σ p(z|x) m_z and Var[y] = Σ p(z|x) (v_z + m_z²) - E[y]², exact."""
    prior = model.prior(evidence)
    latents = distributions.support(prior)
    return _total(model, evidence, latents, jnp.exp(jax.vmap(prior.log_prob)(latents)))


def _total(
    model: Model, evidence: Float[Array, "*evidence"] | None, latents: Array, weights: Float[Array, " S"]
) -> tuple[Array, Array]:
    def of(latent: Array) -> tuple[Array, Array]:
        return distributions.moments(model.likelihood(latent, evidence))

    means, variances = jax.vmap(of)(latents)
    mean = jnp.tensordot(weights, means, 1)
    return mean, jnp.tensordot(weights, variances + (means - mean[None]) ** 2, 1)


@eqx.filter_jit
def _moments(model: Model, evidence: Array) -> tuple[Array, Array]:
    return jax.vmap(lambda x: moments(model, x))(evidence)


@eqx.filter_jit
def _sampled_moments(
    model: Model, posterior: Posterior | None, evidence: Array, key: PRNGKeyArray, samples: int
) -> tuple[Array, Array]:
    def one(x: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        # a latent that all data share is known from those that were seen, any other only from the prior
        q = model.prior(x) if posterior is None else posterior(model, Datum(jnp.zeros(0), x))
        latents = jax.vmap(q.sample)(jax.random.split(key, samples))
        return _total(model, x, latents, jnp.full(samples, 1.0 / samples))

    # the same draws of a shared latent for every row: then the mean is one of functions, not of independent noise
    keys = jax.random.split(key, len(evidence)) if posterior is None else jnp.broadcast_to(key, len(evidence))
    return jax.lax.map(lambda pair: one(*pair), (evidence, keys), batch_size=64)


def predict(
    model: Any,
    evidence: Any,
    *,
    posterior: Posterior | None = None,
    key: PRNGKeyArray | None = None,
    samples: int = 256,
) -> Prediction:
    """Mean and standard deviation of p(y | x) for each row of evidence [N, P].

    Exact for a discrete latent; for any other from ``samples`` draws of it (give a ``key``; for a Bayesian network the
    ``Fit``, whose posterior the weights are drawn from). Of a multimodal p(y | x) the mean may be a place where y never
    is: look at ``sample`` too.

    >>> import jax, veil
    >>> data = veil.data.load("mcycle")
    >>> model = veil.fit(veil.density(veil.LinearGaussian()), data, key=jax.random.key(0)).model
    >>> predict(model, data.evidence).mean.shape
    (133, 1)
    """
    model, posterior = parts(model, posterior)
    rows = checks.rows(model, evidence)
    if rows is None:
        raise ValueError("evidence: expected an array [N, P], one row for each prediction; got None")
    given = jnp.asarray(rows, jnp.result_type(float))
    if distributions.enumerable(model.prior(given[0])):
        mean, variance = _moments(model, given)
    else:
        shared = model.shared_by > 1
        if key is None:
            raise ValueError("key: this model's latent is drawn to predict; give one, such as jax.random.key(0)")
        checks.random_key(key)
        if shared and posterior is None:
            raise ValueError("posterior: the weights of this model are in its posterior; give the Fit, or .posterior")
        mean, variance = _sampled_moments(model, posterior if shared else None, given, key, samples)
    return Prediction(np.asarray(mean), np.sqrt(np.asarray(variance)))
