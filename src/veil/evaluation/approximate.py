"""What can be said of a likelihood without a closed form: bounds, and what they and the posterior are worth."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from veil import distributions
from veil.evaluation.annealing import AnnealedBound, Sandwich, annealed_bound, sandwich
from veil.evaluation.average import plain, text
from veil.evaluation.bounds import Bounds, bounds, grouping
from veil.evaluation.calibration import Calibration, calibration
from veil.evaluation.gap import Gap, gap
from veil.evaluation.latents import Latents, collapse, latents
from veil.evaluation.particles import ParticleBound, particle_bound
from veil.evaluation.paths import PathLatents, path_latents
from veil.model import Datum, Model, OfSequences, Stepwise, blocks
from veil.model.abilities import space_of
from veil.posterior import Posterior
from veil.posterior.arguments import verified
from veil.posterior.base import per_datum

FEW = 100  # data for the costly parts of a thorough evaluation


@dataclass(frozen=True)
class Approximation:
    """Everything but the bound itself that ``veil.evaluate`` found of a model with a continuous or coded latent.

    ``bounds``: ELBO and importance-weighted bound of each datum, with their errors and Pareto k; ``latents``: active
    units, KL by dimension, what is lost without z, and (but for sequences) mutual information; None of a single datum,
    which has no other to be compared with. ``collapse``: one line if latents are dead. Where asked for (``thorough``),
    on a hundred data: ``annealed``, a lower bound by annealed importance sampling; ``sandwich``, lower and upper bounds
    on data drawn from the model; ``gap``, log p - ELBO in its approximation and amortization parts; ``calibration``,
    simulation-based ranks of the posterior. ``particles``: a particle filter's bound of sequences, where asked for.
    """

    bounds: Bounds
    latents: Latents | PathLatents | None
    collapse: str | None
    annealed: AnnealedBound | None = None
    sandwich: Sandwich | None = None
    gap: Gap | None = None
    calibration: Calibration | None = None
    particles: ParticleBound | None = None

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, value and what it is, for a table."""
        bound = self.bounds
        found = [
            ("ELBO", text(bound.elbo_average), "nats per datum, lower bound"),
            ("importance-weighted", text(bound.importance_average), f"lower bound, {bound.samples} samples"),
            ("unreliable", f"{bound.unreliable:.1%}", "data whose Pareto k is 0.7 or more"),
            *(self.latents.rows() if self.latents else []),
            *(self.particles.rows() if self.particles else []),
        ]
        if self.annealed is not None:
            size = f"lower bound, {len(self.annealed.lower)} data"
            found.append(("annealed", text(self.annealed.lower_average), size))
        if self.sandwich is not None:
            size = f"on {len(self.sandwich.lower)} draws of the model"
            found.append(("sandwich, lower", text(self.sandwich.lower_average), size))
            found.append(("sandwich, upper", text(self.sandwich.upper_average), size))
            found.append(("  width", text(self.sandwich.width), "nats"))
        if self.gap is not None:
            found.append(("gap, approximation", text(self.gap.approximation), f"nats, {len(self.gap.best)} data"))
            found.append(("gap, amortization", text(self.gap.amortization), "nats"))
        if self.calibration is not None:
            found.append(("calibration", str(self.calibration), ""))
        return found

    def as_dict(self) -> dict[str, Any]:
        """A dictionary for JSON: averages with their standard errors, no arrays over data."""
        bound = self.bounds
        made: dict[str, Any] = {
            "samples": bound.samples,
            "elbo": plain(bound.elbo_average),
            "importance_weighted": plain(bound.importance_average),
            "pareto_k_unreliable": bound.unreliable,
            **(self.latents.as_dict() if self.latents else {}),
            "collapse": self.collapse,
        }
        if self.particles is not None:
            made |= self.particles.as_dict()
        if self.annealed is not None:
            made["annealed"] = plain(self.annealed.lower_average)
        if self.sandwich is not None:
            made["sandwich"] = {
                "lower": plain(self.sandwich.lower_average),
                "upper": plain(self.sandwich.upper_average),
                "width": plain(self.sandwich.width),
            }
        if self.gap is not None:
            made["gap"] = {
                "approximation": plain(self.gap.approximation),
                "amortization": plain(self.gap.amortization),
                "total": plain(self.gap.total),
            }
        if self.calibration is not None:
            made["calibration_p_values"] = self.calibration.p_values.tolist()
        return made


def approximation(
    model: Model,
    posterior: Posterior,
    data: Any,
    *,
    key: PRNGKeyArray,
    samples: int = 1000,
    thorough: bool = False,
    particles: int | None = None,
    progress: bool | None = None,
) -> Approximation:
    """Bounds of log p(y | x) and what they are worth: see ``Approximation``; ``thorough`` adds the costly parts."""
    keys = jax.random.split(key, 6)
    measured = bounds(model, posterior, data, key=keys[0], samples=samples, progress=progress)
    look: Any = path_latents if isinstance(model, Stepwise) else latents
    alone = look is latents and len(measured.elbo) == 1
    used = None if alone else look(model, posterior, data, key=keys[1], progress=progress)
    more: dict[str, Any] = {}
    if particles is not None:
        more["particles"] = particle_bound(model, posterior, data, key=keys[0], particles=particles)
    if thorough and isinstance(model, OfSequences):
        raise ValueError("thorough: annealing, the gap's parts and calibration are not for sequences; leave it out")
    if thorough:
        found = blocks.as_data(model, data)
        few = next(iter(found.blocks(FEW)))
        real = distributions.reparameterised(model.prior(blocks.first(few.evidence)))
        if real:
            more["annealed"] = annealed_bound(model, few, key=keys[2], progress=progress)
            more["sandwich"] = sandwich(model, None, keys[3], FEW, few.evidence, progress=progress)
            more["gap"] = gap(model, posterior, few, key=keys[4], progress=progress)
        if per_datum(posterior) is None:
            more["calibration"] = calibration(model, posterior, keys[5], evidence=few.evidence, progress=progress)
    return Approximation(measured, used, None if used is None else collapse(used), **more)


@eqx.filter_jit
def _predictive(model: Model, latents: Array, block: Datum) -> Array:
    def one(datum: Datum) -> Array:
        score = lambda z: distributions.log_prob(model.likelihood(z, datum.evidence), datum.query, datum.observed)  # noqa: E731
        return jax.scipy.special.logsumexp(jax.lax.map(score, latents, batch_size=16)) - np.log(len(latents))

    return jax.vmap(one)(block)


def predictive(model: Model, posterior: Posterior, data: Any, *, key: PRNGKeyArray, samples: int = 200) -> np.ndarray:
    """log 1/S Σ_s p(y | x, w_s), w_s ~ q(w), of each datum [N]: the predictive density of a latent that data share.

    An estimate in nats (a little low on average, by about half the relative variance of the S terms' mean).
    """
    verified(model, posterior, key)
    data = blocks.as_data(model, data)
    rows, _ = grouping(blocks.size(data), samples)
    parts, draws = [], None
    for block in blocks.blocks(data, rows, space_of(model)):
        if draws is None:
            q = posterior(model, jax.tree.map(lambda leaf: leaf[0], block.datum))
            draws = jax.vmap(q.sample)(jax.random.split(key, samples))
        parts.append(np.asarray(_predictive(model, draws, block.datum))[: block.count])
    return np.concatenate(parts)
