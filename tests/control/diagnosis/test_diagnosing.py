"""The whole diagnosis, of a run without slips and of one with several; the command; the film."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

import veil
from veil.control import diagnose
from veil.control.diagnosis.findings import ACTION_SHIFTED, FINE, NAMED, NOISE_REPORTED, REPEAT_LOST, TRUNCATION
from veil.data import Recording
from veil.data.recorded import folders

SMALL: Any = {"horizon": 6, "starts": 3, "draws": 2, "random": 6, "repeat": 2, "limit": 60}


def test_a_run_and_the_same_with_slips(skill: Any, recording: Recording, fresh: Recording) -> None:
    """Nothing is said against the first; of the second what was planted, by name, and no other slip."""
    found = diagnose(skill, recording, key=jax.random.key(0), fresh=fresh, **SMALL)
    assert found.faults == ()
    assert [each.name for each in found.findings[: len(NAMED)]] == list(NAMED)
    assert {found.finding(name).severity for name in NAMED} == {FINE}
    assert sorted(found.log_likelihood) == ["all", "observation", "reward", "terminated"]
    assert len(found.log_likelihood["all"]) == len(found.bias) == 6
    assert np.all(np.isfinite([each.value for each in found.log_likelihood["all"]]))
    told = found.as_dict()
    assert json.loads(json.dumps(told, allow_nan=False))["findings"][ACTION_SHIFTED]["severity"] == FINE
    np.testing.assert_allclose(told["return_mean"], np.mean([np.sum(each.rewards) for each in fresh.episodes]))
    assert "3 fresh episodes of the skill" in repr(found)
    assert "action one step off: fine" in repr(found)

    def slipped(number: int, each: Any) -> Any:
        late = {"action": np.roll(each.actions["action"], 1, 0)}
        steps = {"steps": np.full(len(each), 2 if number == 0 else 1)}
        return replace(each, actions=late, infos=steps, terminated=True, truncated=False)

    wrong = replace(recording, episodes=[slipped(*each) for each in enumerate(recording.episodes)])
    options = {**SMALL, "limit": 30}
    other = diagnose(skill, wrong, key=jax.random.key(0), fresh=fresh, reported=skill.returns[:3], **options)
    assert set(other.faults) == {ACTION_SHIFTED, TRUNCATION, REPEAT_LOST, NOISE_REPORTED}
    with pytest.raises(TypeError, match="skill: expected what"):
        diagnose(recording, recording, key=jax.random.key(0))


@pytest.fixture
def run(skill: Any, recording: Recording, tmp_path: Path) -> Path:
    """The run as ``veil train-agent`` leaves it."""
    from veil.cli import agency

    place = tmp_path / "run"
    folders.begin(place / "episodes", {"environment": "Pendulum-v1", "seed": 0, "categories": {}}, False)
    for number, each in enumerate(recording.episodes):
        folders.write_episode(place / "episodes", number, each)
    veil.save(place / agency.SKILL, skill)
    asked = {"env": "Pendulum-v1", "frames": None, "grey": False, "repeat": 2, "random": 6, "seed": 0, "agent": "actor"}
    record = {"format": agency.FORMAT, "version": agency.VERSION, "asked": asked}
    (place / agency.ABOUT).write_text(json.dumps(record))
    return place


def test_the_command(run: Path) -> None:
    """Of the newest episodes, without playing any; and what it refuses."""
    from veil.cli.app import app

    def said(*words: Any) -> Any:
        return CliRunner().invoke(app, ["diagnose", *map(str, words)])

    picture = run.parent / "horizons.png"
    outcome = said(run, "--episodes", 0, "--horizon", 3, "--out", picture, "--json")
    assert outcome.exit_code == 0, outcome.stderr
    told = json.loads(outcome.stdout)
    assert told["faults"] == []
    assert told["episodes"] == "6 newest episodes of the recording"
    assert told["return_mean"] is None
    assert set(NAMED) <= set(told["findings"])
    assert picture.stat().st_size > 10_000
    for words, wanted in (
        ((run, "--film", run.parent / "x.gif"), "--film: this agent sees no frames"),
        ((run, "--film", run.parent / "x.png"), "--film: expected a file that ends in .gif or .mp4"),
        ((run, "--out", run.parent / "no" / "x.png"), "--out: the folder"),
        ((run.parent,), "RUN: "),
    ):
        refused = said(*words)
        assert refused.exit_code == 2
        assert wanted in refused.stderr
