"""Recordings in Minari's layout: an HDF5 file with a group for each episode, and metadata.json beside it.

Minari itself is not needed. `metadata.json` has the spaces of observations and actions as JSON; an .hdf5 file alone is
read as well, then without knowing which actions are choices.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from veil.data.core import trees
from veil.data.core.packages import needed
from veil.data.recorded.recordings import Episode, OnDisk, Recording, json_object
from veil.data.recorded.views import choices, join, named, tuple_keys

MAIN, METADATA = "main_data.hdf5", "metadata.json"
ENDINGS = (".hdf5", ".h5")
VERSION = "0.5.0"  # of Minari, whose layout is written
IDENTITY = re.compile(r"[A-Za-z0-9_.-]+-v\d+")


def find(path: Path) -> Path | None:
    """The HDF5 file of a recording: itself, or the one in Minari's folder; None if there is none."""
    if path.suffix.lower() in ENDINGS and path.is_file():
        return path
    return next((file for file in (path / MAIN, path / "data" / MAIN) if file.is_file()), None)


def read(file: Path) -> Recording:
    """The recording in an HDF5 file, with the metadata beside it if there are any.

    Raises:
        ModuleNotFoundError: h5py is not installed.
        ValueError: no HDF5 file, or one without episodes.
    """
    beside = file.with_name(METADATA)
    about = json_object(beside.read_bytes(), str(beside)) if beside.is_file() else {}
    if about.get("data_format", "hdf5") != "hdf5":
        raise ValueError(
            f"{beside}: data_format is {about['data_format']!r}, and only hdf5 can be read; write it so with minari"
        )
    categories: dict[str, Any] = {}
    pictures = set()
    for kind in ("observation", "action"):
        space = json_object(about.get(f"{kind}_space") or "{}", f"{beside}: {kind}_space")
        for name, (leaf,) in named(_tree(space), kind):
            if leaf.get("type") in ("Discrete", "MultiDiscrete"):
                counts = np.ravel(leaf["n"] if leaf["type"] == "Discrete" else leaf["nvec"])
                starts = np.broadcast_to(np.ravel(leaf.get("start", 0)), counts.shape)
                ranges = tuple(range(int(a), int(a + n)) for a, n in zip(starts, counts, strict=True))
                categories[name] = ranges[0] if leaf["type"] == "Discrete" else ranges
            elif kind == "observation" and about.get("jpeg_encoding", True) and _encoded(leaf):
                pictures.add(name)
    found = _episodes(file, frozenset(pictures))
    folder = file.parent.parent if file.parent.name == "data" else file.parent
    name = file.stem if file.name != MAIN else str(about.get("dataset_id") or folder.name)
    return Recording(found, categories, name, about)


