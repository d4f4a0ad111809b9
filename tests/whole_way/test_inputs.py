"""Small mutated inputs all the way, file -> data -> fit -> score -> save -> load; `benchmarks/fuzz.py` runs thousands.

To see one of them again: `benchmarks/fuzz.py --case NAME --seed 0 --only NUMBER`.
"""

import numpy as np
import pytest

import veil
from whole_way.way import CASES, travel

FITTED = ("gaussian",)  # compilations are what this costs; the benchmark fits all families
COUNTS = {"text": 40, "arrow": 30, "numpy": 30, "memory": 30, "sequences": 30}


@pytest.mark.parametrize("case", CASES)
def test_inputs(case, tmp_path):
    outcomes = []
    for number in range(COUNTS[case]):
        (tmp_path / str(number)).mkdir()
        found = travel(case, 0, number, tmp_path / str(number), FITTED)
        assert not found.fault, f"--case {case} --seed 0 --only {number}: {found}"
        outcomes.append(bool(found.refused))
    assert 0.1 < np.mean(outcomes) < 0.6  # or the inputs are too good, or too bad


def dropped(monkeypatch):
    """A reader that loses a row."""
    real = veil.data.formats.delimited.DelimitedTable._numbers
    lose = lambda *arguments: real(*arguments)[1:]  # noqa: E731
    monkeypatch.setattr("veil.data.formats.delimited.DelimitedTable._numbers", lose)


def unmasked(monkeypatch):
    """Missing entries that count as zeros."""
    real = veil.data.core.checks._filled
    monkeypatch.setattr("veil.data.core.checks._filled", lambda *arguments: (real(*arguments)[0], None))


def not_a_number(monkeypatch):
    """Scores that are NaN."""
    real = veil.log_prob
    monkeypatch.setattr(veil, "log_prob", lambda *arguments, **more: real(*arguments, **more) * np.nan)


def by_position(monkeypatch):
    """Columns in whatever order they come."""
    monkeypatch.setattr("veil.model.blocks.aligned", lambda model, data: data)


def without_words(monkeypatch):
    """An error from inside numpy."""
    monkeypatch.setattr("veil.data.core.numbers.float_type", lambda dtype, what: np.dtype("no type"))


def other_units(monkeypatch):
    """Scores in standardised units."""
    real = veil.log_prob
    monkeypatch.setattr(veil, "log_prob", lambda *arguments, **more: real(*arguments, **more) + 1.0)


@pytest.mark.parametrize(
    ("plant", "case", "kinds"),
    [
        (dropped, "text", {"silent change of rows or columns"}),
        (unmasked, "text", {"silent change of values"}),
        (not_a_number, "memory", {"not finite"}),
        (by_position, "text", {"another score with the columns in another order"}),
        (without_words, "memory", {"no words"}),
        (other_units, "memory", {"another total"}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_faults_are_seen(plant, case, kinds, tmp_path, monkeypatch):
    plant(monkeypatch)
    seen = set()
    for number in range(300):
        (tmp_path / str(number)).mkdir()
        seen.add(travel(case, 0, number, tmp_path / str(number), FITTED).kind)
        if kinds <= seen:
            return
    raise AssertionError(f"none of {kinds} among {seen}")
