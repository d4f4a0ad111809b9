"""What a fit learns about its data before it starts."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from veil import standardise
from veil.data import Data, Stream
from veil.data.arrays import concatenate
from veil.model import Model
from veil.nets import Units

SAMPLE = 20_000  # rows that set units and starting points
FAR = 1e12  # standardised; beyond it a starting point is far away and no more


@dataclass(frozen=True)
class Survey:
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

    @property
    def weights(self) -> np.ndarray:
        """The sample's weights in float64."""
        given = self.sample.weight
        return np.ones(len(self.sample)) if given is None else np.asarray(given, np.float64)

    def points(self) -> np.ndarray:
        """The sample as standardised points [n, query and evidence]; a missing entry sits at its column's centre."""
        rows = len(self.sample)
        query = np.asarray(standardise.apply(self.query, self.sample.query)).reshape(rows, -1)
        if self.sample.observed is not None:
            query = np.where(self.sample.observed.reshape(rows, -1), query, 0.0)
        parts = [query]
        if self.sample.evidence is not None:
            parts.append(np.asarray(standardise.apply(self.evidence, self.sample.evidence)).reshape(rows, -1))
        return np.clip(np.concatenate(parts, 1), -FAR, FAR)


def survey(model: Model, data: Data | Stream, rng: np.random.Generator) -> Survey:
    """Look at the data once (a stream: one pass). Raises ValueError for numbers no fit can hold."""
    if isinstance(data, Stream):
        sample, total, missing = _reservoir(data, rng)
        whole = sample
    else:
        whole = data
        sample = data if len(data) <= SAMPLE else data[np.sort(rng.choice(len(data), SAMPLE, replace=False))]
        total, missing = data.total_weight, data.observed is not None
    standardise.refuse_huge(whole)
    model.check(whole.query, whole.query_names)
    query = evidence = None
    weights = np.ones(len(sample)) if sample.weight is None else np.asarray(sample.weight, np.float64)
    if model.standardised and model.real:
        query = standardise.table_units(sample.query, weights, sample.observed, model.isotropic)
    if model.standardised and sample.evidence is not None:
        evidence = standardise.table_units(sample.evidence, weights, None, False)
    largest = standardise.largest(query, whole.query)
    if whole.evidence is not None:
        largest = max(largest, standardise.largest(evidence, whole.evidence))
    return Survey(sample, total, query, evidence, standardise.log_scale_per_datum(query, whole), largest, missing)


def _reservoir(stream: Stream, rng: np.random.Generator) -> tuple[Data, float, bool]:
    """In one pass: a uniform sample (the smallest random tickets), the total weight, whether entries are missing."""
    kept: Data | None = None
    tickets = np.zeros(0)
    total, missing = 0.0, False
    for block in stream:
        total += block.total_weight
        missing |= block.observed is not None
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
    return kept, total, missing


def starting_responsibilities(model: Any, seen: Survey, rng: np.random.Generator) -> Any:
    """What the model wants prepared on the host before ``initialise``: [n, K], or None."""
    return model.responsibilities(seen.points(), seen.weights, rng)
