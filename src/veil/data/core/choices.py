"""Choices among alternatives, from a long table: a row for each alternative of each choice."""

from typing import Any

import numpy as np

from veil.data.core.arrays import Data
from veil.data.core.episodes import grouped


def choices(
    case: Any, alternative: Any, chosen: Any, attributes: Any = None, *, chooser: Any = None, person: Any = None
) -> Data:
    """A long table with a row for each alternative of each choice as data for ``veil.ConditionalLogit``.

    Query [N, 1]: which alternative was chosen, the number of its label in sorted order. Evidence: "attributes" [N, J,
    F], "chooser" [N, G], and "available" [N, J] where a choice lacks some alternatives, whose attributes are zero.
    Choices come in the order in which they first appear.

    Args:
        case: [R] numbers or text that say to which choice a row belongs.
        alternative: [R] labels.
        chosen: [R], 1 or True in the row of each choice whose alternative was taken.
        attributes: [R, F], what each alternative was like.
        chooser: [R, G], what is known of who chooses: the same in all rows of a choice.
        person: [R] who chooses, the same in all rows of a choice: data are then persons, each with the sequence of
            their choices, for ``veil.Episodic(veil.ConditionalLogit(...))``.

    Raises:
        ValueError: columns of other lengths, a choice with none or several chosen, an alternative that comes twice, or
            a chooser or person that changes within a choice.

    >>> data = choices([1, 1, 2, 2], ["bus", "car", "bus", "car"], [0, 1, 1, 0], [[2.0], [5.0], [2.5], [4.0]])
    >>> data.query[:, 0].tolist(), data.evidence["attributes"][0].tolist()
    ([1.0, 0.0], [[2.0], [5.0]])
    """
    case, alternative = np.asarray(case), np.asarray(alternative)
    columns = {"alternative": alternative, "chosen": chosen, "attributes": attributes, "chooser": chooser}
    columns = {name: np.asarray(each) for name, each in {**columns, "person": person}.items() if each is not None}
    for name, each in columns.items():
        if len(each) != len(case):
            raise ValueError(f"{name}: expected a row for each of the {len(case)} rows of case; got {len(each)}")
    first, number = np.unique(case, return_index=True, return_inverse=True)[1:]
    order = np.argsort(first)
    at, begin = np.argsort(order)[number], first[order]  # of each row its choice; of each choice its first row
    labels, place = np.unique(alternative, return_inverse=True)
    there = np.zeros((len(begin), len(labels)))
    np.add.at(there, (at, place), 1.0)
    if there.max() > 1:
        row, column = np.argwhere(there > 1)[0]
        raise ValueError(f"alternative: {labels[column]!r} comes twice in case {case[begin[row]]!r}")
    taken = np.zeros_like(there)
    taken[at, place] = columns["chosen"].astype(float)
    if not np.all(np.isin(taken, (0.0, 1.0)) & (taken.sum(1) == 1)[:, None]):
        row = int(np.argmax(taken.sum(1) != 1))
        raise ValueError(f"chosen: expected one 1 in each case, and 0 elsewhere; case {case[begin[row]]!r} has other")
    for name in ("chooser", "person"):
        if name in columns and not np.array_equal(columns[name], columns[name][begin][at]):
            raise ValueError(f"{name}: expected the same in all rows of a case")
    evidence = {}
    if "attributes" in columns:
        rows = columns["attributes"].reshape(len(case), -1).astype(float)
        evidence["attributes"] = np.zeros((*there.shape, rows.shape[1]))
        evidence["attributes"][at, place] = rows
    if "chooser" in columns:
        evidence["chooser"] = columns["chooser"].reshape(len(case), -1)[begin].astype(float)
    if not there.all():
        evidence["available"] = there
    data = Data(taken.argmax(1).astype(float), evidence or None, name="choices")
    return data if person is None else grouped(data, columns["person"][begin])
