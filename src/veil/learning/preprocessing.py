"""What a fit learns about its data before it starts."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from veil.data import Data, Stream
from veil.data.core.arrays import concatenate
from veil.data.core.episodes import steps
from veil.model import Model
from veil.units import Units, refuse_huge, standardised, table_units

SAMPLE = 20_000  # rows that set units and starting points
FAR = 1e12  # standardised; beyond it a starting point is far away and no more


@dataclass(frozen=True)
class Preprocessing:
    """A sample in memory, the total weight, the units, the largest standardised number, whether entries are missing.

    ``log_scale``: Σ log scale over a datum's observed entries, on average (nats): log p in standardised units minus
    log p in the user's.
    """

    sample: Data
    total: float
    query: Units | None
    evidence: Units | None
    log_scale: float
    largest: float
    missing: bool
    sequential: bool = False

    @property
    def weights(self) -> np.ndarray:
        """The points' weights in float64; those of padding are zero."""
        given = self.sample.weight
        weights = np.ones(len(self.sample)) if given is None else np.asarray(given, np.float64)
        if not self.sequential:
            return weights
        mask = np.ones(self.sample.query.shape[:2], bool) if self.sample.mask is None else self.sample.mask
        return (weights[:, None] * mask).ravel()

    @property
    def rows(self) -> Data:
        """The sample as plain rows: of sequences, their steps."""
        return steps(self.sample) if self.sequential else self.sample

    def points(self) -> np.ndarray:
        """The sample as standardised points [n, query and evidence]; a missing entry sits at its column's centre.

        Of sequences each step is a point, padding included: [n T, query and evidence of a step].
        """
        rows = len(self.weights) if self.sequential else len(self.sample)
        query = np.asarray(standardised(self.query, self.sample.query)).reshape(rows, -1)
        if self.sample.observed is not None:
            query = np.where(self.sample.observed.reshape(rows, -1), query, 0.0)
        parts = [query]
        if self.sample.evidence is not None:
            parts.append(np.asarray(standardised(self.evidence, self.sample.evidence)).reshape(rows, -1))
        return np.clip(np.concatenate(parts, 1), -FAR, FAR)


class Extent:
    """What every row has to be looked at for: ranges, total weight, how much of each entry is observed."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.total, self.missing = 0.0, False
        self._ranges: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._present: np.ndarray | float = 0.0

    def add(self, block: Data) -> None:
        """Look at a block. Raises ValueError for numbers no fit can hold, or outside the model's support."""
        refuse_huge(block)
        rows = steps(block) if self._model.sequential else block
        query = rows.query
        if rows.observed is not None and np.any(rows.observed):  # what stands in for a missing entry is nobody's value
            query = np.where(rows.observed, query, query[rows.observed][0])
        self._model.check(query, rows.query_names)
        self.total += block.total_weight
        for role, array in (("query", rows.query), ("evidence", rows.evidence)):
            if array is not None:
                low, high = np.min(array, axis=0), np.max(array, axis=0)
                before = self._ranges.get(role, (low, high))
                self._ranges[role] = np.minimum(before[0], low), np.maximum(before[1], high)
        if block.observed is None:
            self._present = self._present + rows.total_weight
        else:
            weight = np.ones(len(rows)) if rows.weight is None else np.asarray(rows.weight, np.float64)
            self._present, self.missing = self._present + np.tensordot(weight, np.asarray(rows.observed), 1), True

    def largest(self, role: str, units: Units | None) -> float:
        """The largest absolute standardised number."""
        ends = [np.abs(np.asarray(standardised(units, end))) for end in self._ranges.get(role, ())]
        return float(np.max(ends)) if ends else 0.0

    def log_scale(self, units: Units | None) -> float:
        """Σ log scale over observed entries, averaged over data (nats): what standardising adds to log p."""
        return 0.0 if units is None else float(np.sum(self._present / self.total * np.log(np.asarray(units.scale))))


def preprocess(model: Model, data: Data | Stream, rng: np.random.Generator) -> Preprocessing:
    """Look at all data once. Raises ValueError for numbers no fit can hold, or outside the model's support."""
    extent = Extent(model)
    if isinstance(data, Stream):
        sample = _reservoir(data, extent, rng)
    else:
        extent.add(data)
        sample = data if len(data) <= SAMPLE else data[np.sort(rng.choice(len(data), SAMPLE, replace=False))]
    query = evidence = None
    rows = steps(sample) if model.sequential else sample
    weights = np.ones(len(rows)) if rows.weight is None else np.asarray(rows.weight, np.float64)
    if model.standardised and model.real:
        query = table_units(rows.query, weights, rows.observed, model.isotropic)
    if model.standardised and rows.evidence is not None:
        evidence = table_units(rows.evidence, weights, None, False)
    largest = max(extent.largest("query", query), extent.largest("evidence", evidence))
    return Preprocessing(
        sample, extent.total, query, evidence, extent.log_scale(query), largest, extent.missing, model.sequential
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


def starting_responsibilities(model: Any, seen: Preprocessing, rng: np.random.Generator) -> Any:
    """What the model wants prepared on the host before ``initialise``: [n, K], or None."""
    return model.responsibilities(seen.points(), seen.weights, rng)
