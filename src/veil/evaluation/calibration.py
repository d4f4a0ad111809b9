"""Whether a posterior is as wide as it should be: ranks of draws among what is inferred, and shares of hits."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from veil.evaluation.bounds import grouping
from veil.host.progress import Progress
from veil.host.showing import Shown
from veil.maths.uniformity import chi_square_p
from veil.model import Datum, Model, blocks, checks
from veil.posterior.arguments import verified
from veil.posterior.base import Posterior


@dataclass(frozen=True, repr=False)
class Calibration(Shown):
    """Simulation-based calibration: uniform ranks for a calibrated posterior.

    ``ranks`` [count, U] of the latent's entries, from 0 to ``samples``; ``counts`` [U, bins] their histogram;
    ``p_values`` [U] of its uniformity (χ²): an estimate of how surprising the ranks are if the posterior is exact.
    ``width`` [U]: the ranks' variance over that of uniform ones: above 1 the posterior is too narrow, below too wide,
    if ``shift`` is about zero (ranks that crowd at one end spread less).
    ``shift`` [U]: the ranks' mean, from -1 (the posterior lies above the truth) to 1 (below it).
    """

    ranks: np.ndarray
    counts: np.ndarray
    p_values: np.ndarray
    width: np.ndarray
    shift: np.ndarray
    samples: int
    kind: str = "estimate"

    def flagged(self, level: float = 0.01) -> np.ndarray:
        """Which entries are not calibrated, [U] bool: a chance of ``level`` to flag any if all are (Bonferroni)."""
        return self.p_values < level / len(self.p_values)

    def __str__(self) -> str:
        wrong = self.flagged()
        if not wrong.any():
            return f"calibrated: the smallest of {len(wrong)} p-values is {self.p_values.min():.2g}"
        worst = int(np.argmin(self.p_values))
        # what stands out of its standard error under uniform ranks, √(1/3N) of the shift and √(0.8/N) of the width
        shift = self.shift[worst] * np.sqrt(3 * len(self.ranks))
        width = (self.width[worst] - 1) * np.sqrt(len(self.ranks) / 0.8)
        how = ["misplaced"] if abs(shift) > 3 else []
        # a displaced posterior crowds the ranks at one end, which alone makes them no wider
        how += [f"too {'narrow' if width > 0 else 'wide'}"] if abs(width) > 3 and (width > 0 or not how) else []
        said = " and ".join(how) or "of another shape"
        return f"{wrong.sum()} of {len(wrong)} entries are not calibrated; entry {worst} is {said}"


@eqx.filter_jit
def _ranks(
    model: Model, posterior: Posterior, block: Datum, truths: Array, rows: Array, key: PRNGKeyArray, samples: int
) -> Array:
    def one(datum: Datum, truth: Array, row: Array) -> Array:
        key_draws, key_ties = jax.random.split(jax.random.fold_in(key, row))
        draws = jax.vmap(posterior(model, datum).sample)(jax.random.split(key_draws, samples))
        below = jnp.sum(draws < truth[None], 0)
        ties = jnp.sum(draws == truth[None], 0)
        # a discrete latent's rank is any of those it shares
        return jnp.ravel(below + jax.random.randint(key_ties, ties.shape, 0, ties + 1))

    return jax.vmap(one)(block, truths, rows)


def calibration(
    model: Model,
    posterior: Posterior,
    key: PRNGKeyArray,
    count: int = 1000,
    evidence: Any = None,
    *,
    samples: int = 99,
    bins: int = 20,
    progress: bool | None = None,
) -> Calibration:
    """Ranks of z* among ``samples`` draws of q(z | y, x), for ``count`` draws (z*, y) of the model.

    If q is the exact posterior, z* and the draws are alike, and each entry's rank is uniform on 0 ... samples (Talts
    et al. 2018, theorem 1): U-shaped ranks mean a posterior that is too narrow, and a hump one that is too wide. It
    judges the posterior of this model, not the model. The p-values are of ``bins`` equal groups of ranks. Entries that
    are equal draws of a discrete latent share their ranks at random. ``evidence`` [N, P] is gone round.

    Raises ValueError for numbers that are not positive, bins that do not divide samples + 1, or a count below 5 a bin.
    """
    verified(model, posterior, key)
    for name, value in {"count": count, "samples": samples, "bins": bins}.items():
        checks.whole(name, value)
    if bins < 2 or (samples + 1) % bins:
        raise ValueError(f"bins: expected 2 or more that divide samples + 1 = {samples + 1}; got {bins}")
    if count < 5 * bins:
        raise ValueError(f"count: expected 5 for each of {bins} bins or more; got {count}")
    key_data, key_ranks = jax.random.split(key)
    truths, data = blocks.simulated(model, key_data, count, evidence)
    rows = min(count, grouping(max(blocks.size(data), truths[0].size), samples)[0])
    parts = []
    with Progress(progress, "calibration") as bar:
        for number, block in enumerate(blocks.blocks(data, rows)):
            some = blocks.beside(block, truths)
            found = _ranks(model, posterior, block.datum, some, block.rows, key_ranks, samples)
            parts.append(np.asarray(found)[: block.count])
            bar.update(number + 1, -(-count // rows), "ranks")
    ranks = np.concatenate(parts)
    group = (samples + 1) // bins
    counts = np.stack([np.bincount(column // group, minlength=bins) for column in ranks.T])
    p_values = np.asarray(jax.vmap(chi_square_p)(jnp.asarray(counts, jnp.result_type(float))))
    width = np.var(ranks, axis=0) / (samples * (samples + 2) / 12)
    return Calibration(ranks, counts, p_values, width, 2 * np.mean(ranks, 0) / samples - 1, samples)


@dataclass(frozen=True, repr=False)
class Reliability(Shown):
    """Of what was held most likely with a certain confidence, how often was it true? By groups of confidence.

    ``confidence`` [B] the mean of the largest probability, ``accuracy`` [B] how often that value was true, ``share``
    [B] of the data (0 where there are none, whose other numbers are NaN). ``error``: the expected calibration error,
    Σ_b share |accuracy - confidence|.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    share: np.ndarray
    error: float


def reliability(probabilities: Any, truths: Any, bins: int = 15) -> Reliability:
    """Reliability of probabilities [N, K] of a discrete latent whose true values [N] are known, as in simulations.

    Groups are of equal width in the largest probability, from 0 to 1. The error of a calibrated posterior is above zero
    by chance, by about Σ_b √(2 share_b accuracy_b (1 - accuracy_b) / π N). Naeini et al. 2015; Guo et al. 2017, eq. 3.

    Raises ValueError for shapes that are not those, or fewer than one group.

    >>> round(reliability([[0.8, 0.2], [0.3, 0.7]], [0, 0]).error, 3)
    0.45
    """
    checks.whole("bins", bins)
    table, true = np.asarray(probabilities), np.asarray(truths)
    if table.ndim != 2 or true.shape != table.shape[:1] or not len(true):
        raise ValueError(f"probabilities: expected [N, K] for {true.shape} truths; got the shape {table.shape}")
    top, hit = table.max(-1), table.argmax(-1) == true
    group = np.minimum((top * bins).astype(int), bins - 1)
    count = np.bincount(group, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(group, top, bins) / count
        accuracy = np.bincount(group, hit, bins) / count
    share = count / len(true)
    return Reliability(confidence, accuracy, share, float(np.nansum(share * np.abs(accuracy - confidence))))
