"""A run directory while it is written: it appears whole or not at all, and one that was stopped can be gone on with."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from veil.saved import folders
from veil.saved.runs import CONFIG, FORMAT, METRICS, UNFINISHED

CHECKPOINTS, LOCK = "checkpoints", "lock"
# what an unfinished run may hold, whole or half-written
PARTS = {CONFIG, METRICS, CHECKPOINTS, LOCK, "tensorboard", "selection.json", folders.STRUCTURE, "plots", "report.html"}
WHOLE = "|".join([*map(re.escape, sorted(PARTS)), folders.ARRAYS.pattern])
PART = re.compile(rf"({WHOLE})|\.({WHOLE})\.\w+")


def check_free(path: str | os.PathLike[str], force: bool) -> None:
    """Refuse a place for a run that is taken: by anything, or with ``force`` by anything but another run.

    Raises FileExistsError.
    """
    place = Path(path)
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if not _is_run(place):
        raise FileExistsError(
            f"{place} exists and is not a run directory: it is never overwritten; choose another place"
        )
    if not force:
        raise FileExistsError(f"{place} holds a run already; choose another place, or overwrite it with --force")


def _is_run(path: Path) -> bool:
    try:
        return bool(json.loads((path / CONFIG).read_bytes())["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


@contextmanager
def creating(path: str | os.PathLike[str], force: bool = False, resume: bool = False) -> Iterator[Path]:
    """A directory to write a run into, ``path`` with .unfinished at its end, which becomes ``path`` when all is done.

    If anything goes wrong it vanishes again, and so do folders above it that were made for it; unless there are
    checkpoints in it: then it stays, and ``resume=True`` opens it again. A process that was killed leaves it, too.

    Raises:
        FileExistsError: the place is taken (see ``check_free``); an unfinished run with checkpoints is there, and
            neither ``resume`` nor ``force`` (which deletes it) was asked for; or another process is writing it.
    """
    check_free(path, force)
    place, part = Path(path).resolve(), place_of(path)
    made = [folder for folder in place.parents if not folder.exists()]
    _check_unfinished(part)
    part.mkdir(parents=True, exist_ok=True)
    with _locked(part / LOCK):
        if _has_checkpoints(part) and not (resume or force):
            raise FileExistsError(
                f"{part} holds a fit that was stopped: go on with --resume, or begin anew with --force"
            )
        if not (_has_checkpoints(part) and resume):
            _empty(part)
        try:
            yield part
            check_free(place, force)
            (part / LOCK).unlink()
            _replace(part, place)
            shutil.rmtree(place / CHECKPOINTS, ignore_errors=True)
        except BaseException:
            if not _has_checkpoints(part):
                shutil.rmtree(part, ignore_errors=True)
                for folder in made:
                    if not any(folder.iterdir()):
                        folder.rmdir()
            raise


def place_of(path: str | os.PathLike[str]) -> Path:
    """Where a run is written before it is whole."""
    place = Path(path).resolve()
    return place.with_name(place.name + UNFINISHED)


def is_finished(path: str | os.PathLike[str]) -> bool:
    """Whether there is a run at this place."""
    return Path(path).is_dir() and _is_run(Path(path))


def _has_checkpoints(folder: Path) -> bool:
    kept = folder / CHECKPOINTS
    return kept.is_dir() and any(name.name.isdigit() for name in kept.iterdir())


def _check_unfinished(part: Path) -> None:
    """Refuse a directory that is not what an unfinished run left."""
    if not part.exists():
        return
    strange = [] if not part.is_dir() else [each.name for each in part.iterdir() if not PART.fullmatch(each.name)]
    if not part.is_dir() or strange:
        what = f"holds {', '.join(sorted(strange)[:3])}" if strange else "is no directory"
        raise FileExistsError(f"{part} {what}, which no run left there; it is never overwritten: choose another place")


def _empty(part: Path) -> None:
    for each in part.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        elif each.name != LOCK:
            each.unlink()


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """While inside, no other process may write this run (where the system has file locks)."""
    with lock.open("w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass
        except BlockingIOError as error:
            raise FileExistsError(f"{lock.parent} is being written by another process") from error
        yield


def _replace(temporary: Path, place: Path) -> None:
    """Put a directory where another may be, which is put back if that fails."""
    if not place.exists():
        temporary.rename(place)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".old", dir=place.parent))
    place.rename(aside / place.name)
    try:
        temporary.rename(place)
    except BaseException:
        (aside / place.name).rename(place)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
