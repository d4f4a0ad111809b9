"""The verb ``infer``: what the data say about the latent."""

from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from veil import distributions
from veil.data import Data, Stream
from veil.evaluation.moments import DRAWS, mean_and_variance
from veil.host.showing import Shown
from veil.learning.preprocessing import supported
from veil.model import Datum, Model, PerEpisode, Plate, Stepwise, Tractable, blocks, checks, per_episode
from veil.model.abilities import name_of
from veil.model.chains import without_memory
from veil.model.filter import ExactChain, beliefs
from veil.model.stepwise import Marginal
from veil.posterior import Bootstrap, Exact, MeanField, Online, Optimal, Posterior, proposals
from veil.posterior.arguments import known_to, parts
from veil.posterior.assumed import AssumedGaussian
from veil.posterior.choice import by_particles, chosen
from veil.posterior.choice import kind as kind_of
from veil.units import unwrapped_posterior

TOGETHER = 2048  # draws or particles, of all sequences that are looked at side by side


@dataclass(frozen=True, repr=False)
class Inference(Shown):
    """p(z | y, x) of each datum, exactly or nearly: ``kind`` is "exact", "approximate", or by "particles".

    Of a discrete latent of K values: ``probabilities`` [N, K], ``most_likely`` [N], ``entropy`` [N] in nats. Of an
    array-valued one: ``mean`` and ``standard_deviation`` [N, ...] (of codes the mean is the probability of each value).
    Of sequences all have an axis of steps, [N, T, ...] (but for a latent that is drawn once an episode), and ``path``
    [N, T] is the most likely path of states as a whole (Viterbi). ``paths`` [N, S, T, ...], where asked for: S draws of
    the whole path, whose steps belong together, which those of marginals do not. What is filtered step by step comes
    with ``log_likelihood`` [N, T], log p(y_t | y_1..t-1) in nats, whose sum is that of the sequence (particles
    estimate it). What a model does not have is None. At padding numbers repeat the last step, and ``log_likelihood`` is
    0.
    """

    kind: str
    probabilities: np.ndarray | None = None
    most_likely: np.ndarray | None = None
    entropy: np.ndarray | None = None
    mean: Any = None
    standard_deviation: Any = None
    path: np.ndarray | None = None
    paths: Any = None
    log_likelihood: np.ndarray | None = None


