"""Which files a path means."""

import numpy as np
import pytest

from veil.data import read, stream
from veil.data.formats.paths import find


@pytest.fixture
def folder(tmp_path):
    for name in ("b.npy", "a.npy", "notes.txt", ".c.npy"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("deep/d.npy", "deep/er/e.npy", "deep/t.csv"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def names(path) -> list[str]:
    return [file.name for file in find(path).files]


def test_folders_patterns_and_lists(folder):
    assert names(folder) == ["a.npy", "b.npy"]
    assert find(folder).name == folder.name
    assert names(f"{folder}/*.npy") == ["a.npy", "b.npy"]
    assert names(folder / "**" / "*.npy") == ["a.npy", "b.npy", "d.npy", "e.npy"]
    assert names([folder / "b.npy", str(folder / "a.npy")]) == ["b.npy", "a.npy"]
    assert (names(folder / "a.npy"), find(folder / "a.npy").name) == (["a.npy"], "a")


def test_a_file_whose_name_looks_like_a_pattern(tmp_path):
    np.save(tmp_path / "a[1].npy", np.ones(3))
    assert names(tmp_path / "a[1].npy") == ["a[1].npy"]


def test_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"files of several kinds \(.csv, .npy\); choose one by a pattern"):
        find(folder / "deep")
    with pytest.raises(ValueError, match="several kinds"):
        find([folder / "a.npy", folder / "deep" / "t.csv"])
    with pytest.raises(FileNotFoundError, match=r"no .* file matches .*\*\.parquet"):
        find(folder / "*.parquet")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.npy"):
        find([folder / "none.npy"])
    with pytest.raises(ValueError, match="the list of files is empty"):
        find([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty has no \.csv, .*and no image"):
        find(tmp_path / "empty")


def test_reading_whole_takes_one_file(folder):
    for path in (folder, folder / "*.npy"):
        with pytest.raises(ValueError, match=r"may be many files, which are read in blocks: use veil\.data\.stream"):
            read(path)


def test_files_follow_each_other(tmp_path):
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", np.arange(4.0) + 10 * number)
    made = stream(tmp_path, rows=5)
    assert (made.count, [len(block) for block in made]) == (12, [5, 5, 2])
    found = np.concatenate([block.query[:, 0] for block in stream([tmp_path / "2.npy", tmp_path / "0.npy"])])
    np.testing.assert_array_equal(found, [20, 21, 22, 23, 0, 1, 2, 3])
