"""Sequences as tables for people: a row a step, which begins with sequence (its name in the data) and step, from 0."""

from pathlib import Path
from typing import Any, NamedTuple

from veil.cli.program import Refusal

Columns = list[tuple[str, Any]]


class Places(NamedTuple):
    """What DATA call each sequence [N], and each of their steps [M], one sequence after the other (None: nothing)."""

    sequence: Any
    time: Any | None


def places(run: Any, source: str, how: Any) -> Places | None:
    """The names that DATA's columns of sequences and of time hold; None without such a column."""
    import numpy as np

    from veil.cli import reading
    from veil.data.core.columns import resolve
    from veil.data.core.episodes import ordered
    from veil.data.formats.tables import open_table
    from veil.data.recorded.opening import is_recording

    how = reading.columns_of_steps(run, source, how)
    if not reading.is_file(source) or reading.is_many(source) or is_recording(Path(source)):
        return None
    table = open_table(Path(source))
    if table.ragged:
        arrays = table.whole(None)
        episode, time = arrays.get("episode"), arrays.get("time")
    else:
        cells = lambda column, what: column and table.cells(resolve(table.names, column, what)[0])  # noqa: E731
        episode, time = cells(how.episode, "--episode"), cells(how.time, "--time")
    if episode is None:
        return None
    order, lengths = ordered(episode, time, len(episode))
    first = np.cumsum(lengths) - lengths
    return Places(_plain(episode[order][first]), None if time is None else _plain(time[order]))


def _plain(names_: Any) -> Any:
    """As people write it: whole numbers without a point, dates and text as text."""
    import numpy as np

    if names_.dtype.kind == "f" and np.all(names_ == np.round(names_)) and np.all(np.abs(names_) < 2**53):
        return names_.astype(np.int64)
    return names_ if names_.dtype.kind in "biuf" else names_.astype(str)


def mask_of(data: Any) -> Any:
    """[N, T], which steps are there, of data or of a stream; None: all."""
    import numpy as np

    from veil.data.core import trees

    masks = [(block.mask, trees.first(block.query).shape[:2]) for block in data.blocks(4096)]
    if all(mask is None for mask, _ in masks):
        return None
    return np.concatenate([np.ones(shape, bool) if mask is None else mask for mask, shape in masks])


def steps(shape: tuple[int, int], mask: Any = None, known: Any = None) -> tuple[Any, Columns]:
    """Which of [N, T] steps are there, and the columns sequence, step and perhaps time; ``known`` are their names."""
    import numpy as np

    there = np.ones(shape, bool) if mask is None else np.asarray(mask)
    sequence, step = np.nonzero(there)
    if known is None:
        return there, [("sequence", sequence), ("step", step)]
    time = [] if known.time is None else [("time", known.time)]
    return there, [("sequence", known.sequence[sequence]), ("step", step), *time]


def inferred(found: Any, mask: Any, known: Any) -> Columns:
    """The posterior of each step: of a state, the moments of a vector, or draws of either, a column each.

    Of what is filtered step by step last log p(y_t | y_1..t-1), nats.
    """
    if found.paths is not None:
        there, columns = steps((found.paths.shape[0], found.paths.shape[2]), mask, known)
        for s in range(found.paths.shape[1]):
            drawn = found.paths[:, s]
            parts = np_rows(drawn, there).T
            columns += [(f"path_{s}" if drawn.ndim == 2 else f"path_{s}_{i}", part) for i, part in enumerate(parts)]
        return columns
    states = found.probabilities is not None
    there, columns = steps((found.most_likely if states else found.mean).shape[:2], mask, known)
    if states:
        columns += [(f"state_{k}", column) for k, column in enumerate(np_rows(found.probabilities, there).T)]
        columns += [("most_likely", found.most_likely[there])]
        columns += [] if found.path is None else [("path", found.path[there])]
    for name, array in (("mean", found.mean), ("sd", found.standard_deviation)):
        if array is not None:
            columns += [(f"{name}_{i}", column) for i, column in enumerate(np_rows(array, there).T)]
    return columns if found.log_likelihood is None else [*columns, ("log_prob", found.log_likelihood[there])]


def np_rows(array: Any, there: Any) -> Any:
    """[N, T, ...] as [M, numbers] of the steps that are there."""
    rows = array[there]
    return rows.reshape(len(rows), -1)


def sequences(drawn: Any, names: dict[Any, tuple[str, ...]], out: Path, mask: Any = None) -> Columns:
    """Sequences [M, T, ...] in the columns of their query, by array, or for an .npz as they are."""
    from veil.data.core import trees

    if out.suffix == ".npz":
        return [("query", drawn)] if mask is None else [("query", drawn), ("mask", mask)]
    wide = [list(leaf.shape[2:]) for _, leaf in trees.leaves(drawn) if leaf.ndim > 3]
    if wide:
        raise Refusal(f"--out: {out.name} takes numbers in columns, and each step is {wide[0]}; use .npz")
    there, columns = steps(trees.first(drawn).shape[:2], mask)
    return [*columns, *((name, column[there]) for name, column in named(drawn, names))]


def named(tree: Any, names: dict[Any, tuple[str, ...]]) -> Columns:
    """The columns of vectors [..., D] of a tree, by the names of each array: JAX sorts dictionaries."""
    from veil.data.core import trees

    leaves = dict(trees.leaves(tree))
    return [(name, leaves[path][..., i]) for path, each in names.items() for i, name in enumerate(each)]
