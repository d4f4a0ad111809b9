"""Commands in this process: quick, and as strict as the session. Some tests start real processes, too."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from veil.cli.app import app


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture(scope="session")
def veil():
    """Run a command: `veil("fit", "mixture", ...)`."""

    def run(*words) -> Outcome:
        result = CliRunner().invoke(app, [str(word) for word in words])
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture(scope="session")
def refused(veil):
    """Run a command that must fail with one line on stderr and nothing on stdout; returns the line."""

    def run(*words, code=2) -> str:
        outcome = veil(*words)
        assert (outcome.code, outcome.out) == (code, ""), outcome
        assert outcome.err.startswith("veil: ")
        assert outcome.err.count("\n") == 1
        assert "Traceback" not in outcome.err
        return outcome.err

    return run


@pytest.fixture(scope="session")
def geyser(veil, tmp_path_factory) -> Path:
    """A run: two Gaussians on faithful. Not to be written to."""
    out = tmp_path_factory.mktemp("runs") / "geyser"
    fitted = veil(
        *[
            "fit",
            "mixture",
            "faithful",
            "--components",
            "2",
            "--covariance",
            "full",
            "--restarts",
            "10",
            "--seed",
            "0",
            "--out",
        ],
        out,
    )
    assert fitted.code == 0, fitted
    assert fitted.err == ""
    return out


@pytest.fixture(scope="session")
def crash(veil, tmp_path_factory) -> Path:
    """A run with evidence, learned by gradients: a small mixture density network on mcycle. Not to be written to."""
    out = tmp_path_factory.mktemp("runs") / "crash"
    options = ("--components", 2, "--hidden", 8, "--activation", "relu", "--steps", 40)
    fitted = veil("fit", "mdn", "mcycle", *options, "--out", out)
    assert fitted.code == 0, fitted
    return out


@pytest.fixture
def table(tmp_path) -> Path:
    """A CSV: text, a weight, a count, and three numbers of which one has a gap."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 40))
    lines = [f"n{i},{1 + i % 3},{i % 5},{a[i]},{'' if i == 3 else b[i]},{a[i] + i % 2}" for i in range(40)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["label,times,count,a,b,c", *lines]) + "\n")
    return path
