"""Sequences as tables for people: a row a step, which begins with sequence and step, both counted from 0."""

from pathlib import Path
from typing import Any

from veil.cli.program import Refusal

Columns = list[tuple[str, Any]]


def mask_of(data: Any) -> Any:
    """[N, T], which steps are there, of data or of a stream; None: all."""
    import numpy as np

    masks = [(block.mask, block.query.shape[:2]) for block in data.blocks(4096)]
    if all(mask is None for mask, _ in masks):
        return None
    return np.concatenate([np.ones(shape, bool) if mask is None else mask for mask, shape in masks])


def places(shape: tuple[int, int], mask: Any = None) -> tuple[Any, Columns]:
    """Which of [N, T] steps are there, and their columns sequence and step."""
    import numpy as np

    there = np.ones(shape, bool) if mask is None else np.asarray(mask)
    sequence, step = np.nonzero(there)
    return there, [("sequence", sequence), ("step", step)]


def inferred(found: Any, mask: Any) -> Columns:
    """The posterior of each step: of a state, or the moments of a vector."""
    if hasattr(found, "probabilities"):
        there, columns = places(found.path.shape, mask)
        states = np_rows(found.probabilities, there)
        columns += [(f"state_{k}", column) for k, column in enumerate(states.T)]
        return [*columns, ("most_likely", found.most_likely[there]), ("path", found.path[there])]
    there, columns = places(found.mean.shape[:2], mask)
    for name, array in (("mean", found.mean), ("sd", found.standard_deviation)):
        columns += [(f"{name}_{i}", column) for i, column in enumerate(np_rows(array, there).T)]
    return columns


def np_rows(array: Any, there: Any) -> Any:
    """[N, T, ...] as [M, numbers] of the steps that are there."""
    rows = array[there]
    return rows.reshape(len(rows), -1)


def sequences(drawn: Any, names: tuple[str, ...], out: Path, mask: Any = None) -> Columns:
    """Sequences [M, T, ...] in the columns of their query, or for an .npz as they are."""
    if out.suffix == ".npz":
        return [("query", drawn)] if mask is None else [("query", drawn), ("mask", mask)]
    if drawn.ndim > 3:
        raise Refusal(f"--out: {out.name} takes numbers in columns, and each step is {list(drawn.shape[2:])}; use .npz")
    there, columns = places(drawn.shape[:2], mask)
    return [*columns, *((name, drawn[..., i][there]) for i, name in enumerate(names))]
