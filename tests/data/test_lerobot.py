"""LeRobot's layouts, on what lerobot 0.3.3 (v2.1) and 0.4.4 (v3.0) wrote (robot_files/make.py), and on files by hand.

The layouts are those of docs/source/lerobot-dataset-v3.mdx (commit 0159312) and dataset_metadata.py (commit 000c716) in
huggingface/lerobot.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from veil.data import Recording, read, recording
from veil.data.recorded import video

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
av = pytest.importorskip("av")
pytest.importorskip("PIL")
VERSIONS = {"v2.1": "lerobot-0.3.3.zip", "v3.0": "lerobot-0.4.4.zip"}
LENGTHS, FPS = (6, 4, 9), 10
TOP = "observation.images.top"


@pytest.fixture(params=list(VERSIONS))
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(tmp_path: Path, version: str) -> Path:
    return unpacked(tmp_path, version)


def unpacked(tmp_path: Path, version: str) -> Path:
    with zipfile.ZipFile(Path(__file__).parent / "robot_files" / VERSIONS[version]) as archive:
        archive.extractall(tmp_path / "arm")
    return tmp_path / "arm"


def check_time(found: Recording, images: bool = True) -> None:
    """What stands at step t of episode e is what make.py put there."""
    for e, episode in enumerate(found.episodes):
        t = np.arange(len(episode) + 1)
        np.testing.assert_array_equal(episode.observations["state"], np.stack([0 * t + e, t, 0 * t + 0.5], 1))
        np.testing.assert_array_equal(episode.actions["action"], np.stack([0 * t + 100 + e, t], 1)[:-1])
        for name in ("images/top", "images/still") if images else ():
            frames = np.asarray(episode.observations[name]).astype(int)
            near = 3 if name == "images/top" else 0  # a video loses a little, a step is 10
            assert np.all(abs(frames - (20 + 10 * t + e)[:, None, None, None]) <= near), name
    taken = found.data("action", "state")
    np.testing.assert_array_equal(taken.query[:, 1], taken.evidence[:, 1])
    led = found.data("state", "action")
    steps = led.mask[:, 1:]
    np.testing.assert_array_equal(led.query[:, 1:, 1][steps], led.evidence[:, 1:, 1][steps] + 1)


def test_the_numbers_written_are_the_numbers_read(folder: Path, version: str) -> None:
    found = recording(folder)
    assert found.parts == ("state", "images/top", "images/still", "action", "reward", "terminated")
    assert (found.name, found.images) == ("arm", ("images/top", "images/still"))
    assert (found.about["codebase_version"], found.about["fps"]) == (version, FPS)
    assert (found.about["tasks"], found.about["splits"]) == ({"task 0": 0, "task 1": 1}, {"train": [0, 1, 2]})
    assert [len(each) for each in found.episodes] == [length - 1 for length in LENGTHS]
    second = found.episodes[1]
    np.testing.assert_array_equal(second.rewards, [0, 1, 2])
    assert (second.terminated, second.truncated) == (False, True)  # the last row's action, which ends it, is left out
    assert {name: np.ravel(array).tolist() for name, array in second.infos.items()} == {"task_index": [1, 1, 1, 1]}
    shapes = {name: (array.shape, array.dtype) for name, array in second.observations.items()}
    assert shapes["images/top"] == ((4, 32, 48, 3), np.uint8)
    assert shapes["images/still"] == ((4, 8, 10, 3), np.uint8)
    check_time(found)
    data = read(folder, "action", {"camera": "images/top", "arm": "state"})
    assert data.evidence_shape == {"camera": (32, 48, 3), "arm": (3,)}
    assert len(data) == sum(LENGTHS) - 3
    assert [len(each) for each in recording(folder, episodes=[2, 0]).episodes] == [8, 5]


def rewrite(file: Path, **columns: Any) -> None:
    """A Parquet file with other columns: arrays, or functions of what stands there."""
    found = parquet.read_table(file)
    for name, value in columns.items():
        place = found.column_names.index(name)
        new = value(found[name].to_pylist()) if callable(value) else value
        found = found.remove_column(place) if new is None else found.set_column(place, name, arrow.array(new))
    parquet.write_table(found, file)


def first_file(folder: Path) -> Path:
    return min(folder.glob("data/*/*.parquet"))


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_shift_by_one_step_is_seen(tmp_path: Path) -> None:
    folder = unpacked(tmp_path, "v3.0")
    about = next(folder.glob("meta/episodes/*/*.parquet"))
    whole = about.read_bytes()
    rewrite(about, **{f"videos/{TOP}/from_timestamp": lambda values: [max(value - 0.1, 0) for value in values]})
    check_time(recording(folder), images=False)
    with pytest.raises(AssertionError, match="images/top"):
        check_time(recording(folder))
    about.write_bytes(whole)
    rewrite(about, **{f"videos/{TOP}/from_timestamp": lambda values: [value + 0.04 for value in values]})
    with pytest.raises(ValueError, match=r"file-000\.mp4: expected a frame at 0\.0400 s .* the nearest one behind is"):
        check_time(recording(folder))
    about.write_bytes(whole)
    rewrite(first_file(folder), action=lambda rows: [*rows[1:], rows[0]])
    with pytest.raises(AssertionError):
        check_time(recording(folder), images=False)


def test_frames_are_decoded_when_they_are_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    frames = video.frames
    monkeypatch.setattr(video, "frames", lambda file, times, fps: (asked.append(file), frames(file, times, fps))[1])
    found = recording(folder)
    found.data("action", "state")
    assert (found.images, asked) == (("images/top", "images/still"), [])
    found.data("action", "images/top")
    assert len(asked) == 3


def test_without_videos_the_numbers_are_read(folder: Path) -> None:
    for file in folder.rglob("*.mp4"):
        file.unlink()
    found = recording(folder)
    check_time(found, images=False)
    with pytest.raises(FileNotFoundError, match=r"there is no video .*\.mp4; copy it to there, or name other parts"):
        found.data("action", "images/top")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8])
def test_a_truncated_video_is_refused(folder: Path, share: float) -> None:
    for file in folder.rglob("*.mp4"):
        whole = file.read_bytes()
        file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"\.mp4"):
        recording(folder).data("action", "images/top")


def test_a_frame_that_is_cut_off_is_not_made_up(tmp_path: Path) -> None:
    """Its last bytes are missing: the decoder would show something all the same."""
    folder = unpacked(tmp_path, "v3.0")
    file = next(folder.rglob("*.mp4"))
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"is not a whole video: what stands at 1\.8 s is cut off"):
        recording(folder).data("action", "images/top")


def test_a_video_that_ends_early_or_has_another_size(tmp_path: Path) -> None:
    folder = unpacked(tmp_path, "v2.1")
    film(folder / f"videos/chunk-000/{TOP}/episode_000001.mp4", [50] * 3)
    with pytest.raises(ValueError, match=r"episode_000001\.mp4: expected a frame at 0\.3000 s .* no frame that late"):
        recording(folder).data("action", "images/top")
    film(folder / f"videos/chunk-000/{TOP}/episode_000001.mp4", [50] * 4, size=(16, 16))
    with pytest.raises(ValueError, match=r"000001\.mp4: expected the shape \[4, 32, 48, 3\]; got \[4, 16, 16, 3\]"):
        recording(folder).data("action", "images/top")


def film(file: Path, levels: list[int], size: tuple[int, int] = (32, 48)) -> None:
    """A video of H.264 with frames that depend on those before and behind them, and one key frame."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"g": "1000", "bf": "2"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for level in levels:
            image = av.VideoFrame.from_ndarray(np.full((*size, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode())


def by_hand(folder: Path, lengths: tuple[int, ...] = (3, 7, 5), **info: Any) -> Path:
    """A data set of the layout v3.0 in two data files and one video, with the names that openpi uses."""
    number = {"dtype": "int64", "shape": [1], "names": None}
    features = {
        "image": {"dtype": "video", "shape": [3, 32, 48], "names": ["channels", "height", "width"]},
        "depth": {"dtype": "video", "shape": [32, 48, 1], "names": None, "info": {"video.is_depth_map": True}},
        "state": {"dtype": "float64", "shape": [2], "names": ["x", "y"]},
        "observation.grid": {"dtype": "float32", "shape": [2, 3], "names": None},
        "actions": {"dtype": "float32", "shape": [1], "names": ["u"]},
        "words": {"dtype": "string", "shape": [1], "names": None},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        **{name: number for name in ("frame_index", "episode_index", "index", "task_index")},
    }
    about = {
        "codebase_version": "v3.0",
        "fps": FPS,
        "total_episodes": len(lengths),
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "splits": {"train": "0:2", "odd": "most"},
        "features": features,
    }
    for place in ("meta/episodes/chunk-000", "data/chunk-000", "videos"):
        (folder / place).mkdir(parents=True)
    (folder / "meta/info.json").write_text(json.dumps({**about, **info}))
    ends = np.cumsum(lengths)
    levels = []
    for e, (length, end) in enumerate(zip(lengths, ends, strict=True)):
        t = np.arange(length)
        levels += (20 + 10 * t + 3 * e).tolist()
        rows = {
            "state": np.stack([0 * t + e, t], 1).astype(float).tolist(),
            "observation.grid": (np.arange(6).reshape(2, 3) + 10 * t[:, None, None]).astype(np.float32).tolist(),
            "actions": t.astype(np.float32),
            "words": ["go"] * length,
            "timestamp": (t / FPS).astype(np.float32),
            "frame_index": t,
            "episode_index": 0 * t + e,
            "index": t + end - length,
            "task_index": 0 * t,
        }
        file = folder / f"data/chunk-000/file-{e // 2:03d}.parquet"
        table = arrow.table(rows)
        parquet.write_table(arrow.concat_tables([parquet.read_table(file), table]) if e % 2 else table, file)
    film(folder / "videos/image/chunk-000/file-000.mp4", levels)
    numbers = np.arange(len(lengths))
    found = {
        "episode_index": numbers,
        "length": np.array(lengths),
        "dataset_from_index": ends - lengths,
        "dataset_to_index": ends,
        "data/chunk_index": 0 * numbers,
        "data/file_index": numbers // 2,
        "videos/image/chunk_index": 0 * numbers,
        "videos/image/file_index": 0 * numbers,
        "videos/image/from_timestamp": (ends - lengths) / FPS,
        "videos/image/to_timestamp": ends / FPS,
    }
    parquet.write_table(arrow.table(found).take(numbers[::-1]), folder / "meta/episodes/chunk-000/file-000.parquet")
    return folder


def test_many_files_other_names_and_frames_between_key_frames(tmp_path: Path) -> None:
    found = recording(by_hand(tmp_path / "hand"))
    assert found.parts == ("image", "state", "grid", "action", "reward", "terminated")
    assert (found.about["left_out"], found.about["splits"]) == (["depth", "words"], {"train": [0, 1]})
    for e, length in reversed(list(enumerate((3, 7, 5)))):
        episode, t = found.episodes[e], np.arange(length)
        np.testing.assert_array_equal(episode.observations["state"], np.stack([0 * t + e, t], 1))
        np.testing.assert_array_equal(episode.observations["grid"][:, 1, 2], 5 + 10 * t)
        np.testing.assert_array_equal(episode.actions["action"], t[:-1, None])
        assert np.isnan(episode.rewards).all()
        frames = np.asarray(episode.observations["image"]).astype(int)
        assert frames.shape == (length, 32, 48, 3)
        assert np.all(abs(frames - (20 + 10 * t + 3 * e)[:, None, None, None]) <= 3)
    assert len(recording(tmp_path / "hand", episodes="train")) == 2
    with pytest.raises(ValueError, match="has no 'odd'"):
        recording(tmp_path / "hand", episodes="odd")


ABOUT = "meta/episodes/chunk-000/file-000.parquet"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda at: edit(at / "meta/info.json", codebase_version="v1.6"),
            "expected codebase_version v2.0, .* got v1.6",
        ),
        (lambda at: edit(at / "meta/info.json", total_episodes=9), "total_episodes is 9, and meta/episodes has 3"),
        (lambda at: edit(at / "meta/info.json", fps=0), "fps must be above 0"),
        (lambda at: edit(at / "meta/info.json", features={}), "expected features named observation... and action"),
        (lambda at: edit(at / "meta/info.json", features=[]), "expected features by name"),
        (lambda at: edit(at / "meta/info.json", data_path="data/{nothing}"), "data_path 'data/{nothing}' cannot be"),
        (lambda at: edit(at / "meta/info.json", data_path="../{file_index}"), "data_path leads out of the folder"),
        (lambda at: (at / "meta/info.json").write_text("{"), "is not valid JSON"),
        (lambda at: (at / ABOUT).unlink(), "expected Parquet files of the episodes; there are none"),
        (lambda at: (at / ABOUT).write_bytes(b"PAR1"), "is not a whole Parquet file"),
        (lambda at: rewrite(at / ABOUT, length=None), "there is no column 'length'"),
        (lambda at: rewrite(at / ABOUT, dataset_to_index=[15, 99, 3]), "episode 1 has 7 steps, .* from 3 to 99"),
        (
            lambda at: rewrite(at / ABOUT, length=[5, 9, 3], dataset_to_index=[15, 12, 3]),
            "file-000.parquet, episode 1: expected 9 rows, one after the other; it has 7",
        ),
        (lambda at: rewrite(first_file(at), state=None), "there is no column 'state'"),
        (lambda at: rewrite(first_file(at), state=[[1.0, 2.0]] * 9 + [[1.0]]), "of different lengths"),
        (lambda at: rewrite(first_file(at), state=[[1.0, None]] * 10), "'state' has 3 empty entries"),
        (lambda at: rewrite(first_file(at), state=[[1.0]] * 10), r"has 3 numbers in 3 rows; .* says \[2\] a row"),
        (lambda at: rewrite(first_file(at), state=["a"] * 10), "'state' holds string, not numbers"),
        (lambda at: rewrite(first_file(at), frame_index=[1, 0, *range(1, 9)]), "expected frame_index from 0 on"),
        (
            lambda at: first_file(at).write_bytes(b"version https://x/git-lfs/v1\noid"),
            "fetch the files with git lfs pull",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, spoil: Any, message: str) -> None:
    folder = by_hand(tmp_path / "hand")
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        recording(folder).data("action", "state")


def test_a_missing_file_of_version_2(tmp_path: Path) -> None:
    folder = unpacked(tmp_path, "v2.1")
    first_file(folder).unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no file .*episode_000000\.parquet; copy the whole data set"):
        recording(folder).data("action", "state")
    (folder / "meta/episodes.jsonl").unlink()
    with pytest.raises(ValueError, match=r"there is no file .*episodes\.jsonl"):
        recording(folder)


def test_without_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    folder = unpacked(tmp_path, "v3.0")
    found = recording(folder)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'veil\[video\]'"):
        found.data("action", "images/top")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'veil\[tables\]'"):
        recording(folder)