def write_minari(recording: Recording, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write a recording as a data set of Minari: ``path``/data with main_data.hdf5 and metadata.json, images unchanged.

    Minari finds it if the folder above is in MINARI_DATASETS_PATH. The folder appears whole or not at all.

    Args:
        recording: what to write.
        path: the folder to make; its name is the data set's and ends in a version: "cartpole-random-v0".
        force: replace a data set of Minari that is there.

    Raises:
        ValueError: a name without a version.
        FileExistsError: something is there; with ``force``, something that is no data set of Minari.
        ModuleNotFoundError: h5py is not installed; the message has the command that installs it.

    >>> one = Episode({"observation": np.zeros((3, 2))}, {"action": np.array([0, 1])}, np.ones(2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_minari(Recording([one], {"action": range(2)}), f"{folder}/nothing-v0")
    ...     read(Path(folder, "nothing-v0/data/main_data.hdf5"))
    Recording('nothing-v0': 1 episodes, observation, action, reward, terminated)
    """
    h5py = needed(f"{path}: HDF5 needs h5py", "sequences", "h5py")
    place = Path(path)
    if not IDENTITY.fullmatch(place.name):
        raise ValueError(
            f"path: Minari wants a version at the end of the name, such as {place.name}-v0; got {place.name}"
        )
    if place.exists() and not (force and find(place) is not None):
        why = "holds a data set: replace it with force=True" if find(place) else "exists and is no data set of Minari"
        raise FileExistsError(f"{place} {why}")
    place.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        part.chmod(0o755)
        (part / "data").mkdir()
        steps = 0
        with h5py.File(part / "data" / MAIN, "w", track_order=True) as file:
            for number, episode in enumerate(recording.episodes):
                _write_episode(file.create_group(f"episode_{number}"), episode, number)
                steps += len(episode)
        first = recording.episodes[0]
        about = {
            name: value for name, value in recording.about.items() if name in ("env_spec", "author", "author_email")
        }
        about |= {
            "dataset_id": place.name,
            "minari_version": VERSION,
            "data_format": "hdf5",
            "jpeg_encoding": False,
            "total_episodes": len(recording),
            "total_steps": steps,
            "dataset_size": round((part / "data" / MAIN).stat().st_size / 1e6, 1),
            "observation_space": json.dumps(_space_of(first.observations, recording.categories, "observation")),
            "action_space": json.dumps(_space_of(first.actions, recording.categories, "action")),
        }
        (part / "data" / METADATA).write_text(json.dumps(about), "utf-8")
        if place.exists():
            shutil.rmtree(place)
        part.rename(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)


# -- reading -----------------------------------------------------------------------------------------------------------


def open_file(file: Path) -> Any:
    """An HDF5 file, to be read.

    Raises ModuleNotFoundError without h5py, ValueError where it is none.
    """
    h5py = needed(f"{file}: HDF5 needs h5py", "sequences", "h5py")
    try:
        return h5py.File(file, "r")
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(f"{file} is not a readable HDF5 file: {error}") from None


def _episodes(file: Path, pictures: frozenset[str]) -> OnDisk:
    with open_file(file) as opened:
        names = list(opened)
    groups = [name for name in names if re.fullmatch(r"episode_\d+", name)]
    if not groups:
        there = ", ".join(names[:8]) or "nothing"
        raise ValueError(f"{file}: expected groups named episode_0, episode_1, ...; it has {there}")
    return OnDisk(sorted(groups, key=lambda name: int(name[8:])), lambda name: _episode(file, name, pictures))


def _episode(file: Path, name: str, pictures: frozenset[str]) -> Episode:
    try:
        with open_file(file) as opened:
            group = opened[name]
            missing = [part for part in ("observations", "actions", "rewards") if part not in group]
            if missing:
                raise ValueError(f"{missing[0]} is missing; there are {', '.join(group)}")
            seed = group.attrs.get("seed")
            over, cut = (end in group and bool(np.any(group[end][()])) for end in ENDS)
            return Episode(
                _arrays(group["observations"], pictures, "observation"),
                _arrays(group["actions"], frozenset(), "action"),
                np.asarray(group["rewards"][()]),
                over,
                cut,
                infos=_arrays(group["infos"], frozenset(), "") if "infos" in group else {},
                seed=None if seed is None else int(seed),
            )
    except (ValueError, OSError) as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(file)) else f"{file}, {name}: {text}") from error


ENDS = ("terminations", "truncations")


def _arrays(group: Any, pictures: frozenset[str], name: str) -> dict[str, np.ndarray]:
    """The arrays in a group and its groups, named as a path; those of text are left out."""
    found = {path: leaf[()] for path, leaf in named(group, name)}
    found = {path: _decoded(value) if path in pictures else np.asarray(value) for path, value in found.items()}
    found = {path: array for path, array in found.items() if array.dtype.kind in "biuf"}
    if name and not found:
        raise ValueError(f"{name}s: there are none that are numbers")
    return found


def _decoded(codes: Any) -> np.ndarray:
    """Images [T, H, W, ...] from one JPEG file a row, as Minari writes them."""
    image = needed("images in a recording need Pillow", "sequences", "PIL.Image").Image
    return np.stack([np.asarray(image.open(io.BytesIO(np.asarray(code, np.uint8).tobytes()))) for code in codes])


def _tree(space: Mapping[str, Any]) -> Any:
    """A space as `named` takes observations, with a list in place of each array."""
    kind, inside = space.get("type"), space.get("subspaces")
    if kind == "Dict" and isinstance(inside, dict):
        return {key: _tree(each) for key, each in inside.items()}
    return tuple(map(_tree, inside)) if kind == "Tuple" and isinstance(inside, list) else [space]


def _encoded(leaf: Mapping[str, Any]) -> bool:
    """Whether Minari keeps arrays of this space as JPEG files."""
    shape = leaf.get("shape") or []
    if leaf.get("type") != "Box" or leaf.get("dtype") != "uint8" or len(shape) not in (2, 3) or min(shape[:2]) < 32:
        return False
    return bool(np.all(np.asarray(leaf["low"]) == 0) and np.all(np.asarray(leaf["high"]) == 255))


# -- writing -----------------------------------------------------------------------------------------------------------


def _write_episode(group: Any, episode: Episode, number: int) -> None:
    group.attrs.update({"id": number, "total_steps": len(episode)})
    if episode.seed is not None:
        group.attrs["seed"] = episode.seed
    for kind, arrays in (("observation", episode.observations), ("action", episode.actions)):
        for name, array in arrays.items():
            place = f"{kind}s" if list(arrays) == [kind] else f"{kind}s/{name}"
            group.create_dataset(place, data=array, compression="gzip" if array.dtype == np.uint8 else None)
    infos = group.create_group("infos")  # empty as well: Minari expects it
    for name, array in episode.infos.items():
        infos.create_dataset(name, data=array)
    group.create_dataset("rewards", data=np.asarray(episode.rewards, np.float64))
    for name, ended in zip(ENDS, (episode.terminated, episode.truncated), strict=True):
        group.create_dataset(name, data=np.append(np.zeros(len(episode) - 1, bool), ended))


def _space_of(arrays: Mapping[str, np.ndarray], categories: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A space that holds these arrays, as Minari writes it: a Dict of names with "/" for a Dict in it."""
    leaves = {() if list(arrays) == [kind] else tuple(name.split("/")): array for name, array in arrays.items()}
    return _space(trees.nested(leaves), categories, kind)


def _space(tree: Any, categories: Mapping[str, Any], name: str) -> dict[str, Any]:
    if trees.is_tree(tree):
        inside = {key: _space(tree[key], categories, join(name, key)) for key in sorted(tree)}
        keys = tuple_keys(inside)
        if keys:
            return {"type": "Tuple", "subspaces": [inside[key] for key in keys]}
        return {"type": "Dict", "subspaces": inside}
    if name in categories:
        starts, counts = zip(*((a, b - a) for a, b in choices(categories[name])), strict=True)
        if isinstance(categories[name], range):
            return {"type": "Discrete", "dtype": "int64", "start": starts[0], "n": counts[0]}
        return {"type": "MultiDiscrete", "dtype": "int64", "start": list(starts), "nvec": list(counts)}
    shape, dtype = tree.shape[1:], np.dtype(np.int8) if tree.dtype.kind == "b" else tree.dtype
    if dtype.kind == "f":
        low, high = -np.inf, np.inf
    else:
        low, high = (0, 1) if tree.dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    limits = {side: np.full(shape, value).tolist() for side, value in (("low", low), ("high", high))}
    return {"type": "Box", "dtype": str(dtype), "shape": list(shape), **limits}
