"""Where a fit starts and what it goes through: models, posteriors and data in standardised coordinates."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from veil.data import Data, Stream
from veil.host.devices import Placement
from veil.host.garbage import uncollected
from veil.learning.loop import InMemory, Streamed, shared_out
from veil.learning.preprocessing import FAR, Preprocessing, preprocess
from veil.model import Datum, Plate, Rescalable, Startable
from veil.model.abilities import started
from veil.model.batching import as_datum, block_rows, few_sizes, padded
from veil.parts.experts import with_expanded_sums
from veil.posterior import Exact, Learned, Posterior
from veil.posterior.base import per_datum
from veil.units import Units, rescaled, unwrapped, unwrapped_posterior


def seeds(rng: np.random.Generator, count: int) -> np.ndarray:
    """Data of ``count`` random keys, uint32 [count, 2]: made on the host, where it compiles nothing."""
    return rng.integers(0, 2**32, (count, 2), dtype=np.uint32)


def frozen_units(model: Any, posterior: Any, anew: bool, given: Any = None) -> tuple[Any, Any, Units | None]:
    """A model and a posterior of standardised data, and the units in which one of them was learned before.

    Learning that goes on stays in the units it began with. ``anew``: the model starts anew, wherever it came from.
    ``given``: units to be in. A model with parameters is written in them if they have a meaning there, else it is of
    data in these units.

    Raises ValueError for a model and a posterior that were learned in different units, or in others than those given.
    """
    inner, learned, own = _frozen(model, posterior, anew)
    if given is None:
        return inner, learned, own
    if not isinstance(given, Units):
        raise TypeError(f"units: expected veil.Units.of(data, model); got {given!r}")
    if own is None and started(inner) and not anew:
        found = rescaled(inner, given.inverse())
        inner = inner if found is None else found
    if own is not None and not _same(own, given):
        raise ValueError("units: model or posterior were learned in others, and go on in those; leave units out")
    return inner, learned, given


def _frozen(model: Any, posterior: Any, anew: bool) -> tuple[Any, Any, Units | None]:
    inner, own = unwrapped(model)
    learned, theirs = unwrapped_posterior(posterior)
    if own is not None and theirs is not None and not _same(own, theirs):
        raise ValueError(
            "posterior: it was learned in other units than the model; give the posterior of the same Fit, or a new one"
        )
    if own is not None and anew:
        own = None
    if own is None and theirs is not None and not (anew and isinstance(inner, Startable)):
        # the model is in the user's units: it is written in the posterior's, or both work in the user's
        inner = rescaled(inner, theirs.inverse())
        if inner is None:
            return model, posterior, None
    return inner, learned, own if own is not None else theirs


def _same(one: Units, other: Units) -> bool:
    return bool(eqx.tree_equal(jax.tree.map(np.asarray, one), jax.tree.map(np.asarray, other)))


@eqx.filter_jit
def _initialise(model: Any, data: Any, responsibilities: Any, seeds: Any) -> Any:
    keys = jax.random.wrap_key_data(seeds)
    return eqx.filter_vmap(lambda r, key: with_expanded_sums(model.initialise(data, r, key), True))(
        responsibilities, keys
    )


def begin(
    model: Any, data: Data | Stream, units: Units | None, restarts: int, rng: np.random.Generator
) -> tuple[Any, Preprocessing]:
    """Models of standardised data with a leading axis of restarts, and what was seen of the data.

    ``units``: those of standardised data that the model is of already; None: it is of the user's data. If it comes
    with parameters, they are written in standardised units where they have meaning there, or stay as they are.
    """
    given = not isinstance(model, Startable) or (started(model) and restarts == 1)
    if units is None and given and not isinstance(model, Rescalable):
        units = Units()
    seen = preprocess(model, data, rng, units)
    if units is None and given:
        found = rescaled(model, seen.units.inverse())
        if found is None:
            seen = preprocess(model, data, rng, Units())
        model = model if found is None else found
    return starts(model, seen, restarts, rng), seen


def starts(model: Any, seen: Preprocessing, restarts: int, rng: np.random.Generator) -> Any:
    """Models of standardised data with a leading axis of restarts, summing the fast way."""
    if not isinstance(model, Startable) or (started(model) and restarts == 1):
        if isinstance(model, Plate) and not isinstance(model, Startable):  # it is not told otherwise
            model = model.shared_among(seen.total)
        return several(with_expanded_sums(model, True), restarts)
    each = [model.responsibilities(*seen.starting_points(), rng) for _ in range(restarts)]
    default = np.dtype(jnp.result_type(float))
    with jax.enable_x64(True):  # a start from all data at once, outliers included, needs the digits
        sample = as_datum(seen.sample, seen.units, seen.missing, FAR, seen.space)
        stacked = None if each[0] is None else np.stack(each)
        many = few_sizes(len(sample))
        if stacked is not None:
            more = (many - len(sample)) * (stacked.shape[1] // len(sample))
            stacked = np.pad(stacked, ((0, 0), (0, more), (0, 0)))
        sample = padded(sample, many)
        with uncollected():
            models = _initialise(model, sample, stacked, seeds(rng, restarts))
        if isinstance(models, Plate):
            models = models.shared_among(seen.total)
    return on_device(cast(models, default))


@eqx.filter_jit
def _guess(posterior: Learned, models: Any, example: Datum, count: int, seeds: Any) -> Any:
    keys = jax.random.wrap_key_data(seeds)
    return eqx.filter_vmap(lambda model, key: posterior.initialise(model, example, count, key))(models, keys)


def guesses(posterior: Posterior, models: Any, source: InMemory | Streamed, restarts: int, rng: Any) -> Any:
    """Posteriors of standardised data with a leading axis of restarts."""
    if isinstance(posterior, Exact):
        return posterior
    if not isinstance(posterior, Learned) or (started(posterior) and restarts == 1):
        return several(posterior, restarts)
    example = jax.tree.map(lambda leaf: np.zeros(leaf.shape[1:], leaf.dtype), source.example())
    # only a row for each datum has to know how many there are, which would be another number to compile for
    count = source.rows if isinstance(source, InMemory) and per_datum(posterior) is not None else 0
    with uncollected():
        return _guess(posterior, models, example, count, seeds(rng, restarts))


def source_of(
    data: Data | Stream,
    seen: Preprocessing,
    batch_size: int | None,
    seed: np.ndarray,
    place: Placement,
    lanes: bool = False,
    rows: int | None = None,
) -> InMemory | Streamed:
    """The data as the loop wants them, standardised, at JAX's present precision; ``rows`` in a block."""
    rows = rows or block_rows(seen.sample, seen.sequential, seen.values)
    if isinstance(data, Data):
        return InMemory(
            as_datum(data, seen.units, seen.missing, space=seen.space), batch_size, rows, seed, place, lanes
        )
    if batch_size is not None:
        shared_out(batch_size, place)
    rows = batch_size or min(8 * rows, 65536) * place.count
    mine, stream = rows // place.processes, data
    convert = lambda block: padded(as_datum(block, seen.units, seen.missing, space=seen.space), mine)  # noqa: E731
    share = jax.process_index(), place.processes
    passes = batches = None
    if batch_size is None:
        part = stream.share(*share) if place.processes > 1 else stream
        passes = lambda: map(convert, part.blocks(mine))  # noqa: E731
    else:
        order = int(np.random.default_rng(seed).integers(2**31))
        batches = lambda at: stream.batches(mine, seed=order, process=share[0], processes=share[1], state=at)  # noqa: E731
    return Streamed(passes, batches, convert, convert(seen.sample[:1]), seen.total, place)