def infer(
    model: Any,
    data: Any,
    *,
    posterior: Any = None,
    filtered: bool = False,
    paths: int | None = None,
    key: PRNGKeyArray | None = None,
    samples: int = 1000,
) -> Inference:
    """The latent of each datum of a model (or a ``Fit``): its ``Inference``.

    Of sequences, of each step given the whole sequence. With ``filtered`` each step is given only itself and the steps
    before it; with ``paths`` it is that many draws of the whole path, for which a ``key`` is needed. A latent that is
    drawn once an episode has no path; ``filtered`` says what the steps so far tell of it, [N, T, ...]: exactly of a
    finite one, and by a network that reads the episode so far where that is its posterior.

    Exact where that is known (``HMM``, ``LDS``, mixtures, ...). Any other model needs its posterior: give the ``Fit``,
    or ``posterior``, unless the usual one has nothing to learn (``SwitchingLDS``, ``NonlinearGaussian``). A posterior
    that only proposes steps (``veil.posterior.Bootstrap()``, ``Optimal()``) stands for a particle filter with
    ``samples`` particles and its backward paths (with a ``key``), as does ``MeanField()`` where it is to filter.

    Raises:
        TypeError: a posterior that is none, or a latent that all data share.
        ValueError: a model without parameters, data of another shape or outside its support, a posterior or a key that
            is needed, ``filtered`` or ``paths`` of single rows or of a posterior that cannot.

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
    checks.fitted(model)
    given = blocks.as_data(model, data)
    if isinstance(given, Data):
        supported(model, given)  # of what cannot be there is no posterior
    else:
        given = given.map(lambda part: (supported(model, part), part)[1])
    if isinstance(model, Stepwise):
        return _of_sequences(model, given, posterior, filtered, paths, key, samples)
    whole = isinstance(model, PerEpisode)
    for name, value in (("filtered", (filtered and not whole) or None), ("paths", paths)):
        if value is not None:
            what = "has one latent an episode" if whole else "is a model of single rows"
            raise ValueError(f"{name}: {name_of(model)} {what}, which has no path; leave it out")
    if isinstance(model, Plate):
        raise TypeError("model: all data share its latent, which is in the Fit's posterior; there is none to infer")
    used = chosen(model, posterior)
    found = blocks.map_blocks(_so_far if filtered else _marginals, model, known_to(used, given), used)
    return _inference(found, kind_of(used))


@np.errstate(all="ignore")  # probabilities may be too small for a number, whatever numpy was told to do then
def _inference(found: Marginal, kind: str) -> Inference:
    mean = deviation = None
    if found.mean is not None:
        mean, deviation = found.mean, jax.tree.map(np.sqrt, found.variance)
    logs = found.log_probabilities
    if logs is None:
        return Inference(kind, mean=mean, standard_deviation=deviation, log_likelihood=found.log_likelihood)
    entropy, likely = _entropy(logs), np.argmax(logs, -1)
    return Inference(kind, np.exp(logs), likely, entropy, mean, deviation, found.path, None, found.log_likelihood)


def _entropy(logs: np.ndarray) -> np.ndarray:
    """Nats, of the last axis."""
    probabilities = np.exp(logs)
    entropy = -np.sum(np.where(probabilities > 0, probabilities * np.where(probabilities > 0, logs, 0.0), 0.0), -1)
    return np.asarray(entropy)


@eqx.filter_jit
def _marginals(model: Model, block: Datum, posterior: Posterior) -> Marginal:
    return jax.vmap(lambda datum: _marginal(posterior, model, datum))(block)


def _marginal(posterior: Posterior, model: Model, datum: Datum) -> Marginal:
    q = posterior(model, datum)
    if isinstance(q, distributions.Categorical):
        return Marginal(jax.nn.log_softmax(q.logits))
    if isinstance(q, distributions.Empty):  # a density without a latent: one value, with probability one
        return Marginal(jnp.zeros(1))
    # the key is for families whose moments are not known; the draws are many and always the same
    mean, variance = mean_and_variance(q, jax.random.key(0))
    return Marginal(None, mean, variance)


# -- one latent an episode ---------------------------------------------------------------------------------------------


@eqx.filter_jit
def _so_far(model: Any, block: Datum, posterior: Posterior) -> Marginal:
    return jax.vmap(lambda datum: _of_beginnings(posterior, model, datum))(block)


def _of_beginnings(posterior: Posterior, model: Any, datum: Datum) -> Marginal:
    """Of a latent that is drawn once an episode, given the steps up to each: [T, ...]."""
    if isinstance(posterior, Exact):
        return per_episode.filtered(model, datum)
    steps, there = jnp.arange(len(datum)), datum.there
    # a beginning is the episode with the rest of it as padding; one at a time, since each reads all steps
    return jax.lax.map(lambda t: _marginal(posterior, model, replace(datum, mask=there & (steps <= t))), steps)


# -- sequences ---------------------------------------------------------------------------------------------------------


def _of_sequences(
    model: Any,
    data: Data | Stream,
    posterior: Posterior | None,
    filtered: bool,
    paths: int | None,
    key: PRNGKeyArray | None,
    samples: int,
) -> Inference:
    exact = isinstance(model, Tractable) and not isinstance(posterior, Bootstrap | Optimal)
    used = Exact() if exact else chosen(model, posterior)
    checks.whole("samples", samples)
    if paths is not None:
        checks.whole("paths", paths)
        if filtered:
            raise ValueError("filtered: a path is drawn given all of its sequence; leave out filtered or paths")
    drawn = by_particles(model, used)
    particles = drawn or (filtered and isinstance(used, MeanField))
    if filtered:
        _check_online(model, used)
    if drawn:
        proposals.stepwise(model, used)
    if key is None and (particles or paths is not None):
        what = "particles" if particles else "paths"
        raise ValueError(f"key: {what} are drawn; give one, such as jax.random.key(0)")
    if key is None:
        key = jax.random.key(0)  # nothing is drawn
    checks.random_key(key)
    how: Any = _paths if paths is not None else _filtered if filtered else _smoothed
    draws = (paths or 1) * (samples if particles else 1)
    together = max(1, TOGETHER // draws) if particles or paths is not None else None
    count = DRAWS if paths is None else paths
    found = _all(how, model, known_to(used, data), used, key, samples, count, together)
    kind = "particles" if particles else kind_of(used)
    return Inference(kind, paths=found) if paths is not None else _inference(found, kind)


def _check_online(model: Any, posterior: Posterior) -> None:
    """Raise ValueError for a posterior that needs the steps that are to come."""
    reason: Exception | None = None
    if isinstance(posterior, Online):
        try:
            posterior.filter(model)
        except ValueError as error:
            reason = error
        else:
            return
    name = type(unwrapped_posterior(posterior)[0]).__name__
    raise ValueError(
        f"filtered: this posterior, {name}, sees the whole sequence. Fit one that sees the past, "
        "veil.Sequential(net, veil.posterior.Past()) (on the command line --posterior filtering), or give "
        "posterior=veil.posterior.Bootstrap() for a particle filter"
    ) from reason


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


def _smoothed(model: Any, posterior: Any, datum: Datum, key: PRNGKeyArray, samples: int, count: int) -> Marginal:
    """Of every step given the whole sequence."""
    if isinstance(posterior, Bootstrap | Optimal):
        drawn = _paths(model, posterior, datum, key, samples, count)
        return proposals.marginals(model, jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), drawn))
    if isinstance(posterior, MeanField):
        fields = posterior.fields(model, datum)
        return Marginal(jnp.log(fields.regimes), fields.mean, _variances(fields.covariance), fields.path)
    if isinstance(posterior, AssumedGaussian):
        estimated = posterior.smoothed(model, datum)
        return Marginal(None, estimated.mean, _variances(estimated.covariance))
    if isinstance(posterior, Exact) and isinstance(model, ExactChain):
        return model.marginals(datum)
    return _marginal(posterior, model, datum)


def _filtered(model: Any, posterior: Any, datum: Datum, key: PRNGKeyArray, samples: int, count: int) -> Marginal:
    """Of every step given it and those before it."""
    filter = posterior.filter(model)
    if isinstance(filter, proposals.ParticleBeliefs):
        filter = filter.of(samples)
    elif not isinstance(posterior, Exact | AssumedGaussian):  # moments given all that a network was told so far
        return _marginal(posterior, model, datum)
    after = beliefs(filter, datum, key)[1]
    return jax.vmap(filter.marginal)(after)._replace(log_likelihood=after.log_likelihood)


def _paths(model: Any, posterior: Any, datum: Datum, key: PRNGKeyArray, samples: int, count: int) -> Any:
    """Draws [S, T, ...] of the path given the whole sequence."""
    if isinstance(posterior, Bootstrap | Optimal):
        key_filter, key = jax.random.split(key)
        swarm = proposals.filtered(model, posterior, datum, key_filter, samples)
        drawn = proposals.paths(model, swarm, datum, key, count)
    else:
        drawn = jax.vmap(posterior(model, datum).sample)(jax.random.split(key, count))
    return without_memory(drawn)


def _variances(covariance: Array) -> Array:
    return jnp.diagonal(covariance, axis1=1, axis2=2)
