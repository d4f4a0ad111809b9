"""`veil fit`: models, options, choices, and the run directory that comes of it."""

import json
import warnings

import numpy as np
import pytest

from veil import data as veil_data
from veil.cli.program import notes
from veil.saved import folders, runs


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_run_of_a_mixture(geyser):
    *files, arrays = sorted(path.name for path in geyser.iterdir())
    assert files == ["config.json", "metrics.jsonl", "model.json"]
    assert folders.ARRAYS.fullmatch(arrays)
    assert [path.name for path in geyser.parent.iterdir()] == ["geyser"]
    config = json.loads((geyser / "config.json").read_text())
    assert config["model"] == {"name": "mixture", "options": {"components": 2, "covariance": "full"}}
    assert config["data"]["query"] == ["eruptions", "waiting"]
    assert config["precision"] == "float64"
    assert config["fit"] == {"seed": 0, "restarts": 10, "objective": "em", "stream": False}
    assert config["command"][:3] == ["veil", "fit", "mixture"]
    *steps, last = lines(geyser)
    assert [line["step"] for line in steps] == list(range(len(steps)))
    assert last["status"]["converged"]
    assert last["evaluation"]["log_likelihood"] == pytest.approx(-1130.2640, abs=1e-3)
    assert runs.read(geyser).metrics() == [*steps, last]
    fit = runs.read(geyser).load()
    assert fit.status.reason == last["status"]["reason"]
    assert [line["value"] for line in steps] == fit.history.value.tolist()
    assert len(fit.history.restarts) == 10


def test_the_same_seed_gives_the_same_run(veil, geyser, tmp_path):
    options = ("--components", 2, "--covariance", "full", "--restarts", 10)
    assert veil("fit", "mixture", "faithful", *options, "--out", tmp_path / "run").code == 0
    for name in {path.name for path in geyser.iterdir()} - {"config.json"}:
        assert (tmp_path / "run" / name).read_bytes() == (geyser / name).read_bytes()


@pytest.mark.parametrize(
    ("model", "data", "options", "precision"),
    [
        ("generalised-linear", "mcycle", "--head student-t --steps 30", "float32"),
        ("neural", "mcycle", "--hidden 8 --steps 30 --learning-rate 0.05 --precision float64", "float64"),
        ("mixture", "faithful", "--covariance tied-diagonal --start random-rows --steps 30", "float64"),
        (
            "mixture",
            "nile",
            "--query flow --objective monte-carlo-em --samples 3 --steps 9 --batch-size 9",
            "float64",
        ),
        ("mixture-of-experts", "mcycle", "--components 3 --gate constant --precision float32 --steps 20", "float32"),
        (
            "mixture-of-experts",
            "mcycle",
            "--experts constant --objective marginal --steps 9 --held-out 0.2",
            "float32",
        ),
    ],
)
def test_models(veil, tmp_path, model, data, options, precision):
    out = tmp_path / "run"
    fitted = veil("fit", model, data, *options.split(), "--out", out)
    assert fitted.code == 0, fitted
    assert f"written to {out}" in fitted.out
    assert runs.read(out).precision == precision
    result = veil("evaluate", out, data, "--json").json
    recorded = lines(out)[-1]["evaluation"]
    assert result["log_likelihood"] == pytest.approx(recorded["log_likelihood"], rel=1e-6)
    assert np.isfinite(result["bic"])


@pytest.mark.parametrize(
    ("head", "columns", "recorded"),
    [
        ("categorical", "count", "categorical:5"),
        ("discretised-logistic:5", "count", "discretised-logistic:5"),
    ],
)
def test_mixtures_of_other_heads(veil, tmp_path, table, head, columns, recorded):
    out = tmp_path / "run"
    fitted = veil("fit", "mixture", table, "--query", columns, "--head", head, "--steps", 20, "--out", out)
    assert fitted.code == 0, fitted
    assert runs.read(out).config["model"]["options"]["head"] == recorded


def test_columns_and_weights(veil, tmp_path, table):
    out = tmp_path / "run"
    words = ("--query", "c", "--evidence", "a,count", "--weight", "times")
    assert veil("fit", "linear-gaussian", table, *words, "--out", out).code == 0
    assert runs.read(out).columns == runs.Columns(("c",), ("a", "count"), "times", (1,), (2,))
    weighted = veil("evaluate", out, table, "--json").json
    assert (weighted["n"], weighted["rows"]) == (79.0, 40)
    assert veil("evaluate", out, table, "--json", "--unweighted").json["n"] == 40