@eqx.filter_jit
def careful(models: Any) -> Any:
    """Models with a leading axis of restarts, summing the careful way."""
    return eqx.filter_vmap(lambda model: with_expanded_sums(model, False))(models)


def several(tree: Any, restarts: int) -> Any:
    """A tree with a leading axis of restarts, all alike."""
    wide = lambda leaf: np.broadcast_to(np.asarray(leaf), (restarts, *np.shape(leaf)))  # noqa: E731
    return jax.tree.map(lambda leaf: wide(leaf) if eqx.is_array_like(leaf) else leaf, tree)


def first_of(tree: Any) -> Any:
    """The first restart's model, on the host."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0] if eqx.is_array_like(leaf) else leaf, tree)


def chosen(tree: Any, winner: int) -> Any:
    """One restart's model or posterior, at JAX's present precision, on the device."""
    found = jax.tree.map(lambda leaf: np.asarray(leaf)[winner] if eqx.is_array(leaf) else leaf, tree)
    return on_device(cast(found, np.dtype(jnp.result_type(float))))


def on_device(tree: Any) -> Any:
    """Numbers as JAX arrays, by ``device_put``: ``jnp.asarray`` compiles a program for each new shape."""
    return jax.tree.map(lambda leaf: jax.device_put(leaf) if eqx.is_array_like(leaf) else leaf, tree)


def cast(tree: Any, dtype: Any) -> Any:
    """Floating leaves as numpy of another precision: numpy, because it is done between two precisions of JAX."""
    return jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype) if eqx.is_inexact_array(leaf) else leaf, tree)


def finite(tree: Any) -> bool:
    """Whether all numbers are, on the host."""
    return all(np.all(np.isfinite(np.asarray(leaf))) for leaf in jax.tree.leaves(tree) if eqx.is_inexact_array(leaf))
