"""Trees: an array, or a dictionary of arrays by name (of dictionaries too). An array is a tree of one leaf, at ()."""

from collections.abc import Callable, Mapping
from typing import Any

Tree = Any  # a leaf, or a dictionary of trees by name; None is a tree without leaves
Path = tuple[str, ...]  # the keys that lead to a leaf; () if the tree is the leaf


def is_tree(value: Any) -> bool:
    """Whether a value is a dictionary, and not a leaf."""
    return isinstance(value, Mapping)


def leaves(tree: Tree) -> list[tuple[Path, Any]]:
    """The leaves with their paths, in the order of the keys."""
    if not is_tree(tree):
        return [] if tree is None else [((), tree)]
    return [((key, *path), leaf) for key, branch in tree.items() for path, leaf in leaves(branch)]


def first(tree: Tree) -> Any:
    """The first leaf: what says how many rows there are."""
    return leaves(tree)[0][1]


def map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """The tree of ``function(leaf, *leaves of the others at its path)``; None where another one is None."""
    if tree is None:
        return None
    if not is_tree(tree):
        return function(tree, *others)
    at = lambda other, key: None if other is None else other[key]  # noqa: E731
    return {key: map(function, branch, *(at(other, key) for other in others)) for key, branch in tree.items()}


def paths(tree: Tree, here: Path = ()) -> Tree:
    """The tree with each leaf's path in its place."""
    if is_tree(tree):
        return {key: paths(branch, (*here, key)) for key, branch in tree.items()}
    return None if tree is None else here


def nested(flat: Mapping[Path, Any]) -> Tree:
    """The tree with these leaves."""
    if list(flat) == [()]:
        return flat[()]
    made: dict[str, Any] = {}
    for path, leaf in flat.items():
        branch = made
        for key in path[:-1]:
            branch = branch.setdefault(key, {}) if isinstance(branch, dict) else branch
        if not path or not isinstance(branch, dict) or path[-1] in branch:
            raise ValueError(f"{'/'.join(path)!r} is an array, and a dictionary of arrays too; rename one of them")
        branch[path[-1]] = leaf
    return made


def same(one: Tree, other: Tree) -> bool:
    """Whether two trees have the same structure, in whatever order."""
    return {path for path, _ in leaves(one)} == {path for path, _ in leaves(other)}


def text(argument: str, path: Path) -> str:
    """What messages call a leaf."""
    return argument + "".join(f"[{key!r}]" for key in path)


def check(tree: Tree, argument: str) -> None:
    """Refuse what is no tree of leaves: an empty dictionary, keys that are no names, nothing in place of a leaf."""
    if tree is None:
        raise TypeError(f"{argument}: expected an array; got None. Leave it out")
    if not is_tree(tree):
        return
    if not tree:
        raise ValueError(f"{argument}: expected arrays by name; got an empty dictionary. Give it at least one array")
    for key, branch in tree.items():
        if not isinstance(key, str):
            raise TypeError(f"{argument}: expected text as keys; got {key!r}. Name each array, as in {{'frame': ...}}")
        if not key or "/" in key:
            raise ValueError(
                f"{argument}: expected keys of at least one letter without '/', which files put between them; got "
                f"{key!r}. Rename it, or nest dictionaries"
            )
        check(branch, text(argument, (key,)))


def aligned(tree: Tree, like: Tree, argument: str, whose: str) -> Tree:
    """The tree with the structure of ``like``, and None where it has nothing."""
    if tree is None:
        return None
    if not is_tree(like):
        if is_tree(tree):
            raise ValueError(f"{argument}: expected an array, as {whose} is one; got a dictionary with {_keys(tree)}")
        return tree
    if not is_tree(tree):
        raise ValueError(
            f"{argument}: expected a dictionary with the keys of {whose}, {_keys(like)} (some may be left out); "
            f"got {type(tree).__name__}"
        )
    unknown = next((key for key in tree if key not in like), None)
    if unknown is not None:
        raise ValueError(f"{argument}: {whose} has no {unknown!r}; it has {_keys(like)}. Rename it or leave it out")
    return {
        key: aligned(tree.get(key), branch, text(argument, (key,)), text(whose, (key,))) for key, branch in like.items()
    }


def _keys(tree: Mapping[Any, Any]) -> str:
    return ", ".join([str(key) for key in tree])
