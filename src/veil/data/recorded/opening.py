"""Recordings on disk, of whatever format."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from veil.data.bundled import examples
from veil.data.core.columns import suggestion
from veil.data.recorded import folders, lerobot, minari, replay, robomimic
from veil.data.recorded.recordings import OnDisk, Recording


def is_recording(path: Path) -> bool:
    """Whether a recording is there: a folder that `collect` made, one of Minari or LeRobot, a replay buffer, .hdf5.

    Or an example is one, by its name.
    """
    layouts = (folders.is_here, lerobot.is_here, replay.is_here, minari.find)
    return any(is_here(path) for is_here in layouts) or str(path) in examples.RECORDINGS


def recording(path: str | os.PathLike[str], episodes: str | Sequence[int] | None = None) -> Recording:
    """The recording at a path, whose layout is told by what is there.

    A folder that `collect` made; a data set of Minari (or its data folder) or of LeRobot (v2, v3); a replay buffer of
    Diffusion Policy (zarr, a folder or a .zip); an .hdf5 file of Minari's or robomimic's layout. Their packages are not
    needed. Or an example that is a recording, by name: "tree", "slalom", "pusht", "overcooked-cramped-room" and the
    other four kitchens (`load` makes data of them).
    Episodes are read when they are used, a camera's frames when those are; `Recording.data` makes data of them.

    Args:
        path: of a folder or a file.
        episodes: which ones: their numbers from 0, or a name in `Recording.about["splits"]` (a filter key of robomimic,
            a split of LeRobot), such as "train"; all of them if left out.

    Raises:
        FileNotFoundError: there is none.
        ModuleNotFoundError: HDF5 without h5py, Parquet without pyarrow, zarr without zarr; the message has the command
            that installs it.
        ValueError: it cannot be read, has no episodes, or not those that are asked for.

    >>> import tempfile
    >>> import numpy as np
    >>> from veil.data import Episode, Recording, write_minari
    >>> one = Episode({"observation": np.zeros((3, 2))}, {"action": np.zeros((2, 1))}, np.ones(2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_minari(Recording([one] * 5), f"{folder}/five-v0")
    ...     recording(f"{folder}/five-v0", episodes=range(3))
    Recording('five-v0': 3 episodes, observation, action, reward, terminated)
    """
    found = _whole(Path(path))
    return found if episodes is None else _some(found, episodes)


def _whole(place: Path) -> Recording:
    for layout in (folders, lerobot, replay):
        if layout.is_here(place):
            return layout.read(place)
    file = minari.find(place)
    if file is None and str(place) in examples.RECORDINGS:
        return examples.recorded(str(place))
    if file is None:
        raise FileNotFoundError(
            f"path: {place} is no recording: neither a folder made by veil.collect, nor one of Minari or LeRobot, nor "
            "a replay buffer (zarr), nor an .hdf5 file"
        )
    return robomimic.read(file) if robomimic.is_here(file) else minari.read(file)


def _some(found: Recording, episodes: str | Sequence[int]) -> Recording:
    splits: dict[str, Any] = dict(found.about.get("splits", {}))
    if isinstance(episodes, str) and episodes not in splits:
        known = suggestion(episodes, list(splits)) if splits else "it has no named ones; give numbers, from 0"
        raise ValueError(f"episodes: {found.name} has no {episodes!r}; {known}")
    numbers = [int(number) for number in (splits[episodes] if isinstance(episodes, str) else episodes)]
    if wrong := [number for number in numbers if not 0 <= number < len(found)]:
        raise ValueError(f"episodes: expected numbers from 0 to {len(found) - 1}; got {wrong[0]}")
    if not numbers:
        raise ValueError(f"episodes: {episodes!r} are none; name at least one")
    name = f"{found.name}, {episodes}" if isinstance(episodes, str) else found.name
    return Recording(OnDisk(numbers, lambda number: found.episodes[number]), found.categories, name, found.about)
