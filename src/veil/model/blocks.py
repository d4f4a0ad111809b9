"""Data in blocks of one shape on the device, and model data of the same form."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from veil.data import Data, Stream
from veil.data.core import trees
from veil.model import Datum, Model, OfSequences, checks
from veil.model.abilities import ANYWHERE, Space, space_of, values
from veil.model.batching import as_datum, block_rows, few_sizes, on_device, padded
from veil.model.batching import length as size_of
from veil.model.names import aligned

ENTRIES = 2**22  # numbers in one array of a block: 16 MB in float32, of which a handful live at a time


@dataclass(frozen=True)
class Block:
    """Some data on the device (``datum``, batched and padded), their row numbers, and how many are not padding."""

    datum: Datum
    rows: Int[Array, " B"]
    count: int

    @property
    def weight(self) -> np.ndarray:
        """[count]; one for data without weights."""
        return np.ones(self.count) if self.datum.weight is None else np.asarray(self.datum.weight)[: self.count]


def as_data(model: Model, data: Any) -> Data | Stream:
    """Arrays as ``Data``, columns as the model has them; ValueError for others than the fitted model's."""
    found = aligned(model, data if isinstance(data, Data | Stream) else Data(data))
    checks.shapes(model, found)
    return found


def first(evidence: Any) -> Any:
    """The evidence of the first datum, on the device; None if there is none."""
    return on_device(jax.tree.map(lambda leaf: leaf[0], evidence))


def size(data: Data | Stream | Datum) -> int:
    """How many numbers the query of one datum has."""
    if isinstance(data, Datum):
        return sum(int(np.prod(leaf.shape[1:])) for leaf in jax.tree.leaves(data.query))
    return sum(int(np.prod(shape)) for _, shape in trees.leaves(data.query_shape))


def length(data: Data | Stream | Datum) -> int:
    """How many data there are; 0 for a stream that does not say."""
    if isinstance(data, Stream):
        return data.count or 0
    return len(data)


def blocks(data: Data | Stream | Datum, rows: int, space: Space = ANYWHERE) -> Iterator[Block]:
    """All data, ``rows`` at a time (fewer if there are no more), every block of one shape, one of few.

    Queries are values of ``space`` at the present precision.
    """
    if not isinstance(data, Stream):
        rows = min(rows, few_sizes(length(data)))
    if isinstance(data, Datum):
        parts: Iterator[Datum] = (
            jax.tree.map(lambda leaf, at=start: np.asarray(leaf[at : at + rows]), data)
            for start in range(0, length(data), rows)
        )
    else:
        parts = (as_datum(block, space=space) for block in data.blocks(rows))
    start = 0
    for part in parts:
        count = len(part)
        yield Block(jax.device_put(padded(part, rows)), jax.device_put(np.arange(start, start + rows)), count)
        start += count


def gathered(some: Iterable[Block], function: Callable[[Block], Iterable[Any]]) -> tuple[list[np.ndarray], np.ndarray]:
    """The leaves [B, ...] that ``function`` gives of each block as arrays [N, ...] on the host; the weights [N]."""
    parts, weights = [], []
    for block in some:
        parts.append([np.asarray(leaf)[: block.count] for leaf in function(block)])
        weights.append(block.weight)
    return [np.concatenate(part) for part in zip(*parts, strict=True)], np.concatenate(weights)


def cached(model: Model, data: Any) -> Iterator[Block]:
    """All data in blocks whose products fit the processor's cache, for a model that is summed out or evaluated once."""
    found = as_data(model, data)
    sample = found if isinstance(found, Data) else next(iter(found))
    return blocks(found, block_rows(sample, isinstance(model, OfSequences), values(model)), space_of(model))


def beside(block: Block, array: np.ndarray) -> Array:
    """The rows [N, ...] that go with a block's data, padded as they are."""
    rows = array[np.minimum(np.asarray(block.rows), len(array) - 1)]
    return jax.device_put(rows)


@eqx.filter_jit
def _draw(model: Model, keys: Array, evidence: Any) -> tuple[Any, Any]:
    if evidence is None:
        return jax.vmap(model.sample)(keys)
    return jax.vmap(model.sample)(keys, evidence)


def simulated(model: Model, key: PRNGKeyArray, count: int, evidence: Any) -> tuple[Any, Datum]:
    """``count`` draws (z, y) of the model: latents [count, ...] and a batched datum; evidence [N, P] is gone round."""
    checks.whole("count", count)
    rows = checks.rows(model, evidence)
    if rows is not None:
        chosen = np.arange(count) % size_of(rows)
        rows = jax.tree.map(lambda leaf: np.asarray(leaf[chosen], np.dtype(jnp.result_type(float))), rows)
    latents, queries = _draw(model, jax.random.split(key, count), jax.device_put(rows))
    return jax.tree.map(np.asarray, latents), Datum(jax.tree.map(np.asarray, queries), rows)


def map_blocks(function: Any, model: Model, data: Any, *rest: Any) -> Any:
    """``function(model, block, *rest)`` over all data, blocks of one shape; leaves come back [N, ...] on the host."""
    checks.fitted(model)
    parts = []
    for block in cached(model, data):
        result = function(model, block.datum, *rest)
        parts.append(jax.tree.map(lambda leaf, n=block.count: np.asarray(leaf)[:n], result))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
