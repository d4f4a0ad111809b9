"""The verbs that use a fitted model forwards: ``sample``, ``predict``."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.host.showing import Shown
from veil.model import Datum, Model, OfSequences, Plate, Sized, checks
from veil.model.abilities import Sizes, Wrapped
from veil.model.batching import length, on_device
from veil.model.chains import without_memory
from veil.posterior import Posterior
from veil.posterior.arguments import parts


@dataclass(frozen=True, repr=False)
class Samples(Shown):
    """Draws of y, and of the latent z that each came from: ``query`` [count, ...], or [N, count, ...] with evidence.

    A query that is a tree is a dictionary of such arrays.
    """

    query: Any
    latent: Any

    def __len__(self) -> int:
        return len(jax.tree.leaves(self.query)[0])


@eqx.filter_jit
def _draw(model: Model, evidence: Any, keys: Key[Array, "..."], steps: int | None) -> tuple[Any, Any]:
    one: Any = model.sample if steps is None else lambda key: model.sample(key, None, steps)  # type: ignore[call-arg]
    if evidence is None:
        return jax.vmap(one)(keys)
    return jax.vmap(lambda x, some: jax.vmap(lambda key: model.sample(key, x))(some))(evidence, keys)


def sample(model: Any, count: int, *, key: PRNGKeyArray, evidence: Any = None, steps: int | None = None) -> Samples:
    """Draw y from p(y), ``count`` times; with ``evidence`` [N, P], from p(y | x) ``count`` times for each row.

    Of a sequence model evidence is [N, T, P], or without evidence ``steps`` says how long the sequences are to be.

    Raises ValueError for a count that is not positive, or a model that needs evidence and gets none.

    >>> import jax, veil
    >>> model = veil.fit(veil.Mixture(components=2), veil.data.load("faithful"), key=jax.random.key(0)).model
    >>> sample(model, 5, key=jax.random.key(1)).query.shape
    (5, 2)
    """
    model, _ = parts(model, None)
    checks.whole("count", count)
    checks.random_key(key)
    rows = checks.rows(model, evidence)
    if steps is not None:
        checks.whole("steps", steps)
        if not isinstance(model, OfSequences) or rows is not None:
            raise ValueError("steps: only of a sequence model without evidence; leave it out")
    if rows is None:
        latent, query = _draw(model, None, jax.random.split(key, count), steps)
    else:
        latent, query = _draw(model, on_device(rows), jax.random.split(key, (length(rows), count)), None)
    return Samples(*jax.tree.map(np.asarray, (query, without_memory(latent))))


class Known(Wrapped):
    """A ``model`` whose latent all data share, with what a ``posterior`` knows of it in the place of its prior."""

    model: Any
    posterior: Any

    @property
    def sizes(self) -> Sizes:
        return self.model.sizes if isinstance(self.model, Sized) else Sizes()

    def prior(self, evidence: Any) -> Distribution:
        return self.posterior(self.model, Datum(None, evidence))

    def likelihood(self, latent: Any, evidence: Any) -> Distribution:
        return self.model.likelihood(latent, evidence)


@dataclass(frozen=True, repr=False)
class Prediction(Shown):
    """Moments of p(y | x), the latent summed out: ``mean`` and ``standard_deviation`` [N, ...] of each entry of y."""

    mean: Any
    standard_deviation: Any


def moments(model: Model, evidence: Any) -> tuple[Any, Any]:
    """Mean and variance of p(y | x): E[y] = Σ p(z|x) m_z and Var[y] = Σ p(z|x) (v_z + m_z²) - E[y]², exact."""
    prior = model.prior(evidence)
    latents = distributions.support(prior)
    return _total(model, evidence, latents, jnp.exp(jax.vmap(prior.log_prob)(latents)))


def _total(model: Model, evidence: Any, latents: Array, weights: Float[Array, " S"]) -> tuple[Any, Any]:
    def of(latent: Array) -> tuple[Any, Any]:
        return distributions.moments(model.likelihood(latent, evidence))

    means, variances = jax.vmap(of)(latents)
    mean = jax.tree.map(lambda each: jnp.tensordot(weights, each, 1), means)

    def spread(variance: Array, each: Array, centre: Array) -> Array:
        return jnp.tensordot(weights, variance + (each - centre[None]) ** 2, 1)

    return mean, jax.tree.map(spread, variances, means, mean)


@eqx.filter_jit
def _moments(model: Model, evidence: Any) -> tuple[Any, Any]:
    return jax.vmap(lambda x: moments(model, x))(evidence)


def sampled_moments(model: Model, evidence: Any, key: PRNGKeyArray, samples: int) -> tuple[Any, Any]:
    """The same from draws of the latent."""
    latents = jax.vmap(model.prior(evidence).sample)(jax.random.split(key, samples))
    return _total(model, evidence, latents, jnp.full(samples, 1.0 / samples))


@eqx.filter_jit
def _sampled_moments(model: Model, evidence: Any, key: PRNGKeyArray, samples: int) -> tuple[Any, Any]:
    def one(x: Any, key: PRNGKeyArray) -> tuple[Any, Any]:
        return sampled_moments(model, x, key, samples)

    # the same draws of a shared latent for every row: then the mean is one of functions, not of independent noise
    count = length(evidence)
    keys = jnp.broadcast_to(key, count) if isinstance(model, Known) else jax.random.split(key, count)
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
    given = on_device(rows)
    first = jax.tree.map(lambda leaf: leaf[0], given)
    if distributions.enumerable(model.prior(first)):
        mean, variance = _moments(model, given)
    else:
        if key is None:
            raise ValueError("key: this model's latent is drawn to predict; give one, such as jax.random.key(0)")
        checks.random_key(key)
        if isinstance(model, Plate):
            if posterior is None:
                raise ValueError(
                    "posterior: the weights of this model are in its posterior; give the Fit, or .posterior"
                )
            model = Known(model, posterior)
        mean, variance = _sampled_moments(model, given, key, samples)
    return Prediction(jax.tree.map(np.asarray, mean), jax.tree.map(lambda leaf: np.asarray(jnp.sqrt(leaf)), variance))
