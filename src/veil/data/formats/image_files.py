"""Folders of images as data: each file is one datum, its sub-folder its class."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from veil.data.core.chunks import ranges
from veil.data.core.packages import needed
from veil.data.formats.roles import UNREADABLE, Fields, Table, of_the_system, reason_of

DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # Pillow's modes of 16-bit grey


class ImageTable(Table):
    """Images [H, W, C] with values in [0, 1] as float32, turned as their EXIF data say, transparency dropped.

    C is 1 if the first image is grey and 3 otherwise; grey images among colours have three equal channels, but colours
    among grey images are bad records.

    Args:
        files: PNG or JPEG files.
        root: the folder that they are in.
        size: height and width to resize to, without regard to the ratio of the sides; None for those of the first
            image, from which no other may differ.
        classes: whether the evidence is the class: one number for each sub-folder of `root`, 1 for that of the image
            and 0 for the others.
    """

    def __init__(self, files: Sequence[Path], root: Path, size: tuple[int, int] | None, classes: bool) -> None:
        self._pillow = needed(f"{files[0]}: images need Pillow", "scale", "PIL.Image", "PIL.ImageOps")
        self.path, self._files, self.count = root, files, len(files)
        self._size, self._resize = size, size is not None
        self._channels: int | None = None
        self.classes, self._codes = _classes(files, root) if classes else ((), np.zeros(0, int))
        first = next((self._image(files[i]) for i in range(len(files)) if self.salvage(i, i + 1, None)[1]), None)
        if first is None:
            raise ValueError(f"path: none of the {len(files)} images in {root} can be read")
        self._size, self._channels, self._width = first.shape[:2], first.shape[2], first.size

    def stamp(self) -> tuple[int, ...]:
        """Of a folder none: other files may come."""
        return ()

    def width(self, wanted: None) -> int:
        return self._width

    def ranges(self, rows: int) -> list[tuple[int, int]]:
        return ranges(self.rows(), rows)

    def parts(self, start: int, stop: int, wanted: None) -> Iterator[Fields]:
        found, _, bad = self.salvage(start, stop, wanted)
        if bad:
            raise ValueError(f"{bad[0]}. Take it out, or skip such files with bad='skip'")
        yield found

    def salvage(self, start: int, stop: int, wanted: None) -> tuple[Fields, list[str], list[str]]:
        """As `Table` has it; rows are called by their files."""
        images, kept, bad = [], list[int](), list[str]()
        for i, file in enumerate(self._files[start:stop], start):
            try:
                images.append(self._image(file))
                kept.append(i)
            except UNREADABLE as error:
                if of_the_system(error):
                    raise
                bad.append(f"{file}: {reason_of(error, file)}")
        fields: Fields = {"query": np.stack(images)} if images else {}
        if images and self.classes:
            fields["evidence"] = np.eye(len(self.classes), dtype=np.float32)[self._codes[kept]]
        return fields, [str(self._files[i]) for i in kept], bad

    def _image(self, file: Path) -> np.ndarray:
        """One image [H, W, C]; ValueError if it does not fit."""
        with self._pillow.Image.open(file) as image:
            deep = image.mode in DEEP
            grey = deep or image.mode in ("1", "L", "LA")
            if self._channels == 1 and not grey:
                raise ValueError("has colours, and the first image is grey")
            image = self._pillow.ImageOps.exif_transpose(image)
            fits = self._size is None or (image.height, image.width) == self._size
            if self._size is not None and not fits and not self._resize:
                raise ValueError(
                    f"has {image.height} x {image.width} pixels, and the first image {self._size[0]} x "
                    f"{self._size[1]}; give image_size to resize all images"
                )
            channels = self._channels or (1 if grey else 3)
            image = image.convert("F") if deep else image.convert("L" if grey else "RGB")
            if self._size is not None and not fits:
                image = image.resize((self._size[1], self._size[0]), self._pillow.Image.Resampling.BILINEAR)
            array = np.asarray(image, np.float32) / np.float32(65535 if deep else 255)
        array = array.reshape(*array.shape[:2], -1)
        return np.repeat(array, channels, axis=2) if array.shape[2] < channels else array


def _classes(files: Sequence[Path], root: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """The sub-folders, and the number of that of each file."""
    outside = next((file for file in files if file.parent == root), None)
    if outside is not None:
        raise ValueError(f"evidence='folder': {outside} is in no sub-folder of {root}, so that it has no class")
    names, codes = np.unique([file.relative_to(root).parts[0] for file in files], return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"evidence='folder': {root} has one sub-folder with images ({names[0]}); there must be two")
    return tuple(names.tolist()), codes
