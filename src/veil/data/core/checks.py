"""The fields of data, converted and checked: what `Data` may hold."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from veil.data.core import trees
from veil.data.core.numbers import array_of, first_not_finite, float_type, numbers
from veil.data.core.trees import Path, Tree

FIELDS = ("query", "evidence", "weight", "observed", "index", "mask", "reset")
Labels = tuple[tuple[str, ...], tuple[str, ...], str]


def checked(
    given: Mapping[str, Any], names: tuple[Any, Any, Any], *, whole: bool, first_row: int
) -> tuple[dict[str, Any], Labels]:
    """The fields and labels of `Data`; raises as it does. `whole`: also what must hold for all, but not a block."""
    query, found = _tree(given["query"], "query")
    count = len(trees.first(query))
    lead = trees.text("query", trees.leaves(query)[0][0])  # what messages call the leaf that the others must fit
    _same_rows(query, "query", count, lead)

    def of(field: str, make: Callable[..., Any], *rest: Any) -> Any:
        return None if given.get(field) is None else make(given[field], *rest)

    sequences = given.get("mask") is not None or given.get("reset") is not None
    query_names = leaf_names(names[0] or found, query, "query", "y", sequences)
    mask, reset = of("mask", _padding, query), of("reset", _steps, query, "reset", "an episode starts")
    query = _blank(query, mask)
    evidence, found = of("evidence", _tree, "evidence") or (None, ())
    if evidence is None and names[1]:
        raise ValueError(f"evidence_names {tuple(names[1])} were given without evidence; give both or neither")
    if sequences:
        _same_steps(evidence, "evidence", query, lead)
    evidence = _blank(evidence, mask)
    _same_rows(evidence, "evidence", count, lead)
    evidence_names = None if evidence is None else leaf_names(names[1] or found, evidence, "evidence", "x", sequences)
    for (path, leaf), (_, columns) in zip(trees.leaves(evidence), trees.leaves(evidence_names), strict=True):
        bad = None if isinstance(leaf, np.memmap) else first_not_finite(leaf)
        if bad is not None:
            raise incomplete(_column(columns, bad), bad[0] + first_row, str(leaf[bad]), trees.text("evidence", path))

    _same_index(given)
    observed = of("observed", _present, query, count, lead)
    if mask is not None:  # what is not there is not missing
        observed = trees.map(lambda seen: seen | ~_wide(mask, seen.ndim), observed)
    if not any(isinstance(leaf, np.memmap) for _, leaf in trees.leaves(query)):
        query, observed = _filled(query, observed, query_names, first_row)
        there = lambda seen: seen if mask is None else seen & _wide(mask, seen.ndim)  # noqa: E731
        if whole and observed is not None and not any(there(seen).any() for _, seen in trees.leaves(observed)):
            raise ValueError("query must have at least one observed entry; all of them are missing")
    weight, index = of("weight", _weights, count, lead, whole, first_row), of("index", _identities, count, lead)
    fields = dict(zip(FIELDS, (query, evidence, weight, observed, index, mask, reset), strict=True))
    return fields, (flat(query_names), flat(evidence_names), str(names[2]))


def sequence_shape(query: Tree) -> tuple[int, int] | None:
    """The N and T that all leaves [N, T, ...] share; None if they are not sequences."""
    shapes = {leaf.shape[:2] if leaf.ndim > 2 else None for _, leaf in trees.leaves(query)}
    return shapes.pop() if len(shapes) == 1 else None


def _tree(value: Any, argument: str) -> tuple[Tree, tuple[str, ...]]:
    """Floats, each leaf [N, ...]; and the names of columns that an array (not a tree) brings."""
    trees.check(value, argument)
    pairs = trees.map(lambda leaf, path: numbers(leaf, trees.text(argument, path)), value, trees.paths(value))
    return trees.map(lambda pair: pair[0], pairs), () if trees.is_tree(value) else pairs[1]


def default_names(tree: Tree, letter: str, sequences: bool) -> Tree:
    """The names of each leaf's columns, (): of an array its last axis; a leaf that is like an image has one name."""

    def name(leaf: Any, path: Path) -> tuple[str, ...]:  # an array, or its shape
        called = ".".join(path) or letter
        if path and (leaf.shape[-1] == 1 or leaf.ndim > (3 if sequences else 2)):
            return (called,)
        return tuple(f"{called}{i}" for i in range(leaf.shape[-1]))

    return trees.map(name, tree, trees.paths(tree))


def flat_names(tree: Tree, letter: str, sequences: bool) -> tuple[str, ...]:
    """The default names of all columns, leaf after leaf."""
    return flat(default_names(tree, letter, sequences))


def flat(names: Tree) -> tuple[Any, ...]:
    """What is in the lists that are the leaves of a tree, one after the other."""
    return tuple(name for _, each in trees.leaves(names) for name in each)


