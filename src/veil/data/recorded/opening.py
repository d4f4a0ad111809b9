"""Recordings on disk, of whatever format."""

import os
from pathlib import Path

from veil.data.bundled import examples
from veil.data.recorded import folders, minari
from veil.data.recorded.recordings import Recording


def is_recording(path: Path) -> bool:
    """Whether a recording is there: a folder that `collect` made, one of Minari, or an .hdf5 file; or an example is."""
    return folders.is_here(path) or minari.find(path) is not None or str(path) in examples.RECORDINGS


def recording(path: str | os.PathLike[str]) -> Recording:
    """The recording in a folder that `collect` made, in one of Minari (or its data folder), or in an .hdf5 file.

    Or one of the examples that are recordings, by name: "tree", "slalom", "pusht" (`load` makes data of them).

    Episodes are read when they are used; `Recording.data` makes data of them.

    Raises:
        FileNotFoundError: there is none.
        ModuleNotFoundError: HDF5 without h5py; the message has the command that installs it.
        ValueError: it cannot be read, or has no episodes.
    """
    place = Path(path)
    if folders.is_here(place):
        return folders.read(place)
    file = minari.find(place)
    if file is None and str(path) in examples.RECORDINGS:
        return examples.recorded(str(path))
    if file is None:
        raise FileNotFoundError(
            f"path: {place} is no recording: neither a folder made by veil.collect, nor one of Minari, nor an "
            ".hdf5 file"
        )
    return minari.read(file)
