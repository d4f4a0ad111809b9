"""A policy from a recording on the command line: one datum a step, an action with where it was taken."""

import json

import jax
import numpy as np
import pytest

import veil as library
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
