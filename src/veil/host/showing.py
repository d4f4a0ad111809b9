"""How models and results print: short, in words, arrays by their shape; in notebooks as a small table."""

import html
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from types import FunctionType
from typing import Any

import jax
import numpy as np

DEEP = 3  # objects in one another that are still told apart
MANY = 4  # entries of a list that are shown one by one
LONG = 100  # characters of a line


class Shown:
    """A dataclass that prints its fields as ``shown`` says, and in a notebook as a table of them."""

    def __repr__(self) -> str:
        return lines(type(self).__name__, said(self, DEEP - 1, True))

    def _repr_html_(self) -> str:
        return table(type(self).__name__, said(self, DEEP - 1, True))


def shown(value: Any, deep: int = DEEP) -> str:
    """One line: an array is its shape, a number has six digits, of a dataclass what is not as it is by default.

    >>> shown({"a": np.zeros((3, 2)), "b": 1 / 3, "c": "word"})
    "{a: [3, 2], b: 0.333333, c: 'word'}"
    >>> shown([np.zeros(2)] * 9)
    '9 x [2]'
    """
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        plain = isinstance(value, np.ndarray | np.generic) and value.ndim == 0
        return shown(value.item(), deep) if plain else str(list(value.shape))
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {shown(each, deep)}' for name, each in value.items())}}}"
    if isinstance(value, tuple | list):
        each = [shown(part, deep) for part in value]
        if len(each) > MANY:
            return f"{len(each)} x {each[0]}" if len(set(each)) == 1 else f"{', '.join(each[:MANY])}, ... ({len(each)})"
        return f"({', '.join(each)}{',' * (len(each) == 1)})"
    if isinstance(value, type | FunctionType):
        return value.__name__
    if is_dataclass(value):
        inside = ", ".join(f"{name}={text}" for name, text in said(value, deep - 1)) if deep else "..."
        return f"{type(value).__name__}({inside})"
    return " ".join(repr(value).split())[:LONG]


def said(value: Any, deep: int, usual: bool = False) -> list[tuple[str, str]]:
    """The fields of a dataclass and how they read, without those that are None or, unless ``usual``, as by default."""
    found = []
    for field in fields(value):
        if field.name in vars(value) and field.repr:
            text = shown(vars(value)[field.name], deep)
            if text != "None" and (usual or field.default is MISSING or text != shown(field.default, deep)):
                found.append((field.name, text))
    return found


def lines(name: str, rows: Sequence[tuple[str, str]]) -> str:
    """A name and its fields, in one line if they fit, else in one line each."""
    parts = [f"{field}={text}" for field, text in rows]
    whole = f"{name}({', '.join(parts)})"
    return whole if len(whole) <= LONG else "".join((f"{name}(", *(f"\n  {part}," for part in parts), "\n)"))


def table(title: str, rows: Iterable[tuple[str, str]], picture: str = "") -> str:
    """HTML: a title, a row for each name and text, and perhaps a picture."""
    cells = "".join(
        f"<tr><td>{html.escape(name)}</td><td style='text-align:left'>{html.escape(text)}</td></tr>"
        for name, text in rows
    )
    head = f"<thead><tr><th colspan='2'>{html.escape(title)}</th></tr></thead>"
    return f"<table>{head}<tbody>{cells}</tbody></table>{picture}"


def spark(values: Any, width: int = 240, height: int = 48) -> str:
    """A curve without axes, as SVG: how numbers went. Empty for fewer than two that are finite."""
    numbers = np.asarray(values, np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if len(numbers) < 2:
        return ""
    low, high = np.percentile(numbers, 2), float(np.max(numbers))  # a bad start should not hide the rest
    x = np.linspace(1, width - 1, min(len(numbers), width))
    y = np.interp(x, np.linspace(1, width - 1, len(numbers)), np.maximum(numbers, low))
    y = height - 2 - (height - 4) * (y - low) / ((high - low) or 1.0)
    path = " ".join(f"{a:.0f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f"<svg width='{width}' height='{height}'><polyline fill='none' stroke='#0072B2' points='{path}'/></svg>"
