"""``veil intent``: from simulated walks to what walkers want, and what is said of the wrong words."""

import csv
import json

import jax
import numpy as np
import pytest

MAP = """
A.....B
.~~.~~.
...@...
"""


@pytest.fixture(scope="module")
def walked(tmp_path_factory, veil):
    """A map, and walks of people of two goals on it."""
    folder = tmp_path_factory.mktemp("walks")
    (folder / "map.txt").write_text(MAP)
    outcome = veil("solve", folder / "map.txt", "--goal", "A,B", "--walks", 60, "--out", folder / "walks.csv")
    assert (outcome.code, outcome.err) == (0, "")
    return folder


@pytest.fixture(scope="module")
def run(walked, veil):
    """A run: which goal."""
    words = "--world", walked / "map.txt", "--out", walked / "goals", "--steps", 60, "--picture", walked / "goals.png"
    outcome = veil("intent", "fit", walked / "walks.csv", *words)
    assert outcome.code == 0, outcome.err
    assert "how common: A " in outcome.out
    assert (walked / "goals.png").stat().st_size > 5000
    return walked / "goals"


def rows(place):
    with place.open() as file:
        return list(csv.DictReader(file))


def test_goals_are_told_from_the_walks(run, walked, veil):
    outcome = veil("intent", "infer", run, walked / "walks.csv", "--out", walked / "told.csv")
    assert outcome.code == 0
    truth = {row["episode"]: row["goal"] for row in rows(walked / "walks.csv")}
    told = {row["sequence"]: row["most_likely"] for row in rows(walked / "told.csv")}
    assert told.keys() == truth.keys()
    assert sum(told[n] == truth[n] for n in truth) >= 58  # of 60 that each end at their goal


def test_the_posterior_is_that_of_the_library(run, walked, veil):
    import veil as library
    from veil.saved import runs

    found = veil("intent", "infer", run, walked / "walks.csv", "--online", "--json").json
    table = rows(walked / "walks.csv")
    chosen = [row for row in table if row["episode"] == "3"]
    states, actions = ([float(row[name]) for row in chosen] for name in ("state", "action"))
    with jax.enable_x64(True):
        fit = runs.read(run).load()
        data = library.data.episodes([np.array(actions)[:, None]], [np.array(states)[:, None]])
        expected = library.infer(fit, data, filtered=True)
    one = found["episodes"][3]
    np.testing.assert_allclose(one["posterior"], expected.probabilities[0], atol=1e-10)
    np.testing.assert_allclose(one["log_likelihood"], expected.log_likelihood[0], atol=1e-10)
    assert (found["kinds"], one["episode"], len(one["posterior"])) == (["A", "B"], 3, len(chosen))


def test_other_commands_take_the_run(run, walked, veil):
    assert "nats, exact" in veil("evaluate", run, walked / "walks.csv").out
    assert veil("report", run).code == 0
    assert veil("infer", run, walked / "walks.csv", "--out", walked / "plain.csv").code == 0


def test_a_film_of_the_belief(run, walked, veil):
    from PIL import Image

    outcome = veil("intent", "infer", run, walked / "walks.csv", "--film", walked / "belief.gif", "--filmed", 3)
    assert outcome.code == 0
    count = sum(row["episode"] == "3" for row in rows(walked / "walks.csv"))
    with Image.open(walked / "belief.gif") as film:
        assert film.n_frames == count


def test_a_linear_reward_of_one_kind(walked, veil):
    words = "--world", walked / "map.txt", "--reward", "linear", "--steps", 100, "--out", walked / "linear"
    outcome = veil("intent", "fit", walked / "walks.csv", *words)
    assert "weights of kind 0 (nats): " in outcome.out
    assert "per decision" in outcome.out
    outcome = veil("intent", "infer", walked / "linear", walked / "walks.csv")
    assert outcome.code == 2
    assert "one kind" in outcome.err


