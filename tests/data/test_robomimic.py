"""robomimic's layout, on files written as its documentation has it.

"Dataset Structure" and "Filter Keys" in docs/datasets/overview.md of ARISE-Initiative/robomimic (commit 0b022fe); the
`SequenceDataset` of robomimic 0.3.0 reads the same numbers in what `write` writes.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from veil.data import Recording, read, recording

h5py = pytest.importorskip("h5py")
LENGTHS = (3, 5, 4)


def write(path: Path, *, next_obs: bool = True, order: tuple[int, ...] = (2, 10, 0), shift: int = 0) -> Path:
    """Of demonstration e at step t the position is (e, t, 0.5) and the action (100 + e, t + shift)."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(LENGTHS)
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "env_type": 1, "env_kwargs": {"robots": ["Panda"]}})
        for number, length in zip(order, LENGTHS, strict=True):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = length
            demo.attrs["model_file"] = "<mujoco/>"
            t = np.arange(length + 1)
            position = np.stack([0 * t + number, t, 0 * t + 0.5], 1)
            image = np.broadcast_to(10 * t[:, None, None, None], (length + 1, 6, 8, 3)).astype(np.uint8)
            demo["actions"] = np.stack([0 * t + 100 + number, t + shift], 1)[:-1].astype(float)
            demo["rewards"] = 10.0 + t[:-1]
            demo["dones"] = (t[1:] == length).astype(np.int64)
            demo["states"] = np.full((length, 7), number)
            for name, array in (("robot0_eef_pos", position), ("agentview_image", image)):
                demo[f"obs/{name}"] = array[:-1]
                if next_obs:
                    demo[f"next_obs/{name}"] = array[1:]
        file["mask/train"] = np.array([b"demo_10", b"demo_0"])
        file["mask/valid"] = np.array([b"demo_2"])
    return path


def check_time(found: Recording) -> None:
    """The action of step t stands at the observation of step t, in episodes and in data of both kinds."""
    for episode in found.episodes:
        np.testing.assert_array_equal(episode.observations["robot0_eef_pos"][:-1, 1], episode.actions["action"][:, 1])
    taken = found.data("action", "robot0_eef_pos")
    np.testing.assert_array_equal(taken.query[:, 1], taken.evidence[:, 1])
    led = found.data("robot0_eef_pos", "action")
    steps = led.mask[:, 1:]
    np.testing.assert_array_equal(led.query[:, 1:, 1][steps], led.evidence[:, 1:, 1][steps] + 1)


def test_the_numbers_written_are_the_numbers_read(tmp_path: Path) -> None:
    found = recording(write(tmp_path / "lift.hdf5"))
    assert found.parts == ("agentview_image", "robot0_eef_pos", "action", "reward", "terminated")
    assert (found.name, found.images, found.about["env_args"]["env_name"]) == ("lift", ("agentview_image",), "Lift")
    assert [len(each) for each in found.episodes] == [4, 3, 5]  # demo_0, demo_2, demo_10
    last = found.episodes[2]
    np.testing.assert_array_equal(last.observations["robot0_eef_pos"], [[10, t, 0.5] for t in range(6)])
    np.testing.assert_array_equal(last.actions["action"], [[110, t] for t in range(5)])
    np.testing.assert_array_equal(last.rewards, [10, 11, 12, 13, 14])
    assert (last.terminated, last.truncated) == (True, False)
    image = np.asarray(last.observations["agentview_image"])
    assert (image.dtype, image.shape) == (np.uint8, (6, 6, 8, 3))
    np.testing.assert_array_equal(image[:, 0, 0, 0], 10 * np.arange(6))
    np.testing.assert_array_equal(last.infos["states"], np.full((5, 7), 10))
    check_time(found)


