"""Folders of images as streams: values, sizes, channels, classes, broken files."""

import sys
import warnings

import numpy as np
import pytest

from veil.data import DataWarning, stream

image = pytest.importorskip("PIL.Image")


def save(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = image.fromarray(np.asarray(array))
    (picture if mode is None else picture.convert(mode)).save(path)


def colours(seed: int, height: int = 6, width: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Five images in three classes; in order of their paths 0 to 4."""
    for number, name in enumerate(("cat/a.png", "cat/b.png", "dog/old/a.png", "dog/z.PNG", "emu/a.png")):
        save(tmp_path / "animals" / name, colours(number))
    (tmp_path / "animals" / ".hidden").mkdir()
    save(tmp_path / "animals" / ".hidden" / "x.png", colours(9))
    return tmp_path / "animals"


def test_values_in_order(folder):
    made = stream(folder)
    assert repr(made) == "Stream('animals': N=5, query [6, 4, 3], blocks of 65536)"
    (block,) = made
    assert block.query.dtype == np.float32
    assert block.evidence is None
    np.testing.assert_array_equal(block.query, np.stack([colours(i) for i in range(5)]) / np.float32(255))


def test_classes(folder):
    (block,) = stream(folder, evidence="folder")
    assert block.evidence_names == ("cat", "dog", "emu")
    np.testing.assert_array_equal(block.evidence, np.eye(3)[[0, 0, 1, 1, 2]])
    (part,) = stream(str(folder / "*" / "*.png"), evidence="folder")
    assert (len(part), part.evidence_names) == (3, ("cat", "emu"))


def test_shuffled_with_classes_and_shared(folder):
    pytest.importorskip("grain")
    made = stream(folder, evidence="folder")
    batches = made.batches(5, seed=0)
    for _ in range(3):
        batch = next(batches)
        found = [int(np.flatnonzero((batch.query == colours(i) / np.float32(255)).all((1, 2, 3)))[0]) for i in range(5)]
        assert sorted(found) == list(range(5))
        np.testing.assert_array_equal(batch.evidence[found], np.eye(3)[[0, 0, 1, 1, 2]])
    batches.close()
    sizes = [sum(len(block) for block in made.share(process, 2)) for process in range(2)]
    assert sizes == [3, 2]


def test_size(folder):
    save(folder / "cat" / "c.png", np.full((10, 20, 3), [255, 0, 51], np.uint8))
    made = stream(folder, image_size=(5, 3))
    assert made.query_shape == (5, 3, 3)
    block = next(iter(made))
    np.testing.assert_allclose(block.query[2], np.broadcast_to([1, 0, 0.2], (5, 3, 3)), rtol=1e-6)
    assert stream(folder, image_size=7).query_shape == (7, 7, 3)
    message = r"c\.png: has 10 x 20 pixels, and the first image 6 x 4; give image_size"
    with pytest.raises(ValueError, match=message):
        list(stream(folder))
    made = stream(folder, bad="skip")
    with pytest.warns(DataWarning, match=message):
        (block,) = made
    assert (len(block), made.bad.count) == (5, 1)


def test_channels(tmp_path):
    grey = np.arange(24, dtype=np.uint8).reshape(6, 4) * 10
    save(tmp_path / "a.png", grey)
    save(tmp_path / "b.png", grey.astype(np.uint16) * 257)  # 16 bits
    save(tmp_path / "c.png", grey > 100)
    (block,) = stream(tmp_path)
    assert block.query_shape == (6, 4, 1)
    np.testing.assert_allclose(block.query[:2, ..., 0], np.stack([grey, grey]) / 255, rtol=1e-6)
    np.testing.assert_array_equal(block.query[2, ..., 0], grey > 100)
    save(tmp_path / "d.png", colours(0))
    with pytest.raises(ValueError, match=r"d\.png: has colours, and the first image is grey"):
        list(stream(tmp_path))
    save(tmp_path / "0.png", colours(1), "RGBA")
    (block,) = stream(tmp_path)  # among colours grey has three equal channels
    assert block.query_shape == (6, 4, 3)
    np.testing.assert_array_equal(block.query[0], colours(1) / np.float32(255))
    np.testing.assert_allclose(block.query[1], np.repeat(grey[..., None], 3, 2) / 255, rtol=1e-6)


def test_turned_photographs(tmp_path):
    picture = image.fromarray(colours(0))
    tags = image.Exif()
    tags[0x0112] = 6  # the camera was turned by a quarter
    picture.save(tmp_path / "a.jpg", exif=tags, quality=95)
    assert stream(tmp_path).query_shape == (4, 6, 3)


@pytest.mark.parametrize("name", ["cat/a.png", "cat/b.png"])  # the first, which sets the size, or another
def test_broken_files(folder, name):
    data = (folder / name).read_bytes()
    for broken in (b"", b"no image", data[: len(data) // 2], data[:20]):
        (folder / name).write_bytes(broken)
        with pytest.raises(ValueError, match=name):
            list(stream(folder))
        made = stream(folder, bad="skip")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            (block,) = made
        assert [each.category for each in caught] == [DataWarning]
        assert (len(block), made.bad.count) == (4, 1)
        assert str(folder / name) in made.bad.first[0]


def test_a_file_that_vanished(folder):
    for bad in ("refuse", "skip"):
        made = stream(folder, bad=bad)
        data = (folder / "dog" / "z.PNG").read_bytes()
        (folder / "dog" / "z.PNG").unlink()
        with pytest.raises(FileNotFoundError, match=r"z\.PNG was there when the stream was made"):
            list(made)
        (folder / "dog" / "z.PNG").write_bytes(data)


def test_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="query: images have no columns"):
        stream(folder, query="a")
    with pytest.raises(ValueError, match="evidence: images have only 'folder'"):
        stream(folder, evidence="a")
    with pytest.raises(ValueError, match=r"image_size must be height and width.*got \(0, 3\)"):
        stream(folder, image_size=(0, 3))
    with pytest.raises(ValueError, match=r"a\.png is in no sub-folder of .*cat"):
        stream(folder / "cat", evidence="folder")
    (folder / "one" / "sub").mkdir(parents=True)
    (folder / "cat" / "a.png").rename(folder / "one" / "sub" / "a.png")
    with pytest.raises(ValueError, match=r"has one sub-folder with images \(sub\)"):
        stream(folder / "one", evidence="folder")
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(ValueError, match=r"image_size: only images have a size; a\.npy is a table"):
        stream(tmp_path / "a.npy", image_size=3)


def test_without_pillow(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ModuleNotFoundError, match=r"images need Pillow; install it with: pip install 'veil\[scale\]'"):
        stream(folder)
