"""The form that all benchmarks share; in a process of its own, because importing it pins threads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

SCRIPT = """
import common

def one(options):
    times = common.in_turn({"ours": lambda: 2.0, "theirs": lambda: 3.0}, options.repeats or 3)
    peer = common.Peer("1.0", 3.0, common.ratio(times["ours"], times["theirs"]), float("nan"))
    return common.Case("one", "a test", "ms", 2.0, None, {"peer": peer})

def two(options):
    return [common.Case("two", "quick" if options.quick else "full", "MB", common.peak_memory(), 1.5)]

common.main("test", "A test.", {"one": one, "two": two}, ("two",))
"""


def run(*arguments: str) -> str:
    command = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=True).stdout


def test_json_is_one_object_in_the_common_form() -> None:
    found = json.loads(run("--json", "--threads", "1"))
    assert set(found) == {"benchmark", "machine", "threads", "cases"}
    assert found["benchmark"] == "test"
    assert {"cpu", "cores", "jax"} <= set(found["machine"])
    assert found["machine"]["gflops"] > 0
    assert found["machine"]["gbytes"] > 0
    assert found["threads"] == 1
    one, two = found["cases"]
    assert set(one) == {"case", "what", "unit", "ours", "compile_s", "peers"}
    assert one["peers"]["peer"] == {"version": "1.0", "value": 3.0, "ratio": 1.5, "quality_difference": None}
    assert (two["case"], two["compile_s"], two["peers"]) == ("two", 1.5, {})
    assert 1 < two["ours"] < 10_000


def test_cases_are_chosen() -> None:
    assert [case["case"] for case in json.loads(run("--json", "--case", "one"))["cases"]] == ["one"]
    (only,) = json.loads(run("--json", "--quick"))["cases"]
    assert (only["case"], only["what"]) == ("two", "quick")


def test_table_is_the_default() -> None:
    text = run("--case", "one")
    assert "ratio" in text
    assert "peer 1.0" in text


@pytest.mark.parametrize("script", sorted(path.name for path in BENCHMARKS.glob("*.py") if path.stem != "common"))
def test_scripts_have_help(script: str) -> None:
    text = subprocess.run(
        [sys.executable, script, "--help"], cwd=BENCHMARKS, capture_output=True, text=True, check=True
    ).stdout
    assert all(option in text for option in ("--json", "--quick", "--case"))
