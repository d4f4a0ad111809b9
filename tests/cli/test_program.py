"""The program itself: start, help, lists, real processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version

import pytest


def process(*words, how=("-m", "veil")):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, *how, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_version(veil):
    assert veil("--version").out.startswith(f"veil {version('veil')} ")


def test_help_names_every_command(veil):
    commands = ("models", "data", "fit", "evaluate", "log-prob", "sample", "infer", "report", "tour")
    for words in ((), ("--help",)):
        outcome = veil(*words)
        assert outcome.code == 0
        assert all(command in outcome.out for command in commands)
    assert all(veil(command, "--help").code == 0 for command in commands)


def test_models_are_listed(veil):
    lines = veil("models").out.splitlines()
    names = [line.split()[0] for line in lines]
    assert {"gaussian", "linear-gaussian", "mixture", "mixture-of-experts", "mdn", "neural"} <= set(names)
    assert [line for line in lines if len(line.split()) <= 3] == []
    for name in names:
        assert veil("models", name).out.startswith(f"{name}: ")


def test_data_are_listed(veil, monkeypatch):
    monkeypatch.delenv("VEIL_DATA", raising=False)
    lines = {line.split()[0]: line for line in veil("data").out.splitlines()}
    assert "272 rows of eruptions, waiting" in lines["faithful"]
    assert {"mcycle", "iris", "nile", "digits"} <= set(lines)


def test_it_starts_without_jax():
    code = (
        "import sys, veil.cli.app; sys.exit(any(name in sys.modules for name in ('jax', 'equinox', 'numpy', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_are_what_they_were():
    first = "import veil; name = veil.heads.__name__; import veil.learning.fitting"
    code = f"{first}; print(callable(veil.fit), callable(veil.select), name)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True", "True", "veil.parts.heads"]
    import veil

    for name in veil.__all__:
        assert getattr(veil, name) is not None
    assert not hasattr(veil, "nonsense")


def test_json_of_a_process_is_pure(geyser):
    started = process("evaluate", geyser, "faithful", "--json")
    out, err = started.communicate(timeout=120)
    assert (started.returncode, err) == (0, "")
    assert json.loads(out)["log_likelihood"] == pytest.approx(-1130.2640, abs=1e-3)


def test_an_error_of_a_process_is_one_line(tmp_path):
    started = process("evaluate", tmp_path / "nothing", "faithful")
    out, err = started.communicate(timeout=120)
    assert (started.returncode, out) == (1, "")
    assert err.startswith("veil: there is no run directory")
    assert err.count("\n") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_without_checkpoints_a_process_that_is_stopped_leaves_nothing(tmp_path, number, code):
    # a session in the background ignores Ctrl-C, and so would its children
    listening = "import signal as s, veil.cli as c; s.signal(s.SIGINT, s.default_int_handler); c.main()"
    words = ("fit", "neural", "mcycle", "--hidden", 8, "--steps", 100_000_000)
    words = (*words, "--checkpoint-every", 0, "--out", tmp_path / "runs" / "run")
    started = process(*words, how=("-c", listening))
    end = time.monotonic() + 90
    while time.monotonic() < end and not any(path.stat().st_size for path in tmp_path.rglob("metrics.jsonl")):
        assert started.poll() is None, started.communicate()
        time.sleep(0.1)
    started.send_signal(number)
    out, err = started.communicate(timeout=60)
    assert (started.returncode, out) == (code, "")
    assert err == ("veil: interrupted\n" if number == signal.SIGINT else "")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_before_anything_began_shows_no_traceback():
    early = """
import os, signal, sys
class Impatient:
    def find_spec(self, name, path=None, target=None):
        if name == "veil.cli.program":
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Impatient())
import veil.cli
veil.cli.main()
"""
    found = subprocess.run([sys.executable, "-c", early], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "veil: interrupted\n")


def test_a_reader_that_leaves_is_no_error():
    started = process("models")
    started.stdout.close()
    assert started.wait(timeout=60) in (0, 1)
    assert "Traceback" not in started.stderr.read()
    started.stderr.close()


def test_tracebacks_on_request(tmp_path):
    environment = {**os.environ, "VEIL_TRACEBACK": "1"}
    command = [sys.executable, "-m", "veil", "evaluate", str(tmp_path / "nothing"), "faithful"]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert found.returncode == 1
    assert "Traceback" in found.stderr


def test_a_report_of_a_run(veil, geyser, tmp_path):
    run = shutil.copytree(geyser, tmp_path / "run")
    outcome = veil("report", run)
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{run / 'report.html'}\n", "")
    assert "-1130.26" in (run / "report.html").read_text("utf-8")
    assert any((run / "plots").iterdir())


def test_a_report_without_matplotlib(refused, geyser, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    assert "pip install 'veil[plots]'" in refused("report", geyser, code=1)


def test_the_tour_is_silent_on_request(veil, monkeypatch, tmp_path):
    def tour(out, progress, quick, only):
        print("a table")
        assert only is None or only == ["mixture", "digits"]
        return out / "index.html"

    monkeypatch.setattr("veil.report.tour.tour", tour)
    assert veil("tour", "--quiet", "--out", tmp_path).out == ""
    assert veil("tour", "--only", "mixture,digits", "--out", tmp_path).out == f"a table\n{tmp_path / 'index.html'}\n"
