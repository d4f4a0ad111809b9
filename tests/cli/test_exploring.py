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


@pytest.mark.parametrize("agent", ["bootstrapped", "k-learning", "posterior-sampling"])
def test_others_find_the_treasure_too(veil, tmp_path, agent):
    small = ("--members", 8, "--prior", 2.0) if agent == "bootstrapped" else ()
    words = "explore", "deep-sea", "--size", 6, "--agent", agent, "--episodes", 400, *small
    told = veil(*words, "--json", "--out", tmp_path / "sea").json
    assert told["solved"]
    assert told["episodes_to_solve"] <= told["episodes"] <= 400
    assert told["coverage"] > 0.5
    record = json.loads((tmp_path / "sea" / "explored.json").read_text())
    assert record["found"] == told
    assert record["asked"]["bonus"] == "none"
    assert record["asked"].get("members") == (8 if small else None)


def test_networks_with_counts_and_in_an_environment(veil, tmp_path):
    words = "explore", "deep-sea", "--size", 6, "--agent", "bootstrapped", "--bonus", "count", "--weight", 0.2
    said = veil(*words, "--out", tmp_path / "sea").out
    assert "bootstrapped with count in deep-sea, 6 rows: solved in episode" in said
    words = "explore", "CartPole-v1", "--agent", "bootstrapped", "--bonus", "hash", "--steps", 260, "--members", 2
    told = veil(*words, "--json", "--out", tmp_path / "cart").json
    assert told["environment_steps"] == 260
    actor = library.load(tmp_path / "cart" / "actor")
    import jax
    import numpy as np

    assert int(actor.act(0, np.zeros(4, np.float32), jax.random.key(0))[0]) in (0, 1)


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
    assert "in deep-sea q knows counts" in refused("explore", "deep-sea", "--bonus", "rnd", *out)
    for agent, bonus, words in (
        ("k-learning", "count", "k-learning explores by what it believes"),
        ("bootstrapped", "rnd", "in deep-sea bootstrapped knows counts"),
    ):
        assert words in refused("explore", "deep-sea", "--agent", agent, "--bonus", bonus, *out)
    boots = "--agent", "bootstrapped"
    assert "its tables are of deep-sea" in refused("explore", "CartPole-v1", "--agent", "posterior-sampling", *out)
    assert "which bootstrapped asks before" in refused("explore", "CartPole-v1", *boots, "--bonus", "icm", *out)
    assert "these are vectors" in refused("explore", "Pendulum-v1", *boots, "--bonus", "rnd", *out)
    assert "ENV: expected one of some actions" in refused("explore", "Pendulum-v1", *boots, *out, "--force")
    assert "--weight: it is of a bonus" in refused("explore", "deep-sea", *boots, "--weight", 1.0, *out)
    zero = "--bonus", "count", "--weight", 0, "--force"
    assert "--weight: expected a positive number" in refused("explore", "deep-sea", *boots, *zero, *out)
    assert "--prior: it is of --agent bootstrapped" in refused("explore", "deep-sea", "--prior", 1.0, *out)
    maxinfo = "--agent", "maxinfo", "--bonus", "rnd"
    assert "asks what an action may tell" in refused("explore", "Pendulum-v1", *maxinfo, *out)
    assert "--film: it is of deep-sea's map" in refused(
        "explore", "CartPole-v1", "--film", tmp_path / "a.gif", "--bonus", "rnd", *out
    )
    assert "of states that are numbered" in refused("explore", "CartPole-v1", *out)
    assert "between finite bounds" in refused("explore", "CartPole-v1", "--bonus", "pseudo-count", *out)
    assert "ENV: " in refused("explore", "CartPole-v9", "--bonus", "rnd", *out)
    assert "holds other things" in refused("explore", "deep-sea", "--out", tmp_path / "full")
    assert "is not deleted" in refused("explore", "deep-sea", "--out", tmp_path / "full", "--force")
    assert (tmp_path / "full" / "other.txt").read_text() == "mine"


@pytest.mark.parametrize("agent", ["ppo", "sac", "maxinfo"])
def test_too_few_steps_are_refused(refused, agent, tmp_path):
    words = (
        "--bonus",
        "disagreement" if agent == "maxinfo" else "none",
        "--agent",
        agent,
        "--steps",
        10,
        "--out",
        tmp_path / agent,
    )
    assert "--steps: expected" in refused("explore", "Pendulum-v1", *words)
