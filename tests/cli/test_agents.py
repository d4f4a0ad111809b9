"""``veil train-agent`` and ``veil play``: a small agent, what it says and writes, and wrong usage."""

import json
import shutil

import pytest

from veil.data import recording

pytest.importorskip("gymnasium")
pytest.importorskip("orbax.checkpoint")
SMALL = ("--random", 2, "--first", 2, "--updates", 0.02, "--latent", 2, "--memory", 4, "--width", 4, "--batch-size", 2)
SMALL += ("--window", 5, "--repeat", 10, "--horizon", 2, "--judged", 2)


@pytest.fixture(scope="module")
def run(veil, tmp_path_factory):
    """A planner on the states of a pendulum. Not to be written to."""
    out = tmp_path_factory.mktemp("runs") / "agent"
    words = ("--agent", "planner", "--planner", "icem", "--candidates", 40, *SMALL)
    outcome = veil("train-agent", "Pendulum-v1", "--episodes", 3, *words, "--out", out, "--json")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    told = outcome.json
    assert (told["episodes"], told["environment_steps"], told["success"]) == (2, 600, None)
    assert told["return_mean"] < 0
    assert told["return_standard_error"] >= 0
    assert told["seconds"] > 0
    return out


def test_a_run_goes_on_with_more_episodes(veil, refused, run, tmp_path):
    shutil.copytree(run, tmp_path / "more")
    words = ("--agent", "planner", "--planner", "icem", "--candidates", 40, *SMALL, "--out", tmp_path / "more")
    outcome = veil("train-agent", "Pendulum-v1", "--episodes", 4, *words)
    assert outcome.code == 0, outcome
    assert "planner in Pendulum-v1, after 4 episodes of 800 steps in all" in outcome.out
    assert f"veil play {tmp_path / 'more'}" in outcome.out
    lines = [json.loads(line) for line in (tmp_path / "more" / "progress.jsonl").read_text().splitlines()]
    assert [(line["episode"], line["steps"]) for line in lines] == [(3, 600), (4, 800)]
    assert lines[0]["seconds"] < lines[1]["seconds"]
    found = recording(tmp_path / "more" / "episodes")
    assert [len(each) for each in found.episodes] == [20] * 4
    assert lines[1]["return"] == pytest.approx(found.episodes[3].rewards.sum())
    line = refused("train-agent", "Pendulum-v1", "--episodes", 4, *words, "--seed", 1)
    assert "seed 0 in place of 1; ask for the same to go on" in line


def test_playing(veil, run, tmp_path):
    told = veil("play", run, "--episodes", 2, "--film", tmp_path / "film.gif", "--json").json
    assert (told["episodes"], told["environment"]) == (2, "Pendulum-v1")
    assert (tmp_path / "film.gif").read_bytes().startswith(b"GIF")
    outcome = veil("play", run, "--episodes", 2, "--out", tmp_path / "kept")
    assert outcome.code == 0, outcome
    assert "planner in Pendulum-v1: return" in outcome.out
    assert len(recording(tmp_path / "kept")) == 2
    explored = veil("play", run, "--episodes", 2, "--exploring", "--json").json
    assert explored["return_mean"] != told["return_mean"]


def test_wrong_usage(refused, run, tmp_path):
    base = ("train-agent", "Pendulum-v1", "--episodes", 3, "--out", tmp_path / "new")
    small = (*base, "--random", 2)
    assert "there is no 'planer'; did you mean" in refused(*small, "--agent", "planer")
    assert "--planner: it is of --agent planner" in refused(*small, "--planner", "mppi")
    assert "--frames: expected 8, 16, 32, 64 pixels a side; got 30" in refused(*small, "--frames", 30)
    assert "--grey: it is of images" in refused(*small, "--grey")
    assert "--episodes: expected more than the 5 random ones" in refused(*base)
    assert "--updates: expected a positive number; got 0" in refused(*small, "--updates", 0)
    assert "--discount: expected a number above 0" in refused(*small, "--discount", 2)
    wrong = ("train-agent", "CartPole-v1", "--episodes", 3, "--random", 2, "--out", tmp_path / "cart")
    assert "planners are for real actions" in refused(*wrong, "--agent", "planner")
    nowhere = ("train-agent", "Pendulum-v9", "--episodes", 3, "--random", 2, "--out", tmp_path / "no")
    assert "ENV: " in refused(*nowhere)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    words = ("train-agent", "Pendulum-v1", "--episodes", 3, "--random", 2, "--out", tmp_path / "other")
    assert "exists and holds other things" in refused(*words)
    assert "is no agent's run; make one with veil train-agent" in refused("play", tmp_path)
    assert "--film: expected a file that ends in" in refused("play", run, "--film", tmp_path / "film.avi")
