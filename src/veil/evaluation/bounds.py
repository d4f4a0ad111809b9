"""Lower bounds of log p(y | x) by sampling a posterior, and what they are worth."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.evaluation.average import Average, average
from veil.host.progress import Progress
from veil.host.showing import Shown
from veil.maths import importance
from veil.model import Datum, Model, blocks, checks
from veil.model.abilities import space_of
from veil.posterior.arguments import verified
from veil.posterior.base import Posterior

UNRELIABLE = 0.7  # of pareto_k: Vehtari et al. 2024, section 3.2.4


@dataclass(frozen=True, repr=False)
class Bounds(Shown):
    """Two bounds of log p(y | x) for each datum, nats, from ``samples`` draws z ~ q(z | y, x), w = p(y, z | x) / q(z).

    ``elbo`` [N]: mean of log w, an unbiased estimate of the ELBO, a lower bound; ``elbo_error`` its standard error.
    ``importance`` [N]: log of the mean of w, in expectation a lower bound, rising to log p(y | x) with the samples;
    ``importance_error`` its standard error (delta method).
    ``effective_samples`` [N] (draws) and ``pareto_k`` [N]: the bound and its error can be believed where k < 0.7.
    ``weight`` [N] of the data. ``kind`` says what the numbers are.
    """

    elbo: np.ndarray
    elbo_error: np.ndarray
    importance: np.ndarray
    importance_error: np.ndarray
    effective_samples: np.ndarray
    pareto_k: np.ndarray
    weight: np.ndarray
    samples: int
    kind: str = "lower bound"

    @property
    def elbo_average(self) -> Average:
        """The ELBO, mean over data."""
        return average(self.elbo, self.weight, self.elbo_error)

    @property
    def importance_average(self) -> Average:
        """The importance-weighted bound, mean over data."""
        return average(self.importance, self.weight, self.importance_error)

    @property
    def unreliable(self) -> float:
        """The share of data with k ≥ 0.7, whose bound may be far below log p(y | x) whatever its error says."""
        return average(self.pareto_k >= UNRELIABLE, self.weight).value


def log_weights(
    model: Model, q: Distribution, datum: Datum, key: PRNGKeyArray, draws: Int[Array, " S"]
) -> Float[Array, " S"]:
    """log p(y, z | x) - log q(z) for the draws z ~ q with these numbers, the same however draws are grouped."""

    def one(number: Int[Array, ""]) -> Float[Array, ""]:
        z = q.sample(jax.random.fold_in(key, number))
        return model.log_joint(z, datum) - distributions.log_prob(q, z)

    return jax.vmap(one)(draws)


@eqx.filter_jit
def _log_weights(
    model: Model, posterior: Posterior, block: Datum, rows: Array, key: PRNGKeyArray, first: Array, count: int
) -> Array:
    draws = first + jnp.arange(count)

    def one(datum: Datum, row: Array) -> Array:
        return log_weights(model, posterior(model, datum), datum, jax.random.fold_in(key, row), draws)

    return jax.vmap(one)(block, rows)


@jax.jit
def summary(log_weights: Float[Array, "B S"]) -> tuple[Array, ...]:
    """ELBO, its error, importance-weighted bound, its error, effective samples and k of every row."""
    of = jax.vmap
    deviation = jnp.std(log_weights, axis=1, ddof=1) if log_weights.shape[1] > 1 else jnp.full(len(log_weights), np.nan)
    return (
        jnp.mean(log_weights, 1),
        deviation / np.sqrt(log_weights.shape[1]),
        of(importance.log_mean_exp)(log_weights),
        of(importance.standard_error)(log_weights),
        of(importance.effective_sample_size)(log_weights),
        of(importance.pareto_k)(log_weights),
    )


def grouping(entries: int, samples: int) -> tuple[int, int]:
    """How many rows a block has, and how many samples of each are drawn at a time, for queries of so many entries.

    Neither all log-weights of a block nor what a likelihood makes of one group fills more than a few arrays of 16 MB. A
    posterior is worked out for each group anew, which counts for little beside 64 draws.
    """
    together = min(max(samples, 8), 64)
    rows = int(np.clip(blocks.ENTRIES // max(samples, together * entries), 1, 4096))
    return rows, int(np.clip(blocks.ENTRIES // (rows * max(entries, 16)), 1, samples))


def collected(samples: int, group: int, draw: Callable[[Array], Any], tick: Callable[[], None]) -> Any:
    """``draw(first)`` group by group, leaves [B, group]; on the host, with leaves [B, samples]."""
    parts = []
    for first in range(0, samples, group):
        parts.append(jax.tree.map(np.asarray, draw(jax.device_put(np.asarray(first)))))
        tick()
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, 1)[:, :samples], *parts)


def bounds(
    model: Model,
    posterior: Posterior,
    data: Any,
    *,
    key: PRNGKeyArray,
    samples: int = 1000,
    progress: bool | None = None,
) -> Bounds:
    """The ELBO and the importance-weighted bound of each datum: lower bounds of log p(y | x), nats.

    ELBO = E_q[log w] and IW = E[log 1/S Σ_s w_s], w = p(y, z | x) / q(z | y, x) (Burda et al. 2016, eq. 8). With the
    exact posterior both are log p(y | x), whatever is drawn. Memory does not grow with the data, and with the samples
    only by the log-weights of one block.

    Raises TypeError or ValueError for a model without parameters, data of another shape, or no samples.

    >>> import jax, veil
    >>> data = veil.data.load("faithful")
    >>> model = veil.fit(veil.density(veil.LinearGaussian()), data, key=jax.random.key(0)).model
    >>> found = bounds(model, veil.Exact(), data, key=jax.random.key(1), samples=4)
    >>> round(found.importance_average.value * 272, 1)
    -1289.8
    """
    verified(model, posterior, key)
    checks.whole("samples", samples)
    data = blocks.as_data(model, data)
    rows, group = grouping(blocks.size(data), samples)
    groups, total = -(-samples // group), -(-blocks.length(data) // rows)
    with Progress(progress, "bounds") as bar:
        tick = bar.ticks(total * groups, f"{samples} samples a datum")

        def measured(block: blocks.Block) -> tuple[Array, ...]:
            draw = lambda first: _log_weights(model, posterior, block.datum, block.rows, key, first, group)  # noqa: E731
            return summary(jax.device_put(collected(samples, group, draw, tick)))

        (elbo, elbo_error, bound, error, effective, k), weight = blocks.gathered(
            blocks.blocks(data, rows, space_of(model)), measured
        )
    return Bounds(elbo, elbo_error, bound, error, effective, k, weight, samples)
