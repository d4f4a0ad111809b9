"""From data on the host to blocks on the device."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from veil.data import Data
from veil.data.core.episodes import steps
from veil.model import Datum
from veil.units import Units, standardised


def as_datum(
    data: Data,
    query: Units | None = None,
    evidence: Units | None = None,
    masked: bool = False,
    limit: float | None = None,
) -> Datum:
    """All data as one batched ``Datum`` of numpy arrays, standardised, always with weights.

    ``masked``: with ``observed`` even if these rows are complete, so that all blocks are alike. ``limit`` clips
    standardised numbers: only for starting points, where far is far.
    """
    dtype = np.dtype(jnp.result_type(float))
    fields = data.fields()

    def convert(array: np.ndarray | None, units: Units | None) -> np.ndarray | None:
        exact = array if units is None else standardised(units, array)
        if exact is not None and limit is not None:
            exact = np.clip(exact, -limit, limit)
        return None if exact is None else np.asarray(exact, dtype)

    values = convert(fields["query"], query)
    observed = fields.get("observed")
    if observed is None and masked:
        observed = np.ones((len(data), *data.query_shape), bool)
    if observed is not None:
        values = np.where(observed, values, 0).astype(dtype)  # type: ignore[arg-type]
    given, mask = convert(fields.get("evidence"), evidence), fields.get("mask")
    if mask is not None:
        values, given = _blank(values, mask), _blank(given, mask)
    weight = np.asarray(fields.get("weight", np.ones(len(data))), dtype)
    index = fields.get("index")
    return Datum(values, given, weight, observed, index, mask, fields.get("reset"))  # type: ignore[arg-type]


def _blank(values: np.ndarray | None, mask: np.ndarray) -> np.ndarray | None:
    """Zeros at the padding, in standardised units too."""
    if values is None:
        return None
    return np.where(mask.reshape(*mask.shape, *[1] * (values.ndim - 2)), values, values.dtype.type(0))


def padded(datum: Datum, rows: int) -> Datum:
    """A short last block, filled up with data of weight zero so that every block has one shape."""
    missing = rows - len(datum.query)
    if missing == 0:
        return datum
    return jax.tree.map(lambda leaf: np.pad(leaf, [(0, missing)] + [(0, 0)] * (leaf.ndim - 1)), datum)


@dataclass(frozen=True)
class _Steps:
    """Of a sequence model, what matters for one step."""

    components: int
    sequential: bool = False


def block_rows(sample: Data, model: Any) -> int:
    """How many rows to sum at a time: as many as keep one block's products in the processor's cache."""
    size = int(np.prod(sample.query_shape)) + (
        0 if sample.evidence is None else int(np.prod(sample.evidence.shape[1:]))
    )
    if model.sequential:  # the products are those of the steps
        per_step = block_rows(steps(sample[:1]), _Steps(int(getattr(model, "components", 1))))
        return int(np.clip(per_step // sample.query_shape[0], 1, 16384))
    components = int(getattr(model, "components", 1))
    width = (size + 1) * (size + 2) // 2 if size <= 128 else 4 * size
    if sample.observed is not None:
        width = components * size * size * 3
    return int(np.clip(4e6 / (jnp.dtype(jnp.result_type(float)).itemsize * max(width, components)), 256, 16384))
