"""``veil imitate`` and ``veil act``: small policies for the tree, what they say and write, and wrong usage."""

import json
import shutil

import numpy as np
import pytest

import veil as library
from veil.control.worlds import Tree, drives
from veil.data import recording

pytest.importorskip("gymnasium")
QUICK = ("--steps", 30, "--batch-size", 32, "--episodes", "first:12")


@pytest.fixture(scope="module")
def single(veil, tmp_path_factory):
    """A mixture density policy of single actions, tried while it learns. Not to be written to."""
    out = tmp_path_factory.mktemp("runs") / "single"
    words = ("--policy", "mdn", "--components", 2, "--hidden", 16, "--env", "tree", "--held-out", 0.25)
    outcome = veil("imitate", "tree", *words, *QUICK, "--choose", "low-noise", "--out", out)
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert outcome.out.count("success") == 10
    assert "after 30 steps: success" in outcome.out
    return out


@pytest.fixture(scope="module")
def chunked(veil, tmp_path_factory):
    """Flow matching of chunks, with moving averages."""
    out = tmp_path_factory.mktemp("runs") / "chunked"
    words = ("--policy", "flow-matching", "--width", 8, "--depth", 1, "--draws", 2, "--chunk", 4, "--observations", 2)
    outcome = veil("imitate", "tree", *words, "--execute", 3, *QUICK, "--out", out)
    assert outcome.code == 0, outcome
    return out


def test_the_run_remembers_how_to_act(single, chunked):
    config = json.loads((single / "config.json").read_text())
    assert config["act"] == {"policy": "mdn", "env": "tree", "execute": None, "choose": "low-noise"}
    assert config["model"]["name"] == "mdn"
    assert len(config["data"]["chunks"]["episodes"]) == 9  # of twelve a quarter is held out
    config = json.loads((chunked / "config.json").read_text())
    assert config["act"]["execute"] == 3
    assert config["fit"]["average"] == 0.999
    assert config["data"]["chunks"] == {
        "observations": 2,
        "horizon": 4,
        "repeat": True,
        "episodes": list(range(12)),
    }
    view = library.load(chunked).view
    assert (view.observations, view.horizon) == (2, 4)


def test_whole_episodes_are_held_out(single):
    """The log-likelihood of the run is that of the nine episodes that were learned from, and of no others."""
    config = json.loads((single / "config.json").read_text())
    some = recording("tree", config["data"]["chunks"]["episodes"]).data("action", "observation")
    end = json.loads((single / "metrics.jsonl").read_text().splitlines()[-1])["evaluation"]
    assert end["rows"] == len(some)
    fit = library.load(single)
    assert end["log_likelihood"] == pytest.approx(library.evaluate(fit, some).log_likelihood, rel=1e-5)


def test_trials_are_in_the_metrics(single):
    lines = [json.loads(line) for line in (single / "metrics.jsonl").read_text().splitlines()]
    tried = [line for line in lines if "success" in line]
    assert [line["step"] for line in tried] == list(range(3, 31, 3))
    assert all(0 <= line["success"] <= 1 for line in tried)
    assert len([line for line in lines if "value" in line]) == 30
    assert any("held_out" in line for line in lines)


def test_one_object_of_numbers(veil, single):
    """The same as driving the loaded policy by hand."""
    import jax

    told = veil("act", single, "tree", "--episodes", 40, "--seed", 3, "--json")
    assert (told.code, told.err, told.out.count("\n")) == (0, "", 1), told
    policy = library.Policy(library.load(single), library.LowNoise())
    found = drives(Tree(), policy, 40, jax.random.key(3))
    assert told.json["episodes"] == 40
    assert told.json["success"] == pytest.approx(found.rate()[0])
    assert told.json["return_mean"] == pytest.approx(found.rewards.sum(1).mean())
    error = found.rewards.sum(1).std(ddof=1) / np.sqrt(40)
    assert told.json["return_standard_error"] == pytest.approx(error, abs=1e-6)
    assert told.json["entropy"] == pytest.approx(found.entropy()[0])
    assert sum(told.json["outcomes"]) == found.success.sum()