def test_weight_of_an_example(veil, tmp_path):
    out = tmp_path / "run"
    assert veil("fit", "gaussian", "iris", "--query", "0,1", "--weight", "species", "--out", out).code == 0
    assert runs.read(out).columns.query == ("sepal_length", "sepal_width")
    assert veil("evaluate", out, "iris", "--json").json["n"] == 150  # 50 of weight 0, of 1 and of 2


def test_what_is_left_out_is_noted(veil, tmp_path, table):
    fitted = veil("fit", "gaussian", table, "--out", tmp_path / "run")
    assert fitted.err == "note: table.csv: left out what is not numeric: label. Name the query to choose the columns\n"
    quiet = veil("fit", "gaussian", table, "--out", tmp_path / "quiet", "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_many_notes_are_not_all_shown(capsys):
    with notes(quiet=False):
        for i in range(15):
            warnings.warn(f"number\n{i}", UserWarning, stacklevel=1)
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "note: number 0"
    assert shown[-1] == "note: 5 more like these"
    assert len(shown) == 11
    with notes(quiet=True):
        warnings.warn("unseen", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == ""
    with notes(quiet=False), pytest.raises(DeprecationWarning):
        warnings.warn("not for users", DeprecationWarning, stacklevel=1)


def test_a_stream_is_the_same_as_a_file(veil, tmp_path, table):
    common = ("fit", "gaussian", table, "--quiet", "--out")
    assert veil(*common, tmp_path / "whole").code == 0
    assert veil(*common, tmp_path / "stream", "--stream", "--block-rows", 16).code == 0
    whole, stream = (veil("evaluate", tmp_path / name, table, "--json").json for name in ("whole", "stream"))
    assert stream["log_likelihood"] == pytest.approx(whole["log_likelihood"], abs=1e-4)
    streamed = veil("evaluate", tmp_path / "whole", table, "--json", "--stream").json
    assert streamed["log_likelihood"] == pytest.approx(whole["log_likelihood"], rel=1e-9)


def test_folders_and_patterns(veil, refused, tmp_path):
    """Three files in a folder are what one file with all of their rows is; a broken fourth is refused or skipped."""
    whole = veil_data.Data(np.random.default_rng(0).normal(size=(90, 3)))
    table = tmp_path / "table.csv"
    veil_data.write(table, {"y": whole.query})
    folder = tmp_path / "parts"
    folder.mkdir()
    for number, part in enumerate(whole.blocks(-(-len(whole) // 3))):
        veil_data.write(folder / f"{number}.csv", dict(zip(part.query_names, part.query.T, strict=True)))
    common = ("fit", "gaussian", folder, "--quiet", "--stream")
    assert veil(*common, "--out", tmp_path / "one").code == 0
    expected = veil("evaluate", tmp_path / "one", table, "--json").json
    for source in (folder, folder / "*.csv"):
        found = veil("evaluate", tmp_path / "one", source, "--json", "--stream").json
        assert found["n"] == len(whole)
        assert found["log_likelihood"] == pytest.approx(expected["log_likelihood"], rel=1e-9)
    assert "add --stream" in refused("fit", "gaussian", folder, "--out", tmp_path / "two")
    (folder / "3.csv").write_text(",".join(whole.query_names) + "\nx\n")
    refused(*common, "--out", tmp_path / "three", code=1)
    skipping = veil("fit", "gaussian", folder, "--stream", "--bad", "skip", "--out", tmp_path / "four")
    assert skipping.code == 0
    assert "1 records could not be read and were skipped" in skipping.err
    config = json.loads((tmp_path / "four" / "config.json").read_text())
    assert (config["data"]["rows"], config["fit"]["bad"]) == (len(whole), "skip")
    one, four = (
        json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1]) for name in ("one", "four")
    )
    assert four["evaluation"]["log_likelihood"] == pytest.approx(one["evaluation"]["log_likelihood"], rel=1e-9)


def test_selection(veil, tmp_path):
    options = ("--select", "2", "--covariance", "full,tied", "--steps", 20)
    fitted = veil("fit", "mixture", "faithful", *options, "--out", tmp_path / "run")
    assert fitted.code == 0, fitted
    rows = [line.split()[:3] for line in fitted.out.splitlines() if "full" in line or "tied" in line]
    assert rows[0] == ["*", "2", "full"]
    assert rows[1][:2] == ["2", "tied"]
    assert runs.read(tmp_path / "run").config["model"]["options"] == {"components": 2, "covariance": "full"}
    record = json.loads((tmp_path / "run" / "selection.json").read_text())
    assert record["best"] == "2 full"
    assert {line.get("candidate") for line in lines(tmp_path / "run")[:-1]} == {"2 full", "2 tied"}


def test_selection_on_held_out_data(veil, tmp_path):
    words = ("--select", "1,2", "--criterion", "held-out", "--held-out", 0.3, "--out", tmp_path / "run", "-q")
    assert veil("fit", "mixture", "faithful", *words).code == 0
    record = json.loads((tmp_path / "run" / "selection.json").read_text())
    assert [candidate["rows"] for candidate in record["candidates"]] == [82, 82]


def test_images_have_no_columns(veil, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", (rng.random((30, 3, 4)) < 0.4).astype(np.float32))
    out = tmp_path / "run"
    fitted = veil("fit", "mixture", tmp_path / "images.npy", "--head", "bernoulli", "--out", out)
    assert fitted.code == 0, fitted
    assert veil("evaluate", out, tmp_path / "images.npy", "--json").code == 0
    assert veil("sample", out, "--count", 5, "--out", tmp_path / "drawn.npz").code == 0
    assert np.load(tmp_path / "drawn.npz")["query"].shape == (5, 3, 4)
    np.save(tmp_path / "others.npy", np.zeros((30, 4, 4)))
    assert "the run was fitted to [[3, 4], []]" in veil("evaluate", out, tmp_path / "others.npy").err


# -- places ------------------------------------------------------------------------------------------------------------


def test_a_run_is_overwritten_only_by_force(veil, refused, tmp_path):
    out = tmp_path / "run"
    fit = ("fit", "gaussian", "nile", "--query", "flow", "--out", out)
    assert veil(*fit).code == 0
    (out / "report.html").write_text("old")
    before = (out / "config.json").read_bytes()
    assert "--force" in refused(*fit, code=1)
    assert (out / "config.json").read_bytes() == before
    assert veil(*fit, "--seed", 1, "--force").code == 0
    assert runs.read(out).config["fit"]["seed"] == 1
    assert not (out / "report.html").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_is_not_a_run_is_never_overwritten(refused, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    for out in (tmp_path, tmp_path / "thesis.txt"):
        error = refused("fit", "gaussian", "nile", "--query", "flow", "--force", "--out", out, code=1)
        assert "never overwritten" in error
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_folders_above_are_made(veil, tmp_path):
    out = tmp_path / "a" / "b" / "run"
    assert veil("fit", "gaussian", "nile", "--query", "flow", "--out", out, "-q").code == 0
    assert out.is_dir()


def test_nothing_is_left_of_a_fit_that_fails(refused, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("the end\nof it")

    monkeypatch.setattr("veil.cli.fitting._finish", fail)
    out = tmp_path / "a" / "b" / "run"
    assert refused("fit", "gaussian", "nile", "--query", "flow", "--out", out, code=1) == "veil: the end of it\n"
    assert list(tmp_path.iterdir()) == []


def test_a_failed_overwriting_keeps_the_old_run(veil, refused, tmp_path, monkeypatch):
    fit = ("fit", "gaussian", "nile", "--query", "flow", "--out", tmp_path / "run")
    assert veil(*fit).code == 0
    before = (tmp_path / "run" / "config.json").read_bytes()
    monkeypatch.setattr("veil.cli.fitting._finish", lambda *_: 1 / 0)
    assert "internal error: ZeroDivisionError" in refused(*fit, "--force", code=1)
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_interrupting_leaves_nothing(refused, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("veil.cli.fitting._finish", interrupt)
    fit = ("fit", "gaussian", "nile", "--query", "flow", "--out", tmp_path / "run")
    assert refused(*fit, code=130) == "veil: interrupted\n"
    assert list(tmp_path.iterdir()) == []
