"""How an environment's observations and actions become numbers, and numbers actions: once, for data and for acting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from veil.data.core import trees
from veil.data.core.trees import Tree

OBSERVED, ACTED, RESULTS = "observation", "action", ("reward", "terminated")


def join(name: str, key: str) -> str:
    """What a part of a dictionary is called: by its own name, further down with those above it."""
    return key if name in (OBSERVED, ACTED, "") else f"{name}/{key}"


def named(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The arrays of an observation or action, by the names of a recording's parts; text is left out."""
    if isinstance(value, Mapping | tuple):
        items = value.items() if isinstance(value, Mapping) else ((f"_index_{i}", each) for i, each in enumerate(value))
        for key, each in items:
            yield from named(each, join(name, str(key)))
    elif not isinstance(value, str):
        yield name, value


@dataclass(frozen=True)
class Part:
    """One of a recording's parts: ``kind`` "observation", "action" or "result", ``shape`` of one entry; an ``image`` of

    bytes; of ``choices`` the first value of each and the one behind its last; ``angles``: which of its entries, laid
    flat, are angles in radians, each of which is two numbers, (cos, sin), in which 2π is no jump.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    image: bool = False
    choices: tuple[tuple[int, int], ...] = ()
    angles: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """How many numbers stand for it side by side."""
        return sum(stop - start for start, stop in self.choices) or int(np.prod(self.shape)) + len(self.angles)

    @property
    def columns(self) -> list[str]:
        """What the numbers are called behind the part's name."""
        plain = self.size if self.choices else int(np.prod(self.shape))
        each = [""] if plain == 1 else [str(i) for i in range(plain)]
        ways = {i: (" cos", " sin") for i in self.angles}
        return [number + way for i, number in enumerate(each) for way in ways.get(i, ("",))]

    def numbers(self, values: Any, flat: bool, xp: Any = np) -> Any:
        """[..., *shape] as numbers: images in [0, 1], choices as ones among zeros; ``flat``: side by side."""
        lead = values.shape[: values.ndim - len(self.shape)]
        if self.image:
            return values.astype(np.float32) / np.float32(255)
        if self.choices:
            codes = values.reshape(*lead, len(self.choices))
            hot = [codes[..., i, None] == np.arange(*each) for i, each in enumerate(self.choices)]
            return xp.concatenate(hot, axis=-1).astype(np.float32)
        if self.angles:
            entries = values.reshape(*lead, -1)
            ways = {i: (xp.cos(entries[..., i]), xp.sin(entries[..., i])) for i in self.angles}
            each = [way for i in range(entries.shape[-1]) for way in ways.get(i, (entries[..., i],))]
            return xp.stack(each, axis=-1)
        return values.reshape(*lead, -1) if flat or not self.shape else values

    def back(self, numbers: Any, xp: Any) -> Any:
        """One entry of its numbers: the likeliest of choices, an angle from -π to π."""
        if self.angles:
            numbers, each, at = numbers.ravel(), [], 0
            for i in range(int(np.prod(self.shape))):
                turned = i in self.angles
                each.append(xp.arctan2(numbers[at + 1], numbers[at]) if turned else numbers[at])
                at += 1 + turned
            return xp.stack(each).reshape(self.shape)
        if not self.choices:
            return numbers.reshape(self.shape)
        ends = np.cumsum([stop - start for start, stop in self.choices])
        each = xp.split(numbers.ravel(), ends[:-1])
        # of NaN what is no choice
        values = [
            xp.where(xp.isnan(hot).any(), stop, start + xp.argmax(hot))
            for hot, (start, stop) in zip(each, self.choices, strict=True)
        ]
        return xp.stack(values).reshape(self.shape)


Roles = tuple[tuple[trees.Path, tuple[str, ...]], ...]


