"""Recordings of environments: what stands at which step, and Minari's layout."""

import json
from pathlib import Path

import numpy as np
import pytest

import veil
from veil.data import Episode, Recording, read, recording, write_minari


def episode(steps: int = 3, **more) -> Episode:
    given = {
        "observations": {"position": np.arange(2.0 * (steps + 1)).reshape(-1, 2), "room": np.arange(steps + 1) % 3},
        "actions": {"action": 5 + np.arange(steps) % 2},
        "rewards": 10.0 + np.arange(steps),
        "terminated": True,
    }
    return Episode(**{**given, **more})


CATEGORIES = {"action": range(5, 7), "room": range(3)}


def test_what_an_action_led_to_stands_at_the_step_that_it_led_to() -> None:
    data = Recording([episode(3), episode(1)], CATEGORIES).data(
        ["position", "room", "reward", "terminated"], evidence="action"
    )
    assert data.query_names == ("position0", "position1", "room0", "room1", "room2", "reward", "terminated")
    assert list(data.query) == ["position", "room", "reward", "terminated"]
    np.testing.assert_array_equal(
        np.concatenate([leaf[0] for leaf in data.query.values()], axis=1),
        [
            [0, 1, 1, 0, 0, 0, 0],
            [2, 3, 0, 1, 0, 10, 0],
            [4, 5, 0, 0, 1, 11, 0],
            [6, 7, 1, 0, 0, 12, 1],
        ],
    )
    np.testing.assert_array_equal(data.evidence[0], [[0, 0], [1, 0], [0, 1], [1, 0]])
    np.testing.assert_array_equal(data.mask, [[True] * 4, [True, True, False, False]])
    assert Recording([episode()]).data().query_names == ("position0", "position1", "room")
    assert Recording([episode()]).data().evidence is None


