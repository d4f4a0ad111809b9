"""Sequences of different lengths as data: padded to the longest, with a mask; and back to plain rows of steps."""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import numpy as np

from veil.data.core import trees
from veil.data.core.arrays import Data, labels, unchecked
from veil.data.core.checks import Labels, flat_names, sequence_shape
from veil.data.core.numbers import MISSING_TYPES, array_of
from veil.data.core.trees import Tree


def episodes(
    query: Any,
    evidence: Any = None,
    weight: Any = None,
    query_names: Sequence[str] = (),
    evidence_names: Sequence[str] = (),
    name: str = "episodes",
) -> Data:
    """N sequences of lengths T_n as one `Data`: query [N, T, ...], T the longest, and a mask [N, T] of what is there.

    Args:
        query: a list of arrays [T_n, ...]; one of shape [T_n] is taken as [T_n, 1]. NaN marks a missing entry. Or a
            list of dictionaries of arrays, or a dictionary of such lists.
        evidence: the same with the same lengths, or None: what is given at each step.
        weight: [N], how many times each sequence counts.
        query_names, evidence_names, name: as in `Data`.

    Raises:
        TypeError: not a list.
        ValueError: no sequences, an empty one, or sequences that differ in more than their length.

    >>> episodes([[1.0, 2.0, 3.0], [4.0]])
    Data('episodes': N=2, query [3, 1], 4 steps)
    >>> episodes([{"place": np.zeros((3, 2)), "reward": np.zeros(3)}, {"place": np.zeros((1, 2)), "reward": [1.0]}])
    Data('episodes': N=2, query {place [3, 2], reward [3, 1]}, 4 steps)
    """
    given = {"query": _lists(query, "query")}
    given |= {} if evidence is None else {"evidence": _lists(evidence, "evidence")}
    (first, lead), *others = trees.leaves(given)
    sizes = [len(part) for part in lead]
    for path, parts in others:
        if [len(part) for part in parts] != sizes:
            raise ValueError(
                f"{trees.text(path[0], path[1:])}: expected as many sequences as {trees.text(first[0], first[1:])} "
                "has, each of the same length; got others"
            )
    names = tuple(query_names), tuple(evidence_names), name
    return ragged(sizes, **trees.map(np.concatenate, given), weight=weight, names=names)


def grouped(data: Data, episode: Any = None, time: Any = None) -> Data:
    """Rows as sequences: those with the same `episode` are the steps of one, in the order of `time` or of the rows.

    Sequences come in the order in which they first appear; the steps of one need not be next to each other. What was a
    row's evidence becomes its step's, as it stands: of a sequence model the evidence of step t leads INTO step t, so
    an action must stand in the row of what came of it. A row's weight must be that of its whole sequence.

    Args:
        data: rows, query [M, ...].
        episode: [M] numbers or text that say which sequence a row belongs to; without it all rows are one.
        time: [M] numbers or dates; different ones within a sequence.

    Raises:
        ValueError: other lengths, missing values, a time that comes twice, weights that differ within a sequence.

    >>> grouped(Data([1.0, 2.0, 3.0]), ["a", "b", "a"], [2, 1, 1]).query[..., 0].tolist()
    [[3.0, 1.0], [2.0, 0.0]]
    """
    fields = data.fields()
    order, lengths = ordered(episode, time, len(data))
    given = trees.map(lambda array: array[order], {name: fields[name] for name in fields.keys() - {"index"}})
    if "weight" in given:
        rows, given["weight"] = given["weight"], given["weight"][np.cumsum(lengths) - lengths]
        if not np.array_equal(np.repeat(given["weight"], lengths), rows):
            raise ValueError("weight: all rows of an episode must have the same one, which is that of the sequence")
    return ragged(lengths, **given, names=labels(data))