@dataclass(frozen=True)
class View:
    """What of an environment is a model's query and evidence, and as which numbers.

    A recording makes its data by it (`Recording.data`), data and fits keep it (`.view`), and actors use it. ``query``,
    ``evidence``: the path of each array and the parts side by side in it. ``taken``: whether the query is the action
    taken at an observation (of a policy), and not what the action before led to (of a world model). ``observations``:
    how many of them, up to the present one, the evidence has, with an axis in front if there are several; ``horizon``:
    how many actions the query has, the present one and those that follow, with an axis in front; None: the present one.
    """

    query: Roles
    evidence: Roles
    taken: bool
    parts: tuple[Part, ...]
    observations: int = 1
    horizon: int | None = None

    def part(self, name: str) -> Part:
        """The part of this name."""
        return next(part for part in self.parts if part.name == name)

    def arrays(self, role: str, numbers: Callable[[Part, bool], Any], xp: Any = np) -> Tree:
        """The arrays of a role from ``numbers(part, flat)``; flat where a part gives up its axes, beside others."""
        made = {}
        for path, names in vars(self)[role]:
            each = [numbers(self.part(name), not path or len(names) > 1) for name in names]
            made[path] = each[0] if len(each) == 1 else xp.concatenate(each, axis=-1)
        return trees.nested(made) if made else None

    def names(self, role: str) -> list[str]:
        """The names of an array's columns; none of an image or a dictionary, which have their own."""
        (path, names), *more = vars(self)[role] or [((), ())]
        columns: list[str] = []
        for part in [] if path or more else [self.part(name) for name in names]:
            if part.image:
                return []
            called = f"last {part.name}" if self.taken and role == "evidence" and part.kind != OBSERVED else part.name
            columns += [called + column for column in part.columns]
        return columns

    def is_rows(self, query: Tree) -> bool:
        """Whether each datum is a step, and not a sequence of steps, by the axes that its query has."""
        one = self.arrays("query", lambda part, flat: part.numbers(np.zeros(part.shape, int), flat))
        axes = 1 + (self.horizon is not None)
        return trees.first(query).ndim == axes + trees.first(one).ndim

    # -- acting --------------------------------------------------------------------------------------------------------

    def many(self, observation: Any) -> bool:
        """Whether these are observations of several environments, with an axis of them in front."""
        found = dict(named(observation, OBSERVED))
        return any(np.ndim(found[part.name]) > len(part.shape) for part in self.parts if part.name in found)

    def seen(self, observation: Any, xp: Any) -> tuple[Tree, Tree]:
        """What one observation of the environment is to the model, and which entries of it are known (None: all).

        What comes of an action, such as the reward, is not known of a query.

        Raises:
            ValueError: parts or shapes that the environment of the recording did not have.
        """
        found = dict(named(observation, OBSERVED))

        def value(part: Part) -> Any:
            if part.kind != OBSERVED:
                return xp.zeros(part.shape)
            got = found.get(part.name)
            if got is None or np.shape(got) != part.shape:
                came = ", ".join(f"{name!r} {np.shape(each)}" for name, each in found.items())
                raise ValueError(
                    f"observation: expected {part.name!r} of shape {part.shape}, as the recording has it; got {came}"
                )
            return xp.asarray(got)

        role = "evidence" if self.taken else "query"
        values = self.arrays(role, lambda part, flat: part.numbers(value(part), flat, xp), xp)
        if all(part.kind == OBSERVED for part in self._of(role)):
            return values, None
        known = lambda part, flat: np.full(part.numbers(np.zeros(part.shape), flat).shape, part.kind == OBSERVED)  # noqa: E731
        return values, self.arrays(role, known)

    def action(self, numbers: Tree, xp: Any) -> Any:
        """The environment's action of the model's numbers: arrays, or dictionaries and tuples of them."""
        found: dict[trees.Path, Any] = {}
        leaves = dict(trees.leaves(numbers))
        for path, names in self.query if self.taken else self.evidence:
            parts = [self.part(name) for name in names]
            ends = np.cumsum([part.size for part in parts])
            for part, each in zip(parts, xp.split(leaves[path].ravel(), ends[:-1]), strict=True):
                found[() if part.name == ACTED else tuple(part.name.split("/"))] = part.back(each, xp)
        return _with_tuples(trees.nested(found))

    def done(self, action: Any, xp: Any) -> Tree:
        """The model's numbers of an action of the environment: what ``action`` gives is taken back."""
        found = dict(named(action, ACTED))
        role = "query" if self.taken else "evidence"
        return self.arrays(role, lambda part, flat: part.numbers(xp.asarray(found[part.name]), flat, xp), xp)

    def nothing(self) -> Tree:
        """One step's evidence of zeros: a world model's at a first step, which no action led to."""
        return self.arrays("evidence", lambda part, flat: np.zeros_like(part.numbers(np.zeros(part.shape), flat)))

    def check_acting(self, memory: bool) -> None:
        """Raise ValueError where what is asked of an actor is more than actions of observations.

        ``memory``: the actor is one of a world model, whose evidence is the action.
        """
        role, other = ("query", "evidence") if memory else ("evidence", "query")
        if self.taken == memory:
            which = "a world model's data, query observations, evidence actions" if memory else "a policy's data"
            raise ValueError(
                f"model: it was learned from {'actions taken' if self.taken else 'what actions led to'}; this actor "
                f"needs {which}: Recording.data(query={'observation' if memory else 'action'!r}, "
                f"evidence={'action' if memory else 'observation'!r})"
            )
        odd = [part.name for part in self._of(other) if part.kind != ACTED]
        odd += [part.name for part in self._of(role) if part.kind == ACTED or (not memory and part.kind != OBSERVED)]
        if odd:
            raise ValueError(
                f"model: {odd[0]!r} in its {other if memory else role} is not known to who acts; leave it out"
            )

    def _of(self, role: str) -> list[Part]:
        return [self.part(name) for _, names in vars(self)[role] for name in names]

    def __repr__(self) -> str:
        each = [" and ".join(part.name for part in self._of(role)) or "nothing" for role in ("query", "evidence")]
        last = f", the last {self.observations}" if self.observations > 1 else ""
        ahead = "" if self.horizon is None else f"{self.horizon} steps of "
        return f"View({ahead}{each[0]} {'taken at' if self.taken else 'led to by'} {each[1]}{last})"


