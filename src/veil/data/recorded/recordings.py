"""What was recorded of an environment: observations, actions and rewards of episodes; and data made of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from veil.data.core import trees
from veil.data.core.arrays import Data
from veil.data.core.checks import check_rows
from veil.data.core.columns import suggestion
from veil.data.core.trees import Tree
from veil.data.recorded.action_chunks import chunked
from veil.data.recorded.views import ACTED, OBSERVED, RESULTS, Part, Roles, View, angles, check_choices, choices


@dataclass(frozen=True, eq=False)
class Episode:
    """One episode: o_0, then for each action u_t the observation o_{t+1} and the reward r_t that it led to.

    Fields:
        observations: arrays [T+1, ...] by name; a plain observation is called "observation".
        actions: arrays [T, ...] by name; a plain action is called "action".
        rewards: [T].
        terminated: whether it ended in a final state.
        truncated: whether it was cut off, by a limit of time for example.
        infos: arrays by name, as they were recorded.
        seed: that the environment was reset with, if it is known.

    Raises:
        ValueError: no action, no observation, or arrays whose lengths do not fit.

    >>> Episode({"observation": np.zeros((3, 2))}, {"action": np.zeros(2)}, np.ones(2))
    Episode(2 actions, observation [2])
    """

    observations: Mapping[str, Any]  # of arrays, or of `pairs.Later`, which are read when they are used
    actions: Mapping[str, np.ndarray]
    rewards: np.ndarray
    terminated: bool = False
    truncated: bool = False
    infos: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None

    def __post_init__(self) -> None:
        if np.ndim(self.rewards) != 1 or len(self.rewards) == 0:
            raise ValueError(f"rewards: expected [T], one for each action; got {np.shape(self.rewards)}")
        if not self.observations or not self.actions:
            raise ValueError("an episode needs at least one observation and one action by name")
        steps = len(self.rewards)
        for kind, arrays, wanted, what in (
            ("observations", self.observations, steps + 1, "the first one and one after each action"),
            ("actions", self.actions, steps, "one for each reward"),
        ):
            for name, array in arrays.items():
                if np.ndim(array) < 1 or len(array) != wanted:
                    raise ValueError(
                        f"{kind}: {name!r} must have {wanted} entries, {what} (of {steps} rewards); its shape is "
                        f"{np.shape(array)}"
                    )

    def __len__(self) -> int:
        """The number of actions T."""
        return len(self.rewards)

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {list(array.shape[1:])}" for name, array in self.observations.items())
        return f"Episode({len(self)} actions, {parts})"


class OnDisk(Sequence[Any]):
    """Episodes that ``read`` reads from their ``places`` when they are asked for."""

    def __init__(self, places: Sequence[Any], read: Callable[[Any], Episode]) -> None:
        self._places, self._read = places, read

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        found = self._places[index]
        return [self._read(place) for place in found] if isinstance(index, slice) else self._read(found)


@dataclass(frozen=True, eq=False)
class Recording:
    """Episodes of one environment, in memory or read when they are asked for, and what is known of their numbers.

    Fields:
        episodes: a sequence of `Episode`; that of a file reads an episode when it is indexed.
        categories: of parts that are choices, their values: {"action": range(2)}, of several choices side by side a
            range for each: {"action": (range(2), range(3))}. As data they are zeros and ones.
        name: of the data.
        angles: of parts with entries that are angles in radians, which: {"heading": True}, {"joints": [0, 2]}. As data
            each is its cosine and sine, whatever turns it has made: 0.01 and 2π - 0.01 are neighbours.
        about: what else the file said, as plain values.

    >>> one = Episode({"observation": np.zeros((3, 2))}, {"action": np.array([0, 1])}, np.ones(2))
    >>> Recording([one], {"action": range(2)}).data(evidence="action").evidence[0].tolist()
    [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    """

    episodes: Sequence[Any]  # of Episode; looking at one reads it
    categories: Mapping[str, Any] = field(default_factory=dict)
    name: str = "recording"
    about: Mapping[str, Any] = field(default_factory=dict)
    angles: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.angles:
            if name not in self.parts or name in self.images or name in self.categories or name in RESULTS:
                raise ValueError(
                    f"angles: {name!r} is no part of the recording that has angles; {', '.join(self.parts)}"
                )
        if len(self.episodes) == 0:
            raise ValueError(f"{self.name}: a recording has at least one episode")

    def __len__(self) -> int:
        """The number of episodes."""
        return len(self.episodes)

    @property
    def parts(self) -> tuple[str, ...]:
        """What data can be made of: observations, actions, "reward" and "terminated"."""
        return *self._first.observations, *self._first.actions, *RESULTS

    @property
    def images(self) -> tuple[str, ...]:
        """Those of `parts` that are images."""
        return tuple(name for name, array in self._first.observations.items() if _is_image(array))

    @cached_property
    def _first(self) -> Episode:
        found: Episode = self.episodes[0]
        return found

    def best(self, share: float) -> Recording:
        """The episodes of the highest returns Σ r_t: at least this share of them, those with equal returns together.

        Cloning them only is filtered behaviour cloning (as in Chen et al. 2021, Decision Transformer, section 5).

        >>> one = lambda reward: Episode({"observation": np.zeros(2)}, {"action": np.zeros(1)}, np.array([reward]))
        >>> [float(each.rewards[0]) for each in Recording([one(3.0), one(1.0), one(2.0)]).best(0.5).episodes]
        [3.0, 2.0]
        """
        if not 0 < share <= 1:
            raise ValueError(f"share: expected a share of the episodes, above 0 and up to 1; got {share!r}")
        returns = np.array([np.sum(episode.rewards) for episode in self.episodes])
        if not np.all(np.isfinite(returns)):
            raise ValueError("rewards: they are not known of every episode, and so the best are not")
        least = np.sort(returns)[::-1][int(np.ceil(share * len(returns))) - 1]
        kept = np.flatnonzero(returns >= least)
        place = {old: new for new, old in enumerate(kept.tolist())}
        about = dict(self.about)
        if "splits" in about:  # which go by numbers of episodes
            splits = about["splits"].items()
            about["splits"] = {name: [place[i] for i in map(int, each) if i in place] for name, each in splits}
        return replace(self, episodes=OnDisk(kept.tolist(), self.episodes.__getitem__), about=about)

    def data(
        self,
        query: Any = None,
        evidence: Any = None,
        name: str | None = None,
        sequences: bool | None = None,
        *,
        observations: int = 1,
        horizon: int | None = None,
        repeat: bool = False,
        weight: str | Callable[[Episode], Any] | None = None,
    ) -> Data:
        """What the query and the evidence name, of every episode: for a world model, or for a policy.

        Of a world model: sequences of T+1 steps, at step t the query o_t, and the evidence the action u_{t-1} that led
        to it: a chain's p(z_t | z_t-1, x_t) is the transition under the action. The reward r_{t-1}, and whether o_t
        ended the episode, stand there too. At the first step, which no action led to, they are zero.

        Of a policy, `query="action"`: one datum for each action u_t, with the observation o_t at which it was taken as
        evidence; the last observation is left out. An action or reward in the evidence is the one before, u_{t-1}, and
        its columns are called "last action". The data are called "..., actions taken"; `view` is what an actor sees by.

        Choices become zeros and a one. An image (8-bit, three axes or more) becomes numbers in [0, 1] and keeps its
        axes. One part is an array (flattened, if it is no image); several are a dictionary by their names, each with
        its own axes ("arm/angle" is "angle" in a dictionary "arm"). Several parts of the evidence without an image
        among them are put side by side instead. One may say which part goes where, those in a list side by side:
        `query={"frame": "frame", "body": ["joints", "speeds"]}`, or `query=[["joints", "speeds"]]` for one array.

        Args:
            query: names of `parts`; by default the one image, or all observations if there is none or are several.
            evidence: names of `parts`, such as "action"; none by default.
            name: of the data.
            sequences: whether an episode is one datum, or each step is: by default rows of a policy, else sequences.
            observations, horizon: of a policy, how many observations it acts by, and how many actions it chooses at
                once; `repeat`: whether the last action counts again behind an episode's end. See `veil.data.chunks`.
            weight: how much a datum counts, such as exp(advantage / temperature) in weighted cloning (Peng et al. 2019,
                Advantage-Weighted Regression): a function of an episode that gives one number or one for each action,
                or the name of such an info; of sequences one number each.

        Raises:
            ValueError: unknown names, an image beside others in a list, chunks of what is no action taken, or episodes
                that differ in more than their length.

        >>> one = Episode({"observation": np.array([3.0, 4.0, 5.0])}, {"action": np.array([0.3, 0.4])}, np.ones(2))
        >>> Recording([one]).data("action", "observation").evidence.tolist()
        [[3.0], [4.0]]
        >>> Recording([one]).data("observation", "action")
        Data('recording': N=1, query [3, 1], evidence [3, 1])
        """
        view = replace(self.seen_as(query, evidence), observations=check_rows(observations, "observations"))
        if horizon is not None:
            view = replace(view, horizon=check_rows(horizon, "horizon"))
        if (observations > 1 or horizon is not None or repeat) and not (view.taken and view.evidence):
            raise ValueError(
                "observations, horizon: they are of a policy, as in data('action', 'observation', horizon=16); of a "
                "world model leave them out"
            )
        if sequences is None:
            sequences = not view.taken
        rows = [stepped(episode, view, number) for number, episode in enumerate(self.episodes)]
        flat = {role: trees.map(lambda *each: np.concatenate(each), *(each[role] for each in rows)) for role in rows[0]}
        lengths = [len(trees.first(each["query"])) for each in rows]
        if weight is not None:
            pairs = zip(self.episodes, lengths, strict=True)
            every = [_weights(weight, episode, 1 if sequences else steps) for episode, steps in pairs]
            flat["weight"] = np.concatenate(every)
        names = (*(tuple(view.names(role)) for role in ("query", "evidence")), name or self._name(view))
        return chunked(flat, lengths, view, names, repeat=repeat, sequences=sequences)

    def _name(self, view: View) -> str:
        return self.name + (", actions taken" if view.taken else "")

    def seen_as(self, query: Any = None, evidence: Any = None) -> View:
        """The view by which ``data`` are made of these parts."""
        plain = [name for name, array in self._first.observations.items() if array.dtype.kind in "biuf"]
        wanted = {"query": self._wanted(query or (self.images if len(self.images) == 1 else plain), "query")}
        wanted |= {"evidence": self._wanted(evidence, "evidence")} if evidence else {}
        roles: dict[str, Roles] = {"query": (), "evidence": ()}
        used: dict[str, Part] = {}
        for argument, tree in wanted.items():
            for path, names in trees.leaves(tree):
                used |= {name: self._part(name, names, trees.text(argument, path)) for name in names}
            roles[argument] = tuple((path, tuple(names)) for path, names in trees.leaves(tree))
        taken = all(used[name].kind == ACTED for _, names in roles["query"] for name in names)
        return View(roles["query"], roles["evidence"], taken, tuple(used.values()))

    def _wanted(self, names: Any, argument: str) -> Tree:
        """A list of parts for each leaf."""
        if trees.is_tree(names):
            trees.check(names, argument)
            return trees.map(
                lambda each, path: self._known(each, trees.text(argument, path)), names, trees.paths(names)
            )
        together = argument == "evidence" and not any(each in names for each in self.images)
        if not isinstance(names, str) and len(names) == 1 and isinstance(names[0], list | tuple):
            names, together = names[0], True
        chosen = self._known(names, argument)
        if together or len(chosen) == 1:
            return chosen
        return trees.nested({tuple(each.split("/")): [each] for each in chosen})

    def _known(self, wanted: Any, argument: str) -> list[str]:
        names: list[Any] = [wanted] if isinstance(wanted, str | int) else list(wanted)
        for name in names:
            if name not in self.parts:
                raise ValueError(f"{argument}: the recording has no {name!r}; {suggestion(str(name), self.parts)}")
            if names.count(name) > 1:
                raise ValueError(f"{argument}: {name!r} is named twice; name it once")
        return names

    def _part(self, name: str, beside: Sequence[str], argument: str) -> Part:
        """What is known of a part. Refuses what is not numbers, and an image beside others in one array."""
        kind = OBSERVED if name in self._first.observations else ACTED if name in self._first.actions else "result"
        if kind == "result":
            return Part(name, kind, ())
        array: Any = (self._first.observations if kind == OBSERVED else self._first.actions)[name]  # unread
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{argument}: {name!r} holds {array.dtype}, not numbers; name others")
        if _is_image(array) and len(beside) > 1:
            raise ValueError(
                f"{argument}: {name!r} holds images {list(array.shape[1:])}, which cannot be side by side with "
                f"{', '.join(repr(other) for other in beside if other != name)}; name each alone"
            )
        values = self.categories.get(name)
        turning = angles(name, self.angles[name], array.shape[1:]) if name in self.angles else ()
        made = () if values is None else choices(values)
        return Part(name, kind, array.shape[1:], _is_image(array), made, turning)

    def __repr__(self) -> str:
        return f"Recording({self.name!r}: {len(self)} episodes, {', '.join(self.parts)})"


def stepped(episode: Episode, view: View, number: int = 0, raw: bool = False) -> dict[str, Tree]:
    """The arrays of query and evidence of an episode: [T+1, ...] each, of actions taken [T, ...].

    ``raw``: images stay the bytes that they are.
    """

    def numbers(part: Part, flat: bool, role: str) -> np.ndarray:
        found = _entries(episode, part, role, number)
        found = found if raw and part.image else part.numbers(found, flat)
        if part.kind != OBSERVED and not (view.taken and role == "query"):
            # what belongs to an action stands at the step that it led to: zero at the first, which none led to
            found = np.concatenate([np.zeros_like(found[:1]), found])
        return found[: len(episode)] if view.taken else found

    roles = ("query", "evidence")[: 2 if view.evidence else 1]
    return {role: view.arrays(role, partial(numbers, role=role)) for role in roles}


def _entries(episode: Episode, part: Part, role: str, number: int) -> np.ndarray:
    """A part's entries, [T+1, ...] of observations, [T, ...] of what belongs to actions, checked."""
    if part.name == "reward":
        return np.asarray(episode.rewards)
    if part.name == "terminated":
        return np.append(np.zeros(len(episode) - 1, np.float32), np.float32(episode.terminated))
    arrays = episode.observations if part.kind == OBSERVED else episode.actions
    if part.name not in arrays:
        raise ValueError(f"{role}: episode {number} has no {part.name!r}, which episode 0 has")
    array = np.asarray(arrays[part.name])
    if array.shape[1:] != part.shape:
        raise ValueError(
            f"{role}: {part.name!r} of episode {number} has the shape {list(array.shape[1:])} a step and of episode 0 "
            f"{list(part.shape)}; leave one of them out"
        )
    if part.choices:
        check_choices(part, array, number)
    return array


def _weights(weight: str | Callable[[Episode], Any], episode: Episode, steps: int) -> np.ndarray:
    """[steps]: the weights of an episode's data."""
    if isinstance(weight, str):
        if weight not in episode.infos:
            raise ValueError(f"weight: there is no info {weight!r}; {suggestion(weight, list(episode.infos))}")
        found = np.asarray(episode.infos[weight])[:steps]  # there may be one for the last observation, too
    else:
        found = np.asarray(weight(episode))
    if found.shape not in ((), (1,), (steps,)):
        raise ValueError(f"weight: expected one number, or {steps} for an episode of as many data; got {found.shape}")
    return np.broadcast_to(found, (steps,))


def _is_image(array: Any) -> bool:
    return bool(array.dtype == np.uint8 and array.ndim >= 3)


def json_object(text: str | bytes, what: str) -> dict[str, Any]:
    """A JSON object of a file, or in it."""
    try:
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{what} is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{what} must hold an object; got {type(found).__name__}")
    return found
