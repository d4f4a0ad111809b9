"""Sequences of different lengths as data: padded to the longest, with a mask; and back to plain rows of steps."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from veil.data.arrays import Data, unchecked


def episodes(
    query: Sequence[Any],
    evidence: Sequence[Any] | None = None,
    weight: Any = None,
    query_names: Sequence[str] = (),
    evidence_names: Sequence[str] = (),
    name: str = "episodes",
) -> Data:
    """N sequences of lengths T_n as one `Data`: query [N, T, ...], T the longest, and a mask [N, T] of what is there.

    Args:
        query: a list of arrays [T_n, ...]; one of shape [T_n] is taken as [T_n, 1]. NaN marks a missing entry.
        evidence: a list of arrays [T_n, ...] of the same lengths, or None: what is given at each step.
        weight: [N], how many times each sequence counts.
        query_names, evidence_names, name: as in `Data`.

    Raises:
        TypeError: not a list.
        ValueError: no sequences, an empty one, or sequences that differ in more than their length.

    >>> episodes([[1.0, 2.0, 3.0], [4.0]])
    Data('episodes': N=2, query [3, 1], 4 steps)
    """
    rows = _arrays(query, "query")
    padded, mask = _padded(rows)
    given = None
    if evidence is not None:
        inputs = _arrays(evidence, "evidence")
        if [len(part) for part in inputs] != [len(part) for part in rows]:
            raise ValueError("evidence: expected as many sequences as query has, each of the same length; got others")
        given = _padded(inputs)[0]
    return Data(
        padded,
        given,
        weight,
        query_names=query_names,
        evidence_names=evidence_names,
        name=name,
        mask=None if mask.all() else mask,
    )


def steps(data: Data) -> Data:
    """The steps of all sequences as plain rows, padding left out: query [M, ...], each with its sequence's weight.

    >>> len(steps(episodes([[1.0, 2.0, 3.0], [4.0]])))
    4
    """
    mask = np.ones(data.query.shape[:2], bool) if data.mask is None else data.mask
    arrays = {
        field: array[mask] for field, array in data.fields().items() if field in ("query", "evidence", "observed")
    }
    if data.weight is not None:
        arrays["weight"] = np.broadcast_to(data.weight[:, None], mask.shape)[mask]
    return unchecked(arrays, (data.query_names, data.evidence_names, data.name))


def _arrays(value: Any, argument: str) -> list[np.ndarray]:
    if isinstance(value, np.ndarray) and value.dtype != object:
        value = list(value)
    if not isinstance(value, list | tuple):
        raise TypeError(f"{argument}: expected a list of arrays, one a sequence; got {type(value).__name__}")
    found = [np.asarray(part) for part in value]
    found = [part[:, None] if part.ndim == 1 else part for part in found]
    if not found or not all(part.ndim >= 2 and len(part) for part in found):
        raise ValueError(f"{argument}: expected at least one sequence, and at least one step in each, [T, ...]")
    shapes = {part.shape[1:] for part in found}
    if len(shapes) > 1:
        raise ValueError(
            f"{argument}: sequences may differ in length only; their steps have the shapes {sorted(shapes)}"
        )
    return found


def _padded(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    longest = max(len(part) for part in parts)
    dtype = np.result_type(*parts)
    whole = np.zeros((len(parts), longest, *parts[0].shape[1:]), dtype)
    mask = np.zeros((len(parts), longest), bool)
    for row, part in enumerate(parts):
        whole[row, : len(part)] = part
        mask[row, : len(part)] = True
    return whole, mask