def ordered(episode: Any, time: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are the steps of the first sequence, of the second, ...: row numbers [M]; and their lengths [N].

    As `grouped` has them, whose errors these are; of `count` rows.
    """
    number = np.zeros(count, np.intp) if episode is None else _numbered(_column(episode, count, "episode"))
    order = np.argsort(number, kind="stable")
    if time is not None:
        when = moments(_column(time, count, "time"))
        try:
            rank = np.unique(when, return_inverse=True)[1]
        except TypeError as error:
            raise ValueError(f"time: expected numbers or dates that can be compared; {error}") from None
        order = np.lexsort((rank, number))
        now, before = order[1:], order[:-1]
        again = (number[now] == number[before]) & (rank[now] == rank[before])
        if again.any():
            row = int(now[again][0])
            raise ValueError(
                f"time: the order of the steps is not known: row {row} (from 0) has the same time, {when[row]}, as "
                "another row of its episode"
            )
    return order, np.bincount(number)


def ragged(
    lengths: Any,
    query: Tree,
    evidence: Tree = None,
    observed: Tree = None,
    weight: Any = None,
    names: Labels = ((), (), "episodes"),
) -> Data:
    """Steps [M, ...] that stand one after the other, the first ``lengths[0]`` of them the first sequence, and so on.

    ``weight`` [N] is that of the sequences.
    """
    sizes = np.asarray(lengths)
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or len(sizes) == 0:
        raise ValueError(f"lengths: expected integers [N], the steps of each sequence; got {sizes.dtype} {sizes.shape}")
    if np.any(sizes < 1):
        row = int(np.flatnonzero(sizes < 1)[0])
        raise ValueError(f"lengths: every sequence has at least one step; sequence {row} (from 0) has {sizes[row]}")
    mask = np.arange(sizes.max())[None] < sizes[:, None]
    arrays = {"query": query, "evidence": evidence, "observed": observed}
    flat = trees.map(lambda array: array[:, None] if array.ndim == 1 else array, arrays)
    for path, array in trees.leaves({name: tree for name, tree in flat.items() if tree is not None}):
        if len(array) != sizes.sum():
            what = trees.text(path[0], path[1:])
            raise ValueError(f"lengths: they add up to {sizes.sum()} steps, and {what} has {len(array)}")

    def spread(array: np.ndarray) -> np.ndarray:
        whole = np.zeros((*mask.shape, *array.shape[1:]), array.dtype)
        whole[mask] = array
        return whole

    return Data(
        **trees.map(spread, flat),
        weight=weight,
        query_names=names[0] or flat_names(flat["query"], "y", sequences=False),
        evidence_names=names[1] or flat_names(flat["evidence"], "x", sequences=False),
        name=names[2],
        mask=None if mask.all() else mask,
    )


def steps(data: Data) -> Data:
    """The steps of all sequences as plain rows, padding left out: query [M, ...], each with its sequence's weight.

    A policy's data of a recording are such rows already, and stay as they are.

    Raises:
        ValueError: data that are not sequences.

    >>> len(steps(episodes([[1.0, 2.0, 3.0], [4.0]])))
    4
    """
    if data.view is not None and data.view.taken and data.view.is_rows(data.query):
        return data
    shape, fields = shape_of(data), data.fields()
    mask = np.ones(shape, bool) if data.mask is None else data.mask
    if data.weight is not None:
        fields["weight"] = np.broadcast_to(data.weight[:, None], shape)
    kept = {name: fields[name] for name in ("query", "evidence", "observed", "weight") if name in fields}
    return unchecked(trees.map(lambda array: array[mask], kept), labels(data), data.view)


def shape_of(data: Data) -> tuple[int, int]:
    """The N and T of sequences."""
    shape = sequence_shape(data.query)
    if shape is None:
        each = [f"{trees.text('query', path)} {list(leaf.shape)}" for path, leaf in trees.leaves(data.query)]
        found = ", ".join(each).removeprefix("query ")
        raise ValueError(
            f"data: expected sequences, query [N, T, ...]; got {found}. Make them with veil.data.episodes or "
            "veil.data.grouped"
        )
    return shape


def _column(value: Any, count: int, argument: str) -> np.ndarray:
    """Names or times, one a row, none missing."""
    if isinstance(value, np.ma.MaskedArray):
        column = value.data.astype(object)
        column[np.ma.getmaskarray(value)] = None
    elif isinstance(value, list | tuple):
        column = np.fromiter(value, object, len(value))  # numpy would make text of None beside text
    else:
        column = array_of(value, argument)[0]
    if column.shape != (count,):
        raise ValueError(f"{argument}: expected one entry for each of the {count} rows; got shape {column.shape}")
    if column.dtype == object:
        missing = np.array([type(each).__name__ in MISSING_TYPES or each != each for each in column])
        column = column if missing.any() else np.asarray(column.tolist())
    else:
        missing = np.asarray(column != column)  # of numbers and dates alike
    if missing.any():
        row = int(np.flatnonzero(missing)[0])
        raise ValueError(f"{argument}: it must be known for every row; in row {row} (from 0) it is missing")
    return column


def _numbered(names: np.ndarray) -> np.ndarray:
    """0 for the first name that comes, 1 for the next, ..."""
    try:
        _, first, code = np.unique(names, return_index=True, return_inverse=True)
    except TypeError:  # objects of several kinds
        return _numbered(np.array([str(each) for each in names]))
    rank = np.empty(len(first), np.intp)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return rank[code]


def moments(times: np.ndarray) -> np.ndarray:
    """Times as what can be compared: text as numbers or dates, of which none wraps or loses its zone."""
    if times.dtype.kind not in "US":
        return times
    for kind in (int, float):
        with suppress(ValueError):
            return np.array([kind(text) for text in times])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy drops time zones with a warning
            dates = times.astype("M8[us]")
        with suppress(ValueError, OverflowError):  # nanoseconds reach from 1677 to 2262
            fine = times.astype("M8[ns]")
            dates = fine if np.array_equal(fine.astype("M8[us]"), dates) else dates
        if np.isnat(dates).any():
            raise ValueError(f"in row {np.flatnonzero(np.isnat(dates))[0]} (from 0) it is missing")
        return dates
    except (UserWarning, DeprecationWarning):
        pass
    except ValueError as error:
        raise ValueError(f"time: expected numbers or dates such as 2026-11-22; {error}") from None
    try:
        return np.array([datetime.fromisoformat(text) for text in times.tolist()], object)
    except ValueError as error:
        raise ValueError(f"time: expected numbers or dates such as 2026-11-22T08:30+02:00; {error}") from None


def _lists(value: Any, argument: str) -> Tree:
    """A tree of lists of arrays [T, ...], of a list of trees too."""
    if isinstance(value, list | tuple) and any(trees.is_tree(part) for part in value):
        odd = next((i for i, part in enumerate(value) if not trees.same(part, value[0])), None)
        if odd is not None:
            here, there = ([".".join(path) for path, _ in trees.leaves(value[i])] for i in (odd, 0))
            raise ValueError(
                f"{argument}: every sequence must have the same arrays; sequence {odd} (from 0) has "
                f"{', '.join(here) or 'none'}, and sequence 0 has {', '.join(there) or 'none'}"
            )
        value = trees.map(lambda *parts: list(parts), *value)
    trees.check(value, argument)
    return trees.map(lambda leaf, path: _arrays(leaf, trees.text(argument, path)), value, trees.paths(value))


def _arrays(value: Any, argument: str) -> list[np.ndarray]:
    if not isinstance(value, list | tuple | np.ndarray):
        raise TypeError(f"{argument}: expected a list of arrays, one a sequence; got {type(value).__name__}")
    found = [array_of(part, argument)[0] for part in value]
    found = [part[:, None] if part.ndim == 1 else part for part in found]
    if not found or not all(part.ndim >= 2 and len(part) for part in found):
        raise ValueError(f"{argument}: expected at least one sequence, and at least one step in each, [T, ...]")
    shapes = sorted({part.shape[1:] for part in found})
    if len(shapes) > 1:
        raise ValueError(f"{argument}: sequences may differ in length only; their steps have the shapes {shapes}")
    return found
