"""`veil export`: programs from runs."""

import json

import numpy as np
import pytest

from veil import load_export
from veil.data import load
from veil.saved import runs as run
from veil.verbs.inference import infer

pytest.importorskip("flatbuffers")


def test_encoder_of_a_run(veil, geyser, tmp_path):
    out = tmp_path / "encoder.stablehlo"
    told = veil("export", geyser, "--what", "encoder", "--data", "faithful", "--out", out)
    assert (told.code, told.err) == (0, "")
    assert "mixture: encoder (query) -> (responsibilities), written to" in told.out
    assert "is rounding), in calls of 1, 7 rows" in told.out
    data = load("faithful")
    found = load_export(out)(data.query)["responsibilities"]
    assert found.dtype == np.float64  # the run's precision
    np.testing.assert_allclose(found, infer(run.read(geyser).load(), data).probabilities, atol=1e-4)


def test_policy_of_a_run_without_data(veil, crash, tmp_path):
    out = tmp_path / "policy.stablehlo"
    assert veil("export", crash, "--what", "policy", "--deterministic", "--out", out, "--quiet").out == ""
    record = json.loads((tmp_path / "policy.stablehlo.json").read_text())
    assert (record["model"], record["inputs"][0]["columns"], record["outputs"][0]["columns"]) == (
        "mdn",
        ["times"],
        ["accel"],
    )
    assert load_export(out)(np.ones((3, 1)))["action"].shape == (3, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--what", "encodr"), "--what: expected encoder, decoder or policy; got 'encodr'"),
        (("--what", "policy"), "--what: a policy is p(action | observation)"),
        (("--what", "encoder", "--platforms", "cpu,gpu"), "--platforms: expected some of cpu, cuda, rocm, tpu"),
        (("--what", "encoder", "--deterministic"), "--deterministic: only a policy draws"),
        (("--what", "encoder", "--query", "a,b"), "they name columns of --data"),
        ((), "--what"),
    ],
)
def test_requests_that_cannot_be_fulfilled(refused, geyser, tmp_path, words, message):
    assert message in refused("export", geyser, *words, "--out", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(refused, geyser, tmp_path):
    assert "does not exist; create it first" in refused(
        "export", geyser, "--what", "encoder", "--out", tmp_path / "b" / "a"
    )
    assert "is a directory" in refused("export", geyser, "--what", "encoder", "--out", tmp_path)
