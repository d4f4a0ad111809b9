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

pytest.importorskip("orbax.checkpoint")
VEIL = [sys.executable, "-m", "veil"]
FIT = ["fit", "vae", "faithful", "--query", "eruptions,waiting", "--latent", "1", "--hidden", "8", "--steps", "6000"]
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
    assert (other.returncode, "another fit: it differs in data, key" in other.stderr) == (1, True), other.stderr
    last = run(*FIT, "--out", out, "--resume", "--log", "tensorboard")
    assert last.returncode == 0, last.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "value" in line]
    assert steps == list(range(len(steps)))
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    finished = run("fit", "mixture", "faithful", "--out", out, "--resume")
    assert (finished.returncode, "is finished" in finished.stdout) == (0, True)


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
def test_wrong_words(words, message, tmp_path):
    found = run("fit", "mixture", "faithful", "--out", str(tmp_path / "run"), *words)
    assert found.returncode in (1, 2)
    assert message in found.stderr
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
