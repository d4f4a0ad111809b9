"""What was out of the ordinary in a fit, one line each, by number or name."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from veil.learning.preprocessing import Preprocessing
from veil.model.scales import Scale
from veil.parts.covariance import Diagonal, Full, Spherical
from veil.parts.experts import LinearGaussian
from veil.zoo.factor import FactorAnalysis

NO_DATA = 1e-3  # a component with less than this many data is empty
SAME = 1e-13  # sum of squared differences of a component's data, standardised, below which they are the same
ALIKE = 1e-3  # relative difference of parameters below which two components are one
MOST = 10  # notes on components
MANY = 300  # components beyond which pairs are not compared


def columns(seen: Preprocessing, isotropic: bool) -> list[str]:
    """Columns of a real-valued query that say nothing: constant, or missing in every row.

    A constant column is no harm where all columns share one variance (``isotropic``).
    """
    if not isinstance(seen.units.query, Scale):
        return []
    sample, notes = seen.rows, []
    flat = sample.query.reshape(len(sample), -1)
    observed = None if sample.observed is None else sample.observed.reshape(len(sample), -1)
    for j in range(flat.shape[1]):
        values = flat[:, j] if observed is None else flat[observed[:, j], j]
        name = sample.query_names[j] if len(sample.query_names) == flat.shape[1] else str(j)
        if len(values) == 0:
            notes.append(f"column {name} is missing in every row: its parameters are those it started with")
        elif not isotropic and len(flat) > 1 and np.ptp(values) == 0:
            notes.append(f"column {name} is constant ({values[0]:g}): its variance is held at the floor of the prior")
    return notes


def components(experts: Any, counts: np.ndarray, largest_precision: float, seen: Preprocessing) -> list[str]:
    """Components of a mixture, in standardised units, that are empty, collapsed or twice there.

    ``counts`` [K]: expected data of each; ``largest_precision``: the largest precision of any.
    """
    if len(counts) < 2:
        return []
    notes = [
        f"component {k} is empty ({counts[k]:.2g} data): it keeps its last parameters; use fewer components"
        for k in np.flatnonzero(counts < NO_DATA)
    ]
    covariance = experts.covariance if isinstance(experts, LinearGaussian) else None
    floor = covariance.floor if isinstance(covariance, Full | Diagonal | Spherical) else 0.0
    held = floor / np.maximum(counts, NO_DATA)
    if largest_precision * np.max(4 * held) > 1 and not columns(seen, False):
        # the smallest variance in units of what the floor alone would make it: what its data differ by is this less one
        least = np.linalg.eigvalsh(np.asarray(_dense(covariance)))[:, 0] / np.maximum(held, np.finfo(float).tiny)
        same = max(SAME, 1e-5 * floor)  # of which float32 has digits
        for k in np.flatnonzero((least < 2) & (counts >= NO_DATA)):
            if (least[k] - 1) * floor < same:
                said = f"component {k} collapsed onto {counts[k]:.3g} data that are the same in some direction"
                notes.append(f"{said}: its variance is held at the floor; use fewer components or a tied covariance")
            else:
                said = f"component {k}, of {counts[k]:.3g} data, is narrower than the floor, which widens it"
                notes.append(f"{said}: give its covariance a smaller floor than {floor:g}")
    if len(counts) <= MANY:
        notes += _duplicates(experts, len(counts))
    return notes if len(notes) <= MOST else [*notes[:MOST], f"and {len(notes) - MOST} more components like these"]


@eqx.filter_jit
def _dense(covariance: Any) -> Any:
    return covariance.dense_covariance()


def noise(model: Any, seen: Preprocessing) -> list[str]:
    """Where factor analysis, in standardised units, leaves nothing to the noise: its likelihood has no bound there."""
    if not isinstance(model, FactorAnalysis):
        return []
    loadings, offset, variance = (np.asarray(part, np.float64) for part in model._parts())
    size, floor, explained = len(loadings), model.noise.floor / seen.total, np.sum(loadings**2, 1)
    held = "is held at the floor of its prior; use fewer factors, or more data"
    if model.noise.isotropic:
        if variance[0] > 2 * floor * size / max(size - model.latent, 1):
            return []
        return [f"{model.latent} factors leave nothing of the data: the likelihood has no bound, and the noise {held}"]
    rounding = 32 * np.finfo(jnp.result_type(float)).eps * (explained + np.sum(offset**2, 1))
    columns = np.flatnonzero((variance < 2 * floor + rounding) & (variance < explained))
    named = seen.rows.query_names if len(seen.rows.query_names) == size else range(size)
    names = ", ".join(str(named[j]) for j in columns[:MOST]) + (", ..." if len(columns) > MOST else "")
    # Heywood 1931; Jöreskog 1967, section 6
    return [f"the factors leave nothing of {names} (a Heywood case): the noise {held}"] if len(columns) else []


def _duplicates(experts: Any, count: int) -> list[str]:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(experts)]
    rows = [leaf.reshape(count, -1) for leaf in leaves if leaf.shape[:1] == (count,)]
    if not rows:
        return []
    table, notes = np.concatenate(rows, axis=1), []
    for k in range(1, count):
        near = ALIKE * np.max(np.abs(table[k]), initial=1e-30)
        same = np.flatnonzero(np.max(np.abs(table[:k] - table[k]), axis=1) < near)
        if len(same):
            notes.append(f"component {k} is a duplicate of component {same[0]}: use fewer components, or restarts")
    return notes