def test_films_and_recordings(veil, chunked, tmp_path):
    from PIL import Image

    words = ("--episodes", 5, "--out", tmp_path / "kept", "--film", tmp_path / "film.gif")
    outcome = veil("act", chunked, "tree", *words)
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert "success" in outcome.out
    kept = recording(tmp_path / "kept")
    assert len(kept) == 5
    steps = sum(len(episode) + 1 for episode in kept.episodes[:4])
    with Image.open(tmp_path / "film.gif") as film:
        assert 1 < film.n_frames <= steps  # pictures that are the same are one
    assert veil("act", chunked, "tree", "--episodes", 5, "--film", tmp_path / "film.png", "-q").out == ""
    with Image.open(tmp_path / "film.png") as picture:
        assert picture.size == (384, 154)


def test_the_same_in_gymnasium(veil, chunked):
    """By the name of an environment that is no known one, one by one, through Gymnasium."""
    import gymnasium

    from veil.control.worlds.environment import tree

    if "veil/Short-v0" not in gymnasium.registry:
        gymnasium.register("veil/Short-v0", lambda render_mode=None: tree(render_mode, steps=4))
    told = veil("act", chunked, "veil/Short-v0", "--episodes", 3, "--json")
    assert (told.code, told.err) == (0, ""), told
    assert (told.json["success"], told.json["return_mean"]) == (0.0, 0.0)  # four steps are too few
    assert "entropy" not in told.json