def leaf_names(names: Any, tree: Tree, argument: str, letter: str, sequences: bool) -> Tree:
    """Those given, or the default, of each leaf. Without a mask [N, T, D] may be an image or a sequence of vectors."""
    usual = default_names(tree, letter, sequences)
    given = (names,) if isinstance(names, str) else tuple(str(name) for name in names) if names else flat(usual)
    fits = [each for each in (usual, default_names(tree, letter, not sequences)) if len(flat(each)) == len(given)]
    if not fits:
        axis = "its last axis" if not trees.is_tree(tree) else "of its leaves; one that is like an image has one"
        raise ValueError(
            f"{argument}_names must name the {len(flat(usual))} columns of {argument} ({axis}); "
            f"got {len(given)} names: {given}"
        )
    if len(set(given)) != len(given):
        twice = next(name for name in given if given.count(name) > 1)
        raise ValueError(f"{argument}_names must differ from each other; {twice!r} comes twice")
    left = iter(given)
    return trees.map(lambda each: tuple(next(left) for _ in each), fits[0])


def _column(names: tuple[str, ...], bad: tuple[int, ...]) -> str:
    return names[bad[-1] if len(names) > 1 else 0]


def _same_index(given: Mapping[str, Any]) -> None:
    """Refuse frames whose rows are not those of each other: here rows go together by position."""
    frames = [
        (trees.text(field, path), leaf.index)
        for field, tree in given.items()
        for path, leaf in trees.leaves(tree)
        if hasattr(leaf, "to_numpy") and hasattr(getattr(leaf, "index", None), "equals")
    ]
    for what, index in frames[1:]:
        if len(index) == len(frames[0][1]) and not index.equals(frames[0][1]):
            raise ValueError(
                f"{frames[0][0]} and {what} are frames with different indices, and rows go together by position: "
                f"select the rows of one by the index of the other ({what}.loc[{frames[0][0]}.index]), or give arrays"
            )


def _same_rows(tree: Tree, argument: str, count: int, lead: str) -> None:
    for path, leaf in trees.leaves(tree):
        rows, what = leaf.shape[0] if leaf.ndim else 1, trees.text(argument, path)
        if rows != count:
            raise ValueError(
                f"{lead} and {what} must have the same number of rows; {lead} has {count} and {what} has {rows}"
            )


def _steps(value: Any, query: Tree, argument: str, true: str) -> np.ndarray:
    """Booleans [N, T], one a step."""
    short = next(((path, leaf) for path, leaf in trees.leaves(query) if leaf.ndim < 3), None)
    if short is not None:
        what, shape = trees.text("query", short[0]), short[1].shape
        raise ValueError(f"{argument} is for sequences, whose {what} has the shape [N, T, ...]; this one has {shape}")
    path, lead = trees.leaves(query)[0]
    _same_steps(query, "query", query, trees.text("query", path))
    steps = np.array(array_of(value, argument)[0], subok=False)
    if steps.shape != lead.shape[:2]:
        raise ValueError(
            f"{argument} must have shape {lead.shape[:2]}, one entry a step of the query; got {steps.shape}"
        )
    return _booleans(steps, argument, f"True ({true}) or False")


def _padding(value: Any, query: Tree) -> np.ndarray:
    mask = _steps(value, query, "mask", "the step is there")
    before = (mask[:, 1:] & ~mask[:, :-1]).any(1)
    for wrong, what in ((before & mask[:, 0], "before or between them"), (~mask[:, 0], "none at its beginning")):
        if wrong.any():
            raise ValueError(
                "mask: every sequence has at least one step, and padding comes behind the steps of a sequence; row "
                f"{np.flatnonzero(wrong)[0]} (from 0) has {what}. Mark a step that was not seen with NaN in the query"
            )
    return mask


def _same_steps(tree: Tree, argument: str, query: Tree, lead: str) -> None:
    expected = trees.first(query).shape[:2]
    for path, leaf in trees.leaves(tree):
        if leaf.shape[:2] != expected or leaf.ndim < 3:
            raise ValueError(
                f"{trees.text(argument, path)} of sequences must have shape [N, T, ...], one entry for each step of "
                f"{lead}, {list(expected)}; got {list(leaf.shape)}"
            )


def _wide(mask: np.ndarray, axes: int) -> np.ndarray:
    """A mask [N, T] with as many axes as an array [N, T, ...]."""
    return mask.reshape(*mask.shape, *[1] * (axes - 2))


def _blank(tree: Tree, mask: np.ndarray | None) -> Tree:
    """Zeros at the padding."""
    if mask is None or mask.all():
        return tree
    return trees.map(lambda leaf: np.where(_wide(mask, leaf.ndim), leaf, leaf.dtype.type(0)), tree)


