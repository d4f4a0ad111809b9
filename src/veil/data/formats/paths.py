"""One file, a folder, a pattern or a list, as the files that are meant."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

TEXTS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
TABLES = (*TEXTS, ".parquet", ".feather", ".npy", ".npz")
IMAGES = (".png", ".jpg", ".jpeg")
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class Found(NamedTuple):
    """Files of one kind in a fixed order, what to call them, and for images the folder that they are in."""

    files: list[Path]
    name: str
    root: Path | None

    @property
    def images(self) -> bool:
        """Whether the files are images, one a datum."""
        return self.files[0].suffix.lower() in IMAGES


def ending(path: Path) -> str:
    """What says of which kind a file is, ".csv.gz" as one."""
    packed = path.suffix.lower() == ".gz"
    return "".join(path.suffixes[-2:] if packed else path.suffixes[-1:]).lower()


def called(path: Path) -> str:
    """The name of a file without its ending."""
    return path.name[: len(path.name) - len(ending(path))]


def find(path: Paths) -> Found:
    """The files that `path` means, sorted by name unless they are given as a list.

    A folder means the tables directly in it, all of one kind, or else the images in it and in its sub-folders; a
    pattern (with `*`, `?` or `[`, and `**` for any sub-folders) whatever it matches. Names that begin with a dot are
    left out.
    """
    if not isinstance(path, str | os.PathLike):
        files = [Path(each) for each in path]
        if not files:
            raise ValueError("path: the list of files is empty; name at least one")
        for file in files:
            _check(file)
        return _one_kind(files, "path: the list", called(files[0]) if len(files) == 1 else files[0].parent.name)
    given = Path(path)
    if given.is_dir():
        return _folder(given)
    if is_pattern(given):
        files = [Path(each) for each in sorted(glob.glob(str(path), recursive=True))]
        files = [file for file in files if file.is_file() and ending(file) in TABLES + IMAGES]
        if not files:
            raise FileNotFoundError(f"path: no {', '.join(TABLES + IMAGES)} file matches {path}")
        return _one_kind(files, f"path: {path}", files[0].parent.name)
    _check(given)
    return Found([given], called(given), given.parent)


def is_pattern(path: Path) -> bool:
    """Whether it is a pattern of file names and not the name of a file."""
    return any(mark in str(path) for mark in "*?[") and not path.exists()


def check_table(path: Path) -> None:
    """Refuse what is not one table file."""
    if path.is_dir() or is_pattern(path):
        raise ValueError(
            f"path: {path} may be many files, which are read in blocks: use veil.data.stream (or --stream)"
        )
    if ending(path) not in TABLES:
        raise ValueError(f"path must end in {', '.join(TABLES)}; got {path.name!r}. Convert the file to one of them")
    if not path.is_file():
        raise FileNotFoundError(f"path: there is no file {path}")


def _check(file: Path) -> None:
    if file.suffix.lower() not in IMAGES:
        check_table(file)
    elif not file.is_file():
        raise FileNotFoundError(f"path: there is no file {file}")


def _folder(folder: Path) -> Found:
    inside = sorted(file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file())
    tables = [file for file in inside if ending(file) in TABLES]
    if tables:
        images = [file for file in inside if file.suffix.lower() in IMAGES]
        return _one_kind(tables + images, f"path: the folder {folder}", folder.resolve().name)
    images = [
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in IMAGES
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
    ]
    if not images:
        raise ValueError(
            f"path: the folder {folder} has no {', '.join(TABLES)} file in it and no image ({', '.join(IMAGES)}) in it "
            "or its sub-folders"
        )
    return Found(images, folder.resolve().name, folder)


def _one_kind(files: list[Path], what: str, name: str) -> Found:
    kinds = {"image" if file.suffix.lower() in IMAGES else ending(file).removesuffix(".gz") for file in files}
    if len(kinds) > 1:
        raise ValueError(
            f"{what} has files of several kinds ({', '.join(sorted(kinds))}); choose one by a pattern: *.npy"
        )
    root = Path(os.path.commonpath([file.parent for file in files])) if "image" in kinds else None
    return Found(files, name or "data", root)