def test_commands_of_runs_work_on_policies(veil, chunked, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(chunked, run)
    assert veil("report", run).code == 0
    assert (run / "report.html").is_file()
    drawn = veil("sample", run, "--count", 1, "--evidence-values", "tree", "--out", tmp_path / "draws.npz")
    assert drawn.code == 0, drawn
    with np.load(tmp_path / "draws.npz") as arrays:
        assert (arrays["query"].shape, arrays["evidence"].shape) == ((2528, 4, 1), (2528, 2, 3))


def test_a_latent_for_each_episode(veil, tmp_path):
    """Conditional VAE, chunks, an episode a datum: it can be learned, evaluated and acts."""
    out = tmp_path / "run"
    words = ("--latent", "episode", "--chunk", 2, "--hidden", 8, "--steps", 4, "--episodes", "last:6")
    assert veil("imitate", "tree", "--policy", "mdn", *words, "--out", out).code == 0
    told = veil("evaluate", out, "tree", "--json")
    assert told.json["rows"] == 200
    assert veil("act", out, "tree", "--episodes", 2, "--json").json["episodes"] == 2


def test_a_table_of_steps(veil, refused, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    rows = np.column_stack([x, np.clip(x[:, 1], -1, 1)])
    np.savetxt(tmp_path / "steps.csv", rows, delimiter=",", header="x,y,angle,steering", comments="")
    roles = ("--query", "steering", "--evidence", "x,y,angle")
    words = ("imitate", tmp_path / "steps.csv", "--policy", "gaussian", *roles)
    assert veil(*words, "--steps", 4, "--out", tmp_path / "run").code == 0
    assert veil("act", tmp_path / "run", "tree", "--episodes", 3, "--json").json["episodes"] == 3
    assert "is a table of steps and no recording" in refused(*words, "--chunk", 4, "--out", tmp_path / "other")
    assert "x,y,angle" not in refused("act", tmp_path / "run", "slalom", code=1)


IMITATE = "imitate tree --policy mdn --out {new}"
WRONG = {
    "imitate tree --policy mnd --out {new}": "did you mean 'mdn'?",
    "imitate tre --policy mdn --out {new}": "did you mean 'tree'?",
    IMITATE + " --latent episodes": "--latent: expected step or episode",
    "imitate tree --policy flow --latent episode --out {new}": "leave it out for flow",
    IMITATE + " --execute 4": "--execute: of a chunk of actions; say how long chunks are with --chunk",
    IMITATE + " --execute 9 --chunk 8": "--execute: a chunk has 8 actions (--chunk); got 9",
    IMITATE + " --chunk 0": "'--chunk'",
    IMITATE + " --observations 0": "'--observations'",
    IMITATE + " --minutes 1 --steps 4": "they say the same",
    IMITATE + " --minutes -1": "--minutes: expected a positive number; got -1",
    IMITATE + " --minutes nan": "--minutes: expected a positive number",
    IMITATE + " --held-out 2": "--held-out: expected a fraction",
    IMITATE + " --episodes first:1 --held-out 0.5": "1 episodes are too few",
    IMITATE + " --episodes first:900": "N from 1 to 200",
    IMITATE + " --episodes 90": "expected first:N or last:N",
    IMITATE + " --dimensions 3": "of the latent of a cvae",
    IMITATE + " --choose best": "--choose: there is no 'best'",
    IMITATE + " --choose coherent": "of chunks of actions",
    IMITATE + " --choose low-noise:2": "expected a share of the noise",
    IMITATE + " --choose sample:2": "it takes no number",
    IMITATE + " --query reward": "--query: tree has no reward among its actions (action)",
    IMITATE + " --evidence camera": "--evidence: tree has no camera among its observations (observation)",
    IMITATE + " --env slalom": "--env: slalom is not where the demonstrations are from",
    IMITATE + " --env CartPol-v1": "--env: ",
    IMITATE + " --env CartPole-v1": "'observation' [4]",
    IMITATE + " --average 1": "--average: expected a decay",
    IMITATE + " --head betta": "did you mean 'beta'?",
    IMITATE + " --knots 3": "mdn does not take --knots",
    "act {run} slalom": "ENV: slalom is not where the demonstrations are from: they have 'observation' [3]",
    "act {run} CartPole-v1": "'observation' [3]; CartPole-v1 shows 'observation' [4]",
    "act {run} NoSuch-v7": "ENV: ",
    "act {run} tree --execute 2": "--execute: this policy chooses one action after the other",
    "act {run} tree --ensemble": "--ensemble: this policy chooses one action after the other",
    "act {run} tree --choose coherent": "--choose: ",
    "act {run} tree --choose bets": "--choose: there is no 'bets'",
    "act {run} tree --episodes 0": "'--episodes'",
    "act {run} tree --film x.avi": "--film: expected a file that ends in .gif, .mp4, .png",
    "act {run} tree --film nowhere/x.gif": "the folder nowhere does not exist",
    "act {chunks} tree --execute 5": "--execute: a chunk of this policy has 4 actions; got 5",
    "act {chunks} tree --execute 2 --ensemble": "leave one of the two out",
    "act {chunks}": "ENV: say where it acts",
    "act {geyser} tree": "is no policy (mixture, without evidence)",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_usage(words, refused, single, chunked, geyser, tmp_path):
    places = {"new": tmp_path / "new", "run": single, "chunks": chunked, "geyser": geyser}
    assert WRONG[words] in refused(*words.format(**places).split())
    assert not (tmp_path / "new").exists()


def test_pusht_without_its_package(refused, single, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gym_pusht", None)
    monkeypatch.setitem(sys.modules, "gym_pusht.envs", None)
    assert "pip install 'veil[pusht]'" in refused("act", single, "pusht", code=1)


def test_a_latent_of_an_episode_is_inferred_as_it_goes_on(veil, refused, tmp_path):
    """A row a step, which ends where the whole episode's posterior is, and whose log p adds up to its own."""
    run, places = tmp_path / "run", {name: tmp_path / f"{name}.csv" for name in ("steps", "whole", "scores")}
    words = ("--policy", "mdn", "--components", 2, "--hidden", 8, "--latent", "episode", *QUICK)
    assert veil("imitate", "tree", *words, "--out", run).code == 0
    assert veil("infer", run, "tree", "--filtered", "--out", places["steps"]).code == 0
    assert veil("infer", run, "tree", "--out", places["whole"]).code == 0
    assert veil("log-prob", run, "tree", "--out", places["scores"]).code == 0
    steps, whole, scores = (np.genfromtxt(place, delimiter=",", names=True) for place in places.values())
    assert steps.dtype.names == ("sequence", "step", "state_0", "state_1", "most_likely", "log_prob")
    last = np.flatnonzero(np.append(steps["step"][1:] == 0, True))
    assert len(last) == len(whole) == len(scores)
    np.testing.assert_allclose(steps["state_0"][last], whole["component_0"], atol=1e-4)
    total = np.bincount(steps["sequence"].astype(int), steps["log_prob"])
    np.testing.assert_allclose(total, scores["log_prob"], rtol=1e-3, atol=1e-2)
    told = refused("infer", run, "tree", "--paths", 2, "--out", tmp_path / "p.csv")
    assert "--paths: mdn has one latent an episode" in told
