"""The likelihood of sequences by particle filters, for any model that runs step by step."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from veil.evaluation.average import Average, average, plain
from veil.evaluation.bounds import grouping
from veil.host.showing import Shown
from veil.maths import importance
from veil.model import Datum, Model, blocks, checks
from veil.model.abilities import space_of
from veil.posterior import Posterior, proposals
from veil.posterior.arguments import verified
from veil.posterior.choice import proposal


@dataclass(frozen=True, repr=False)
class ParticleBound(Shown):
    """Estimates of log p(y | x) of each sequence, nats, from ``repeats`` runs of a filter with ``particles`` particles.

    ``filtering`` [N]: mean of log Ẑ, an unbiased estimate of the bound FIVO; ``filtering_error`` its standard error.
    ``combined`` [N]: log of the mean of Ẑ, in expectation a lower bound, too, and tighter; ``combined_error`` its
    standard error (delta method). ``effective`` [N]: the smallest effective share of particles at any step, 0 to 1.
    ``weight`` [N] of the data.
    """

    filtering: np.ndarray
    filtering_error: np.ndarray
    combined: np.ndarray
    combined_error: np.ndarray
    effective: np.ndarray
    weight: np.ndarray
    particles: int
    repeats: int
    kind: str = "lower bound"
    collapse: str | None = None  # nothing is looked for

    @property
    def filtering_average(self) -> Average:
        """The bound FIVO, mean over data."""
        return average(self.filtering, self.weight, self.filtering_error)

    @property
    def combined_average(self) -> Average:
        """The tighter bound, mean over data."""
        return average(self.combined, self.weight, self.combined_error)

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, value and what it is, for a table."""
        text = lambda number: f"{number.value:.4f} ± {number.monte_carlo_error:.2g}"  # noqa: E731
        return [
            (
                "particle filter",
                text(self.filtering_average),
                f"nats per datum, lower bound, {self.particles} particles",
            ),
            ("  of all runs", text(self.combined_average), f"lower bound, {self.repeats} runs"),
            ("  effective share", f"{np.min(self.effective):.1%}", "of the particles, at the worst step"),
        ]

    def as_dict(self) -> dict[str, Any]:
        """A dictionary for JSON: averages with their standard errors, no arrays over data."""
        return {
            "particles": self.particles,
            "runs": self.repeats,
            "filtering": plain(self.filtering_average),
            "filtering_combined": plain(self.combined_average),
            "effective_share": float(np.min(self.effective)),
        }


@eqx.filter_jit
def _runs(model: Model, posterior: Posterior, block: Datum, rows: Array, keys: Array, count: int) -> Any:
    def one(datum: Datum, row: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        found = proposals.filtered(model, posterior, datum, jax.random.fold_in(key, row), count)
        return found.log_likelihood, jnp.min(found.effective) / count

    return jax.lax.map(lambda key: jax.vmap(lambda datum, row: one(datum, row, key))(block, rows), keys)


@jax.jit
def _summary(values: Array) -> tuple[Array, ...]:
    error = jnp.std(values, axis=1, ddof=1) / np.sqrt(values.shape[1])
    return (
        jnp.mean(values, 1),
        error,
        jax.vmap(importance.log_mean_exp)(values),
        jax.vmap(importance.standard_error)(values),
    )


def particle_bound(
    model: Model,
    posterior: Posterior | None,
    data: Any,
    *,
    key: PRNGKeyArray,
    particles: int = 1000,
    repeats: int = 4,
) -> ParticleBound:
    """A particle filter's estimate of log p(y | x) of each sequence, with its error: see ``ParticleBound``.

    Raises TypeError for a model or a posterior that cannot be run step by step; ValueError for fewer than two repeats.

    >>> import jax, veil
    >>> data = veil.data.episodes([veil.data.load("nile").query])
    >>> model = veil.fit(veil.LDS(latent=1), data, key=jax.random.key(0), steps=5).model
    >>> found = particle_bound(model, None, data, key=jax.random.key(1), particles=100)
    >>> bool(abs(found.combined_average.value - veil.log_prob(model, data)[0]) < 1)
    True
    """
    posterior = proposal(model) if posterior is None else posterior
    verified(model, posterior, key)
    proposals.stepwise(model, posterior)
    checks.whole("particles", particles)
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 2:
        raise ValueError(f"repeats: expected a whole number of runs, two or more; got {repeats!r}")
    data = blocks.as_data(model, data)
    rows, _ = grouping(blocks.size(data), particles)
    keys = jax.random.split(key, repeats)

    def measured(block: blocks.Block) -> tuple[Array, ...]:
        values, effective = _runs(model, posterior, block.datum, block.rows, keys, particles)
        return (*_summary(values.T), jnp.min(effective, 0))

    (bound, error, combined, combined_error, effective), weight = blocks.gathered(
        blocks.blocks(data, rows, space_of(model)), measured
    )
    return ParticleBound(bound, error, combined, combined_error, effective, weight, particles, repeats)
