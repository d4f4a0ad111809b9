"""``veil certify``: one object, a table with verdicts, and a page with pictures."""

import pytest

from report.pages import check_self_contained


@pytest.fixture(scope="module")
def fork(tmp_path_factory):
    """Two ways, in a table: a row for each action and its observation."""
    import numpy as np

    from veil.data import write

    rng = np.random.default_rng(0)
    seen, side = rng.uniform(-1, 1, (400, 2)), np.where(rng.random(400) < 0.5, -1.0, 1.0)
    place = tmp_path_factory.mktemp("fork") / "fork.csv"
    write(place, {"action": side + 0.1 * rng.normal(size=400), "x": seen[:, 0], "y": seen[:, 1]})
    return place


@pytest.fixture(scope="module")
def run(veil, fork):
    """A mixture density network, learned in a moment."""
    words = ("--query", "action", "--evidence", "x,y", "--components", 2, "--hidden", 8, "--steps", 300)
    fitted = veil("fit", "mdn", fork, *words, "--out", fork.with_name("run"))
    assert fitted.code == 0, fitted
    return fork.with_name("run")


def test_a_table_with_verdicts_and_a_page(veil, run, fork):
    place = fork.with_name("page.html")
    outcome = veil("certify", run, fork, "--draws", 8, "--out", place)
    assert (outcome.code, outcome.err) == (0, "")
    for words in ("nats per datum, exact", "multimodal: yes", "acts between modes: no", f"written to {place}"):
        assert words in outcome.out
    text = place.read_text("utf-8")
    assert len(check_self_contained(text).images) == 2
    assert "No faults were found" in text
    assert "veil certify" in text


def test_in_a_world_it_says_what_came_of_it(veil, tmp_path):
    assert veil("fit", "linear-gaussian", "tree", "--out", tmp_path / "run").code == 0
    place = tmp_path / "page.html"
    words = ("--env", "tree", "--episodes", 20, "--rows", 1000, "--draws", 8, "--out", place, "--json", "-q")
    outcome = veil("certify", tmp_path / "run", "tree", *words)
    assert (outcome.code, outcome.err) == (0, "")
    said = outcome.json
    assert {"success", "return_mean", "return_standard_error", "episodes", "nll", "kind", "faults"} <= set(said)
    assert said["episodes"] == 20
    assert said["success"] == said["return_mean"] < 0.9
    assert "acts between modes" in said["faults"]
    assert len(check_self_contained(place.read_text("utf-8")).images) == 2


def test_what_cannot_be_certified(refused, geyser, run, fork, tmp_path):
    assert "--env: expected tree or slalom" in refused("certify", run, fork, "--env", "moon")
    assert "--out: " in refused("certify", run, fork, "--out", tmp_path / "page.png")
    assert "--out: " in refused("certify", run, fork, "--out", tmp_path / "no" / "page.html")
    assert "RUN: it was fitted without evidence" in refused("certify", geyser, "faithful")
