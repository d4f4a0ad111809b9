"""Where the ELBO loses: to the family of posteriors, or to the network that picks one of it."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.evaluation.average import Average, average
from veil.evaluation.bounds import collected, grouping, log_weights, summary
from veil.evaluation.moments import mean_and_variance
from veil.host.progress import Progress
from veil.host.showing import Shown
from veil.model import Datum, Model, blocks, checks
from veil.model.abilities import space_of
from veil.model.scales import Scale
from veil.parts.heads import DiagonalGaussian, Head
from veil.posterior.arguments import verified
from veil.posterior.base import Posterior


@dataclass(frozen=True, repr=False)
class Gap(Shown):
    """log p(y | x) - ELBO of each datum [N], nats, in two parts (Cremer et al. 2018, eqs. 5-7).

    ``log_likelihood``: as given, or the importance-weighted bound with the better of the two posteriors (then both the
    total and the approximation part are too small in expectation, by what that bound is too low).
    ``best``: the ELBO of the best posterior of the family that was found, or of the amortised one where none better
    was; ``amortised``: that of the posterior. Both are unbiased estimates from the same draws, but the better of two
    noisy numbers is a little too high: by less than ``difference_error``.
    Standard errors: of the Monte Carlo estimates; ``difference_error`` that of ``best - amortised``.
    """

    log_likelihood: np.ndarray
    log_likelihood_error: np.ndarray
    best: np.ndarray
    best_error: np.ndarray
    amortised: np.ndarray
    amortised_error: np.ndarray
    difference_error: np.ndarray
    weight: np.ndarray
    kind: str = "estimate"

    @property
    def approximation(self) -> Average:
        """log p - best ELBO of the family: what a richer family would win."""
        error = np.hypot(self.log_likelihood_error, self.best_error)
        return average(self.log_likelihood - self.best, self.weight, error)

    @property
    def amortization(self) -> Average:
        """Best - amortised ELBO, never negative: what a better encoder, or longer training, would win."""
        return average(self.best - self.amortised, self.weight, self.difference_error)

    @property
    def total(self) -> Average:
        """log p - amortised ELBO: KL(q || p(z | y, x))."""
        error = np.hypot(self.log_likelihood_error, self.amortised_error)
        return average(self.log_likelihood - self.amortised, self.weight, error)


def _member(family: Head, units: Scale, vector: Array) -> Distribution:
    """The family's member in the units of the amortised posterior, where its own vector is that of a unit normal."""
    shape = np.shape(units.shift)
    return distributions.Affine(family.blank(shape)(vector, shape), units.shift, units.scale)


@eqx.filter_jit
def _begin(
    model: Model, posterior: Posterior, family: Head, block: Datum, rows: Array, key: PRNGKeyArray
) -> tuple[Scale, Array]:
    def one(datum: Datum, row: Array) -> tuple[Scale, Array]:
        mean, variance = mean_and_variance(posterior(model, datum), jax.random.fold_in(key, row))
        scale = jnp.sqrt(jnp.where(jnp.isfinite(variance) & (variance > 0), variance, 1.0))
        standard = jnp.stack([jnp.ones_like(mean), jnp.zeros_like(mean), jnp.ones_like(mean)])
        return Scale(jnp.where(jnp.isfinite(mean), mean, 0.0), scale), family.blank(mean.shape).from_sums(standard)

    return jax.vmap(one)(block, rows)


@eqx.filter_jit
def _climb(
    model: Model,
    family: Head,
    units: Scale,
    block: Datum,
    rows: Array,
    key: PRNGKeyArray,
    number: Array,
    vectors: Array,
    state: Any,
    settings: tuple[int, int, float],
) -> tuple[Array, Any]:
    """One step of Adam for every datum's vector, up the ELBO."""
    draws, steps, rate = settings

    def loss(vectors: Array) -> Array:
        def one(datum: Datum, row: Array, units: Scale, vector: Array) -> Array:
            q = _member(family, units, vector)
            # the draw carries the gradient and log q does not: no noise where q is exact (Roeder et al. 2017, eq. 7)
            held = _member(family, units, jax.lax.stop_gradient(vector))

            def weight(key: PRNGKeyArray) -> Array:
                z = q.sample(key)
                return model.log_joint(z, datum) - distributions.log_prob(held, z)

            keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, row), number), draws)
            return -jnp.mean(jax.vmap(weight)(keys))

        return jnp.sum(jax.vmap(one)(block, rows, units, vectors))

    optimiser = _optimiser(steps, rate)
    updates, state = optimiser.update(jnp.nan_to_num(jax.grad(loss)(vectors)), state)
    return optax.apply_updates(vectors, updates), state


def _optimiser(steps: int, rate: float) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(rate, steps))


@eqx.filter_jit
def _pairs(
    model: Model,
    posterior: Posterior,
    family: Head,
    units: Scale,
    vectors: Array,
    block: Datum,
    rows: Array,
    key: PRNGKeyArray,
    first: Array,
    count: int,
) -> tuple[Array, Array]:
    """log-weights [B, S] of the amortised posterior and of the family's member, from the same random numbers."""
    draws = first + jnp.arange(count)

    def one(datum: Datum, row: Array, units: Scale, vector: Array) -> tuple[Array, Array]:
        own = jax.random.fold_in(key, row)
        pair = posterior(model, datum), _member(family, units, vector)
        amortised, found = (log_weights(model, q, datum, own, draws) for q in pair)
        return amortised, found

    return jax.vmap(one)(block, rows, units, vectors)


