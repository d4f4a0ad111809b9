"""The verbs that use a fitted model: ``sample``, ``infer``, ``predict``."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray

from veil import checks, distributions
from veil.data import Data, Stream
from veil.evaluation.likelihood import known_to, map_blocks, parts
from veil.evaluation.moments import mean_and_variance
from veil.model import Datum, Model
from veil.posterior import Exact, MeanField, Posterior


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
    return Samples(np.asarray(query), np.asarray(getattr(latent, "latent", latent)))


@dataclass(frozen=True)
class Inference:
    """The exact posterior p(z | y, x) over a discrete latent, for each datum.

    ``probabilities`` [N, K], ``most_likely`` [N], ``entropy`` [N] in nats.
    """

    probabilities: np.ndarray
    most_likely: np.ndarray
    entropy: np.ndarray


@dataclass(frozen=True)
class PathInference:
    """The posterior over a discrete path, for each sequence, given all of it (smoothing): exact, or mean-field.

    ``probabilities`` [N, T, K] p(z_t | y, x), ``most_likely`` [N, T] the best state of each step on its own, ``path``
    [N, T] the best path as a whole (Viterbi), ``entropy`` [N, T] in nats. At padding they repeat the last step.
    """

    probabilities: np.ndarray
    most_likely: np.ndarray
    path: np.ndarray
    entropy: np.ndarray


@dataclass(frozen=True)
class LatentMoments:
    """The posterior of an array-valued latent, for each datum: ``mean`` and ``standard_deviation`` [N, ...].

    Of p(z | y, x) where that is known ("exact"), else of its approximation q ("approximate"): ``kind``. Of codes the
    mean is the probability of each value.
    """

    mean: np.ndarray
    standard_deviation: np.ndarray
    kind: str


@eqx.filter_jit
def _posterior(model: Model, block: Datum) -> Array:
    return jax.vmap(lambda datum: jax.nn.log_softmax(model.log_joints(datum)))(block)


@eqx.filter_jit
def _latent_moments(model: Model, block: Datum, posterior: Posterior) -> tuple[Array, Array]:
    key = jax.random.key(0)  # only for families whose moments are not known; the draws are many and always the same
    return jax.vmap(lambda datum: mean_and_variance(posterior(model, datum), key))(block)


@eqx.filter_jit
def _paths(model: Any, block: Datum, *sweeps: int) -> Any:
    return jax.vmap(lambda datum: (model.marginals(datum, *sweeps), model.best_path(datum, *sweeps)))(block)


@eqx.filter_jit
def _smoothed(model: Any, block: Datum) -> Any:
    return jax.vmap(model.marginals)(block)


def _sequences(model: Any, data: Any, posterior: Posterior | None) -> PathInference | LatentMoments:
    """Smoothing: the posterior of every step given the whole sequence."""
    if not hasattr(model, "best_path"):
        mean, variance = map_blocks(_smoothed, model, data)
        return LatentMoments(mean, np.sqrt(variance), "exact")
    sweeps = (posterior.sweeps,) if isinstance(posterior, MeanField) else ()
    logs, path = map_blocks(_paths, model, data, *sweeps)
    probabilities = np.exp(logs)
    entropy = -np.sum(np.where(probabilities > 0, probabilities * np.where(probabilities > 0, logs, 0.0), 0.0), -1)
    return PathInference(probabilities, np.argmax(logs, -1), path, entropy)


def _a_choice(model: Model, data: Data | Stream) -> bool:
    """Whether the latent is a single discrete choice."""
    example = next(iter(data.blocks(1))).evidence
    prior = model.prior(None if example is None else jnp.asarray(example[0], jnp.result_type(float)))
    return distributions.enumerable(prior) and not isinstance(prior, distributions.Codes)


def infer(model: Any, data: Any, *, posterior: Posterior | None = None) -> Any:
    """The latent of each datum: ``Inference`` for a discrete choice, ``LatentMoments`` for an array-valued latent.

    Of sequences, of each step given the whole sequence: ``PathInference``, or ``LatentMoments`` [N, T, ...].

    Exact where that is known; any other model needs its posterior: give the ``Fit``, or ``posterior``.

    >>> import jax, veil
    >>> data = veil.data.load("faithful")
    >>> model = veil.fit(veil.Mixture(components=2), data, key=jax.random.key(0)).model
    >>> infer(model, data).probabilities.shape
    (272, 2)
    """
    model, posterior = parts(model, posterior)
    given = data if isinstance(data, Data | Stream) else Data(data)
    checks.fitted(model)
    checks.shapes(model, given)
    if model.sequential and (model.tractable or isinstance(posterior, MeanField)):
        return _sequences(model, given, posterior)
    if model.tractable and _a_choice(model, given):
        log_probabilities = map_blocks(_posterior, model, given)
        probabilities = np.exp(log_probabilities)
        entropy = -np.sum(np.where(probabilities > 0, probabilities * log_probabilities, 0.0), 1)
        return Inference(probabilities, np.argmax(log_probabilities, 1), entropy)
    if model.shared_by > 1:
        raise TypeError("model: all data share its latent, which is in the Fit's posterior; there is none to infer")
    exact = model.tractable and (posterior is None or isinstance(posterior, Exact))
    chosen = Exact() if exact else posterior
    if chosen is None:
        raise ValueError(
            f"posterior: that of {type(model).__name__} has no closed form; give the Fit, or its .posterior"
        )
    mean, variance = map_blocks(_latent_moments, model, known_to(chosen, given), chosen)
    return LatentMoments(mean, np.sqrt(variance), "exact" if exact else "approximate")


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
