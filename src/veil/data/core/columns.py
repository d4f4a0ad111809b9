"""Columns by name or position, and which of them plays which role."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np


def resolve(names: Sequence[str], wanted: Sequence[str | int] | str | int, argument: str) -> list[int]:
    """The positions of columns given by name or position (from 0; a number as text is a position unless it is a name).

    Raises:
        ValueError: an unknown column (the message has the available ones and the closest match) or one named twice.

    >>> resolve(("a", "b"), ["b", 0], "query")
    [1, 0]
    """
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


def suggestion(item: str, names: Sequence[str]) -> str:
    """What to say after an unknown name: the closest match, if one is close, and what there is.

    >>> suggestion("waitin", ["eruptions", "waiting"])
    "did you mean 'waiting'? Available: eruptions, waiting"
    """
    by_lower = {name.lower(): name for name in names}
    close = get_close_matches(item.lower(), list(by_lower), n=1)
    shown = ", ".join(names[:30]) + (f", ... ({len(names)} in all)" if len(names) > 30 else "")
    return (f"did you mean {by_lower[close[0]]!r}? Available: " if close else "available: ") + shown


def check_roles(names: Sequence[str], query: Sequence[int], evidence: Sequence[int], weight: int | None = None) -> None:
    """Refuse an empty query and a column with two roles.

    Raises:
        ValueError: either of them.

    >>> check_roles(("a", "b"), [0], [1])
    """
    if not query:
        raise ValueError("query: no column is left for it; name fewer columns as evidence, or name the query")
    shared = set(query) & set(evidence)
    if shared:
        raise ValueError(f"column {names[min(shared)]!r} is in both query and evidence; a column has one role")
    if weight is not None and weight in {*query, *evidence}:
        role = "query" if weight in query else "evidence"
        raise ValueError(f"column {names[weight]!r} is both weight and {role}; a column has one role")


# Numbers held at once while a table is read: about 5 MB as text, 0.5 MB as float64.
CELLS = 1 << 16


def unique(names: tuple[str, ...], where: object) -> tuple[str, ...]:
    """The names, which must differ from each other.

    Raises:
        ValueError: a name comes twice.

    >>> unique(("a", "b"), "table.csv")
    ('a', 'b')
    """
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise ValueError(f"{where} has two columns named {twice!r}; rename one of them")
    return names