def _with_tuples(tree: Any) -> Any:
    if not trees.is_tree(tree):
        return tree
    inside = {key: _with_tuples(each) for key, each in tree.items()}
    keys = tuple_keys(inside)
    return tuple(inside[key] for key in keys) if keys else inside


def tuple_keys(tree: Mapping[str, Any]) -> list[str]:
    """The keys of what `named` took for a tuple, in order; none of a dictionary."""
    numbered = [f"_index_{i}" for i in range(len(tree))]
    return numbered if set(numbered) == set(tree) else []


def choices(values: Any) -> tuple[tuple[int, int], ...]:
    """The categories of a part, a range or several, as pairs: the first and the one behind the last."""
    return tuple((each.start, each.stop) for each in ([values] if isinstance(values, range) else values))


def angles(part: str, which: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Which entries of a part, laid flat, are angles: ``True`` for all, or numbers. Raises ValueError for others."""
    count = int(np.prod(shape))
    if which is True:
        return tuple(range(count))
    numbers = tuple(which) if isinstance(which, list | tuple | range) else (None,)
    if not all(type(i) is int and 0 <= i < count for i in numbers) or len(set(numbers)) < len(numbers):
        raise ValueError(
            f"angles: expected True, or the numbers of entries of {part!r}, such as [0], each from 0 to {count - 1} "
            f"and once; got {which!r}"
        )
    return tuple(sorted(numbers))


def check_choices(part: Part, values: np.ndarray, number: int) -> None:
    """Raise ValueError where an episode has others than a part's choices."""
    codes = values.reshape(len(values), -1)
    low, high = (np.array(each) for each in zip(*part.choices, strict=True))
    if codes.dtype.kind not in "iu" or codes.shape[1] != len(low) or np.any((codes < low) | (codes >= high)):
        wanted = ", ".join(f"{start} to {stop - 1}" for start, stop in part.choices)
        raise ValueError(f"{part.name}: expected the integers {wanted}; episode {number} has others")
