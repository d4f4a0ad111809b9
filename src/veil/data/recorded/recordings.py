"""What was recorded of an environment: observations, actions and rewards of episodes; and data made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from veil.data.core import trees
from veil.data.core.arrays import Data
from veil.data.core.columns import suggestion
from veil.data.core.episodes import episodes as sequences
from veil.data.core.trees import Tree

NOTHING: Mapping[str, Any] = MappingProxyType({})
RESULTS = ("reward", "terminated")


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

    observations: Mapping[str, np.ndarray]
    actions: Mapping[str, np.ndarray]
    rewards: np.ndarray
    terminated: bool = False
    truncated: bool = False
    infos: Mapping[str, np.ndarray] = field(default_factory=dict)
    seed: int | None = None

    def __post_init__(self) -> None:
        if np.ndim(self.rewards) != 1 or len(self.rewards) == 0:
            raise ValueError(f"rewards: expected [T], one for each action; got {np.shape(self.rewards)}")
        if not self.observations or not self.actions:
            raise ValueError("an episode needs at least one observation and one action by name")
        steps = len(self.rewards)
        for kind, arrays, wanted in (
            ("observations", self.observations, steps + 1),
            ("actions", self.actions, steps),
        ):
            for name, array in arrays.items():
                if np.ndim(array) < 1 or len(array) != wanted:
                    first = kind == "observations"
                    what = "the first one and one after each action" if first else "one for each reward"
                    raise ValueError(
                        f"{kind}: {name!r} must have {wanted} entries, {what} (of {steps} rewards); its "
                        f"shape is {np.shape(array)}"
                    )

    def __len__(self) -> int:
        """The number of actions T."""
        return len(self.rewards)

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {list(array.shape[1:])}" for name, array in self.observations.items())
        return f"Episode({len(self)} actions, {parts})"


@dataclass(frozen=True, eq=False)
class Recording:
    """Episodes of one environment, in memory or read when they are asked for, and what is known of their numbers.

    Fields:
        episodes: a sequence of `Episode`; that of a file reads an episode when it is indexed.
        categories: of parts that are choices, their values: {"action": range(2)}. As data they are zeros and a one.
        name: of the data.
        about: what else the file said, as plain values.

    >>> one = Episode({"observation": np.zeros((3, 2))}, {"action": np.array([0, 1])}, np.ones(2))
    >>> Recording([one], {"action": range(2)}).data(evidence="action").evidence[0].tolist()
    [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    """

    episodes: Sequence[Any]  # of Episode; looking at one reads it
    categories: Mapping[str, range] = field(default_factory=dict)
    name: str = "recording"
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.episodes) == 0:
            raise ValueError(f"{self.name}: a recording has at least one episode")

    def __len__(self) -> int:
        """The number of episodes."""
        return len(self.episodes)

    @property
    def parts(self) -> tuple[str, ...]:
        """What data can be made of: observations, actions, "reward" and "terminated"."""
        return _parts(self.episodes[0])

    @property
    def images(self) -> tuple[str, ...]:
        """Those of `parts` that are images."""
        return _images(self.episodes[0])

    def data(self, query: Any = None, evidence: Any = None, name: str | None = None) -> Data:
        """Sequences of T+1 steps: at step t the query is o_t, and the evidence the action u_{t-1} that led to it.

        So a chain's p(z_t | z_t-1, x_t) is the transition under the action, as `HMM` and `LDS` have it. What belongs to
        an action stands at the step that it led to: the reward r_{t-1} as well, and whether o_t ended the episode. At
        the first step, which no action led to, they are zero. Choices become zeros and a one. An image (8-bit, three
        axes or more) becomes numbers in [0, 1] and keeps its axes.

        One part is an array (flattened, if it is no image); several are a dictionary by their names, each with its own
        axes ("arm/angle" is "angle" in a dictionary "arm"). Several parts of the evidence without an image among them
        are put side by side instead. One may say which part goes where, those in a list side by side:
        `query={"frame": "frame", "body": ["joints", "speeds"]}`, or `query=[["joints", "speeds"]]` for one array.

        Args:
            query: names of `parts`; by default the one image, or all observations if there is none or are several.
            evidence: names of `parts`, such as "action"; none by default.
            name: of the data.

        Raises:
            ValueError: unknown names, an image beside others in a list, or episodes that differ in more than their
                length.
        """
        first = self.episodes[0]
        images = _images(first)
        plain = [each for each, array in first.observations.items() if array.dtype.kind in "biuf"]
        wanted = {"query": _wanted(first, query or (images[0] if len(images) == 1 else plain), "query")}
        if evidence:
            wanted["evidence"] = _wanted(first, evidence, "evidence")
        for path, names in trees.leaves(wanted):
            _check_parts(first, names, trees.text(path[0], path[1:]))
        rows = [self._steps(episode, wanted, number) for number, episode in enumerate(self.episodes)]
        for number, each in enumerate(rows):
            for (path, array), (_, like) in zip(trees.leaves(each), trees.leaves(rows[0]), strict=True):
                if array.shape[1:] != like.shape[1:]:
                    raise ValueError(
                        f"{trees.text(path[0], path[1:])}: episode {number} has the shape {list(array.shape[1:])} a "
                        f"step and episode 0 {list(like.shape[1:])}; leave one of them out"
                    )
        given: dict[str, Any] = {argument: [each[argument] for each in rows] for argument in wanted}
        given |= {f"{argument}_names": self._columns(first, tree) for argument, tree in wanted.items()}
        return sequences(**given, name=self.name if name is None else name)

    def _steps(self, episode: Episode, wanted: Mapping[str, Tree], number: int) -> Tree:
        """Arrays [T+1, ...] in the places of their names."""

        def leaf(names: list[str], path: trees.Path) -> np.ndarray:
            arrays = []
            for name in names:
                try:
                    arrays.append(_shifted(episode, name))
                except KeyError:
                    raise ValueError(f"{path[0]}: episode {number} has no {name!r}, which episode 0 has") from None
            if len(names) == 1 and _is_image(arrays[0]):
                return arrays[0].astype(np.float32) / np.float32(255)
            if len(names) == 1 and len(path) > 1 and names[0] not in self.categories:
                return arrays[0]  # in a dictionary with its own axes
            return np.concatenate(
                [self._flat(name, array, number) for name, array in zip(names, arrays, strict=True)], axis=1
            )

        return trees.map(leaf, wanted, trees.paths(wanted))

    def _flat(self, name: str, array: np.ndarray, number: int) -> np.ndarray:
        if name not in self.categories:
            return array.reshape(len(array), -1)
        values = self.categories[name]
        code = array.reshape(len(array))
        if name not in self.episodes[0].observations:  # at the first step no action was taken
            code = code[1:]
        if code.dtype.kind not in "iu" or np.any((code < values.start) | (code >= values.stop)):
            raise ValueError(
                f"{name}: expected the integers {values.start} to {values.stop - 1}; episode {number} has others"
            )
        hot = np.zeros((len(array), len(values)), np.float32)
        hot[np.arange(len(array) - len(code), len(array)), code - values.start] = 1.0
        return hot

    def _columns(self, first: Episode, wanted: Tree) -> list[str]:
        """The names of the columns of parts side by side; none of an image or a dictionary, which have their own."""
        columns: list[str] = []
        for name in [] if trees.is_tree(wanted) else wanted:
            array = _shifted(first, name)
            if _is_image(array):
                return []
            size = len(self.categories[name]) if name in self.categories else int(np.prod(array.shape[1:]))
            columns += [name] if size == 1 else [f"{name}{i}" for i in range(size)]
        return columns

    def __repr__(self) -> str:
        return f"Recording({self.name!r}: {len(self)} episodes, {', '.join(self.parts)})"


def _shifted(episode: Episode, name: str) -> np.ndarray:
    """A part at each of the T+1 steps: what belongs to an action at the step that it led to, zero at the first."""
    if name in episode.observations:
        return np.asarray(episode.observations[name])
    if name == "terminated":
        last = np.zeros(len(episode) + 1, np.float32)
        last[-1] = episode.terminated
        return last
    array = np.asarray(episode.rewards if name == "reward" else episode.actions[name])
    return np.concatenate([np.zeros_like(array[:1]), array])


def _parts(episode: Episode) -> tuple[str, ...]:
    return *episode.observations, *episode.actions, *RESULTS


def _images(episode: Episode) -> tuple[str, ...]:
    return tuple(name for name, array in episode.observations.items() if _is_image(array))


def _wanted(first: Episode, names: Any, argument: str) -> Tree:
    """A list of parts for each leaf."""
    if trees.is_tree(names):
        trees.check(names, argument)
        found = lambda each, path: _names(each, _parts(first), trees.text(argument, path))  # noqa: E731
        return trees.map(found, names, trees.paths(names))
    together = argument == "evidence" and not any(each in names for each in _images(first))
    if not isinstance(names, str) and len(names) == 1 and isinstance(names[0], list | tuple):
        names, together = names[0], True
    chosen = _names(names, _parts(first), argument)
    if together or len(chosen) == 1:
        return chosen
    return trees.nested({tuple(each.split("/")): [each] for each in chosen})


def _check_parts(episode: Episode, names: Sequence[str], argument: str) -> None:
    """Refuse what is not numbers, and an image beside others in one array."""
    if not names:
        raise ValueError(f"{argument}: expected the name of at least one part; got none")
    for name in names:
        array = _shifted(episode, name)
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{argument}: {name!r} holds {array.dtype}, not numbers; name others")
        if _is_image(array) and len(names) > 1:
            raise ValueError(
                f"{argument}: {name!r} holds images {list(array.shape[1:])}, which cannot be side by side with "
                f"{', '.join(repr(other) for other in names if other != name)}; name each alone"
            )


def _is_image(array: np.ndarray) -> bool:
    return array.dtype == np.uint8 and array.ndim >= 3


def _names(wanted: Any, known: Sequence[str], argument: str) -> list[str]:
    names: list[Any] = [] if wanted is None else [wanted] if isinstance(wanted, str | int) else list(wanted)
    for name in names:
        if name not in known:
            raise ValueError(f"{argument}: the recording has no {name!r}; {suggestion(str(name), list(known))}")
        if names.count(name) > 1:
            raise ValueError(f"{argument}: {name!r} is named twice; name it once")
    return names
