"""The names of the columns that a fitted model is of: data in another order are put in its own, others are refused."""

import weakref
from typing import Any, NamedTuple

import numpy as np

from veil.data import Data, Stream
from veil.data.core import trees
from veil.data.core.arrays import block, unchecked
from veil.data.core.checks import incomplete
from veil.data.core.columns import suggestion
from veil.data.core.numbers import array_of


class Names(NamedTuple):
    """The columns of query and evidence; () where nobody named them, or in a dictionary, whose keys are names."""

    query: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()


# By the identity of a model, whose fields are what it computes with: one that is made of it by hand is another one.
_KNOWN: dict[int, Names] = {}


def names(data: Data | Stream) -> Names:
    """Those of data that somebody named."""

    def named(shape: Any, given: tuple[str, ...], letter: str) -> tuple[str, ...]:
        plain = shape is None or trees.is_tree(shape) or given == tuple(f"{letter}{i}" for i in range(len(given)))
        return () if plain else given

    query, evidence = data.query_shape, data.evidence_shape
    return Names(named(query, data.query_names, "y"), named(evidence, data.evidence_names, "x"))


def remember(model: Any, found: Names) -> None:
    """From now on data that are given to this model go by name."""
    if any(found):
        _KNOWN[id(model)] = found
        weakref.finalize(model, _KNOWN.pop, id(model), None)


def aligned(model: Any, data: Data | Stream) -> Data | Stream:
    """Data with the columns of the model and no others, in its order; by position where either has no names.

    A query that has all columns, also those of the evidence, is divided.

    Raises:
        ValueError: a column is not there.
    """
    known = _KNOWN.get(id(model), Names())
    if not any(known) or names(data) == known:
        return data
    return data.map(lambda part: _picked(part, known)) if isinstance(data, Stream) else _picked(data, known)


def aligned_rows(model: Any, evidence: Any) -> Any:
    """Evidence alone, with the columns of the model in its order, where both have names; as ``aligned``."""
    known = _KNOWN.get(id(model), Names()).evidence
    if not known or evidence is None or trees.is_tree(evidence):
        return evidence
    array, given = array_of(evidence, "evidence")
    return array[..., _places(known, given, "evidence")] if given and array.ndim > 1 else evidence


def _picked(data: Data, known: Names) -> Data:
    given, arrays = names(data), data._arrays()
    both = {*known.query, *known.evidence} if known.query and known.evidence else {""}
    whole = data.evidence is None and both <= {*given.query}
    observed, called = arrays.get("observed"), [data.query_names, data.evidence_names]
    for i, role in enumerate(Names._fields):
        source = "query" if whole else role
        wanted, there = known[i], given[0] if whole else given[i]
        if not wanted or not there:
            continue
        places = _places(wanted, there, role)
        arrays[role] = (data.evidence if source == "evidence" else data.query)[..., places]
        called[i] = wanted
        if observed is not None and role == "query":
            arrays["observed"] = observed[..., places]
        if observed is not None and source != role and not observed[..., places].all():
            row, *_, column = np.argwhere(~observed[..., places])[0]
            raise incomplete(wanted[column], int(row), "missing")
    labels = called[0], called[1], data.name
    return block(arrays, labels, 0) if data.mapped else unchecked(arrays, labels, data.view)


def _places(wanted: tuple[str, ...], there: tuple[str, ...], role: str) -> list[int]:
    absent = next((name for name in wanted if name not in there), None)
    if absent is not None:
        raise ValueError(
            f"{role}: the model was fitted to the columns {', '.join(wanted[:8])}{', ...' if len(wanted) > 8 else ''}, "
            f"and there is no {absent!r}; {suggestion(absent, there)}. Rename the column, or give arrays without names"
        )
    return [there.index(name) for name in wanted]
