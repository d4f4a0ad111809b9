"""Replay buffers of Diffusion Policy: a zarr group with data/action, data/NAME of all steps, and meta/episode_ends.

Its documentation is the code of `ReplayBuffer` (Chi et al. 2023, diffusion_policy/common/replay_buffer.py). A folder,
or a .zip of one; zarr's formats 2 and 3.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from veil.data.core.packages import needed
from veil.data.recorded.pairs import Later, paired
from veil.data.recorded.recordings import Episode, OnDisk, Recording
from veil.data.recorded.trajectories import WORDS

ENDS, DATA = "meta/episode_ends", "data"
# Codecs that give numbers back and do nothing else; "pickle" is one, too, which runs what a file says.
PLAIN = {"blosc", "zstd", "lz4", "zlib", "gzip", "bz2", "lzma", "shuffle", "delta", "fixedscaleoffset", "quantize"}
PLAIN |= {"astype", "bitround", "packbits", "crc32", "crc32c", "adler32", "fletcher32", "bytes", "transpose"}
FAULTS = (ValueError, KeyError, TypeError, RuntimeError, OSError, zipfile.BadZipFile, zlib.error)


def is_here(path: Path) -> bool:
    """Whether a folder or a .zip is one of these."""
    if path.is_dir():
        return (path / ENDS).is_dir() and (path / DATA).is_dir()
    return path.suffix.lower() == ".zip" and path.is_file() and _inside(path) is not None


def read(path: Path) -> Recording:
    """The episodes of a replay buffer.

    `data/action` is the action, `data/reward` the reward if there is one; all other arrays are observations by their
    names. There is one for each action, so that the last action of each episode is left out (`pairs`). Images of whole
    numbers from 0 to 255 that are kept as floats are bytes again. Nothing is unpickled.

    Raises:
        ModuleNotFoundError: zarr is not installed.
        ValueError: no action, ends that do not fit the arrays, or an array that plain codecs do not make.
    """
    with _opened(path) as group:
        ends = np.asarray(_array(group, ENDS)[:])
        names = sorted(name for name, _ in group[DATA].arrays())
        action = next((name for name in names if name in WORDS["actions"]), None)
        if action is None or len(names) < 2:
            raise ValueError(
                f"expected data/action and observations beside it; data has {', '.join(names) or 'no array'}. Other "
                "trajectories become a recording with veil.data.trajectories"
            )
        arrays = {name: _array(group, f"{DATA}/{name}") for name in names}
        for name, array in arrays.items():
            if array.size and array.nchunks_initialized == 0:
                raise ValueError(f"data/{name}: none of its {array.nchunks} chunks is there; copy all of it")
            if "blosc" in _codecs(array):
                _check_chunks(path / DATA / name)
        if ends.ndim != 1 or ends.dtype.kind not in "iu" or not ends.size or np.any(np.diff(ends, prepend=0) <= 0):
            raise ValueError(f"{ENDS}: expected whole numbers that rise; got {_some(ends)}. Write the buffer again")
        for name, array in arrays.items():
            if array.ndim == 0 or array.shape[0] < ends[-1]:
                raise ValueError(
                    f"data/{name} has the shape {list(array.shape)}, and {ENDS} goes to {ends[-1]}; copy all of it"
                )
        dtypes = {name: _dtype(array) for name, array in arrays.items() if array.dtype.kind in "biuf"}
    places = list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))
    shapes = {name: arrays[name].shape[1:] for name in dtypes}
    found = OnDisk(places, partial(_episode, path, action, shapes, dtypes))
    return Recording(found, name=path.name.removesuffix(".zip").removesuffix(".zarr"), about={"arrays": names})


def _episode(
    path: Path, action: str, shapes: dict[str, Any], dtypes: dict[str, Any], place: tuple[int, int]
) -> Episode:
    start, stop = place
    later = {
        name: Later((stop - start, *shapes[name]), dtype, partial(_steps, path, name, dtype, *place), f"{path}, {name}")
        for name, dtype in dtypes.items()
    }
    acted = {"action": np.asarray(later.pop(action))}
    rewards, done = (next((name for name in later if name in WORDS[what]), None) for what in ("rewards", "terminated"))
    given, ended = (None if name is None else np.asarray(later.pop(name)) for name in (rewards, done))
    try:
        flat = [None if each is None else each.reshape(len(each)) for each in (given, ended)]
        return paired(later, acted, flat[0], flat[1], {})
    except ValueError as error:
        raise ValueError(f"{path}, steps {start} to {stop}: {error}") from None


def _steps(path: Path, name: str, dtype: Any, start: int, stop: int) -> np.ndarray:
    """The steps of an array; those of images as bytes, if nothing is lost."""
    with _opened(path) as group:
        found = np.asarray(_array(group, f"{DATA}/{name}")[start:stop])
        if found.dtype != dtype and not _bytes(found):
            raise ValueError(
                f"data/{name}: expected images of whole numbers from 0 to 255, as the one in the middle is"
            )
    return found.astype(dtype)


def _bytes(values: np.ndarray) -> bool:
    return bool(np.all((values >= 0) & (values <= 255) & (values == np.round(values))))


def _dtype(array: Any) -> Any:
    """That of an array; bytes where images are kept as floats, judged by the one in the middle."""
    if array.dtype.kind == "f" and array.ndim == 4 and array.shape[-1] in (1, 3, 4):
        one = np.asarray(array[array.shape[0] // 2])
        if _bytes(one) and one.max() > 1:
            return np.dtype(np.uint8)
    return array.dtype


def _array(group: Any, name: str) -> Any:
    """An array of a group, if plain codecs make it."""
    array = group[name]
    if unknown := _codecs(array) - PLAIN:
        raise ValueError(
            f"{name}: {sorted(unknown)[0]!r} is a codec that is not read; write it anew with one of "
            f"{', '.join(sorted(PLAIN))}"
        )
    return array


def _codecs(array: Any) -> set[str]:
    about = array.metadata.to_dict()
    each = [about.get("compressor"), *(about.get("filters") or ()), *(about.get("codecs") or ())]
    return {str(codec.get("id", codec.get("name"))) for codec in each if codec}


def _check_chunks(place: Path) -> None:
    """Refuse a chunk of blosc that was cut off: its decoder would go on behind the end, and make numbers of that.

    The length that a chunk should have stands in bytes 12 to 15 of it. Other codecs, and a .zip, see it themselves.
    """
    for file in place.rglob("*"):
        if file.is_file() and file.name not in (".zarray", ".zattrs", "zarr.json"):
            with file.open("rb") as opened:
                head = opened.read(16)
            if len(head) < 16 or file.stat().st_size < int.from_bytes(head[12:], "little"):
                raise ValueError(f"{file} is cut off after {file.stat().st_size} bytes; copy it again")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The group of a folder or a .zip; what fails inside, by file."""
    zarr = needed(f"{path}: replay buffers need zarr", "zarr", "zarr", "zarr.storage")
    try:
        store = (
            zarr.storage.LocalStore(path, read_only=True) if path.is_dir() else zarr.storage.ZipStore(path, mode="r")
        )
        with closing(store):
            yield zarr.open_group(store, mode="r", path="" if path.is_dir() else _inside(path))
    except FAULTS as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from error


def _inside(path: Path) -> str | None:
    """Where in a .zip the group is; None if there is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return None
    ends = (f"{ENDS}/.zarray", f"{ENDS}/zarr.json")
    return next((name[: -len(end)].rstrip("/") for name in names for end in ends if name.endswith(end)), None)


def _some(values: np.ndarray) -> str:
    return f"{values.ravel()[:6].tolist()}{' ...' if values.size > 6 else ''} of shape {list(values.shape)}"
