"""`veil evaluate`, `log-prob`, `sample`, `infer`: round trips through files."""

import json

import numpy as np
import pytest

from veil.data import load, read, write


def test_evaluate_prints_one_object_and_nothing_else(veil, geyser):
    outcome = veil("evaluate", geyser, "faithful", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.count("\n") == 1
    result = json.loads(outcome.out)
    assert result["log_likelihood"] == pytest.approx(-1130.2640, abs=1e-3)
    assert result["log_likelihood_per_datum"] == pytest.approx(-1130.2640 / 272, abs=1e-5)
    assert (result["n"], result["kind"], result["parameters"]) == (272, "exact", 11)
    assert result["bic"] == pytest.approx(11 * np.log(272) - 2 * result["log_likelihood"])
    assert result["aic"] == pytest.approx(22 - 2 * result["log_likelihood"])


def test_evaluate_prints_a_table(veil, geyser):
    outcome = veil("evaluate", geyser, "faithful")
    assert "-1130.2640" in outcome.out
    assert "nats, exact" in outcome.out


def test_impossible_data_are_said_to_be(veil, geyser, tmp_path):
    far = tmp_path / "far.csv"
    write(far, {"eruptions": np.array([1e300]), "waiting": np.array([1.0])})
    outcome = veil("evaluate", geyser, far, "--json")
    assert outcome.code == 0
    said = {
        name: outcome.json[name] for name in ("log_likelihood", "log_likelihood_per_datum", "standard_error", "bic")
    }
    assert said == {"log_likelihood": "-inf", "log_likelihood_per_datum": "-inf", "standard_error": None, "bic": "inf"}
    table = veil("evaluate", geyser, far).out
    assert "impossible data among them" in table
    assert "±" not in table
    assert "nan" not in table


def test_columns_are_found_by_name(veil, geyser, tmp_path):
    data = load("faithful")
    other = {"id": np.arange(272), "waiting": data.query[:, 1], "eruptions": data.query[:, 0]}
    write(tmp_path / "other.parquet", other)
    result = veil("evaluate", geyser, tmp_path / "other.parquet", "--json").json
    assert result["log_likelihood"] == pytest.approx(-1130.2640, abs=1e-3)
    write(tmp_path / "renamed.csv", {"length": data.query[:, 0], "pause": data.query[:, 1]})
    renamed = veil("evaluate", geyser, tmp_path / "renamed.csv", "--json", "--query", "length,pause").json
    assert renamed["log_likelihood"] == pytest.approx(-1130.2640, abs=1e-3)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz", "npy"])
def test_log_prob(veil, geyser, tmp_path, suffix):
    out = tmp_path / f"scores.{suffix}"
    assert veil("log-prob", geyser, "faithful", "--out", out).out == f"272 rows written to {out}\n"
    data = read(out)
    if suffix != "npy":
        assert data.query_names == ("row", "log_prob")
    assert np.array_equal(data.query[:, 0], np.arange(272))
    assert data.query[:, 1].sum() == pytest.approx(-1130.2640, abs=1e-3)


def test_infer(veil, geyser, tmp_path):
    out = tmp_path / "posterior.csv"
    assert veil("infer", geyser, "faithful", "--out", out, "-q").out == ""
    data = read(out)
    assert data.query_names == ("row", "component_0", "component_1", "most_likely")
    assert np.allclose(data.query[:, 1:3].sum(1), 1)
    assert np.array_equal(data.query[:, 1:3].argmax(1), data.query[:, 3])


def test_samples_are_data_again(veil, geyser, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        words = ("--count", 2000, "--seed", seed, "--out", tmp_path / f"{name}.csv")
        assert veil("sample", geyser, *words).code == 0
    a, b, c = ((tmp_path / f"{name}.csv").read_bytes() for name in "abc")
    assert a == b != c
    drawn = read(tmp_path / "a.csv")
    assert drawn.query_names == ("eruptions", "waiting")
    assert drawn.query.mean(0) == pytest.approx(load("faithful").query.mean(0), rel=0.03)
    result = veil("evaluate", geyser, tmp_path / "a.csv", "--json").json
    assert result["log_likelihood_per_datum"] == pytest.approx(-1130.2640 / 272, abs=0.15)


def test_samples_for_rows_of_evidence(veil, crash, tmp_path):
    out = tmp_path / "drawn.csv"
    assert veil("sample", crash, "--count", 3, "--evidence-values", "mcycle", "--out", out).code == 0
    drawn = read(out)
    assert drawn.query_names == ("row", "times", "accel")
    assert np.array_equal(drawn.query[:, 0], np.repeat(np.arange(133), 3))
    assert np.allclose(drawn.query[:, 1], np.repeat(load("mcycle").evidence[:, 0], 3))
    write(tmp_path / "when.csv", {"t": np.array([10.0, 20.0])})
    when = ("--evidence-values", tmp_path / "when.csv", "--evidence", "t")
    assert veil("sample", crash, "--count", 4, *when, "--out", out).code == 0
    assert np.array_equal(read(out).query[:, 1], [10] * 4 + [20] * 4)
    scored = veil("evaluate", crash, out, "--json")
    assert scored.json["rows"] == 8


def test_the_precision_of_the_run_is_used(veil, crash, geyser, tmp_path):
    for run, data, dtype in ((crash, "mcycle", np.float32), (geyser, "faithful", np.float64)):
        assert veil("log-prob", run, data, "--out", tmp_path / "scores.npz").code == 0
        assert np.load(tmp_path / "scores.npz")["log_prob"].dtype == dtype
