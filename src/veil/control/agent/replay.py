"""What an agent has seen, episode behind episode, and windows of it to learn from."""

from abc import abstractmethod
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
    """The steps of all episodes in a row, in memory; images as bytes. The episodes themselves are on disk.

    A window is any steps in a row; where the next episode begins within one it says ``reset``. So short episodes count
    by their steps like long ones, none is left out, and no window holds padding once there are enough steps.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self.episodes = 0
        self._steps = 0
        self._arrays: Any = None

    def __len__(self) -> int:
        """How many steps there are: of an episode its actions, and the first observation."""
        return self._steps

    def add(self, episode: Episode) -> None:
        """One episode more, the newest."""
        found: dict[str, Any] = stepped(episode, self.view, self.episodes, raw=True)
        count = len(episode) + 1
        found["reset"] = np.arange(count) == 0
        if self._arrays is None:
            self._arrays = trees.map(lambda leaf: np.zeros((0, *leaf.shape[1:]), _kept(leaf)), found)
        room = len(self._arrays["reset"])
        if self._steps + count > room:
            more = max(room, 2 * count)
            self._arrays = trees.map(lambda leaf: _longer(leaf, more), self._arrays)
        for (_, old), (_, new) in zip(trees.leaves(self._arrays), trees.leaves(found), strict=True):
            old[self._steps : self._steps + count] = new
        self.episodes, self._steps = self.episodes + 1, self._steps + count

    def windows(self, rng: np.random.Generator, size: int, length: int, sampling: Sampling) -> Datum:
        """``size`` windows of ``length`` steps, on the host, images as bytes: see ``numbers``."""
        if self._steps < length:
            raise ValueError(f"window: expected at most the {self._steps} steps that there are; got {length}")
        begins = sampling.begins(rng, size, self._steps - length + 1)
        rows = begins[:, None] + np.arange(length)[None]
        found = trees.map(lambda leaf: leaf[rows], self._arrays)
        return Datum(found["query"], found.get("evidence"), reset=found["reset"])


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


def _longer(leaf: np.ndarray, more: int) -> np.ndarray:
    return np.concatenate([leaf, np.zeros((more, *leaf.shape[1:]), leaf.dtype)])
