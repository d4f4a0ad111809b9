"""The folder that `collect` makes: an .npz for each episode, whole or not there, and collection.json beside them."""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from veil.data.formats.writing import whole
from veil.data.recorded.recordings import Episode, OnDisk, Recording, json_object

ABOUT = "collection.json"
FORMAT, VERSION = "veil collection", 1
OBSERVATIONS, ACTIONS, INFOS = "observations/", "actions/", "infos/"


def is_here(path: Path) -> bool:
    """Whether a folder is one of these."""
    return (path / ABOUT).is_file()


def read(folder: Path) -> Recording:
    """The episodes that are there.

    Raises:
        ValueError: none yet, or a damaged collection.json.
    """
    about = read_about(folder)
    files = sorted(folder.glob("episode_*.npz"))
    if not files:
        raise ValueError(f"{folder} holds no whole episode yet; collect some")
    try:
        categories = {name: _ranges(pairs) for name, pairs in about.get("categories", {}).items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{folder / ABOUT}: categories must be pairs of numbers by name: {error}") from None
    return Recording(OnDisk(files, read_episode), categories, folder.resolve().name, about)


def _ranges(pairs: Any) -> Any:
    """A range of a pair of numbers, a tuple of them of a list of pairs."""
    if all(isinstance(each, list) for each in pairs):
        return tuple(map(_ranges, pairs))
    low, high = pairs
    return range(int(low), int(high))


def read_about(folder: Path) -> dict[str, Any]:
    """What collection.json says.

    Raises ValueError if it is damaged or of another format.
    """
    file = folder / ABOUT
    about = json_object(file.read_bytes(), str(file))
    if about.get("format") != FORMAT or about.get("version") != VERSION:
        raise ValueError(f"{file}: expected format {FORMAT!r}, version {VERSION}; collect anew")
    return about


def check_place(folder: Path, about: dict[str, Any], force: bool) -> None:
    """Raise FileExistsError, ValueError where a folder holds other things, or episodes of other settings."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir() or not is_here(folder):
        raise FileExistsError(f"out: {folder} exists and holds other things; choose another place")
    before = read_about(folder)
    differs = [name for name in about if before.get(name) != about[name]]
    if differs and not force:
        text = ", ".join(f"{name} {before.get(name)!r} in place of {about[name]!r}" for name in differs)
        raise ValueError(
            f"out: {folder} holds episodes with {text}; ask for the same to go on, choose another place, or begin anew "
            "with force"
        )


def begin(folder: Path, about: dict[str, Any], force: bool) -> None:
    """A folder for episodes; with ``force`` without those that are there."""
    if force and is_here(folder):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not is_here(folder):
        with whole(folder / ABOUT) as file:
            file.write((json.dumps({"format": FORMAT, "version": VERSION, **about}, indent=1) + "\n").encode())


def place_of(folder: Path, number: int) -> Path:
    """Where an episode is, or is to be."""
    return folder / f"episode_{number:06d}.npz"


def write_episode(folder: Path, number: int, episode: Episode) -> None:
    """One episode, atomically: whoever stops the process leaves it whole or not there."""
    arrays: dict[str, Any] = {OBSERVATIONS + name: array for name, array in episode.observations.items()}
    arrays |= {ACTIONS + name: array for name, array in episode.actions.items()}
    arrays |= {INFOS + name: array for name, array in episode.infos.items()}
    arrays |= {
        "rewards": episode.rewards,
        "terminated": np.array(episode.terminated),
        "truncated": np.array(episode.truncated),
        "seed": np.array(-1 if episode.seed is None else episode.seed, np.int64),
    }
    with whole(place_of(folder, number)) as file:
        np.savez_compressed(file, **arrays)


def read_episode(file: Path) -> Episode:
    """The episode of a file. Raises ValueError if it is damaged."""
    try:
        # opened here, as numpy leaves a damaged file open
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        seed = int(arrays["seed"])
        return Episode(
            {name.removeprefix(OBSERVATIONS): arrays[name] for name in arrays if name.startswith(OBSERVATIONS)},
            {name.removeprefix(ACTIONS): arrays[name] for name in arrays if name.startswith(ACTIONS)},
            arrays["rewards"],
            bool(arrays["terminated"]),
            bool(arrays["truncated"]),
            {name.removeprefix(INFOS): arrays[name] for name in arrays if name.startswith(INFOS)},
            seed=None if seed < 0 else seed,
        )
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{file} is not a whole episode ({error}); delete it and collect again") from error
