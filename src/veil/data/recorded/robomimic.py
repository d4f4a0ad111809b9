"""Demonstrations in robomimic's layout: an HDF5 file with data/demo_0, demo_1, ... and lists of their names in mask/.

robomimic is not needed. As its documentation has it ("Dataset Structure", v0.3): of each demonstration `actions` [T, A]
and `obs/NAME` [T, ...], and perhaps `next_obs/NAME`, `rewards`, `dones`, `states`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from veil.data.recorded.minari import open_file
from veil.data.recorded.pairs import Later, paired
from veil.data.recorded.recordings import Episode, OnDisk, Recording, json_object
from veil.data.recorded.views import ACTED, OBSERVED, named


def is_here(file: Path) -> bool:
    """Whether an HDF5 file has this layout.

    Raises:
        ModuleNotFoundError: h5py is not installed.
        ValueError: no HDF5 file.
    """
    with open_file(file) as opened:
        return bool(_demonstrations(opened))


def read(file: Path) -> Recording:
    """The demonstrations of a file, in the order of their numbers.

    Observations are those of `obs`, the action is "action"; `states` and what else there is stand in `infos`. The last
    observation is that of `next_obs`; without it the last action is left out (`pairs`). `about` has `env_args`, and as
    "splits" the numbers of the demonstrations that each filter key (of `mask`) names.

    Raises:
        ModuleNotFoundError: h5py is not installed.
        ValueError: a filter key that names what is not there, or `env_args` that are not JSON.
    """
    with open_file(file) as opened:
        names = _demonstrations(opened)
        about: dict[str, Any] = {}
        if "env_args" in opened["data"].attrs:
            about["env_args"] = json_object(opened["data"].attrs["env_args"], f"{file}: env_args")
        if isinstance(opened.get("mask"), Mapping):
            about["splits"] = {key: _numbers(file, key, found, names) for key, found in opened["mask"].items()}
    return Recording(OnDisk(names, partial(_episode, file)), name=file.stem, about=about)


def _demonstrations(opened: Any) -> list[str]:
    data = opened.get("data")
    found = [name for name in data if re.fullmatch(r"demo_\d+", name)] if isinstance(data, Mapping) else []
    return sorted(found, key=lambda name: int(name[5:]))


def _numbers(file: Path, key: str, found: Any, names: list[str]) -> list[int]:
    """Where the demonstrations of a filter key stand among all."""
    wanted = [name.decode() if isinstance(name, bytes) else str(name) for name in np.ravel(found[()])]
    if unknown := [name for name in wanted if name not in names]:
        raise ValueError(f"{file}: mask/{key} names {unknown[0]!r}, which is not in data; copy the whole file again")
    return sorted(names.index(name) for name in wanted)


def _episode(file: Path, name: str) -> Episode:
    with _reading(file, name), open_file(file) as opened:
        group = opened["data"][name]
        if missing := [part for part in ("actions", "obs") if part not in group]:
            raise ValueError(
                f"{missing[0]} is missing; there are {', '.join(group)}. A file of states alone gets its observations "
                "by robomimic's dataset_states_to_obs.py"
            )
        actions = np.asarray(group["actions"][()])
        if int(group.attrs.get("num_samples", len(actions))) != len(actions):
            raise ValueError(
                f"num_samples is {group.attrs['num_samples']}, and there are {len(actions)} actions; copy or write "
                "the file again"
            )
        rewards, dones = (np.asarray(group[part][()]) if part in group else None for part in ("rewards", "dones"))
        rest = {part: group[part] for part in group if part not in ("actions", "obs", "next_obs", "rewards", "dones")}
        infos = {part: _later(file, leaf) for part, leaf in _leaves(rest, "").items()}
        return paired(_seen(file, group), {ACTED: actions}, rewards, dones, infos)


def _seen(file: Path, group: Any) -> dict[str, Later]:
    """The observations [T, ...], with the last of `next_obs` behind them, if there are any, [T+1, ...]."""
    seen, after = _leaves(group["obs"], OBSERVED), _leaves(group.get("next_obs", {}), OBSERVED)
    if not seen:
        raise ValueError("obs: there are none that are numbers")
    for part, leaf in seen.items() if after else ():
        if part not in after or after[part].shape != leaf.shape:
            came = list(after[part].shape) if part in after else "nothing"
            raise ValueError(f"next_obs/{part}: expected the shape {list(leaf.shape)} of obs/{part}; got {came}")
    return {part: _later(file, leaf, after.get(part)) for part, leaf in seen.items()}


def _leaves(group: Any, kind: str) -> dict[str, Any]:
    return {part: leaf for part, leaf in named(group, kind) if leaf.dtype.kind in "biuf" and leaf.ndim}


def _later(file: Path, leaf: Any, after: Any = None) -> Later:
    """A data set of a file, to be read when it is used; with the last row of another behind it."""
    name = leaf.name  # none of a file that is closed
    places = [(name, slice(None))] + ([] if after is None else [(after.name, slice(-1, None))])

    def read() -> np.ndarray:
        with _reading(file, name), open_file(file) as opened:
            return np.concatenate([opened[place][rows] for place, rows in places])

    shape = (len(leaf) + (after is not None), *leaf.shape[1:])
    return Later(shape, leaf.dtype, read, f"{file}, {name}")


@contextmanager
def _reading(file: Path, name: str) -> Iterator[None]:
    """What cannot be read, by file and place."""
    try:
        yield
    except (ValueError, OSError) as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(file)) else f"{file}, {name}: {text}") from error