def gap(
    model: Model,
    posterior: Posterior,
    data: Any,
    *,
    key: PRNGKeyArray,
    family: Head | None = None,
    log_likelihood: Any = None,
    samples: int = 1000,
    steps: int = 500,
    draws: int = 16,
    rate: float = 0.05,
    progress: bool | None = None,
) -> Gap:
    """The inference gap of each datum, split into an approximation and an amortization part, nats (estimates).

    log p - ELBO(q) = [log p - ELBO(q*)] + [ELBO(q*) - ELBO(q)], q* the best member of ``family`` (a head on the real
    line; None: ``DiagonalGaussian``) for this datum alone: ``steps`` of Adam at ``rate``, cosine decay, ``draws`` a
    step, from the posterior's mean and variance and in units of them. ``log_likelihood`` [N] where it is known, or
    a tighter bound of it; else the importance-weighted bound is used. Both ELBOs are then measured with ``samples``
    fresh draws from common random numbers, and q* is the posterior itself where nothing better was found, so that no
    part is negative but by the noise of log p. Cremer et al. 2018, section 3.

    Raises ValueError for a family that is not on the real line, a ``log_likelihood`` that is not [N], and numbers that
    are not positive; TypeError for a latent that is not real.
    """
    verified(model, posterior, key)
    for name, value in {"samples": samples, "steps": steps, "draws": draws}.items():
        checks.whole(name, value)
    if not rate > 0:
        raise ValueError(f"rate: expected a positive number; got {rate!r}")
    family = DiagonalGaussian() if family is None else family
    if not isinstance(family, Head) or not family.real:
        raise ValueError(f"family: expected a head on the real line, such as veil.heads.FullGaussian(); got {family!r}")
    data = blocks.as_data(model, data)
    if log_likelihood is not None:
        log_likelihood = _one_each(log_likelihood, blocks.length(data))
    key_begin, key_climb, key_measure = jax.random.split(key, 3)
    rows, group = grouping(blocks.size(data), max(samples, draws))
    rows = min(rows, max(1, blocks.ENTRIES // (draws * max(blocks.size(data), 16))))
    each = -(-blocks.length(data) // rows) * (steps + -(-samples // group))
    with Progress(progress, "inference gap") as bar:
        tick = bar.ticks(each, f"{steps} steps, {samples} samples")

        def measured(block: blocks.Block) -> list[np.ndarray]:
            _check_latent(model, block.datum)
            units, vectors = _begin(model, posterior, family, block.datum, block.rows, key_begin)
            state, settings = _optimiser(steps, rate).init(vectors), (draws, steps, float(rate))
            for number in range(steps):
                at = block.datum, block.rows, key_climb, jax.device_put(np.asarray(number))
                vectors, state = _climb(model, family, units, *at, vectors, state, settings)
                tick()

            def draw(first: Array) -> tuple[Array, Array]:
                at = block.datum, block.rows, key_measure, first
                return _pairs(model, posterior, family, units, vectors, *at, group)

            return _measured(*collected(samples, group, draw, tick))

        (bound, bound_error, *rest), weight = blocks.gathered(blocks.blocks(data, rows, space_of(model)), measured)
    if log_likelihood is not None:
        bound, bound_error = _one_each(log_likelihood, len(bound)), np.zeros(len(bound))
    best, best_error, own, own_error, difference = rest
    return Gap(bound, bound_error, best, best_error, own, own_error, difference, weight)


def _one_each(log_likelihood: Any, count: int) -> np.ndarray:
    """[N] of float64; ``count`` 0, of a stream that does not say, is any number."""
    given = np.asarray(log_likelihood, np.float64)
    if count and given.shape != (count,):
        raise ValueError(f"log_likelihood: expected one for each datum, [{count}]; got {given.shape}")
    return given


def _check_latent(model: Model, block: Datum) -> None:
    one = jax.tree.map(lambda leaf: leaf[0], block)
    prior = model.prior(one.evidence)
    if not distributions.reparameterised(prior):
        raise TypeError(
            "model: the gap is measured for real latents, and this model's is discrete: its exact posterior "
            "veil.Exact() has no gap (a prior of your own that is real: let it inherit "
            "veil.distributions.Reparameterised)"
        )


def _measured(amortised: np.ndarray, found: np.ndarray) -> list[np.ndarray]:
    """The fields of a ``Gap`` from log-weights [B, S] that share their random numbers."""
    better = np.mean(found, 1) > np.mean(amortised, 1)  # False if the search went astray
    best = np.where(better[:, None], found, amortised)
    elbo, elbo_error, bound, bound_error, *_ = (np.asarray(leaf) for leaf in summary(jax.device_put(best)))
    own, own_error, *_ = (np.asarray(leaf) for leaf in summary(jax.device_put(amortised)))
    samples = amortised.shape[1]
    difference = np.std(best - amortised, axis=1, ddof=1) / np.sqrt(samples) if samples > 1 else np.full(len(own), 0.0)
    return [bound, bound_error, elbo, elbo_error, own, own_error, difference]
