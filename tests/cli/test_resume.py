"""`veil fit` killed again and again: the same command with --resume ends with the same bytes."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import veil

pytest.importorskip("orbax.checkpoint")
VEIL = [sys.executable, "-m", "veil"]
FIT = ["fit", "vae", "faithful", "--query", "eruptions,waiting", "--latent", "1", "--hidden", "8", "--steps", "3000"]
FIT += ["--batch-size", "20", "--held-out", "0.2", "--checkpoint-every", "0.05", "--quiet"]


def run(*words, **more):
    return subprocess.run([*VEIL, *words], capture_output=True, text=True, timeout=250, **more)


def wait_for_checkpoint(process, folder, after):
    """Until there is a newer checkpoint than those ``after``, or the process has ended."""
    while process.poll() is None:
        found = {int(each.name) for each in folder.glob("*") if each.name.isdigit()} if folder.exists() else set()
        if found and max(found) > after:
            return max(found)
        time.sleep(0.02)
    return after


def test_killed_at_random_moments(tmp_path):
    whole = run(*FIT, "--out", str(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    rng, reached, kills = random.Random(0), 0, 0
    folder = tmp_path / "killed.unfinished" / "checkpoints"
    while not (tmp_path / "killed").exists():
        process = subprocess.Popen([*VEIL, *FIT, "--out", str(tmp_path / "killed"), "--resume"], stderr=subprocess.PIPE)
        reached = wait_for_checkpoint(process, folder, reached)
        if kills < 3:
            time.sleep(rng.random() * 0.3)
            process.send_signal(signal.SIGKILL)
            kills += 1
        _, error = process.communicate(timeout=250)
        assert process.returncode in (0, -signal.SIGKILL), error.decode()
    for name in ("metrics.jsonl", "model.json"):  # which has a digest of the arrays
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert sorted(each.name for each in tmp_path.iterdir()) == ["killed", "whole"]
    assert "checkpoints" not in {each.name for each in (tmp_path / "killed").iterdir()}


def test_interrupted_refused_and_gone_on(tmp_path):
    out = str(tmp_path / "run")
    process = subprocess.Popen([*VEIL, *FIT, "--out", out, "--log", "tensorboard"], stderr=subprocess.PIPE, text=True)
    wait_for_checkpoint(process, tmp_path / "run.unfinished" / "checkpoints", 0)
    process.send_signal(signal.SIGSTOP)  # so that it does not end meanwhile
    busy = run(*FIT, "--out", out, "--resume")
    assert (busy.returncode, "is being written by another process" in busy.stderr) == (1, True), busy.stderr
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    _, error = process.communicate(timeout=250)
    assert process.returncode == 130
    assert "stopped by SIGINT after step " in error
    assert "the same command with --resume goes on" in error
    again = run(*FIT, "--out", out)
    assert again.returncode == 1
    assert "holds a fit that was stopped: go on with --resume, or begin anew with --force" in again.stderr
    other = run(*FIT, "--out", out, "--resume", "--seed", "1")
    assert (other.returncode, "--seed (it was begun with 0, not 1)" in other.stderr) == (2, True), other.stderr
    look = run("evaluate", out, "faithful")
    assert (look.returncode, "with --resume --steps 1 ends where it is" in look.stderr) == (1, True), look.stderr
    last = run(*FIT, "--out", out, "--resume", "--log", "tensorboard")
    assert last.returncode == 0, last.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "value" in line]
    assert steps == list(range(len(steps)))
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_a_finished_fit_becomes_longer(tmp_path):
    """And nothing else of it changes: metrics, history and held-out checks go on in one count."""
    out = str(tmp_path / "run")
    fit = ["fit", "vae", "faithful", "--query", "eruptions,waiting", "--latent", "1", "--hidden", "4", "--out", out]
    fit += ["--warm-up", "10", "--held-out", "0.2", "--checkpoint-every", "0"]
    assert run(*fit, "--steps", "20", "--quiet").returncode == 0
    other = run(*fit, "--steps", "20", "--hidden", "5", "--force", "--resume")
    assert (other.returncode, "--hidden (it was begun with 4, not 5)" in other.stderr) == (2, True), other.stderr
    fit.remove("--checkpoint-every"), fit.remove("0")
    same = run(*fit, "--steps", "20", "--resume")
    assert (same.returncode, "after 20 steps; there is nothing to resume; --steps with more" in same.stdout) == (
        0,
        True,
    )
    more = run(*fit, "--steps", "30", "--resume")
    assert (more.returncode, "after 30 steps" in more.stdout) == (0, True), more.stderr
    found = veil.load(out)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "value" in line]
    assert [line["step"] for line in steps] == list(range(30))
    np.testing.assert_allclose([line["value"] for line in steps], found.history.value, rtol=1e-6)
    np.testing.assert_allclose([line["kl"] for line in steps], found.history.metrics["kl"], rtol=1e-6)
    assert [line["step"] for line in lines if "held_out" in line] == found.history.held_out[:, 0].tolist()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["fit"]["steps"] == 30
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--log", "paper"], "--log: expected tensorboard"),
        (["--processes", "2"], "say where they meet"),
        (["--coordinator", "localhost:1"], "say --processes and --process too"),
        (["--coordinator", "localhost:1", "--processes", "2", "--process", "2"], "are 0 to 1; got 2"),
        (["--resume", "--checkpoint-every", "0"], "there are no checkpoints"),
        (["--resume", "--select", "1-3"], "leave one of them out"),
        (["--devices", "9"], "devices: there"),
    ],
)
def test_wrong_words(words, message, tmp_path, veil):
    found = veil("fit", "mixture", "faithful", "--out", tmp_path / "run", *words)
    assert found.code in (1, 2)
    assert message in found.err
    assert not list(tmp_path.iterdir())


def test_what_is_not_ours_is_left_alone(tmp_path):
    mine = tmp_path / "run.unfinished"
    mine.mkdir()
    (mine / "thesis.tex").write_text("important")
    found = run("fit", "gaussian", "faithful", "--out", str(tmp_path / "run"), "--force")
    assert (found.returncode, "holds thesis.tex, which no run left there" in found.stderr) == (1, True), found.stderr
    assert (mine / "thesis.tex").read_text() == "important"
    assert os.listdir(tmp_path) == ["run.unfinished"]
    assert np.array(os.listdir(mine)).tolist() == ["thesis.tex"]
