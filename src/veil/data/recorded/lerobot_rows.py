"""The rows of an episode in a data set of LeRobot: numbers from Parquet, images there or in videos beside it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from veil.data.core.packages import needed
from veil.data.recorded import video
from veil.data.recorded.pairs import Later, paired
from veil.data.recorded.recordings import Episode

SEEN, ACTED = ("observation", "observations", "state"), ("action", "actions")
KEEPING = ("timestamp", "frame_index", "episode_index", "index")  # which tell rows apart, and say nothing of the robot
REWARD, DONE = "next.reward", "next.done"


@dataclass(frozen=True)
class Place:
    """Where an episode is: its number, its steps, the Parquet file, and of each video the file and the first second."""

    number: int
    length: int
    file: Path
    videos: Mapping[str, tuple[Path, float]]


class Rows:
    """The features of a data set, and the episodes of its rows. The file read last is kept, as it has many of them."""

    def __init__(self, folder: Path, fps: float, features: Mapping[str, Mapping[str, Any]]) -> None:
        if not 0 < fps < float("inf"):
            raise ValueError(f"{folder}/meta/info.json: fps must be above 0; got {fps}")
        self._fps, self._last = fps, (Path(), None)
        camera = {name: each["dtype"] in ("video", "image") for name, each in features.items()}
        numbers = lambda name: str(features[name]["dtype"]).startswith(("float", "int", "uint", "bool"))  # noqa: E731
        self.left_out = tuple(
            name for name, each in features.items() if (_is_depth(each) if camera[name] else not numbers(name))
        )
        kept = {name: each for name, each in features.items() if name not in (*self.left_out, *KEEPING)}
        first = lambda name: name.partition(".")[0]  # noqa: E731
        self._seen = {name: _size(each) for name, each in kept.items() if camera[name] or first(name) in SEEN}
        self._acted = {name: _size(each) for name, each in kept.items() if first(name) in ACTED}
        self._infos = {name: _size(each) for name, each in kept.items() if not {name} & {*self._seen, *self._acted}}
        self.videos = tuple(name for name in self._seen if features[name]["dtype"] == "video")
        self._images = tuple(name for name in self._seen if features[name]["dtype"] == "image")
        parts = [_called(name) for name in (*self._seen, *self._acted)]
        if twice := [name for name in parts if parts.count(name) > 1]:
            raise ValueError(f"{folder}/meta/info.json: two features would be called {twice[0]!r}; rename one of them")
        if not self._seen or not self._acted:
            raise ValueError(
                f"{folder}/meta/info.json: expected features named observation... and action; there are "
                f"{', '.join(features)}"
            )

    def episode(self, place: Place) -> Episode:
        """The episode at a place.

        Raises:
            FileNotFoundError: its Parquet file is not there; when frames are used: its video.
            ValueError: rows that do not fit the description.
        """
        rows = self._rows(place)
        number = partial(_numbers, rows, f"{place.file}, episode {place.number}")
        seen: dict[str, Any] = {}
        for name, size in self._seen.items():
            part = _called(name)
            if name in self.videos:
                file, start = place.videos[name]
                times = start + number("timestamp", ()).astype(float)
                seen[part] = Later(
                    (place.length, *size), np.uint8, partial(video.frames, file, times, self._fps), str(file)
                )
            elif name in self._images:
                read = partial(_images, rows, name, size, f"{place.file}, {name}")
                seen[part] = Later((place.length, *size), np.uint8, read, f"{place.file}, {name}")
            else:
                seen[part] = number(name, size)
        rewards, done = (number(name, ()) if name in self._infos else None for name in (REWARD, DONE))
        acted = {_called(name): number(name, size) for name, size in self._acted.items()}
        infos = {name: number(name, size) for name, size in self._infos.items() if name not in (REWARD, DONE)}
        try:
            return paired(seen, acted, rewards, done, infos)
        except ValueError as error:
            raise ValueError(f"{place.file}, episode {place.number}: {error}") from None

    def _rows(self, place: Place) -> Any:
        if self._last[0] != place.file:
            self._last = (place.file, table(place.file))
        found: Any = self._last[1]
        where = f"{place.file}, episode {place.number}"
        at = np.flatnonzero(_numbers(found, where, "episode_index", ()) == place.number)
        if len(at) != place.length or (len(at) and at[-1] - at[0] != len(at) - 1):
            raise ValueError(
                f"{where}: expected {place.length} rows, one after the other; it has {len(at)}. Copy it again"
            )
        rows = found.slice(at[0], len(at)) if len(at) else found.slice(0, 0)
        if np.any(_numbers(rows, where, "frame_index", ()) != np.arange(len(at))):
            raise ValueError(f"{where}: expected frame_index from 0 on, in order; write the data set again")
        return rows


def table(file: Path) -> Any:
    """A Parquet file.

    Raises FileNotFoundError, ModuleNotFoundError without pyarrow, ValueError if it cannot be read.
    """
    needed(f"{file}: Parquet needs pyarrow", "tables", "pyarrow.parquet")
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}; copy the whole data set, with meta and data")
    try:
        return parquet.read_table(file, partitioning=None)
    except (arrow.ArrowException, OSError) as error:
        with file.open("rb") as opened:
            pointer = b"git-lfs" in opened.read(60)
        advice = "it is a pointer of Git LFS: fetch the files with git lfs pull" if pointer else "copy it again"
        raise ValueError(f"{file} is not a whole Parquet file: {error}; {advice}") from error


def columns(file: Path, wanted: list[str]) -> list[dict[str, Any]]:
    """Some columns of a Parquet file, a dictionary a row."""
    found = table(file)
    if missing := [name for name in wanted if name not in found.column_names]:
        raise ValueError(f"{file}: there is no column {missing[0]!r}, which the layout has; convert it with lerobot")
    rows: list[dict[str, Any]] = found.select(wanted).to_pylist()
    return rows


def _called(name: str) -> str:
    """What a feature is called as a part: `observation.images.top` is images/top; others keep their first word."""
    first, _, rest = name.partition(".")
    return "action" if name == "actions" else (rest if first == "observation" and rest else name).replace(".", "/")


def _size(feature: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape of an entry; of images height, width, channels, in whatever order they are described."""
    shape = tuple(int(each) for each in feature["shape"])
    if feature["dtype"] not in ("video", "image"):
        return shape
    names = feature.get("names")
    first = str(names[0]).startswith("channel") if isinstance(names, list) and names else shape[-1] not in (1, 3, 4)
    return (*shape[1:], shape[0]) if first else shape


