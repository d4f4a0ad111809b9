"""The IDX format of MNIST and its relatives: a big-endian header, then bytes."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def find_images(folders: Sequence[Path], part: str) -> tuple[Path, Path] | None:
    """The image and label files of a part ("train" or "t10k") in the first folder that has both, compressed or not."""
    for folder in folders:
        images, labels = (
            [folder / f"{part}-{name}-ubyte{end}" for name in names for end in ("", ".gz")]
            for names in (("images-idx3", "images.idx3"), ("labels-idx1", "labels.idx1"))
        )
        found = [next(filter(Path.is_file, places), None) for places in (images, labels)]
        if found[0] is not None and found[1] is not None:
            return found[0], found[1]
    return None


def read_images(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels from 0 to 1, [N, height * width] float32, and labels [N] uint8."""
    pixels, label = read_idx(images), read_idx(labels)
    if pixels.ndim < 2 or label.shape != pixels.shape[:1]:
        raise ValueError(f"{images} has shape {pixels.shape} and {labels} has {label.shape}; expected [N, ...] and [N]")
    scaled = pixels.reshape(len(pixels), -1).astype(np.float32)
    scaled /= np.float32(255.0)
    return scaled, label


def read_idx(path: Path) -> np.ndarray:
    """The unsigned bytes of an IDX file, plain or gzip-compressed, in their shape."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        data: bytes = file.read()
    # Two zero bytes, 8 for unsigned bytes, the number of axes, and their lengths in 4 bytes each.
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an IDX file of unsigned bytes: it begins with {data[:4]!r}")
    axes = data[3]
    start = 4 + 4 * axes
    shape = tuple(int(i) for i in np.frombuffer(data[:start], ">u4", offset=4))
    if len(shape) != axes or len(data) - start != int(np.prod(shape)):
        raise ValueError(f"{path}: its header says shape {shape}, but {len(data) - start} bytes follow; get it again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
