"""A policy from a recording on the command line: one datum a step, an action with where it was taken."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import veil as library
from veil.cli import reading
from veil.data.recorded import folders


def test_a_cloned_expert_on_the_command_line(veil, tmp_path) -> None:
    """u_t = -0.5 o_t: by the observation that an action led to the slope would be about -0.25."""
    rng = np.random.default_rng(0)
    folders.begin(tmp_path / "expert", {}, force=False)
    for number in range(12):
        seen, done = [rng.normal()], []
        for _ in range(8 + number % 3):
            done.append(-0.5 * seen[-1] + 0.05 * rng.normal())
            seen.append(seen[-1] + done[-1] + 0.3 * rng.normal())
        episode = library.data.Episode({"observation": np.array(seen)}, {"action": np.array(done)}, np.ones(len(done)))
        folders.write_episode(tmp_path / "expert", number, episode)
    run, roles = tmp_path / "run", ("--query", "action", "--evidence", "observation")
    fitted = veil("fit", "linear-gaussian", tmp_path / "expert", *roles, "--out", run)
    assert (fitted.code, fitted.err) == (0, ""), fitted
    assert "expert, actions taken" in fitted.out
    record = json.loads((run / "config.json").read_text())["data"]
    assert (record["rows"], record["query"], record["parts"]["query"]) == (12 * 9, ["action"], ["action"])
    with jax.enable_x64(True):
        fit = library.load(run)
        assert abs(float(fit.model.experts.weight[0, 0, 1]) + 0.5) < 0.05
        assert fit.view.taken
        data = library.data.recording(tmp_path / "expert").data("action", "observation")
        expected = library.evaluate(fit, data).log_likelihood
    told = veil("evaluate", run, tmp_path / "expert", "--json").json
    assert told["log_likelihood"] == pytest.approx(expected, rel=1e-6)
    words = ("sample", run, "--count", 1, "--evidence-values", tmp_path / "expert", "--out", tmp_path / "s.csv")
    assert veil(*words).code == 0
    assert len(library.data.read(tmp_path / "s.csv")) == 12 * 10  # an action for every observation, the last ones too


def test_a_policy_from_demonstrations_in_robomimics_layout(veil, tmp_path) -> None:
    """u_t = 2 o_t, and o_t+1 is another number: the action is learned from the observation at which it was taken."""
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "lift.hdf5", "w") as file:
        for number in range(10):
            seen = rng.normal(size=(9, 1))
            group = file.create_group(f"data/demo_{number}")
            group["actions"] = 2 * seen[:-1] + 0.05 * rng.normal(size=(8, 1))
            group["obs/arm"], group["next_obs/arm"] = seen[:-1], seen[1:]
    run, roles = tmp_path / "run", ("--query", "action", "--evidence", "arm")
    fitted = veil("fit", "linear-gaussian", tmp_path / "lift.hdf5", *roles, "--out", run)
    assert (fitted.code, fitted.err) == (0, ""), fitted
    with jax.enable_x64(True):
        fit = library.load(run)
        assert abs(float(fit.model.experts.weight[0, 0, 1]) - 2) < 0.05
        expected = library.evaluate(fit, library.data.read(tmp_path / "lift.hdf5", "action", "arm")).log_likelihood
    told = veil("evaluate", run, tmp_path / "lift.hdf5", "--json").json
    assert told["log_likelihood"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("lerobot-0.3.3", False),
        ("lerobot-0.4.4", False),
        ("replay-zarr-2.18.3.zarr", False),
        ("replay-zarr-2.18.3.zarr", True),
    ],
)
def test_robot_data_are_data_by_their_path(name, packed, tmp_path) -> None:
    pytest.importorskip("zarr" if "zarr" in name else "pyarrow")
    source = Path(__file__).parents[1] / "data" / "robot_files" / f"{name}.zip"
    if not packed:
        shutil.unpack_archive(source, tmp_path / "robot")
        source = tmp_path / "robot"
    assert {"state", "action", "reward"} <= set(reading.column_names(str(source)))
    assert not reading.is_many(str(source))
    rows = reading.open_data(str(source), ["action"], ["state"])
    assert (len(rows), rows.query_names, rows.evidence_shape) == (16, ("action0", "action1"), (3,))
    sequences = reading.open_data(str(source), ["state"], ["action"], sequences=reading.Sequences(window=4))
    assert sequences.query_shape == (4, 3)
