"""One file, a folder, a pattern or a list, as the files that are meant."""

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

TEXTS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
TABLES = (*TEXTS, ".parquet", ".feather", ".npy", ".npz")
IMAGES = (".png", ".jpg", ".jpeg")
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class Found(NamedTuple):
    """Files of one kind in a fixed order, what to call them, and the folder that they are in."""

    files: list[Path]
    name: str
    root: Path

    @property
    def images(self) -> bool:
        """Whether the files are images, one a datum."""
        return ending(self.files[0]) in IMAGES


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
    root = None
    if not isinstance(path, str | os.PathLike):
        files, what = [Path(each) for each in path], "the list"
        if not files:
            raise ValueError("path: the list of files is empty; name at least one")
    elif Path(path).is_dir():
        files, what, root = _inside(Path(path)), f"the folder {path}", Path(path)
    elif is_pattern(Path(path)):
        files, what = _known(glob.glob(str(path), recursive=True)), str(path)
        if not files:
            raise FileNotFoundError(f"path: no {', '.join(TABLES + IMAGES)} file matches {path}")
    else:
        files, what = [Path(path)], str(path)
    for file in files:
        if ending(file) not in IMAGES:
            check_table(file)
        elif not file.is_file():
            raise FileNotFoundError(f"path: there is no file {file}")
    kinds = {"image" if ending(file) in IMAGES else ending(file).removesuffix(".gz") for file in files}
    if len(kinds) > 1:
        raise ValueError(
            f"path: {what} has files of several kinds ({', '.join(sorted(kinds))}); choose one by a pattern: *.npy"
        )
    name = called(files[0]) if len(files) == 1 and root is None else (root or files[0].parent).resolve().name
    return Found(files, name or "data", root or Path(os.path.commonpath([file.parent for file in files])))


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


def _inside(folder: Path) -> list[Path]:
    """The tables in a folder, and images beside them; if there is none the images in it and below."""
    here = _known(folder.iterdir())
    if any(ending(file) in TABLES for file in here):
        return here
    hidden = lambda file: any(part.startswith(".") for part in file.relative_to(folder).parts)  # noqa: E731
    images = [file for file in _known(folder.rglob("*")) if ending(file) in IMAGES and not hidden(file)]
    if not images:
        raise ValueError(
            f"path: the folder {folder} has no {', '.join(TABLES)} file in it and no image ({', '.join(IMAGES)}) in it "
            "or its sub-folders"
        )
    return images


def _known(paths: Iterable[str | Path]) -> list[Path]:
    """Those that are tables or images, sorted."""
    files = sorted(file for file in map(Path, paths) if not file.name.startswith("."))
    return [file for file in files if ending(file) in TABLES + IMAGES and file.is_file()]