def test_a_shift_by_one_step_is_seen(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        check_time(recording(write(tmp_path / "shifted.hdf5", shift=1)))


def test_without_the_observation_after_it_the_last_action_is_left_out(tmp_path: Path) -> None:
    found = recording(write(tmp_path / "lift.hdf5", next_obs=False))
    assert [len(each) for each in found.episodes] == [3, 2, 4]
    last = found.episodes[2]
    np.testing.assert_array_equal(last.observations["robot0_eef_pos"], [[10, t, 0.5] for t in range(5)])
    np.testing.assert_array_equal(last.rewards, [10, 11, 12, 13])
    assert (last.terminated, last.truncated) == (False, True)  # what ended it is what was left out
    check_time(found)


def test_filter_keys_choose_episodes(tmp_path: Path) -> None:
    path = write(tmp_path / "lift.hdf5")
    assert recording(path).about["splits"] == {"train": [0, 2], "valid": [1]}
    train = recording(path, episodes="train")
    assert (train.name, [len(each) for each in train.episodes]) == ("lift, train", [4, 5])
    assert [len(each) for each in recording(path, episodes=[2, 0]).episodes] == [5, 4]
    for wrong, message in (("trian", "did you mean 'train'"), ([3], "from 0 to 2; got 3"), ([], "at least one")):
        with pytest.raises(ValueError, match=message):
            recording(path, episodes=wrong)


def test_images_are_read_when_they_are_used(tmp_path: Path) -> None:
    path = write(tmp_path / "lift.hdf5")
    found = recording(path)
    first = found.episodes[0]
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            del demo["next_obs/agentview_image"]
            demo["next_obs/agentview_image"] = np.zeros((1, 2, 2, 3), np.uint8)
    with pytest.raises(ValueError, match=r"lift\.hdf5"):
        np.asarray(first.observations["agentview_image"])
    assert first.observations["robot0_eef_pos"][2, 1] == 2


def spoil(path: Path, place: str, value: Any) -> None:
    with h5py.File(path, "a") as file:
        if place in file:
            del file[place]
        if value is not None:
            file[place] = value


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("data/demo_0/obs", None, r"lift\.hdf5, demo_0: obs is missing; .* dataset_states_to_obs"),
        ("data/demo_0/actions", None, "demo_0: actions is missing"),
        ("data/demo_0/actions", np.zeros((2, 2)), "num_samples is 4, and there are 2 actions"),
        ("data/demo_0/rewards", np.zeros(2), "'rewards' has 2 entries, and there are 4 actions"),
        ("data/demo_0/next_obs/robot0_eef_pos", None, "next_obs/robot0_eef_pos: expected the shape .* got nothing"),
        ("mask/train", np.array([b"demo_77"]), "mask/train names 'demo_77', which is not in data"),
        ("data/demo_2/obs/robot0_eef_pos", np.zeros((3, 4)), "next_obs/robot0_eef_pos: expected the shape"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, place: str, value: Any, message: str) -> None:
    path = write(tmp_path / "lift.hdf5")
    spoil(path, place, value)
    with pytest.raises(ValueError, match=message):
        read(path, "action", "robot0_eef_pos")


def test_episodes_of_differing_shapes_and_a_truncated_file(tmp_path: Path) -> None:
    path = write(tmp_path / "lift.hdf5", next_obs=False)
    spoil(path, "data/demo_2/obs/robot0_eef_pos", np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"of episode 1 has the shape \[4\] a step and of episode 0 \[3\]"):
        recording(path).data("action", "robot0_eef_pos")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"lift\.hdf5 is not a readable HDF5 file"):
        recording(path)
    with h5py.File(write(path), "a") as file:
        file["data"].attrs["env_args"] = "{"
    with pytest.raises(ValueError, match="env_args is not valid JSON"):
        recording(path)


def test_one_action_without_an_observation_after_it_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "lift.hdf5", next_obs=False)
    with h5py.File(path, "a") as file:
        demo = file["data/demo_0"]
        demo.attrs["num_samples"] = 1
        for name in ("actions", "rewards", "dones", "obs/robot0_eef_pos", "obs/agentview_image"):
            array = demo[name][:1]
            del demo[name]
            demo[name] = array
    with pytest.raises(ValueError, match=r"1 actions and 1 observations.*leave the episode out"):
        recording(path).episodes[0]
    assert len(recording(path, episodes=[1, 2]).data("action", "robot0_eef_pos")) == 2 + 4
