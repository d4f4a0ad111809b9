"""What a fit learns about its data before it starts: units, a sample, what is missing."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from veil.data import Data, Stream
from veil.data.core import trees
from veil.data.core.arrays import concatenate
from veil.data.core.episodes import steps
from veil.model import Model, OfSequences, PerEpisode
from veil.model.abilities import Space, space_of
from veil.model.abilities import values as latent_values
from veil.model.batching import there
from veil.model.scales import Scale
from veil.units import Units

SAMPLE = 20_000  # rows that set units and starting points
FAR = 1e12  # standardised; beyond it a starting point is far away and no more
STATIONS = 32  # along an episode, at which it is compared with others
LARGEST = 1e150  # whose square float64 can hold


@dataclass(frozen=True)
class Preprocessing:
    """A sample in memory, the total weight, the units, the largest standardised number, whether entries are missing.

    ``log_scale``: Σ log scale over a datum's observed entries, on average (nats): log p in standardised units minus
    log p in the user's. ``values``: how many values the latent has, 0 if it is not discrete.
    """

    sample: Data
    total: float
    units: Units
    log_scale: float
    largest: float
    missing: bool
    sequential: bool
    episodic: bool
    values: int
    space: Space

    @property
    def weights(self) -> np.ndarray:
        """The points' weights in float64; those of padding are zero."""
        given = self.sample.weight
        weights = np.ones(len(self.sample)) if given is None else np.asarray(given, np.float64)
        if not self.sequential:
            return weights
        shape = trees.leaves(self.sample.query)[0][1].shape[:2]
        mask = np.ones(shape, bool) if self.sample.mask is None else self.sample.mask
        return (weights[:, None] * mask).ravel()

    @property
    def rows(self) -> Data:
        """The sample as plain rows: of sequences, their steps."""
        return steps(self.sample) if self.sequential else self.sample

    def points(self) -> np.ndarray:
        """The sample as standardised points [n, query and evidence]; a missing entry sits at its column's centre.

        Of sequences each step is a point, padding included: [n T, query and evidence of a step].
        """
        rows = len(self.weights)
        parts = [_standard(*leaf, rows) for leaf in _paired(self.units.query, self.sample.query, self.sample.observed)]
        if self.sample.evidence is not None:
            parts += [_standard(*leaf, rows) for leaf in _paired(self.units.evidence, self.sample.evidence, None)]
        return np.clip(np.concatenate(parts, 1), -FAR, FAR)

    def starting_points(self) -> tuple[np.ndarray, np.ndarray]:
        """What a model's responsibilities are made from, points and weights: one for each datum or step.

        Of a latent that is drawn once an episode the points are whole episodes [n, R · query of a step]: their queries
        along the way, from the first step to the last in as many stations R as the longest has steps, at most 32.
        """
        if not self.episodic:
            return self.points(), self.weights
        rows = len(self.weights)
        parts = [_standard(*leaf, rows) for leaf in _paired(self.units.query, self.sample.query, self.sample.observed)]
        count = len(self.sample)
        steps = np.clip(np.concatenate(parts, 1), -FAR, FAR).reshape(count, rows // count, -1)
        weight = np.ones(count) if self.sample.weight is None else np.asarray(self.sample.weight, np.float64)
        return _resampled(steps, there(self.sample)).reshape(count, -1), weight


def _resampled(steps: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Sequences [n, T, D] of the steps that are there, at R places evenly along each, by linear interpolation."""
    order = np.argsort(~there, axis=1, kind="stable")  # those that are there come first
    lengths = np.maximum(np.sum(there, 1), 1)
    places = np.linspace(0.0, 1.0, min(steps.shape[1], STATIONS))[None] * (lengths[:, None] - 1)
    before = np.minimum(places.astype(int), np.maximum(lengths[:, None] - 2, 0))
    share = (places - before)[..., None]
    row = np.arange(len(steps))[:, None]
    after = np.minimum(before + 1, lengths[:, None] - 1)
    return (1 - share) * steps[row, order[row, before]] + share * steps[row, order[row, after]]


def _standard(scale: Scale | None, array: np.ndarray, observed: np.ndarray | None, rows: int) -> np.ndarray:
    exact = np.asarray(array, np.float64) if scale is None else scale.exactly(array)
    found = exact.reshape(rows, -1)
    return found if observed is None else np.where(observed.reshape(rows, -1), found, 0.0)


def _paired(scales: Any, values: Any, observed: Any) -> list[tuple[Scale | None, np.ndarray, np.ndarray | None]]:
    """Scale, array and mask of every leaf."""
    if not isinstance(values, dict):
        return [(scales, values, observed)]
    found = []
    for name, value in values.items():
        scale = None if scales is None else scales[name]
        found += _paired(scale, value, None if observed is None else observed[name])
    return found


class Extent:
    """What every row has to be looked at for: ranges, total weight, how much of each entry is observed."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.total, self.missing = 0.0, False
        self._ranges: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        self._present: list[np.ndarray | float] = []
        self._names: dict[str, list[tuple[str, tuple[str, ...]]]] = {}

    def add(self, block: Data) -> None:
        """Look at a block. Raises ValueError for numbers no fit can hold, or outside the model's support."""
        refuse_huge(block)
        rows = supported(self._model, block)
        self.total += block.total_weight
        for role, tree, names in (
            ("query", rows.query, rows.query_names),
            ("evidence", rows.evidence, rows.evidence_names),
        ):
            if tree is not None:
                self._names[role] = [(".".join((role, *path)), names) for path, _ in trees.leaves(tree)]
                ends = [(np.min(leaf, axis=0), np.max(leaf, axis=0)) for _, leaf in trees.leaves(tree)]
                before = self._ranges.get(role, ends)
                pairs = zip(before, ends, strict=True)
                self._ranges[role] = [(np.minimum(a[0], b[0]), np.maximum(a[1], b[1])) for a, b in pairs]
        weight = np.ones(len(rows)) if rows.weight is None else np.asarray(rows.weight, np.float64)
        present: list[np.ndarray | float] = [rows.total_weight] * len(trees.leaves(rows.query))
        if rows.observed is not None:
            present = [np.tensordot(weight, np.asarray(leaf), 1) for _, leaf in trees.leaves(rows.observed)]
            self.missing = True
        before = self._present or [0.0] * len(present)
        self._present = [a + b for a, b in zip(before, present, strict=True)]

    def refuse_nothing(self) -> None:
        """Raise ValueError for weights that are all zero, or a query without an entry, in all blocks together."""
        if not self.total:
            raise ValueError("weight must have a positive sum; all weights are 0")
        if not any(np.any(present) for present in self._present):
            raise ValueError("query must have at least one observed entry of positive weight; all of them are missing")

    def refuse_unheld(self, units: Units) -> None:
        """Raise ValueError for columns so large or so small that the device's precision does not hold them.

        Or their spread: where most values are that near to each other, one that is not does not help.
        """
        held = np.finfo(np.dtype(jnp.result_type(float)))
        least, most = 1e4 * float(held.tiny), 0.1 * float(held.max)  # what is below tiny is read as zero
        for role, scales in (("query", units.query), ("evidence", units.evidence)):
            ranges, labels = self._ranges.get(role, []), self._names.get(role, [])
            for (label, names), ends, scale in zip(labels, ranges, _leaves(scales, len(ranges)), strict=True):
                size = np.max(np.abs(ends), axis=0).astype(np.float64)
                spread = size if scale is None else np.minimum(size, np.asarray(scale.scale, np.float64))
                bad = (size > most) | ((size > 0) & (spread < least))
                if np.any(bad):
                    place = tuple(int(i) for i in np.argwhere(bad)[0])
                    column = names[place[0]] if len(place) == 1 and len(names) == len(size) else place
                    came = size[place] if size[place] > most else spread[place]
                    raise ValueError(
                        f"{label}: {held.dtype} holds sizes from {least:.0e} to {most:.0e}; that of column {column} is "
                        f"{came:g}: rescale it, or work in float64 (jax.config.update('jax_enable_x64', True); "
                        "on the command line --precision float64)"
                    )

    def largest(self, units: Units) -> float:
        """The largest absolute standardised number."""
        found = [0.0]
        for role, scales in (("query", units.query), ("evidence", units.evidence)):
            ranges = self._ranges.get(role, [])
            for scale, ends in zip(_leaves(scales, len(ranges)), ranges, strict=True):
                found += [float(np.max(np.abs(end if scale is None else scale.exactly(end)))) for end in ends]
        return max(found)

    def log_scale(self, units: Units) -> float:
        """Σ log scale over observed entries, averaged over data (nats): what standardising adds to log p."""
        pairs = zip(_leaves(units.query, len(self._present)), self._present, strict=True)
        each = [present / self.total * np.log(np.asarray(scale.scale)) for scale, present in pairs if scale is not None]
        return float(sum(np.sum(one) for one in each))


def supported(model: Model, data: Data) -> Data:
    """The rows (of sequences their steps); ValueError names column and value of one that the model says cannot be."""
    rows = steps(data) if isinstance(model, OfSequences) else data
    for part in in_memory(rows):
        space_of(model).check(known_values(part), part.query_names)
    return rows


def in_memory(data: Data) -> Iterable[Data]:
    """All of it; of data on disk, in which NaN is not marked before they are read, block by block."""
    return data.blocks(SAMPLE) if data.mapped else (data,)


def known_values(rows: Data) -> Any:
    """The query, with the first value of the same column that is there in the place of those that are missing."""
    if rows.observed is None:
        return rows.query

    def one(query: np.ndarray, observed: np.ndarray) -> np.ndarray:
        if not np.any(observed):
            return query
        first = np.take_along_axis(query, np.argmax(observed, axis=0)[None], axis=0)
        return np.where(observed, query, np.where(np.any(observed, axis=0), first, query[observed][0]))

    return trees.map(one, rows.query, rows.observed)


def _leaves(scales: Any, count: int) -> list[Scale | None]:
    """The scales of ``count`` leaves in order."""
    if isinstance(scales, dict):
        return [leaf for value in scales.values() for leaf in _leaves(value, 1)]
    return [scales] * count


def refuse_huge(data: Data) -> None:
    """Raise ValueError for numbers whose squares overflow even float64."""
    for role, tree, names in (
        ("query", data.query, data.query_names),
        ("evidence", data.evidence, data.evidence_names),
    ):
        for path, array in [] if tree is None else trees.leaves(tree):
            if float(np.max(np.abs(array))) > LARGEST:
                place = np.unravel_index(np.argmax(np.abs(array)), array.shape)
                column = names[place[-1]] if array.ndim == 2 and len(names) == array.shape[1] else place[1:]
                raise ValueError(
                    f"{'.'.join((role, *path))}: expected numbers up to {LARGEST:g} in size; column {column} has "
                    f"{array[place]:g} in row {place[0]}: rescale the column or drop the row"
                )


def preprocess(
    model: Model, data: Data | Stream, rng: np.random.Generator, units: Units | None = None
) -> Preprocessing:
    """Look at all data once; ``units`` are measured unless given.

    Raises ValueError for numbers no fit can hold at this precision, or outside the model's support.
    """
    extent = Extent(model)
    if isinstance(data, Stream):
        sample = _reservoir(data, extent, rng)
    else:
        for part in in_memory(data):
            extent.add(part)
        few = len(data) <= SAMPLE
        sample = next(iter(in_memory(data))) if few else data[np.sort(rng.choice(len(data), SAMPLE, replace=False))]
    extent.refuse_nothing()
    units = Units.of(sample, model) if units is None else units
    extent.refuse_unheld(units)
    numbers = extent.log_scale(units), extent.largest(units), extent.missing
    return Preprocessing(
        sample,
        extent.total,
        units,
        *numbers,
        isinstance(model, OfSequences),
        isinstance(model, PerEpisode),
        latent_values(model),
        space_of(model),
    )


def _reservoir(stream: Stream, extent: Extent, rng: np.random.Generator) -> Data:
    """In one pass, ``extent`` looks at every block and a uniform sample is kept: the rows with the smallest tickets."""
    kept: Data | None = None
    tickets = np.zeros(0)
    for block in stream:
        extent.add(block)
        fresh = rng.random(len(block))
        bound = np.inf if len(tickets) < SAMPLE else tickets.max()
        chosen = np.flatnonzero(fresh < bound)
        if len(chosen) == 0:
            continue
        kept = block[chosen] if kept is None else concatenate([kept, block[chosen]])
        tickets = np.concatenate([tickets, fresh[chosen]])
        if len(tickets) > SAMPLE:
            best = np.sort(np.argpartition(tickets, SAMPLE)[:SAMPLE])
            kept, tickets = kept[best], tickets[best]
    if kept is None:
        raise ValueError("data: the stream gave no rows")
    return kept
