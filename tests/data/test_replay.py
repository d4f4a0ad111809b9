"""Replay buffers of Diffusion Policy: one that zarr 2.18.3 wrote by its calls (robot_files/make.py), and broken ones.

The layout is that of `ReplayBuffer` in real-stanford/diffusion_policy (commit 0237379).
"""

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from veil.data import Recording, read, recording

zarr = pytest.importorskip("zarr")
MADE = Path(__file__).parent / "robot_files" / "replay-zarr-2.18.3.zarr.zip"
LENGTHS = (6, 4, 9)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The same buffer as a folder."""
    with zipfile.ZipFile(MADE) as archive:
        archive.extractall(tmp_path / "pusht.zarr")
    return tmp_path / "pusht.zarr"


def check_time(found: Recording) -> None:
    for number, episode in enumerate(found.episodes):
        state, action = np.asarray(episode.observations["state"]), episode.actions["action"]
        np.testing.assert_array_equal(state[:, 0], number)
        np.testing.assert_array_equal(action[:, 0], 100 + number)
        np.testing.assert_array_equal(state[:-1, 1], action[:, 1])
    taken = found.data("action", "state")
    np.testing.assert_array_equal(taken.query[:, 1], taken.evidence[:, 1])


@pytest.mark.parametrize("packed", [True, False])
def test_the_numbers_written_are_the_numbers_read(folder: Path, packed: bool) -> None:
    found = recording(MADE if packed else folder)
    assert found.name == ("replay-zarr-2.18.3" if packed else "pusht")
    assert found.parts == ("img", "keypoint", "n_contacts", "state", "action", "reward", "terminated")
    assert [len(each) for each in found.episodes] == [length - 1 for length in LENGTHS]
    second = found.episodes[1]
    np.testing.assert_array_equal(second.observations["state"], [[1, t, 0.5] for t in range(4)])
    np.testing.assert_array_equal(second.actions["action"], [[101, t] for t in range(3)])
    steps = np.arange(6, 10)[:, None, None]
    np.testing.assert_array_equal(second.observations["keypoint"], steps * 18 + np.arange(18).reshape(9, 2))
    assert np.isnan(second.rewards).all()
    assert (second.terminated, second.truncated) == (False, True)
    image = np.asarray(second.observations["img"])  # kept as float32, whole numbers
    assert (image.dtype, image.shape, found.images) == (np.uint8, (4, 12, 16, 3), ("img",))
    np.testing.assert_array_equal(image[:, 3, 5, 1], [21, 31, 41, 51])
    check_time(found)
    assert len(recording(MADE, episodes=range(2)).data("action", "state")) == 5 + 3
    assert read(MADE if packed else folder, "action", ["state", "keypoint"]).evidence_shape == (21,)


def test_a_shift_by_one_step_is_seen(folder: Path) -> None:
    root = zarr.open_group(folder, mode="r+")
    root["data/state"][:] = np.roll(root["data/state"][:], 1, axis=0)
    with pytest.raises(AssertionError):
        check_time(recording(folder))


def test_format_3_rewards_and_a_group_inside_a_zip(tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path / "b.zarr", mode="w")
    ends = root.create_array("meta/episode_ends", shape=(2,), dtype="i8")
    ends[:] = [3, 7]
    for name, values in (
        ("action", np.arange(16.0).reshape(8, 2)),  # one step behind the last episode, which ReplayBuffer allows
        ("camera", np.broadcast_to(np.arange(8, dtype=np.uint8)[:, None, None, None], (8, 4, 4, 3))),
        ("reward", np.arange(8.0)[:, None]),
        ("done", np.array([0, 1, 1, 0, 0, 0, 1, 0])),
    ):
        root.create_array(f"data/{name}", data=np.ascontiguousarray(values), chunks=(3, *values.shape[1:]))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for file in (tmp_path / "b.zarr").rglob("*"):
            if file.is_file():
                archive.write(file, f"down/b.zarr/{file.relative_to(tmp_path / 'b.zarr')}")
    for path in (tmp_path / "b.zarr", tmp_path / "b.zip"):
        one, two = recording(path).episodes
        np.testing.assert_array_equal(two.actions["action"], np.arange(6.0, 12.0).reshape(3, 2))
        np.testing.assert_array_equal(two.rewards, [3, 4, 5])
        assert (one.terminated, two.terminated) == (True, False)
        assert list(two.observations) == ["camera"]
        np.testing.assert_array_equal(np.asarray(two.observations["camera"])[:, 0, 0, 0], [3, 4, 5, 6])


def edit(folder: Path, name: str, **changes) -> None:
    file = folder / name / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def cut(folder: Path) -> None:
    file = folder / "data/state/1.0"
    file.write_bytes(file.read_bytes()[:20])


def set_ends(folder: Path, *ends: int) -> None:
    zarr.open_group(folder, mode="r+")["meta/episode_ends"][:] = ends


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: set_ends(folder, 6, 6, 19), "meta/episode_ends: expected whole numbers that rise"),
        (lambda folder: set_ends(folder, 6, 10, 20), r"data/action has the shape \[19, 2\].*goes to 20"),
        (lambda folder: shutil.rmtree(folder / "data/action"), "expected data/action and observations beside it"),
        (
            lambda folder: [each.unlink() for each in (folder / "data/state").glob("*.0")],
            "none of its 4 chunks is there",
        ),
        (lambda folder: (folder / "data/state/.zarray").write_text("{"), "pusht.zarr: "),
        (cut, r"state.1\.0 is cut off after 20 bytes"),
        (lambda folder: edit(folder, "data/state", dtype="|O"), "pusht.zarr: "),
        (lambda folder: edit(folder, "data/img", compressor={"id": "nosuch"}), "pusht.zarr: .*nosuch"),
        (
            lambda folder: edit(folder, "data/state", compressor={"id": "base64"}),
            "'base64' is a codec that is not read",
        ),
    ],
)
def test_what_is_wrong_is_named(folder: Path, spoil, message: str) -> None:
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        recording(folder).data("action", "state")


class Runs:
    """What makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


def test_nothing_is_unpickled(folder: Path, tmp_path: Path) -> None:
    """numcodecs and zarr refuse to unpickle by now, and we every codec that is not known."""
    code = pickle.dumps(Runs(tmp_path / "ran"))
    for where in ("compressor", "filters"):
        codec = {"id": "pickle", "protocol": 4}
        edit(folder, "data/state", **{"compressor": None, where: codec if where == "compressor" else [codec]})
        for file in (folder / "data/state").glob("*.0"):
            file.write_bytes(code)
        with pytest.raises(ValueError, match="pickle"):
            recording(folder).data("action", "state")
    assert not (tmp_path / "ran").exists()
    pickle.loads(code)
    assert (tmp_path / "ran").exists()  # it was armed


def test_images_that_are_no_bytes(folder: Path) -> None:
    root = zarr.open_group(folder, mode="r+")
    root["data/img"][18] = 0.5
    with pytest.raises(ValueError, match="data/img: expected images of whole numbers from 0 to 255"):
        recording(folder).data("action", "img")
    root["data/img"][:] = root["data/img"][:] / 255
    assert recording(folder).images == ()


def test_without_zarr(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'veil\[zarr\]'"):
        recording(MADE)
