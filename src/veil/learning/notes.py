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
from veil.parts.nets import with_one
from veil.zoo.factor import FactorAnalysis

NO_DATA = 1e-3  # a component with less than this many data is empty
SAME = 1e-13  # sum of squared differences of a component's data, standardised, below which they are the same
NEAR = 0.05  # relative difference of parameters above which two components are not compared any further
ALIKE = 0.05  # nats: components whose log-densities differ by less, on average over data, are one
COMPARED = 1000  # data
MOST = 10  # notes on components
FEW = 4  # columns by name
MANY = 300  # components beyond which pairs are not compared
UNBOUNDED = (
    "the likelihood goes on rising while parameters run off to infinity, as where data are separable: theirs are those "
    "at which the tolerance ended it; use more data, fewer parameters, or a posterior over them"
)


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
    if seen.total < NO_DATA:
        notes.append(f"the weights add up to {seen.total:.2g} data, of which nothing is learned")
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
    """Components of a mixture, in standardised units, that are empty, collapsed or twice there; of one, if it is alone.

    ``counts`` [K]: expected data of each; ``largest_precision``: the largest precision of any.
    """
    alone = len(counts) == 1
    notes = [
        f"component {k} is empty ({counts[k]:.2g} data): it keeps its last parameters; use fewer components"
        for k in np.flatnonzero(counts < NO_DATA)
        if not alone
    ]
    covariance = experts.covariance if isinstance(experts, LinearGaussian) else None
    floor = covariance.floor if isinstance(covariance, Full | Diagonal | Spherical) else 0.0
    held = floor / np.maximum(counts, NO_DATA)
    if floor > 0 and largest_precision * np.max(4 * held) > 1 and not columns(seen, False):
        # the smallest variance in units of what the floor alone would make it: what its data differ by is this less one
        least = np.linalg.eigvalsh(np.asarray(_dense(covariance)))[:, 0] / np.maximum(held, np.finfo(float).tiny)
        same = max(SAME, 1e-5 * floor)  # of which float32 has digits
        for k in np.flatnonzero((least < 2) & (counts >= NO_DATA)):
            who = "the Gaussian" if alone else f"component {k}"
            if (least[k] - 1) * floor >= same:
                said = f"{who}, of {counts[k]:.3g} data, is narrower than the floor, which widens it"
                notes.append(f"{said}: give its covariance a smaller floor than {floor:g}")
            elif alone:
                said = f"{who} leaves nothing of {counts[k]:.3g} data in some direction, where its variance is held"
                notes.append(f"{said} at the floor; use more data, fewer columns or a covariance with fewer parameters")
            else:
                said = f"{who} collapsed onto {counts[k]:.3g} data that are the same in some direction"
                notes.append(f"{said}: its variance is held at the floor; use fewer components or a tied covariance")
    if len(counts) <= MANY:
        notes += _duplicates(experts, len(counts), seen)
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


@eqx.filter_jit
def _log_probs(experts: Any, block: Datum) -> Any:
    """log p(y | x, k) [N, K]."""
    return jax.vmap(lambda datum: experts.log_probs(datum.query, with_one(datum.evidence), datum.observed))(block)


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
