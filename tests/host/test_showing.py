"""What prints is short: in words, arrays by their shape."""

import io
import sys
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil.host import progress
from veil.host.showing import Shown, shown, spark
from veil.learning.result import History, Status
from veil.verbs.forecasting import Forecast
from veil.verbs.inference import Inference


@dataclass(frozen=True, repr=False)
class Part(Shown):
    name: str = "a"
    numbers: Any = None
    inner: Any = None
    hidden: Any = field(default=None, repr=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.zeros((3, 2)), "[3, 2]"),
        (jnp.zeros(3), "[3]"),
        (np.float32(1 / 3), "0.333333"),
        (jax.random.key(0), "[]"),
        ((np.zeros(2),), "([2],)"),
        (list(range(9)), "0, 1, 2, 3, ... (9)"),
        (np.tanh, repr(np.tanh)),
        (shown, "shown"),
        ({"a": {"b": np.ones(1)}}, "{a: {b: [1]}}"),
        (Part(), "Part()"),
        (Part("b", np.ones(4), Part(inner=Part(inner=Part("deep")))), "Part(name='b', numbers=[4], inner=Part(inner="),
    ],
)
def test_one_line(value, text):
    assert shown(value).startswith(text)
    assert "\n" not in shown(value)


def test_what_is_long_takes_a_line_for_each_field():
    long = Part("x" * 60, np.ones(4), Part("y" * 60), hidden=1)
    assert repr(long).splitlines() == [
        "Part(",
        f"  name='{'x' * 60}',",
        "  numbers=[4],",
        f"  inner=Part(name='{'y' * 60}'),",
        ")",
    ]


def fit(notes: int = 0) -> veil.Fit:
    history = History(np.linspace(-3, -1, 50), np.zeros(50), np.array([[9.0, -1.5]]), np.array([-1.0]))
    status = Status(True, "converged", 50, 0, tuple(f"<note {i}>" for i in range(notes)))
    return veil.Fit(veil.Mixture(components=3), veil.Exact(), history, status)


def test_results_are_short():
    assert "components=3" in repr(fit())
    assert "converged after 50 steps; -1 nats per datum" in repr(fit())
    assert "held out: -1.5" in repr(fit())
    assert repr(fit(500)).count("\n  note: ") == 4
    assert repr(fit(500)).endswith("note: and 497 more in status.notes")
    many = np.zeros((1000, 5))
    assert (
        repr(Inference("exact", many, many[:, 0]))
        == "Inference(kind='exact', probabilities=[1000, 5], most_likely=[1000])"
    )
    assert (
        repr(Forecast(many, {"a": many}, many))
        == "Forecast(paths=[1000, 5], mean={a: [1000, 5]}, standard_deviation=[1000, 5])"
    )
    assert repr(veil.Mixture(components=3)).startswith("Mixture(experts=LinearGaussian(), components=3, ")


def test_notebooks_get_a_table():
    page = fit(1)._repr_html_()
    assert page.startswith("<table>")
    assert "&lt;note 0&gt;" in page
    assert "<svg" in page
    assert "<td>components</td><td style='text-align:left'>3</td>" in veil.Mixture(components=3)._repr_html_()
    assert spark([1.0, np.nan]) == ""
    assert "nan" not in spark([1.0, np.inf, np.nan, 1.0])


@pytest.mark.parametrize(
    ("notebook", "widgets", "seen"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_bars_are_for_terminals_and_notebooks_that_can_draw_them(monkeypatch, notebook, widgets, seen):
    monkeypatch.setattr(progress, "find_spec", lambda name: name if widgets else None)
    if notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", None)
    else:
        monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert progress.watched() is seen
