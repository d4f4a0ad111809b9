"""What the command line keeps of compilation."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from veil.host.compiled import keep_compiled

NAMES = "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "JAX_COMPILATION_CACHE_MAX_SIZE"


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """As in a process that has not imported JAX, with a cache folder of its own."""
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that what is set in the test is undone after it
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "jax")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches"


def test_it_is_in_the_users_cache_folder(fresh):
    keep_compiled()
    folder = Path(os.environ[NAMES[0]])
    assert folder.is_dir()
    assert folder.parent == fresh / "veil"
    assert int(os.environ[NAMES[2]]) == 2**30


def test_a_folder_that_is_named_is_used(fresh, monkeypatch):
    monkeypatch.setenv(NAMES[0], "elsewhere")
    keep_compiled()
    assert os.environ[NAMES[0]] == "elsewhere"
    assert NAMES[2] not in os.environ
    assert not fresh.exists()


def test_without_a_folder_nothing_is_kept(fresh):
    fresh.write_text("a file where the folder would be")
    keep_compiled()
    assert NAMES[0] not in os.environ


def test_the_second_command_compiles_nothing(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "caches"), NAMES[1]: "0"}
    found = []
    for run in ("one", "two"):
        words = ("fit", "gaussian", "faithful", "--out", str(tmp_path / run))
        command = [sys.executable, "-m", "veil", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        entries = sorted(path.name for path in tmp_path.glob("caches/veil/compiled-*/*-cache"))
        found.append((entries, done.stdout.splitlines()[:2]))
    assert found[0][0]
    assert "log-likelihood" in found[0][1][1]
    assert found[1] == found[0]
