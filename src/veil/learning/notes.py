"""What was out of the ordinary in a fit, one line each, by number or name."""

from typing import Any

import equinox as eqx
import jax
import numpy as np

from veil.learning.preprocessing import Preprocessing
from veil.model.scales import Scale
from veil.parts.covariance import Diagonal, Full, Spherical
from veil.parts.experts import LinearGaussian

NO_DATA = 1e-3  # a component with less than this many data is empty
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
    held = np.sqrt(floor / np.maximum(counts, NO_DATA))
    if largest_precision * np.max(2 * held) ** 2 > 1 and not columns(seen, False):
        smallest = np.broadcast_to(np.asarray(_smallest(covariance)), counts.shape)
        notes += [
            f"component {k} collapsed onto {counts[k]:.3g} data: its variance is held at the floor of its prior; "
            "use fewer components, a tied covariance or a larger floor"
            for k in np.flatnonzero((smallest < 2 * held) & (counts >= NO_DATA))
        ]
    if len(counts) <= MANY:
        notes += _duplicates(experts, len(counts))
    return notes if len(notes) <= MOST else [*notes[:MOST], f"and {len(notes) - MOST} more components like these"]


@eqx.filter_jit
def _smallest(covariance: Any) -> Any:
    return covariance.smallest()


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
