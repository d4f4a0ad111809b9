"""What was out of the ordinary in a fit, one line each, by number or name."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from veil.learning.preprocessing import Preprocessing
from veil.model import Datum
from veil.model.batching import as_datum
from veil.model.scales import Scale
from veil.parts.covariance import Diagonal, Full, Spherical
from veil.parts.experts import LinearGaussian
from veil.parts.nets import flat

NO_DATA = 1e-3  # a component with less than this many data is empty
NEAR = 0.05  # relative difference of parameters above which two components are not compared any further
ALIKE = 0.05  # nats: components whose log-densities differ by less, on average over data, are one
COMPARED = 1000  # data
MOST = 10  # notes on components
FEW = 4  # columns by name
MANY = 300  # components beyond which pairs are not compared


def columns(seen: Preprocessing, isotropic: bool) -> list[str]:
    """A line on the columns of a real-valued query that are missing in every row, and one on those that are constant.

    A constant column is no harm where all columns share one variance (``isotropic``).
    """
    if not isinstance(seen.units.query, Scale):
        return []
    sample = seen.rows
    flat = sample.query.reshape(len(sample), -1)
    there = np.ones(flat.shape, bool) if sample.observed is None else sample.observed.reshape(flat.shape)
    low, high = np.where(there, flat, np.inf).min(0), np.where(there, flat, -np.inf).max(0)
    missing, constant = np.flatnonzero(low > high), np.flatnonzero(low == high)
    names = sample.query_names if len(sample.query_names) == flat.shape[1] else range(flat.shape[1])
    notes = []
    if len(missing):
        whose = "its parameters are those it" if len(missing) == 1 else "their parameters are those they"
        notes.append(f"{_listed(names, missing)} missing in every row: {whose} started with")
    if len(constant) and not isotropic and len(flat) > 1:
        value = f" ({low[constant[0]]:g})" if len(constant) == 1 else ""
        whose = "its variance is" if len(constant) == 1 else "their variances are"
        notes.append(f"{_listed(names, constant)} constant{value}: {whose} held at the floor of the prior")
    return notes


def _listed(names: Any, which: np.ndarray) -> str:
    """The subject of a sentence about these columns, and its verb."""
    few = ", ".join(str(names[j]) for j in which[:FEW])
    if len(which) == 1:
        return f"column {few} is"
    return f"columns {few} are" if len(which) <= FEW else f"columns {few} and {len(which) - FEW} more are"


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
        notes += _duplicates(experts, len(counts), seen)
    return notes if len(notes) <= MOST else [*notes[:MOST], f"and {len(notes) - MOST} more components like these"]


@eqx.filter_jit
def _smallest(covariance: Any) -> Any:
    return covariance.smallest()


@eqx.filter_jit
def _log_probs(experts: Any, block: Datum) -> Any:
    """log p(y | x, k) [N, K]."""
    features = lambda datum: jnp.concatenate([jnp.ones(1), *([] if datum.evidence is None else [flat(datum.evidence)])])  # noqa: E731
    return jax.vmap(lambda datum: experts.log_probs(datum.query, features(datum), datum.observed))(block)


def _duplicates(experts: Any, count: int, seen: Preprocessing) -> list[str]:
    """Components that say the same of every datum, whatever their parameters: EM at a saddle does not tell them apart.

    Only those of parameters that are near are compared.
    """
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(experts)]
    rows = [leaf.reshape(count, -1) for leaf in leaves if leaf.shape[:1] == (count,)]
    if not rows:
        return []
    table, notes, found = np.concatenate(rows, axis=1), [], None
    for k in range(1, count):
        near = NEAR * np.max(np.abs(table[k]), initial=1e-30)
        same = np.flatnonzero(np.max(np.abs(table[:k] - table[k]), axis=1) < near)
        if len(same) and found is None:
            few = seen.rows[:: -(-len(seen.rows) // COMPARED)]
            found = np.asarray(_log_probs(experts, as_datum(few, seen.units)))
        if len(same):
            assert found is not None
            same = same[np.mean(np.abs(found[:, same] - found[:, [k]]), axis=0) < ALIKE]
        if len(same):
            notes.append(f"component {k} is a duplicate of component {same[0]}: use fewer components, or restarts")
    return notes
