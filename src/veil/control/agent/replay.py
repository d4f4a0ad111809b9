"""What an agent has seen, episode behind episode, and windows of it to learn from."""

import shutil
from abc import abstractmethod
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from veil.data import Episode
from veil.data.core import trees
from veil.data.recorded.recordings import stepped
from veil.data.recorded.views import View
from veil.model import Datum


class Sampling(eqx.Module):
    """Where windows of a replay begin."""

    @abstractmethod
    def begins(self, rng: np.random.Generator, size: int, places: int) -> np.ndarray:
        """``size`` of so many ``places``, the newest last."""


class Uniform(Sampling):
    """Anywhere."""

    def begins(self, rng: np.random.Generator, size: int, places: int) -> np.ndarray:
        return rng.integers(places, size=size)


class Recent(Sampling):
    """A ``share`` of the windows from the newest ``steps``, the others from anywhere."""

    share: float = eqx.field(static=True, default=0.5)
    steps: int = eqx.field(static=True, default=1000)

    def __check_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share: expected a share of the windows from 0 to 1; got {self.share!r}")
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"steps: expected a positive whole number; got {self.steps!r}")

    def begins(self, rng: np.random.Generator, size: int, places: int) -> np.ndarray:
        newest = rng.random(size) < self.share
        back = rng.integers(np.where(newest, min(self.steps, places), places))
        return places - 1 - back


class Replay:
    """The steps of all episodes in a row, images as bytes; in memory, or in files of a ``folder`` of its own.

    A window is any steps in a row; where the next episode begins within one it says ``reset``. So short episodes count
    by their steps like long ones, none is left out, and no window holds padding once there are enough steps.

    Files are made anew by who adds the episodes, and what is not read stays on the disk. With ``remembers`` it keeps
    what was known after each step (a ``Belief``, told by ``remember``), and a window goes on from there
    (``Datum.begin``); what is not known yet is ``fresh``.
    """

    def __init__(self, view: View, folder: Path | None = None, remembers: Any = None) -> None:
        self.view, self.folder = view, folder
        self.episodes = 0
        self._steps = 0
        self._arrays: Any = None
        self._known: Any = None  # beliefs, leaves [room, ...]
        self._fresh = None if remembers is None else jax.tree.map(np.asarray, remembers)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def __len__(self) -> int:
        """How many steps there are: of an episode its actions, and the first observation."""
        return self._steps

    @property
    def known(self) -> Any:
        """What was known after each step, leaves [steps, ...]; None of one that does not remember."""
        return jax.tree.map(lambda leaf: leaf[: self._steps], self._known)

    def add(self, episode: Episode) -> None:
        """One episode more, the newest."""
        found: dict[str, Any] = stepped(episode, self.view, self.episodes, raw=True)
        count = len(episode) + 1
        found["reset"] = np.arange(count) == 0
        room = 0 if self._arrays is None else len(self._arrays["reset"])
        if self._steps + count > room:
            self._grow(found, room + max(room, 2 * count))
        for (_, old), (_, new) in zip(trees.leaves(self._arrays), trees.leaves(found), strict=True):
            old[self._steps : self._steps + count] = new
        self.episodes, self._steps = self.episodes + 1, self._steps + count

    def _grow(self, example: Any, room: int) -> None:
        """Place for so many steps."""
        files = iter(range(len(list(trees.leaves(example)))))
        before = example if self._arrays is None else self._arrays

        def longer(leaf: np.ndarray) -> np.ndarray:
            shape, kind = (room, *leaf.shape[1:]), _kept(leaf)
            if self.folder is not None:
                place, old = self.folder / f"{next(files)}.bin", self._arrays is not None
                return np.memmap(place, kind, mode="r+" if old else "w+", shape=shape)
            kept = leaf if self._arrays is not None else leaf[:0].astype(kind)
            return np.concatenate([kept, np.zeros((room - len(kept), *shape[1:]), kind)])

        self._arrays = trees.map(longer, before)
        if self._fresh is not None:
            old = 0 if self._known is None else len(jax.tree.leaves(self._known)[0])
            more = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (room - old, *leaf.shape)), self._fresh)
            join = lambda old, new: np.concatenate([old, new])  # noqa: E731
            self._known = jax.tree.map(np.array, more) if old == 0 else jax.tree.map(join, self._known, more)

    def windows(self, rng: np.random.Generator, size: int, length: int, sampling: Sampling) -> Datum:
        """``size`` windows of ``length`` steps, on the host (see ``numbers``); ``index``: the first of each."""
        if self._steps < length:
            raise ValueError(f"window: expected at most the {self._steps} steps that there are; got {length}")
        begins: Any = sampling.begins(rng, size, self._steps - length + 1)
        rows = begins[:, None] + np.arange(length)[None]
        found = trees.map(lambda leaf: np.asarray(leaf[rows]), self._arrays)
        begin = None
        if self._known is not None:
            # before the very first step nothing is known, and there it starts with a reset
            begin = jax.tree.map(lambda leaf: leaf[np.maximum(begins - 1, 0)], self._known)
        return Datum(found["query"], found.get("evidence"), reset=found["reset"], index=begins, begin=begin)

    def steps(self, rows: np.ndarray) -> Datum:
        """These steps, each by itself."""
        found = trees.map(lambda leaf: np.asarray(leaf[rows]), self._arrays)
        return Datum(found["query"], found.get("evidence"), reset=found["reset"])

    def led(self, begin: int, count: int) -> np.ndarray | None:
        """Of all steps that an action led to those from number ``begin`` on, ``count`` of them; None: there are fewer.

        Each has the step that it came from before it.
        """
        rows = np.flatnonzero(~self._arrays["reset"][: self._steps])[begin : begin + count]
        return rows if len(rows) == count else None

    def remember(self, index: np.ndarray, beliefs: Any) -> None:
        """What is known after each step of windows [B, T, ...], of which these were the first steps."""
        rows = index[:, None] + np.arange(jax.tree.leaves(beliefs)[0].shape[1])[None]

        def one(old: np.ndarray, new: Any) -> None:
            old[rows] = np.asarray(new)

        jax.tree.map(one, self._known, beliefs)

    def recall(self, known: Any) -> None:
        """What was ``known``, again."""

        def one(old: np.ndarray, new: Any) -> None:
            old[: self._steps] = np.asarray(new)

        jax.tree.map(one, self._known, known)


def numbers(raw: Any) -> Any:
    """Arrays of a replay as a model sees them: bytes are numbers from 0 to 1."""
    real = jnp.result_type(float)

    def one(leaf: Any) -> Any:
        if leaf.dtype == jnp.uint8:
            return leaf.astype(real) / 255
        return leaf.astype(real) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(one, raw)


def _kept(leaf: np.ndarray) -> Any:
    return leaf.dtype if leaf.dtype.kind in "ub" else np.float32