def _is_depth(feature: Mapping[str, Any]) -> bool:
    found = {**(feature.get("video_info") or {}), **(feature.get("info") or {})}
    return bool(found.get("is_depth_map") or found.get("video.is_depth_map"))


def _numbers(rows: Any, where: str, name: str, size: tuple[int, ...]) -> np.ndarray:
    """A column [T, *size] of numbers, or of lists of them."""
    if name not in rows.column_names:
        raise ValueError(f"{where}: there is no column {name!r}; it has {', '.join(rows.column_names)}")
    found = rows[name].combine_chunks()
    import pyarrow.types as types

    while not (types.is_primitive(found.type) or types.is_boolean(found.type)):
        if isinstance(found.type, _extensions()):
            found = found.storage
        elif types.is_list(found.type) or types.is_large_list(found.type) or types.is_fixed_size_list(found.type):
            lengths = found.value_lengths().unique() if len(found) else ()
            if len(lengths) > 1 or found.null_count:
                raise ValueError(f"{where}: {name!r} has {found.type} of different lengths, or none in a row")
            found = found.flatten()
        else:
            raise ValueError(f"{where}: {name!r} holds {found.type}, not numbers")
    if found.null_count:
        raise ValueError(
            f"{where}: {name!r} has {found.null_count} empty entries; fill them in, or leave the episode out"
        )
    values = found.to_numpy(zero_copy_only=False)
    if values.size != len(rows) * int(np.prod(size)):
        raise ValueError(
            f"{where}: {name!r} has {values.size} numbers in {len(rows)} rows; meta/info.json says {list(size)} a row"
        )
    return values.reshape(len(rows), *size)


def _extensions() -> Any:
    import pyarrow as arrow

    return arrow.BaseExtensionType


def _images(rows: Any, name: str, size: tuple[int, ...], where: str) -> np.ndarray:
    """Images [T, H, W, C] of a column with a PNG or JPEG file in each row."""
    image = needed(f"{where}: images need Pillow", "sequences", "PIL.Image").Image
    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(size[-1], "RGB")
    made = []
    for number, each in enumerate(rows[name].to_pylist()):
        code: Any = each.get("bytes") if isinstance(each, dict) else each
        try:
            with image.open(io.BytesIO(code)) as opened:
                made.append(np.asarray(opened.convert(mode), np.uint8).reshape(*opened.size[::-1], -1))
        except (OSError, TypeError) as error:
            raise ValueError(f"{where}, row {number}: expected a PNG or JPEG file in it: {error}") from error
    if len({each.shape for each in made}) > 1:
        raise ValueError(f"{where}: the images of an episode differ in size")
    return np.stack(made)
