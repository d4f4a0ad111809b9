"""Trees: an array, or a (nested) dictionary of arrays."""

from collections.abc import Callable
from typing import Any


def leaves(tree: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """(path, leaf) of every leaf, in order; an array is a tree of one leaf with path ()."""
    if not isinstance(tree, dict):
        return [(path, tree)]
    return [leaf for name, value in tree.items() for leaf in leaves(value, (*path, name))]


def map(function: Callable[..., Any], *trees: Any) -> Any:
    """``function`` of the leaves of trees of one structure."""
    first = trees[0]
    if not isinstance(first, dict):
        return function(*trees)
    return {name: map(function, *(tree[name] for tree in trees)) for name in first}
