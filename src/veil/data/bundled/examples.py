"""Example data: small ones that come with the library, generated ones, and how to get the others."""

import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from veil.data.bundled import drives, overcooked, pusht
from veil.data.bundled.chorales import places, read_chorales
from veil.data.core.arrays import Data
from veil.data.core.columns import Columns, suggestion
from veil.data.formats.idx import find_images, read_images
from veil.data.recorded.recordings import Recording

_BUNDLED = Path(__file__).parent
RECORDINGS = ("tree", "slalom", "pusht", *overcooked.NAMES)  # examples that are recordings of episodes


@dataclass(frozen=True)
class Example:
    """What there is to know about an example without loading it.

    Fields:
        name: what `load` calls it.
        what: one line.
        rows: the number of data.
        columns: the names of all columns, which `load` can give other roles; images name only label and pixels.
        query, evidence: the columns in these roles by default.
        source, licence: where the data come from and under which terms.
        command: what brings it when it is not present; empty if nothing is needed.
        present: whether `load` finds it now.
    """

    name: str
    what: str
    rows: int
    columns: tuple[str, ...]
    query: tuple[str, ...]
    evidence: tuple[str, ...]
    source: str
    licence: str
    command: str = ""
    present: bool = True


def load(
    name: str, query: Columns = None, evidence: Columns = None, *, folder: str | os.PathLike[str] | None = None
) -> Data:
    """One of the examples, in its default roles or in those asked for (by column name or position).

    The columns of images are label and then the pixels, row by row. A recording is data for a policy, by default; its
    columns are the parts that `Recording.data` takes, and `recording(name)` is the recording itself.

    Args:
        name: one of `available()`.
        query, evidence: columns, as in `read`; if either is given, neither has its default.
        folder: where to look for MNIST, Fashion-MNIST, the chorales and PushT: in its subfolder of that name, and in
            itself.
            The folder that the environment variable VEIL_DATA names is searched in its subfolders only.

    Raises:
        ValueError: an unknown name (the message has the closest one) or column.
        FileNotFoundError: data that are not here; the message has the command that brings them.
        ModuleNotFoundError: the package that has them is not installed; the message has the command that installs it.

    >>> load("faithful")
    Data('faithful': N=272, query (eruptions, waiting))
    >>> load("nile", evidence="year")
    Data('nile': N=100, query (flow), evidence (year))
    """
    if name not in _EXAMPLES:
        raise ValueError(f"name: there is no example {name!r}; {suggestion(str(name), list(_EXAMPLES))}")
    entry = _EXAMPLES[name]
    place = None if folder is None else Path(folder)
    if name in RECORDINGS:
        found = recorded(name, place)
        return (
            found.data(entry.query, entry.evidence)
            if query is None and evidence is None
            else found.data(query, evidence)
        )
    loader = _loader(name, place)
    if loader is None:
        raise _missing(entry, place)
    data = loader()
    if data.query.ndim > 2:
        for argument, columns in (("query", query), ("evidence", evidence)):
            if columns is not None:
                raise ValueError(f"{argument}: example {name!r} holds sequences, which have no columns; leave it out")
        return data
    if query is None and evidence is None:
        return data.select(data.query_names if entry.query == ("pixels",) else entry.query, entry.evidence or None)
    return data.select(query, evidence)


def recorded(name: str, folder: Path | None = None) -> Recording:
    """The example that is a recording, one of RECORDINGS.

    Raises FileNotFoundError if it is not here; the message has the command that brings it.
    """
    found = _recorder(name, folder)
    if found is None:
        raise _missing(_EXAMPLES[name], folder)
    return found()


def available(folder: str | os.PathLike[str] | None = None) -> tuple[Example, ...]:
    """All examples, those included that are not here (`present` is False, and `command` brings them).

    >>> [example.rows for example in available() if example.name == "nile"]
    [100]
    """
    place = None if folder is None else Path(folder)
    found = {name: (_recorder if name in RECORDINGS else _loader)(name, place) is not None for name in _EXAMPLES}
    return tuple(replace(each, present=found[name]) for name, each in _EXAMPLES.items())


