"""What a deep state-space model does with its latent path: which parts are used, and whether it has collapsed."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from veil.evaluation.average import Average, average, largest, plain, text
from veil.evaluation.bounds import grouping
from veil.host.progress import Progress
from veil.host.showing import Shown
from veil.model import Datum, Model, blocks, checks
from veil.model.abilities import space_of
from veil.posterior.arguments import verified
from veil.posterior.base import Posterior

USED = 0.01  # nats a step: a latent whose KL is below does not carry anything


@dataclass(frozen=True, repr=False)
class PathLatents(Shown):
    """What the posterior puts into the latents of a path and the likelihood gets out of them. Nats.

    A unit is a dimension of the latent, or one of its codes. ``kl`` [U]: KL(q || p) of each unit given the past on a
    path of q, mean over steps (one number in all where the dimensions are coupled); ``active`` [U]: above
    ``threshold``. ``kl_total``: KL of the whole path, mean over sequences (an estimate: along drawn paths).
    ``loss_prior``: how far log p(y_1..T | path) falls when the path comes from the prior.
    """

    kl: np.ndarray
    active: np.ndarray
    kl_total: Average
    loss_prior: Average
    threshold: float
    kind: str = "estimate"

    @property
    def active_units(self) -> int:
        """How many units are active."""
        return int(np.sum(self.active))

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, value and what it is, for a table."""
        return [
            ("active units", f"{self.active_units} of {len(self.active)}", f"KL above {self.threshold:g} nats a step"),
            ("KL", text(self.kl_total), "nats per sequence"),
            ("  by dimension", largest(self.kl), "nats a step"),
            ("loss, path of the prior", text(self.loss_prior), "nats of log p(y|x,z)"),
        ]

    def as_dict(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return {
            "active_units": self.active_units,
            "units": len(self.active),
            "kl": plain(self.kl_total),
            "kl_by_dimension": self.kl.tolist(),
            "loss_prior": plain(self.loss_prior),
        }


@eqx.filter_jit
def _summary(
    model: Model, posterior: Posterior, block: Datum, rows: Array, key: PRNGKeyArray, samples: int
) -> tuple[Array, ...]:
    """For each sequence KL by units, summed over steps [B, U], how many steps [B], and what each draw lost [B, S]."""

    def one(datum: Datum, row: Array) -> tuple[Array, ...]:
        q: Any = posterior(model, datum)
        prior: Any = model.prior_for(datum)

        def draw(key: PRNGKeyArray) -> tuple[Array, Array]:
            key_own, key_prior = jax.random.split(key)
            path = q.sample(key_own)
            loss = model.log_likelihood(path, datum) - model.log_likelihood(prior.sample(key_prior), datum)
            return jnp.sum(q.kl_parts(prior, path), 0), loss

        kl, loss = jax.vmap(draw)(jax.random.split(jax.random.fold_in(key, row), samples))
        return kl, jnp.sum(prior.there), loss

    return jax.vmap(one)(block, rows)


def path_latents(
    model: Model,
    posterior: Posterior,
    data: Any,
    *,
    key: PRNGKeyArray,
    samples: int = 4,
    threshold: float = USED,
    progress: bool | None = None,
) -> PathLatents:
    """How the latents of a sequence model are used: see ``PathLatents``; ``samples`` paths of each sequence."""
    verified(model, posterior, key)
    checks.whole("samples", samples)
    data = blocks.as_data(model, data)
    size, _ = grouping(blocks.size(data), samples)
    total = -(-blocks.length(data) // size)
    with Progress(progress, "latents") as bar:
        tick = bar.ticks(total, "paths")

        def measured(block: blocks.Block) -> tuple[Array, ...]:
            found = _summary(model, posterior, block.datum, block.rows, key, samples)
            tick()
            return found

        (kl, steps, loss), weight = blocks.gathered(blocks.blocks(data, size, space_of(model)), measured)
    kl = np.asarray(kl, np.float64)
    by_unit = weight @ kl.mean(1) / max(float(weight @ steps), 1.0)
    return PathLatents(by_unit, by_unit > threshold, _of_draws(kl.sum(2), weight), _of_draws(loss, weight), threshold)


def _of_draws(values: np.ndarray, weight: np.ndarray) -> Average:
    """The average over sequences of means over draws [N, S]."""
    count = values.shape[1]
    errors = np.std(values, axis=1, ddof=1) / np.sqrt(count) if count > 1 else np.full(len(values), np.nan)
    return average(np.mean(values, 1), weight, errors)