def test_controls_of_a_simulation_are_where_an_lds_wants_them() -> None:
    """z_t = 0.9 z_t-1 + u_t-1 exactly: with the action at the right step the fitted model has no noise left."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(20):
        action = rng.normal(size=12)
        state = [rng.normal()]
        for u in action:
            state.append(0.9 * state[-1] + u)
        made.append(Episode({"observation": np.array(state)}, {"action": action}, np.zeros(12)))
    data = Recording(made).data(evidence="action")
    before, after = data.query[:, :-1, 0].ravel(), data.query[:, 1:, 0].ravel()
    pushed = data.evidence[:, 1:, 0].ravel()
    slope, *_ = np.linalg.lstsq(np.stack([before, pushed], 1), after)
    np.testing.assert_allclose(slope, [0.9, 1.0], atol=1e-12)


def test_images_are_numbers_from_0_to_1() -> None:
    frames = np.zeros((4, 2, 2, 3), np.uint8)
    frames[1] = 51
    pictured = episode(observations={"frame": frames, "position": np.zeros((4, 2))})
    data = Recording([pictured]).data(evidence="action")
    assert data.query.dtype == np.float32
    np.testing.assert_allclose(data.query[0, 1], 0.2, rtol=1e-6)
    assert Recording([pictured]).data("position").query_shape == (4, 2)
    both = Recording([pictured]).data(["frame", "reward"], ["action", "position"])
    assert both.query_shape == {"frame": (4, 2, 2, 3), "reward": (4, 1)}
    assert both.query_names == ("frame", "reward")
    np.testing.assert_array_equal(both.query["frame"], data.query)
    assert (both.evidence_shape, both.evidence_names) == ((4, 3), ("action", "position0", "position1"))
    led = Recording([pictured]).data("reward", ["action", "frame"])
    assert led.evidence_shape == {"action": (4, 1), "frame": (4, 2, 2, 3)}
    with pytest.raises(ValueError, match=r"query\['a'\]: 'frame' holds images .* name each alone"):
        Recording([pictured]).data({"a": ["frame", "reward"]})


def test_a_dictionary_says_which_part_goes_where() -> None:
    arm = episode(observations={"arm/angle": np.arange(4.0), "grid": np.ones((4, 2, 3)), "room": np.arange(4) % 3})
    made = Recording([arm, arm], CATEGORIES)
    several = made.data()
    assert several.query_shape == {"arm": {"angle": (4, 1)}, "grid": (4, 2, 3), "room": (4, 3)}
    assert several.query_names == ("arm.angle", "grid", "room0", "room1", "room2")
    assert made.data("grid").query_shape == (4, 6)
    data = made.data({"body": ["arm/angle", "reward"], "map": "grid"}, {"u": "action"})
    assert data.query_shape == {"body": (4, 2), "map": (4, 2, 3)}
    np.testing.assert_array_equal(data.query["body"][1], [[0, 0], [1, 10], [2, 11], [3, 12]])
    assert data.evidence_shape == {"u": (4, 2)}
    one = made.data([["arm/angle", "reward"]])
    np.testing.assert_array_equal(one.query, data.query["body"])
    assert one.query_names == ("arm/angle", "reward")
    with pytest.raises(ValueError, match=r"query\['body'\]: the recording has no 'joint'"):
        made.data({"body": "joint"})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: episode(rewards=np.zeros(0)), "rewards: expected"),
        (lambda: episode(rewards=np.zeros(2)), "observations: 'position' must have 3 entries"),
        (lambda: episode(actions={"action": np.zeros(4)}), "actions: 'action' must have 3 entries"),
        (lambda: episode(actions={}), "at least one observation and one action"),
        (lambda: Recording([]), "at least one episode"),
        (lambda: Recording([episode()]).data("positon"), "did you mean 'position'"),
        (lambda: Recording([episode()]).data(["room", "room"]), "named twice"),
        (lambda: Recording([episode()], {"room": range(2)}).data(), "room: expected the integers 0 to 1"),
        (lambda: Recording([episode(), episode(observations={"room": np.arange(4)})]).data(), "episode 1 has no 'pos"),
        (
            lambda: Recording([episode(), episode(observations={"position": np.ones((4, 3))})]).data("position"),
            "episode 1 has the shape",
        ),
        (
            lambda: Recording([episode(actions={"action": np.array([0.0, np.nan, 0.0])})]).data(evidence="action"),
            "evidence must be complete and finite; column 'action'",
        ),
    ],
)
def test_what_is_wrong_is_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# -- Minari ------------------------------------------------------------------------------------------------------------


def minari_file(path: Path, steps: tuple[int, ...] = (2, 3)) -> None:
    """A data set as Minari 0.5 writes it, of a dictionary with a picture kept as JPEG, by hand."""
    h5py = pytest.importorskip("h5py")
    image = pytest.importorskip("PIL.Image")
    import io

    def jpeg(level: int) -> np.ndarray:
        buffer = io.BytesIO()
        image.fromarray(np.full((40, 32, 3), level, np.uint8)).save(buffer, format="JPEG")
        return np.frombuffer(buffer.getvalue(), np.uint8)

    path.mkdir(parents=True)
    with h5py.File(path / "main_data.hdf5", "w", track_order=True) as file:
        for k, count in enumerate(steps):
            group = file.create_group(f"episode_{k}")
            group.attrs.update({"id": k, "total_steps": count, "seed": 7 + k})
            group.create_dataset("observations/arm/angle", data=np.arange(count + 1.0)[:, None])
            codes = [jpeg(10 * t) for t in range(count + 1)]
            kept = group.create_dataset("observations/camera", (count + 1,), h5py.vlen_dtype(np.uint8))
            for t, code in enumerate(codes):
                kept[t] = code
            group.create_dataset("observations/words", data=["go"] * (count + 1), dtype=h5py.string_dtype())
            group.create_dataset("actions", data=1 + np.arange(count) % 2)
            group.create_dataset("rewards", data=np.ones(count))
            group.create_dataset("terminations", data=np.arange(count) == count - 1)
            group.create_dataset("truncations", data=np.zeros(count, bool))
            group.create_dataset("infos/depth/x", data=np.arange(count + 1))
    box = {"type": "Box", "dtype": "uint8", "shape": [40, 32, 3], "low": 0, "high": 255}
    angle = {"type": "Box", "dtype": "float64", "shape": [1], "low": [-9.0], "high": [9.0]}
    spaces = {"arm": {"type": "Dict", "subspaces": {"angle": angle}}, "camera": box, "words": {"type": "Text"}}
    about = {
        "data_format": "hdf5",
        "dataset_id": "arm-v0",
        "observation_space": json.dumps({"type": "Dict", "subspaces": spaces}),
        "action_space": json.dumps({"type": "Discrete", "dtype": "int64", "start": 1, "n": 2}),
    }
    (path / "metadata.json").write_text(json.dumps(about))


def test_minaris_layout_is_read(tmp_path: Path) -> None:
    minari_file(tmp_path / "arm-v0" / "data")
    found = recording(tmp_path / "arm-v0")
    assert found.name == "arm-v0"
    assert found.parts == ("arm/angle", "camera", "action", "reward", "terminated")
    assert found.categories == {"action": range(1, 3)}
    assert [len(each) for each in found.episodes] == [2, 3]
    first = found.episodes[0]
    assert (first.seed, first.terminated, first.truncated) == (7, True, False)
    np.testing.assert_array_equal(first.infos["depth/x"], [0, 1, 2])
    images = read(tmp_path / "arm-v0" / "data", evidence="action")
    assert images.query_shape == (4, 40, 32, 3)
    np.testing.assert_allclose(images.query[1, 3] * 255, 30, atol=1)
    np.testing.assert_array_equal(images.evidence[0, :3], [[0, 0], [1, 0], [0, 1]])
    angles = read(tmp_path / "arm-v0" / "data" / "main_data.hdf5", ["arm/angle", "reward"])
    np.testing.assert_array_equal(angles.query["arm"]["angle"][1], [[0], [1], [2], [3]])
    np.testing.assert_array_equal(angles.query["reward"][1], [[0], [1], [1], [1]])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    frames = np.arange(4 * 32 * 32 * 3, dtype=np.uint32).reshape(4, 32, 32, 3).astype(np.uint8)
    observations = {"frame": frames, "pose/angle": np.arange(4.0), "room": np.array([0, 1, 2, 0])}
    made = Recording(
        [episode(observations=observations, infos={"a/b": np.arange(4)}, seed=3), episode(observations=observations)],
        CATEGORIES,
    )
    write_minari(made, tmp_path / "rooms-v2")
    found = recording(tmp_path / "rooms-v2")
    assert found.categories == CATEGORIES
    for one, other in zip(found.episodes, made.episodes, strict=True):
        assert (one.seed, one.terminated, one.truncated) == (other.seed, other.terminated, other.truncated)
        for field in ("observations", "actions", "infos"):
            assert set(getattr(one, field)) == set(getattr(other, field))
            for name, array in getattr(one, field).items():
                np.testing.assert_array_equal(array, getattr(other, field)[name])
        np.testing.assert_array_equal(one.rewards, other.rewards)
    about = json.loads((tmp_path / "rooms-v2" / "data" / "metadata.json").read_text())
    assert (about["total_episodes"], about["total_steps"], about["jpeg_encoding"]) == (2, 6, False)
    space = json.loads(about["observation_space"])
    assert space["subspaces"]["frame"]["shape"] == [32, 32, 3]
    assert space["subspaces"]["pose"]["subspaces"]["angle"]["shape"] == []
    with pytest.raises(FileExistsError, match="replace it with force=True"):
        write_minari(made, tmp_path / "rooms-v2")
    write_minari(Recording(made.episodes[:1], CATEGORIES), tmp_path / "rooms-v2", force=True)
    assert len(recording(tmp_path / "rooms-v2")) == 1
    (tmp_path / "mine-v0").mkdir()
    with pytest.raises(FileExistsError, match="is no data set of Minari"):
        write_minari(made, tmp_path / "mine-v0", force=True)
    with pytest.raises(ValueError, match="such as rooms-v0"):
        write_minari(made, tmp_path / "rooms")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mine-v0", "rooms-v2"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    (tmp_path / "a.hdf5").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"a\.hdf5 is not a readable HDF5 file"):
        recording(tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        file["observations"] = np.zeros(3)
    with pytest.raises(ValueError, match="expected groups named episode_0"):
        recording(tmp_path / "b.hdf5")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["episode_0/observations"] = np.zeros(3)
        file["episode_0/actions"] = np.zeros(3)
    with pytest.raises(ValueError, match="episode_0: rewards is missing; there are actions, observations"):
        read(tmp_path / "c.h5")
    with h5py.File(tmp_path / "c.h5", "a") as file:
        file["episode_0/rewards"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"c\.h5, episode_0: observations: 'observation' must have 4 entries"):
        read(tmp_path / "c.h5")
    for place in (tmp_path, tmp_path / "nothing.hdf5"):
        with pytest.raises(FileNotFoundError, match="is no recording"):
            recording(place)
    with pytest.raises(FileNotFoundError, match="is no recording"):
        read(tmp_path / "nothing.hdf5")
    with pytest.raises(ValueError, match=r"episode: .* is a recording, which has no columns"):
        read(tmp_path / "c.h5", episode="e")


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    (tmp_path / "a.hdf5").touch()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'veil\[sequences\]'"):
        recording(tmp_path / "a.hdf5")


def test_public_names() -> None:
    assert {"grouped", "recording", "windows", "write_minari"} <= set(veil.data.__all__)
