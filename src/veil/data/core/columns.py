"""Columns by name or position, and which of them plays which role."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from veil.data.core import trees
from veil.data.core.checks import Labels, flat, flat_names, incomplete
from veil.data.core.trees import Tree

# By name or position, one or several; or a dictionary of these: columns into the arrays of a tree.
Columns = Mapping[str, Any] | Sequence[str | int] | str | int | None


def resolve(names: Sequence[str], wanted: Sequence[str | int] | str | int, argument: str) -> list[int]:
    """The positions of columns given by name or position (from 0; "1" is one unless it is a name)."""
    items = [wanted] if isinstance(wanted, str | int | np.integer) else list(wanted)
    found: list[int] = []
    for item in items:
        if isinstance(item, str) and item in names:
            place = list(names).index(item)
        elif isinstance(item, int | np.integer) or (isinstance(item, str) and item.isdecimal()):
            place = int(item)
            if not 0 <= place < len(names):
                raise ValueError(
                    f"{argument}: there is no column {item!r}; there are {len(names)} columns, counted from 0"
                )
        else:
            raise ValueError(f"{argument}: there is no column {item!r}; {suggestion(str(item), names)}")
        if place in found:
            raise ValueError(f"{argument}: column {names[place]!r} is named twice; name it once")
        found.append(place)
    return found


def resolve_tree(names: Sequence[str], wanted: Columns, argument: str) -> Tree:
    """The positions of columns as `resolve` has them, of a dictionary a dictionary of such lists; of None None."""
    if wanted is None:
        return None
    trees.check(wanted, argument)
    places = trees.map(lambda each, path: resolve(names, each, trees.text(argument, path)), wanted, trees.paths(wanted))
    for path, each in trees.leaves(places):
        if path and not each:
            raise ValueError(f"{trees.text(argument, path)}: expected at least one column; got none")
    found = flat(places)
    if len(set(found)) < len(found):
        twice = next(place for place in found if found.count(place) > 1)
        raise ValueError(f"{argument}: column {names[twice]!r} is named twice; name it once")
    return places


def suggestion(item: str, names: Sequence[str]) -> str:
    """What to say after an unknown name: the closest match, if one is close, and what there is."""
    by_lower = {name.lower(): name for name in names}
    close = get_close_matches(item.lower(), list(by_lower), n=1)
    shown = ", ".join(names[:30]) + (f", ... ({len(names)} in all)" if len(names) > 30 else "")
    return (f"did you mean {by_lower[close[0]]!r}? Available: " if close else "available: ") + shown


def check_roles(names: Sequence[str], query: Sequence[int], evidence: Sequence[int], weight: int | None = None) -> None:
    """Refuse an empty query and a column with two roles."""
    if not query:
        raise ValueError("query: no column is left for it; name fewer columns as evidence, or name the query")
    shared = set(query) & set(evidence)
    if shared:
        raise ValueError(f"column {names[min(shared)]!r} is in both query and evidence; a column has one role")
    if weight is not None and weight in {*query, *evidence}:
        role = "query" if weight in query else "evidence"
        raise ValueError(f"column {names[weight]!r} is both weight and {role}; a column has one role")


def check_columns(arrays: Mapping[str, Tree], labels: Labels) -> None:
    """Refuse fields of data that have no columns [N, P], or the same name twice."""
    for role in ("query", "evidence"):
        tree: Tree = arrays.get(role)
        if trees.is_tree(tree):
            raise ValueError(
                f"columns need a {role} of shape [N, columns]; this one is a dictionary with {', '.join(tree)}. Make "
                "data of the arrays that you need: Data(data.query[...])"
            )
        if tree is not None and tree.ndim != 2:
            raise ValueError(f"columns need a {role} of shape [N, columns]; this one has shape {tree.shape}")
    both = set(labels[0]) & set(labels[1])
    if both:
        raise ValueError(f"query and evidence both have a column named {min(both)!r}; rename one of them")


def select(
    arrays: Mapping[str, Tree], labels: Labels, query: Columns, evidence: Columns
) -> tuple[dict[str, Tree], Labels]:
    """Fields and labels with other roles; see `Data.select`."""
    check_columns(arrays, labels)
    names = labels[1] + labels[0]
    inputs = resolve_tree(names, evidence, "evidence") or None
    outputs = resolve_tree(names, query, "query")
    if outputs is None:
        outputs = [i for i in range(len(names)) if i not in flat(inputs)]
    check_roles(names, flat(outputs), flat(inputs))
    first, observed = len(labels[1]), arrays.get("observed")

    def taken(places: list[int]) -> Any:  # arrays wanted as they are stay shared
        for role, all_of_it in (("query", range(first, len(names))), ("evidence", range(first))):
            if places == list(all_of_it):
                return arrays[role]
        # One column at a time, so that the columns that are not wanted are neither copied nor, if mapped, read.
        pairs = [("query", place - first) if place >= first else ("evidence", place) for place in places]
        return np.stack([arrays[role][:, column] for role, column in pairs], axis=1)

    def there(places: list[int]) -> np.ndarray:
        assert observed is not None
        every = np.ones(observed.shape[0], np.bool_)
        return np.stack([observed[:, place - first] if place >= first else every for place in places], axis=1)

    made: dict[str, Tree] = {field: array for field, array in arrays.items() if field in ("weight", "index")}
    made["query"] = trees.map(taken, outputs)
    if inputs is not None:
        made["evidence"] = trees.map(taken, inputs)
    if observed is not None:
        made["observed"] = trees.map(there, outputs)
        for _, places in trees.leaves(inputs):
            if not there(places).all():
                row, column = np.argwhere(~there(places))[0]
                raise incomplete(names[places[column]], int(row), "missing")
    called = [
        flat_names(tree, "", sequences=False) if trees.is_tree(places) else tuple(names[i] for i in places or ())
        for tree, places in ((made["query"], outputs), (made.get("evidence"), inputs))
    ]
    return made, (called[0], called[1], labels[2])


# Numbers held at once while a table is read: about 5 MB as text, 0.5 MB as float64.
CELLS = 1 << 16