def test_what_may_change_has_a_posterior_at_each_step(walked, veil):
    words = "--world", walked / "map.txt", "--changes", "--steps", 30, "--out", walked / "changing"
    assert veil("intent", "fit", walked / "walks.csv", *words).code == 0
    veil("intent", "infer", walked / "changing", walked / "walks.csv", "--out", walked / "changing.csv", "-q")
    found = rows(walked / "changing.csv")
    assert len(found) == len(rows(walked / "walks.csv"))
    assert {row["path"] for row in found} == {"A", "B"}
    np.testing.assert_allclose([float(row["A"]) + float(row["B"]) for row in found], 1.0)


def test_sub_goals_of_cooks(walked, veil):
    words = "overcooked-cramped-room", "--world", "overcooked", "--out", walked / "cooks"
    outcome = veil("intent", "fit", *words, "--steps", 2)
    assert (outcome.code, "held-out pairs: -" in outcome.out) == (0, True), outcome.err
    found = veil("intent", "infer", walked / "cooks", "overcooked-cramped-room", "--json").json
    assert found["kinds"] == ["counter", "dish", "onion", "pot", "serve"]
    assert len(found["episodes"]) == 32  # two players of 16 games
    np.testing.assert_allclose(np.sum(found["episodes"][0]["posterior"], 1), 1.0, atol=1e-6)
    assert (
        "is of the kitchen" in veil("intent", "infer", walked / "cooks", "overcooked-coordination-ring", "--json").err
    )
    assert "say where" in veil("intent", "infer", walked / "cooks", "overcooked-cramped-room").err
    assert "holds a run already" in veil("intent", "fit", *words).err
    assert "--kinds: with --world overcooked" in veil("intent", "fit", *words, "--force", "--kinds", 2).err


def test_a_world_of_tables_with_a_horizon(walked, veil):
    rng = np.random.default_rng(0)
    tables = {"probabilities": rng.dirichlet(np.ones(4), (4, 3)), "horizon": 6, "features": np.eye(4)[:, 1:]}
    np.savez(walked / "world.npz", reward=rng.normal(size=4), **tables)
    assert veil("solve", walked / "world.npz", "--walks", 30, "--out", walked / "w.csv").code == 0
    assert len(rows(walked / "w.csv")) == 180
    words = "intent", "fit", walked / "w.csv", "--world", walked / "world.npz", "--out", walked / "tables"
    outcome = veil(*words, "--reward", "linear", "--state", "state,step", "--steps", 50)
    assert outcome.code == 0, outcome.err
    assert "--state state,step" in veil(*words, "--reward", "linear", "--force").err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--reward", "money"), "--reward: there is no 'money'"),
        (("--reward", "table", "--rationalities", "1,2"), "it is of --reward goals"),
        (("--rationalities", "0,1"), "positive numbers"),
        (("--kinds", 2), "the kinds are the goals"),
        (("--changes", "--reward", "table"), "have nothing to change"),
        (("--world", "overcooked"), "with --world overcooked it is one of"),
        (("--episode", "who"), "has no column 'who'"),
        (("--world", "random"), "--reward goals: only of a map"),
        (("--world", "random", "--reward", "linear"), "need features"),
        (("--world", "{small}"), "from 0 to"),
        (("--action", "row,action"), "expected one column, the action"),
        (("--reward", "linear", "--features", "?"), "got '?'"),
    ],
)
def test_what_is_wrong_is_said(walked, veil, words, said):
    small = walked / "small.txt"
    small.write_text("A.B\n.@.")
    given = [str(word).format(small=small) for word in words]
    world = () if "--world" in given else ("--world", walked / "map.txt")
    outcome = veil("intent", "fit", walked / "walks.csv", "--out", walked / "wrong", *world, *given)
    assert outcome.code == 2
    assert said in outcome.err
    assert not (walked / "wrong").exists()
    assert not json.dumps(outcome.out).count("Traceback")
