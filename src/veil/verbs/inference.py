"""The verb ``infer``: what data say about what is hidden."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil import distributions
from veil.data import Data, Stream
from veil.evaluation.moments import DRAWS, mean_and_variance
from veil.model import Datum, Model, blocks, checks
from veil.model.blocks import map_blocks
from veil.model.chains import without_memory
from veil.posterior import Bootstrap, Exact, MeanField, Optimal, Posterior, proposals
from veil.posterior.arguments import known_to, parts

TOGETHER = 2048  # draws or particles, of all sequences that are looked at side by side


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
    """The posterior over a discrete path, for each sequence, given all of it (smoothing) or the past (filtering).

    ``probabilities`` [N, T, K] p(z_t | y, x), ``most_likely`` [N, T] the best state of each step on its own, ``path``
    [N, T] the best path as a whole (Viterbi; None of a filter and of particles), ``entropy`` [N, T] in nats. ``kind``:
    "exact", "approximate", or "particles". At padding they repeat the last step. Of a ``SwitchingLDS`` ``mean`` and
    ``standard_deviation`` [N, T, L] are those of the place that moves; else None.
    """

    probabilities: np.ndarray
    most_likely: np.ndarray
    path: np.ndarray | None
    entropy: np.ndarray
    kind: str = "exact"
    mean: np.ndarray | None = None
    standard_deviation: np.ndarray | None = None


@dataclass(frozen=True)
class LatentMoments:
    """The posterior of an array-valued latent, for each datum: ``mean`` and ``standard_deviation`` [N, ...].

    Of p(z | y, x) where that is known ("exact"), else of its approximation q ("approximate"), or from "particles":
    ``kind``. Of codes the mean is the probability of each value.
    """

    mean: np.ndarray
    standard_deviation: np.ndarray
    kind: str


@dataclass(frozen=True)
class PosteriorPaths:
    """``paths`` [N, S, T, ...]: of each sequence S draws of the whole path z_1..T given y and x; ``kind`` as above.

    The steps of one belong together, which those of marginals do not. At padding they mean nothing.
    """

    paths: np.ndarray
    kind: str


def infer(
    model: Any,
    data: Any,
    *,
    posterior: Any = None,
    filtered: bool = False,
    paths: int | None = None,
    key: PRNGKeyArray | None = None,
    samples: int = 1000,
) -> Any:
    """The latent of each datum: ``Inference`` for a discrete choice, ``LatentMoments`` for an array-valued latent.

    Of sequences, of each step given the whole sequence: ``PathInference``, or ``LatentMoments`` [N, T, ...]. With
    ``filtered`` each step is given only itself and the steps before it; with ``paths`` it is that many draws of the
    whole path, ``PosteriorPaths``, for which a ``key`` is needed.

    Exact where that is known (``HMM``, ``LDS``, mixtures, ...). Any other model needs its posterior: give the ``Fit``,
    or ``posterior``, unless the usual one has nothing to learn (``SwitchingLDS``, ``NonlinearGaussian``). A posterior
    that only proposes steps (``veil.posterior.Bootstrap()``, ``Optimal()``) stands for a particle filter with
    ``samples`` particles and its backward paths (with a ``key``), as does ``MeanField()`` where it is to filter.

    Raises:
        TypeError: a posterior that is none, or a latent that all data share.
        ValueError: a model without parameters, data of another shape, a posterior or a key that is needed, ``filtered``
            or ``paths`` of single rows or of a posterior that cannot.

    >>> import jax, veil
    >>> data = veil.data.load("faithful")
    >>> model = veil.fit(veil.Mixture(components=2), data, key=jax.random.key(0)).model
    >>> infer(model, data).probabilities.shape
    (272, 2)
    >>> eruptions = veil.data.episodes([data.query])
    >>> remembers = veil.fit(veil.HMM(states=2), eruptions, key=jax.random.key(0)).model
    >>> infer(remembers, eruptions, paths=5, key=jax.random.key(1)).paths.shape
    (1, 5, 272)
    """
    if posterior is not None and not isinstance(posterior, Posterior):
        raise TypeError(
            f"posterior: expected a veil posterior, such as a Fit's .posterior; got {type(posterior).__name__} (a "
            "ParticleFilter's proposal is one, and samples its count)"
        )
    model, posterior = parts(model, posterior)
    given = data if isinstance(data, Data | Stream) else Data(data)
    checks.fitted(model)
    checks.shapes(model, given)
    if model.sequential:
        return _of_sequences(model, given, posterior, filtered, paths, key, samples)
    for name, value in (("filtered", filtered or None), ("paths", paths)):
        if value is not None:
            raise ValueError(
                f"{name}: {type(model).__name__} is a model of single rows, which have no path; leave it out"
            )
    if model.tractable and _a_choice(model, given):
        logs = map_blocks(_choices, model, given)
        return Inference(np.exp(logs), np.argmax(logs, 1), _entropy(logs))
    if model.shared_by > 1:
        raise TypeError("model: all data share its latent, which is in the Fit's posterior; there is none to infer")
    chosen, kind = _chosen(model, posterior)
    mean, variance = map_blocks(_latent_moments, model, known_to(chosen, given), chosen)
    return LatentMoments(mean, np.sqrt(variance), kind)


def _chosen(model: Any, posterior: Posterior | None) -> tuple[Posterior, str]:
    """The posterior to use, and what kind of numbers it gives."""
    if model.tractable and (model.sequential or posterior is None or isinstance(posterior, Exact)):
        return Exact(), "exact"
    if posterior is None:
        posterior = getattr(model, "usual_posterior", None)
    if posterior is None or not posterior.ready:
        raise ValueError(
            f"posterior: that of {type(model).__name__} has no closed form; give the Fit, or its .posterior"
        )
    return posterior, "approximate"


# -- single rows -------------------------------------------------------------------------------------------------------


@eqx.filter_jit
def _choices(model: Model, block: Datum) -> Array:
    return jax.vmap(lambda datum: jax.nn.log_softmax(model.log_joints(datum)))(block)


@eqx.filter_jit
def _latent_moments(model: Model, block: Datum, posterior: Posterior) -> tuple[Array, Array]:
    return jax.vmap(lambda datum: _moments(posterior, model, datum))(block)


def _moments(posterior: Posterior, model: Model, datum: Datum) -> tuple[Array, Array]:
    # the key is for families whose moments are not known; the draws are many and always the same
    return mean_and_variance(posterior(model, datum), jax.random.key(0))


def _a_choice(model: Model, data: Data | Stream) -> bool:
    """Whether the latent is a single discrete choice."""
    example = next(iter(data.blocks(1))).evidence
    prior = model.prior(None if example is None else jnp.asarray(example[0], jnp.result_type(float)))
    return distributions.enumerable(prior) and not isinstance(prior, distributions.Codes)


def _entropy(logs: np.ndarray) -> np.ndarray:
    """Nats, of the last axis."""
    probabilities = np.exp(logs)
    entropy = -np.sum(np.where(probabilities > 0, probabilities * np.where(probabilities > 0, logs, 0.0), 0.0), -1)
    return np.asarray(entropy)


# -- sequences ---------------------------------------------------------------------------------------------------------


class _Steps(NamedTuple):
    """Of one sequence: log-probabilities [T, K] and best path of states, mean and variance [T, ...] of a vector."""

    logs: Any = None
    path: Any = None
    mean: Any = None
    variance: Any = None


def _of_sequences(
    model: Any,
    data: Data | Stream,
    posterior: Posterior | None,
    filtered: bool,
    paths: int | None,
    key: PRNGKeyArray | None,
    samples: int,
) -> PathInference | LatentMoments | PosteriorPaths:
    chosen, kind = _chosen(model, posterior)
    checks.whole("samples", samples)
    if paths is not None:
        checks.whole("paths", paths)
        if filtered:
            raise ValueError("filtered: a path is drawn given all of its sequence; leave out filtered or paths")
    proposes = isinstance(chosen, Bootstrap | Optimal)
    by_particles = proposes or (filtered and isinstance(chosen, MeanField))
    if filtered and not (by_particles or kind == "exact" or chosen.online or hasattr(chosen, "filtered")):
        raise ValueError(
            f"filtered: this posterior, {type(chosen).__name__}, sees the whole sequence. Fit one that sees the past, "
            "veil.Sequential(net, veil.Past()) (on the command line --posterior filtering), or give "
            "posterior=veil.posterior.Bootstrap() for a particle filter"
        )
    if by_particles:
        kind = "particles"
        proposals.stepwise(model, chosen)
    if key is None and (by_particles or paths is not None):
        what = "particles" if by_particles else "paths"
        raise ValueError(f"key: {what} are drawn; give one, such as jax.random.key(0)")
    if key is None:
        key = jax.random.key(0)  # nothing is drawn
    checks.random_key(key)
    how: Any = _paths if paths is not None else _filtered if filtered else _smoothed
    draws = (paths or 1) * (samples if by_particles else 1)
    together = max(1, TOGETHER // draws) if by_particles or paths is not None else None
    count = DRAWS if paths is None else paths
    found = _all(how, model, known_to(chosen, data), chosen, key, samples, count, together)
    if paths is not None:
        return PosteriorPaths(found, kind)
    deviation = None if found.variance is None else np.sqrt(found.variance)
    if found.logs is None:
        assert deviation is not None  # a latent that is no state is a vector
        return LatentMoments(found.mean, deviation, kind)
    best = np.argmax(found.logs, -1)
    return PathInference(np.exp(found.logs), best, found.path, _entropy(found.logs), kind, found.mean, deviation)


def _all(
    how: Any,
    model: Model,
    data: Data | Stream,
    posterior: Posterior,
    key: PRNGKeyArray,
    samples: int,
    count: int,
    together: int | None,
) -> Any:
    """``how`` of every sequence: leaves [N, ...] on the host. The draws of a sequence do not depend on the others."""
    model = model.with_expanded_sums(False)
    found = []
    for block in blocks.cached(model, data):
        result = _block(how, model, posterior, block.datum, block.rows, key, samples, count, together)
        found.append(jax.tree.map(lambda leaf, n=block.count: np.asarray(leaf)[:n], result))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)


@eqx.filter_jit
def _block(
    how: Any,
    model: Model,
    posterior: Posterior,
    block: Datum,
    rows: Array,
    key: PRNGKeyArray,
    samples: int,
    count: int,
    together: int | None,
) -> Any:
    def one(each: tuple[Datum, Array]) -> Any:
        return how(model, posterior, each[0], jax.random.fold_in(key, each[1]), samples, count)

    # exact moments all at once, which shares covariances; draws so many at a time as memory allows
    if together is None:
        return jax.vmap(lambda datum, row: one((datum, row)))(block, rows)
    return jax.lax.map(one, (block, rows), batch_size=min(together, len(rows)))


def _smoothed(model: Any, posterior: Any, datum: Datum, key: PRNGKeyArray, samples: int, count: int) -> _Steps:
    """Of every step given the whole sequence."""
    if isinstance(posterior, Bootstrap | Optimal):
        drawn = _paths(model, posterior, datum, key, samples, count)
        return _weighted(model, drawn.swapaxes(0, 1), jnp.full((drawn.shape[1], count), 1.0 / count))
    if isinstance(posterior, MeanField):
        fields = model.fields(datum, posterior.sweeps)
        return _Steps(jnp.log(fields.regimes), fields.path, fields.mean, _variances(fields.covariance))
    if hasattr(posterior, "smoothed"):
        estimated = posterior.smoothed(model, datum)
        return _Steps(None, None, estimated.mean, _variances(estimated.covariance))
    if not model.tractable:
        return _Steps(None, None, *_moments(posterior, model, datum))
    if hasattr(model, "best_path"):
        return _Steps(model.marginals(datum), model.best_path(datum))
    return _Steps(None, None, *model.marginals(datum))


def _filtered(model: Any, posterior: Any, datum: Datum, key: PRNGKeyArray, samples: int, count: int) -> _Steps:
    """Of every step given it and those before it."""
    if model.tractable:
        found = model.filtered(datum)
        return _Steps(None, None, *found) if isinstance(found, tuple) else _Steps(found)
    if hasattr(posterior, "filtered"):
        estimated = posterior.filtered(model, datum)
        return _Steps(None, None, estimated.mean, _variances(estimated.covariance))
    if posterior.online:
        return _Steps(None, None, *_moments(posterior, model, datum))
    if hasattr(model, "filtered"):  # the model's own, with a Kalman filter in each particle
        found = model.filtered(datum, key, samples)
        return _Steps(_log(found.regimes), None, found.mean, _variances(found.covariance))
    swarm = proposals.filtered(model, posterior, datum, key, samples)
    return _weighted(model, swarm.latents, jnp.exp(swarm.log_weights))


def _paths(
    model: Any, posterior: Any, datum: Datum, key: PRNGKeyArray, samples: int, count: int
) -> Int[Array, "S T"] | Float[Array, "S T *latent"]:
    """Draws of the path given the whole sequence."""
    if isinstance(posterior, Bootstrap | Optimal):
        key_filter, key = jax.random.split(key)
        swarm = proposals.filtered(model, posterior, datum, key_filter, samples)
        drawn = proposals.paths(model, swarm, datum, key, count)
    else:
        drawn = jax.vmap(posterior(model, datum).sample)(jax.random.split(key, count))
    found: Array = without_memory(drawn)
    return found


def _weighted(model: Any, values: Array, weights: Float[Array, "T K"]) -> _Steps:
    """Of states [T, K] their shares at each step, of vectors [T, K, ...] their moments."""
    if jnp.issubdtype(values.dtype, jnp.integer):
        return _Steps(_log(jnp.einsum("tk,tks->ts", weights, jax.nn.one_hot(values, model.states))))
    mean = jnp.einsum("tk,tk...->t...", weights, values)
    return _Steps(None, None, mean, jnp.einsum("tk,tk...->t...", weights, (values - mean[:, None]) ** 2))


def _variances(covariance: Float[Array, "T L L"]) -> Float[Array, "T L"]:
    return jnp.diagonal(covariance, axis1=1, axis2=2)


def _log(probabilities: Array) -> Array:
    """log p, of nothing minus infinity, without a warning."""
    return jnp.where(probabilities > 0, jnp.log(jnp.where(probabilities > 0, probabilities, 1.0)), -jnp.inf)
