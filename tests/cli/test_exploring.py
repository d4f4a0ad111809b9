"""``veil explore``: who finds the treasure, what is written, and wrong usage."""

import json

import pytest

import veil as library


def test_the_treasure_with_counts_and_without(veil, tmp_path):
    words = "explore", "deep-sea", "--size", 8, "--json"
    told = veil(*words, "--out", tmp_path / "sea", "--film", tmp_path / "sea.gif").json
    assert told["solved"]
    assert told["episodes_to_solve"] < 300
    assert told["coverage"] > 0.8
    assert (tmp_path / "sea.gif").stat().st_size > 1000
    assert (tmp_path / "sea" / "visits.png").is_file()
    record = json.loads((tmp_path / "sea" / "explored.json").read_text())
    assert record["found"] == told
    assert record["asked"]["bonus"] == "count"
    lost = veil(*words, "--bonus", "none", "--episodes", 200, "--out", tmp_path / "lost")
    assert not lost.json["solved"]


def test_an_environment_and_what_was_learned(veil, tmp_path):
    words = "explore", "MountainCar-v0", "--bonus", "hash", "--steps", 512, "--together", 2
    told = veil(*words, "--out", tmp_path / "car", "--json").json
    assert told["environment_steps"] == 512
    assert told["first_reward"] is None
    assert (tmp_path / "car" / "returns.png").is_file()
    actor = library.load(tmp_path / "car" / "actor")
    import jax
    import numpy as np

    assert int(actor.act((), np.zeros(2, np.float32), jax.random.key(0))[0]) in (0, 1, 2)
    said = veil("explore", "veil/DeepSea-v0", "--steps", 256, "--together", 2, "--out", tmp_path / "sea").out
    assert "ppo with count in veil/DeepSea-v0" in said


def test_a_world_model_with_what_is_new(veil, tmp_path):
    """What was learned acts without the command."""
    words = "explore", "CartPole-v1", "--agent", "plan", "--bonus", "gain", "--episodes", 2
    told = veil(*words, "--out", tmp_path / "cart", "--json").json
    assert told["episodes"] == 2
    assert told["environment_steps"] >= 16
    assert type(library.load(tmp_path / "cart" / "actor")).__name__ == "ImaginingSkill"
    assert (tmp_path / "cart" / "returns.png").is_file()


def test_wrong_usage(refused, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "other.txt").write_text("mine")
    out = "--out", tmp_path / "new"
    assert "--bonus: there is no 'counts'; did you mean" in refused("explore", "deep-sea", "--bonus", "counts", *out)
    assert "--agent: there is no 'dqn'" in refused("explore", "deep-sea", "--agent", "dqn", *out)
    assert "--agent q: its tables are of deep-sea" in refused("explore", "CartPole-v1", "--agent", "q", *out)
    assert "--agent plan: states that are numbered" in refused("explore", "deep-sea", "--agent", "plan", *out)
    assert "tables know counts" in refused("explore", "deep-sea", "--bonus", "rnd", *out)
    assert "--film: it is of deep-sea's map" in refused(
        "explore", "CartPole-v1", "--film", tmp_path / "a.gif", "--bonus", "rnd", *out
    )
    assert "of states that are numbered" in refused("explore", "CartPole-v1", *out)
    assert "between finite bounds" in refused("explore", "CartPole-v1", "--bonus", "pseudo-count", *out)
    assert "ENV: " in refused("explore", "CartPole-v9", "--bonus", "rnd", *out)
    assert "holds other things" in refused("explore", "deep-sea", "--out", tmp_path / "full")
    assert "is not deleted" in refused("explore", "deep-sea", "--out", tmp_path / "full", "--force")
    assert (tmp_path / "full" / "other.txt").read_text() == "mine"


@pytest.mark.parametrize("agent", ["ppo", "sac"])
def test_too_few_steps_are_refused(refused, agent, tmp_path):
    words = "--bonus", "none", "--agent", agent, "--steps", 10, "--out", tmp_path / agent
    assert "--steps: expected" in refused("explore", "Pendulum-v1", *words)
