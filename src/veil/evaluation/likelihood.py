"""log p(y | x) of each datum, and what follows from it."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from veil import distributions
from veil.data import Data, Stream
from veil.maths.markov import log_total
from veil.model import Datum, Model, OfSequences, Plate, Tractable, checks
from veil.model.abilities import free_parameters
from veil.model.batching import there
from veil.model.blocks import first, map_blocks
from veil.parts.fields import Chaining, Transporting
from veil.posterior import Posterior
from veil.posterior.arguments import known_to, parts
from veil.posterior.choice import by_particles, chosen
from veil.units import unwrapped


@dataclass(frozen=True, repr=False)
class Evaluation:
    """How well a model explains data. All in nats; ``kind`` says what the likelihood is: "exact", "lower bound, ...".

    ``log_likelihood``: weighted total over ``n`` data; ``log_likelihood_per_datum`` its weighted mean and
    ``standard_error`` that mean's, over data (``monte_carlo_error``: the part of the draws, for these data), NaN where
    the mean is -inf because the model gives a datum the density zero;
    ``parameters``: how many numbers are free; BIC = parameters · log n - 2 log L and AIC = 2 · parameters - 2 log L
    (smaller is better; n counts weights, and the steps of sequences; None for a bound, which neither can be made of).
    ``approximation``: what else is known of a bound.
    """

    log_likelihood: float
    log_likelihood_per_datum: float
    standard_error: float
    n: float
    rows: int
    parameters: int
    bic: float | None
    aic: float | None
    kind: str = "exact"
    monte_carlo_error: float = 0.0
    approximation: Any = None

    def table(self) -> list[tuple[str, str, str]]:
        """Name, value and what it is, for a table."""
        found = [
            ("log-likelihood", f"{self.log_likelihood:.4f}", f"nats, {self.kind}"),
            ("  per datum", f"{self.log_likelihood_per_datum:.6f}", self._spread()),
            ("data", f"{self.n:g}", "" if self.n == self.rows else f"total weight, in {self.rows} rows"),
            ("parameters", str(self.parameters), ""),
        ]
        for name, value in (("BIC", self.bic), ("AIC", self.aic)):
            found += [] if value is None else [(name, f"{value:.3f}", "smaller is better")]
        return found

    def _spread(self) -> str:
        return f"± {self.standard_error:.3g}" if np.isfinite(self.log_likelihood) else "impossible data among them"

    def __repr__(self) -> str:
        rows = [*self.table(), *([] if self.approximation is None else self.approximation.rows())]
        return "\n".join(["Evaluation", *(f"  {name:<24} {value:>16}  {what}".rstrip() for name, value, what in rows)])

    def as_dict(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        plain = {name: value for name, value in vars(self).items() if name != "approximation"}
        return plain if self.approximation is None else {**plain, **self.approximation.as_dict()}


def chain_of(model: Any) -> bool:
    """Whether a model is a diffusion, in whatever units."""
    return isinstance(unwrapped(model)[0], Chaining)


@eqx.filter_jit
def _log_prob(model: Tractable, block: Datum) -> jax.Array:
    return jax.vmap(model.log_marginal)(block)


def log_prob(
    model: Any, data: Any, *, posterior: Posterior | None = None, key: PRNGKeyArray | None = None, samples: int = 1000
) -> np.ndarray:
    """log p(y | x) of each datum [N], in nats: exact where the latent can be summed or integrated out.

    Missing entries are integrated out, too. So it is of a discrete latent (codes) with no more than ``samples`` values:
    log Σ_z p(y, z | x). Of any other model (give a ``Fit``, or its ``posterior``, and a ``key``) it
    is the importance-weighted lower bound from ``samples`` draws, of a posterior that only
    proposes steps that of a particle filter with as many particles, and of a latent that all data share an estimate of
    the predictive density: see ``veil.evaluate`` for their errors.

    Raises ValueError for a model without parameters, or data of another shape than it was fitted to.

    >>> import jax, veil
    >>> data = veil.data.load("faithful")
    >>> model = veil.fit(veil.density(veil.LinearGaussian()), data, key=jax.random.key(0)).model
    >>> round(float(log_prob(model, data).sum()), 1)
    -1289.8
    """
    model, posterior = parts(model, posterior)
    if isinstance(model, Tractable):
        return map_blocks(_log_prob, model, data)
    if by_particles(model, posterior):
        from veil.evaluation.particles import particle_bound

        return particle_bound(model, posterior, data, key=_asked(key), particles=samples).combined
    data = data if isinstance(data, Data | Stream) else Data(data)
    latents = _list(model, data, samples)
    if latents is not None:
        return map_blocks(_listed, model, data, latents)
    posterior, key = chosen(model, posterior), _asked(key)
    data = known_to(posterior, data)
    if isinstance(model, Plate):
        from veil.evaluation.approximate import predictive

        return predictive(model, posterior, data, key=key)
    if chain_of(model):
        from veil.evaluation.transport import denoising_bound

        return denoising_bound(model, data, key=key, samples=samples, flow=False).elbo
    from veil.evaluation.bounds import bounds

    return bounds(model, posterior, data, key=key, samples=samples).importance


@eqx.filter_jit
def _listed(model: Model, block: Datum, latents: jax.Array) -> jax.Array:
    def one(datum: Datum) -> jax.Array:
        return log_total(jax.lax.map(lambda z: model.log_joint(z, datum), latents, batch_size=64))

    return jax.lax.map(one, block, batch_size=256)


def _list(model: Model, data: Data | Stream, samples: int) -> jax.Array | None:
    """All values of a discrete latent, where a sum over them costs no more than ``samples`` draws; else None."""
    if isinstance(model, Plate | OfSequences):
        return None
    prior = model.prior(first(data.evidence) if isinstance(data, Data) else first(next(iter(data)).evidence))
    few = distributions.enumerable(prior) and prior.values <= samples  # type: ignore[attr-defined]
    return distributions.support(prior) if few else None


def _asked(key: PRNGKeyArray | None) -> PRNGKeyArray:
    if key is None:
        raise ValueError("key: bounds are estimated by drawing; give one, such as jax.random.key(0)")
    checks.random_key(key)
    return key


def _sizes(model: Model, data: Data | Stream, count: int) -> np.ndarray:
    """How many observations each datum is: the steps of a sequence, else one."""
    if not isinstance(model, OfSequences):
        return np.ones(count)
    each = [np.sum(there(block), 1) for block in data.blocks(65536)]
    return np.concatenate(each).astype(np.float64)


def evaluate(
    model: Any,
    data: Any,
    *,
    posterior: Posterior | None = None,
    key: PRNGKeyArray | None = None,
    samples: int = 1000,
    thorough: bool = False,
    particles: int | None = None,
    progress: bool | None = None,
) -> Evaluation:
    """How well a model, or a ``Fit``, explains data: an ``Evaluation``, exact where that is possible.

    That is also where a discrete latent has no more values than ``samples``. Where it is not, give a ``Fit`` (or
    ``posterior``) and a ``key``: ``log_likelihood`` is then the importance-weighted lower bound from ``samples`` draws,
    and ``approximation`` holds the ELBO, Pareto k, active units, KL by dimension, mutual information and, with
    ``thorough``, annealed bounds, the gap's parts and calibration. Of a sequence model whose posterior only proposes
    steps (``Bootstrap``, ``Optimal``) it is the bound of a particle filter with ``samples`` particles; with
    ``particles`` (and a ``key``) such a bound, which stays tight for long sequences, is in ``approximation`` beside the
    value of any other sequence model, too. Of a diffusion it is its chain's ELBO, and in ``approximation`` log p of its
    probability flow.

    >>> import jax, veil
    >>> data = veil.data.load("faithful")
    >>> model = veil.fit(veil.Mixture(components=2), data, key=jax.random.key(0), restarts=3).model
    >>> evaluate(model, data).parameters
    11
    """
    if not isinstance(data, Data | Stream):
        data = Data(data)
    model, posterior = parts(model, posterior)
    found: Any = None
    noise = 0.0
    if isinstance(model, Tractable):
        solved = isinstance(unwrapped(model)[0], Transporting)
        kind = "exact, to its solver's tolerance" if solved else "exact"
        values = np.asarray(log_prob(model, data), np.float64)
        if particles is not None:
            from veil.evaluation.particles import particle_bound

            found = particle_bound(model, posterior, data, key=_asked(key), particles=particles)
    elif by_particles(model, posterior):
        from veil.evaluation.particles import particle_bound

        particles = particles or samples
        found = particle_bound(model, posterior, data, key=_asked(key), particles=particles)
        kind = f"lower bound, particle filter with {particles} particles"
        values = np.asarray(found.combined, np.float64)
        noise = found.combined_average.monte_carlo_error
    elif isinstance(model, Plate):
        kind = "estimate of the log predictive density"
        values = np.asarray(log_prob(model, data, posterior=posterior, key=key), np.float64)
    elif chain_of(model):
        from veil.evaluation.transport import denoising_bound

        found = denoising_bound(model, data, key=_asked(key), samples=samples, progress=progress)
        kind = f"lower bound, the chain's from {samples} of its times"
        values = np.asarray(found.elbo, np.float64)
        noise = found.elbo_average.monte_carlo_error
    else:
        from veil.evaluation.approximate import approximation

        posterior, key = chosen(model, posterior), _asked(key)
        data = known_to(posterior, data)
        options: dict[str, Any] = {"samples": samples, "thorough": thorough, "particles": particles}
        found = approximation(model, posterior, data, key=key, progress=progress, **options)
        if _list(model, data, samples) is not None:
            kind, values = "exact", np.asarray(log_prob(model, data, samples=samples), np.float64)
        else:
            kind = f"lower bound, importance-weighted with {samples} samples"
            values = np.asarray(found.bounds.importance, np.float64)
            noise = found.bounds.importance_average.monte_carlo_error
    weights, sizes = np.ones(len(values)), _sizes(model, data, len(values))
    if isinstance(data, Stream):
        weights = np.concatenate([np.ones(len(b)) if b.weight is None else b.weight for b in data])
    elif data.weight is not None:
        weights = np.asarray(data.weight, np.float64)
    n, rows = float(np.sum(weights)), len(values)
    total = float(np.sum(np.where(weights > 0, weights * values, 0.0)))
    mean = total / n
    # a datum of weight two is two data, as it is in n
    # a mean of -inf has no spread
    deviation = (
        np.where(weights > 0, weights * (values - mean) ** 2, 0.0) if np.isfinite(mean) else np.full(rows, np.nan)
    )
    error = float(np.sqrt(np.sum(deviation)) / n)
    free = free_parameters(model)
    bic = aic = None
    if kind == "exact":  # made of a bound they would be neither the criterion nor a bound on differences
        bic, aic = free * float(np.log(weights @ sizes)) - 2 * total, 2 * free - 2 * total
    return Evaluation(total, mean, error, n, rows, free, bic, aic, kind, noise, found)