def _booleans(array: np.ndarray, what: str, wanted: str) -> np.ndarray:
    if array.dtype == bool:
        return array
    if not np.isin(array, (0, 1)).all():
        raise ValueError(f"{what} must hold {wanted}; got other values")
    return array.astype(bool)


def _present(value: Any, query: Tree, count: int, lead: str) -> Tree:
    """A mask for each leaf of the query, all True for those that are left out."""

    def mask(leaf: np.ndarray, given: Any, path: Path) -> np.ndarray:
        if given is None:
            return np.ones(leaf.shape, bool)
        what = trees.text("observed", path)
        seen, _ = array_of(given, what)
        if seen.ndim == 1 and leaf.ndim == 2:
            seen = seen[:, np.newaxis]
        _same_rows(seen, what, count, lead)
        if seen.shape != leaf.shape:
            raise ValueError(
                f"{what} must have the shape of {trees.text('query', path)}, {leaf.shape}; got {seen.shape}"
            )
        return seen if isinstance(seen, np.memmap) else _booleans(seen, what, "True (present) or False (missing)")

    return trees.map(mask, query, trees.aligned(value, query, "observed", "query"), trees.paths(query))


def _filled(query: Tree, observed: Tree, names: Tree, first_row: int) -> tuple[Tree, Tree]:
    """Missing entries marked and set to 0. A mask for every leaf, or none if nothing is missing."""

    def fill(leaf: np.ndarray, seen: np.ndarray | None, path: Path, columns: tuple[str, ...]) -> tuple[Any, Any]:
        if seen is None or seen.all():
            seen = None
            if first_not_finite(leaf) is None:
                return leaf, None
        missing = np.isnan(leaf)
        present = ~missing if seen is None else np.asarray(seen & ~missing)
        filled = np.where(present, leaf, leaf.dtype.type(0))
        bad = first_not_finite(filled)
        if bad is not None:
            raise ValueError(
                f"{trees.text('query', path)} must be finite; column {_column(columns, bad)!r}, row "
                f"{bad[0] + first_row} (from 0) is {filled[bad]}. Mark it as missing with NaN, or drop the row"
            )
        return filled, present

    pairs = trees.map(fill, query, observed, trees.paths(query), names)
    masks = trees.map(lambda pair: pair[1], pairs)
    if all(pair[1] is None for _, pair in trees.leaves(pairs)):
        return query, None
    query = trees.map(lambda pair: pair[0], pairs)
    return query, every_mask(query, masks)


def every_mask(query: Tree, observed: Tree) -> Tree:
    """`observed` with a mask for each leaf of the query, all True where it has none."""
    return trees.map(lambda leaf, seen: np.ones(leaf.shape, bool) if seen is None else seen, query, observed)


def incomplete(column: str, row: int, value: str, what: str = "evidence") -> ValueError:
    """The error of evidence that is missing or infinite."""
    return ValueError(
        f"{what} must be complete and finite; column {column!r}, row {row} (from 0) is {value}. Drop such rows, or "
        "model evidence and query jointly (a joint mixture that is then conditioned), which integrates them out"
    )


def _vector(value: Any, argument: str, what: str, count: int, lead: str) -> np.ndarray:
    """One entry for each datum, [N] or [N, 1]."""
    array, _ = array_of(value, argument)
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.ndim != 1:
        raise ValueError(f"{argument} must have shape [N], one {what} per datum; got {array.shape}")
    _same_rows(array, argument, count, lead)
    return array


def _weights(value: Any, count: int, lead: str, whole: bool, first_row: int) -> np.ndarray:
    weight = _vector(value, "weight", "number", count, lead)
    if isinstance(weight, np.memmap):
        float_type(weight.dtype, "weight")
        return weight
    weight = numbers(weight, "weight")[0][:, 0]
    bad = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if bad.size:
        row = bad[0]
        raise ValueError(f"weight must be finite and not negative; row {row + first_row} (from 0) is {weight[row]}")
    if whole and not weight.any():
        raise ValueError("weight must have a positive sum; all weights are 0")
    return weight


def _identities(value: Any, count: int, lead: str) -> np.ndarray:
    index = _vector(value, "index", "integer", count, lead)
    if not np.issubdtype(index.dtype, np.integer):
        raise TypeError(f"index must hold integers; got {index.dtype}")
    if not isinstance(index, np.memmap) and index.min() < 0:
        raise ValueError(f"index must not be negative; got {index.min()}")
    return index


def check_rows(rows: int, argument: str = "rows") -> int:
    """`rows` as a positive integer."""
    if isinstance(rows, bool) or not isinstance(rows, int | np.integer) or rows < 1:
        raise ValueError(f"{argument} must be a positive integer, the number of data in a block; got {rows!r}")
    return int(rows)
