"""From data on the host to blocks on the device."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from veil.data import Data
from veil.data.core import trees
from veil.data.core.episodes import steps
from veil.model.abilities import ANYWHERE, Space
from veil.model.datum import Datum
from veil.model.scales import Scale


@np.errstate(all="ignore")  # numbers may be too small or too large for JAX's precision, whatever numpy was told to do
def as_datum(
    data: Data, units: Any = None, masked: bool = False, limit: float | None = None, space: Space = ANYWHERE
) -> Datum:
    """All data as one batched ``Datum`` of numpy arrays, standardised (``veil.Units``), always with weights.

    ``space``: where the query lives, so that rounding takes nothing out of it. ``masked``: with ``observed`` even if
    these rows are complete, so that all blocks are alike. ``limit`` clips standardised numbers: only for starting
    points, where far is far.
    """
    dtype = np.dtype(jnp.result_type(float))
    fields = data.fields()
    mask = fields.get("mask")

    def convert(scale: Scale | None, array: np.ndarray, space: Space) -> np.ndarray:
        exact = array if scale is None else scale.exactly(array)
        if limit is not None:
            exact = np.clip(exact, -limit, limit)
        kept = space.held(exact, dtype) if scale is None else np.asarray(exact, dtype)
        return kept if mask is None else _blank(kept, mask)

    def of(role: str, scales: Any, space: Space) -> Any:
        return None if fields.get(role) is None else _each(convert, scales, fields[role], space)

    query = of("query", None if units is None else units.query, space)
    evidence = of("evidence", None if units is None else units.evidence, ANYWHERE)
    observed = fields.get("observed")
    if observed is None and masked:
        observed = trees.map(lambda leaf: np.ones(leaf.shape, bool), query)
    if observed is not None:
        query = trees.map(lambda value, some: np.where(some, value, dtype.type(0)), query, observed)
    weight: Any = np.asarray(fields.get("weight", np.ones(len(data))), dtype)
    return Datum(query, evidence, weight, observed, fields.get("index"), mask, fields.get("reset"))


def _each(function: Any, scales: Any, tree: Any, space: Space) -> Any:
    """``function(scale, leaf, space)`` of every leaf; None for all scales: of none."""
    if isinstance(tree, dict):
        part = lambda name: (None if scales is None else scales[name], tree[name], space.at(name))  # noqa: E731
        return {name: _each(function, *part(name)) for name in tree}
    return function(scales, tree, space)


def _blank(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Zeros at the padding, in standardised units too."""
    return np.where(mask.reshape(*mask.shape, *[1] * (values.ndim - 2)), values, values.dtype.type(0))


def padded(datum: Datum, rows: int) -> Datum:
    """Rows filled up with the first ones, of weight zero, so that blocks have one shape, and only numbers of the data.

    Zeros would be outside the support of some, where zero times infinity is no number.
    """
    missing = rows - len(datum)
    if missing == 0:
        return datum
    more = jax.tree.map(lambda leaf: np.pad(leaf, [(0, missing)] + [(0, 0)] * (leaf.ndim - 1), "wrap"), datum)
    return more if datum.weight is None else replace(more, weight=np.pad(datum.weight, (0, missing)))


def few_sizes(rows: int) -> int:
    """The next of few numbers, four to each doubling: data of about as many rows are to compile nothing anew."""
    step = 2 ** max((rows - 1).bit_length() - 3, 0)
    return -(-rows // step) * step


def block_rows(sample: Data, sequential: bool, values: int) -> int:
    """How many rows to sum at a time: as many as keep one block's products in the processor's cache.

    Of a latent of so many values; of sequences the products are those of the steps.
    """
    if sequential:
        return int(np.clip(_rows(steps(sample[:1]), values) // there(sample[:1]).shape[1], 1, 16384))
    return _rows(sample, values)


def _rows(sample: Data, values: int) -> int:
    components = max(1, values)
    size = sum(int(np.prod(leaf.shape[1:])) for tree in (sample.query, sample.evidence) for leaf in _arrays(tree))
    width = (size + 1) * (size + 2) // 2 if size <= 128 else 4 * size
    if sample.observed is not None:
        width = components * size * size * 3
    return int(np.clip(4e6 / (jnp.dtype(jnp.result_type(float)).itemsize * max(width, components)), 256, 16384))


def _arrays(tree: Any) -> list[np.ndarray]:
    return [] if tree is None else [leaf for _, leaf in trees.leaves(tree)]


def there(sequences: Data) -> np.ndarray:
    """Which steps [N, T] are there, of sequences on the host."""
    if sequences.mask is not None:
        return sequences.mask
    return np.ones(trees.leaves(sequences.query)[0][1].shape[:2], bool)


def length(tree: Any) -> int:
    """How many rows the arrays of a tree have."""
    return int(jax.tree.leaves(tree)[0].shape[0])


@np.errstate(all="ignore")
def on_device(tree: Any) -> Any:
    """Numbers of a query or evidence as JAX arrays at the present precision; None stays None."""
    real = jnp.result_type(float)

    def placed(leaf: Any) -> jax.Array:
        # by device_put, as jnp.asarray compiles a program for each new shape
        return leaf.astype(real) if isinstance(leaf, jax.Array) else jax.device_put(np.asarray(leaf, real))

    return jax.tree.map(placed, tree)