def bishop_inverse(count: int, rng: np.random.Generator) -> Data:
    """Bishop's inverse problem: evidence x = t + 0.3 sin(2 pi t) + noise, query t; several t explain one x.

    t is uniform on (0, 1), the noise uniform on (-0.1, 0.1); both have shape [count, 1]. Bishop, Pattern Recognition
    and Machine Learning (2006), section 5.6.

    Raises:
        ValueError: `count` is not positive.

    >>> bishop_inverse(10, np.random.default_rng(0))
    Data('bishop-inverse': N=10, query (t), evidence (x))
    """
    if count < 1:
        raise ValueError(f"count must be a positive number of data; got {count}")
    t = rng.uniform(0.0, 1.0, count)
    x = t + 0.3 * np.sin(2.0 * np.pi * t) + rng.uniform(-0.1, 0.1, count)
    return Data(t, evidence=x, query_names=("t",), evidence_names=("x",), name="bishop-inverse")


def _missing(entry: Example, folder: Path | None) -> Exception:
    kind = ModuleNotFoundError if entry.command.startswith("pip install") else FileNotFoundError
    looked = "" if folder is None else f" in {folder}"
    return kind(f"example {entry.name!r} was not found{looked}; get it with: {entry.command}")


def _recorder(name: str, folder: Path | None) -> Callable[[], Recording] | None:
    if name in overcooked.NAMES:
        return lambda: overcooked.overcooked(name.removeprefix(overcooked.PREFIX))
    if name != "pusht":
        return drives.tree if name == "tree" else drives.slalom
    file = pusht.find(folder)
    return None if file is None else lambda: pusht.read_pusht(file)


def _loader(name: str, folder: Path | None) -> Callable[[], Data] | None:
    """What loads all columns of an example, the label of images as the evidence; None if it is not here."""
    if (_BUNDLED / f"{name}.csv").is_file():
        return lambda: _bundled(name)
    if name == "bishop-inverse":
        return lambda: bishop_inverse(1000, np.random.default_rng(2006))
    if name == "digits":
        digits = lambda: import_module("sklearn.datasets").load_digits(return_X_y=True)  # noqa: E731
        return (lambda: _images(name, *digits())) if find_spec("sklearn") is not None else None
    named, base = os.environ.get("VEIL_DATA"), name.removesuffix("-test").removesuffix("-eighths")
    # Both sets of images have the same file names: in a folder for all data only its subfolders tell them apart.
    folders = [folder / base, folder] if folder is not None else [Path(named) / base] if named else []
    if base == "chorales":
        place = places(folders)
        return None if place is None else lambda: read_chorales(place, 2 if name.endswith("-eighths") else 1, name)
    folders += [Path("/usr/share/datasets", base)] if folder is None else []
    paths = find_images(folders, "t10k" if name.endswith("-test") else "train")
    return None if paths is None else lambda: _images(name, *read_images(*paths))


def _bundled(name: str) -> Data:
    path = _BUNDLED / f"{name}.csv"  # plain numbers, which numpy can read: the examples need no other package
    with path.open(encoding="utf-8") as file:
        names = file.readline().strip().split(",")
    return Data(np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2), query_names=names, name=name)


def _images(name: str, pixels: np.ndarray, label: np.ndarray) -> Data:
    names = tuple(f"pixel{i}" for i in range(pixels.shape[1]))
    pixels, label = pixels.astype(np.float32, copy=False), label.astype(np.float32)  # counts are exact in it
    return Data(pixels, evidence=label, query_names=names, evidence_names=("label",), name=name)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_EXAMPLES = {
    name: Example(name, **{key: _frozen(value) for key, value in each.items()})
    for name, each in tomllib.loads((_BUNDLED / "examples.toml").read_text("utf-8")).items()
}
