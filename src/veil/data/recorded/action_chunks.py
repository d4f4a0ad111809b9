"""Action chunks: at each step of an episode the last observations as evidence, and the next actions as the query."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from veil.data.core import trees
from veil.data.core.arrays import Data, labels, unchecked
from veil.data.core.checks import check_rows, every_mask
from veil.data.core.episodes import ragged, shape_of
from veil.data.recorded.views import ACTED, OBSERVED, Part, Roles, View


def chunks(
    data: Data, observations: int = 1, horizon: int | None = None, *, repeat: bool = False, sequences: bool = False
) -> Data:
    """Of sequences of actions (the query) and what was seen before each (the evidence), the data of a chunked policy.

    One datum for each step t: as evidence the last `observations` n, o_{t-n+1}..o_t, before an episode's first one that
    one again; as query the next `horizon` H actions u_t..u_{t+H-1}. Their axes of n and H come first: [N, n, ...] and
    [N, H, ...]; there is none of n if n is 1, and none of H without `horizon`. No chunk goes on into another episode.

    Behind an episode's end the last action stands again, as a missing entry (False in `observed`): no model learns from
    it. With `repeat` it counts as an action that was taken again and again (as in Chi et al. 2023, Diffusion Policy).

    Actors act by the `view` of these data. `Recording.data` makes such data of recordings.

    Args:
        data: sequences, query [N, T, A] and evidence [N, T, P], or dictionaries of arrays.
        observations: n, how many observations an action is chosen by.
        horizon: H, how many actions are chosen at once.
        repeat: whether the repeated last action counts.
        sequences: whether an episode is one datum, [N, T, H, ...], or each step is.

    Raises:
        ValueError: data that are not such sequences, or numbers out of range.

    >>> from veil.data import episodes
    >>> drives = episodes([[[1.0], [2.0], [3.0]]], evidence=[[[10.0], [20.0], [30.0]]])
    >>> found = chunks(drives, observations=2, horizon=2)
    >>> found.query[..., 0].tolist(), found.evidence[..., 0].tolist()
    ([[1.0, 2.0], [2.0, 3.0], [3.0, 3.0]], [[10.0, 10.0], [10.0, 20.0], [20.0, 30.0]])
    >>> found.observed[..., 0].tolist()
    [[True, True], [True, True], [True, False]]
    """
    count, most = shape_of(data)
    if data.evidence is None:
        raise ValueError("data: expected evidence, what was seen at each step; it has none")
    fields = data.fields()
    there = fields.get("mask", np.ones((count, most), bool))
    starts = fields.get("reset", np.zeros((count, most), bool)).copy()
    starts[:, 0] = True
    begins = np.flatnonzero(starts[there])
    lengths = np.diff(np.append(begins, there.sum()))
    if sequences and len(lengths) != count:
        raise ValueError("data: expected an episode in each sequence; some have resets, which start several")
    flat: dict[str, Any] = {
        name: trees.map(lambda array: array[there], fields[name])
        for name in ("query", "evidence", "observed")
        if name in fields
    }
    if "weight" in fields:
        rows = np.broadcast_to(fields["weight"][:, None], there.shape)[there]
        flat["weight"] = rows[begins] if sequences else rows
    view = _view(data, check_rows(observations, "observations"), horizon)
    return chunked(flat, lengths, view, labels(data), repeat=repeat, sequences=sequences)


def chunked(
    flat: dict[str, Any], lengths: Sequence[int] | np.ndarray, view: View, names: Any, *, repeat: bool, sequences: bool
) -> Data:
    """Data of the steps [M, ...] of episodes of these lengths, one after the other, as a ``view`` has them."""
    before, ahead, there = places(lengths, view.observations, view.horizon or 1)
    given = dict(flat)
    if view.observations > 1:
        given["evidence"] = trees.map(lambda array: array[before], flat["evidence"])
    if view.horizon is not None:
        for name in {"query", "observed"} & flat.keys():
            given[name] = trees.map(lambda array: array[ahead], flat[name])
    labelled = dict(zip(("query_names", "evidence_names", "name"), names, strict=True))
    made = ragged(lengths, **given, names=names) if sequences else Data(**given, **labelled)
    fields = made.fields()
    if view.horizon is not None and not repeat and not there.all():
        # checked as if it were there, so that it stays: the rest of Data has zeros where an entry is missing
        inside = there
        if made.mask is not None:
            inside = np.ones((*made.mask.shape, view.horizon), bool)
            inside[made.mask] = there
        elif sequences:
            inside = there.reshape(len(made), -1, view.horizon)
        wide = lambda seen: seen & inside.reshape(*inside.shape, *[1] * (seen.ndim - inside.ndim))  # noqa: E731
        fields["observed"] = trees.map(wide, every_mask(made.query, made.observed))
    return unchecked(fields, labels(made), view)


def places(
    lengths: Sequence[int] | np.ndarray, observations: int, horizon: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each of M steps the rows of its last observations [M, n] and next actions [M, H]; which of these exist [M, H].

    Before an episode's beginning its first row, behind its end its last one.
    """
    sizes = np.asarray(lengths)
    step = np.arange(sizes.sum())[:, None]
    last = np.repeat(np.cumsum(sizes), sizes)[:, None] - 1
    first = last + 1 - np.repeat(sizes, sizes)[:, None]
    before = step - np.arange(observations - 1, -1, -1)[None]
    ahead = step + np.arange(horizon)[None]
    return np.maximum(before, first), np.minimum(ahead, last), ahead <= last


def _view(data: Data, observations: int, horizon: int | None) -> View:
    """How actors see by data that are no recording's: the arrays are parts by their own names."""
    if horizon is not None:
        check_rows(horizon, "horizon")

    def parts(role: str, kind: str) -> tuple[Roles, list[Part]]:
        roles, found = [], []
        for path, leaf in trees.leaves(vars(data)[role]):
            if leaf.ndim != 3:
                what, shape = trees.text(role, path), list(leaf.shape)
                raise ValueError(f"data: expected {what} [N, T, numbers], a row a step; got {shape}. Make it flat")
            name = "/".join(path) or kind
            roles.append((path, (name,)))
            found.append(Part(name, kind, leaf.shape[2:]))
        return tuple(roles), found

    (query, acted), (evidence, seen) = parts("query", ACTED), parts("evidence", OBSERVED)
    twice = {part.name for part in acted} & {part.name for part in seen}
    if twice:
        raise ValueError(f"data: {min(twice)!r} is an action and an observation, too; rename one of them")
    return View(query, evidence, True, (*acted, *seen), observations, horizon)
