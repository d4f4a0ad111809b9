"""Errors with and without words; and a fitted model asked in other ways than it was fitted."""

import linecache
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import jax
import numpy as np
import pandas as pd

import veil
from veil.data import Data

SOURCE = str(Path(veil.__file__).parent)
KINDS = (ValueError, TypeError, FileNotFoundError, ModuleNotFoundError, IndexError)
NAMED = re.compile(
    r"query|evidence|weight|observed|index|mask|reset|lengths|episode|time|column|array|path|data|model|trajectory|found"
)
ODD = 1e-3  # nats, beside rounding that is known


class Fault(Exception):
    """What no input may lead to."""


class Refused(Exception):
    """In veil's words."""


def attempt(function: Callable):
    """The function's value; `Refused` for an error with words, `Fault` for any other."""
    try:
        return function()
    except (TimeoutError, MemoryError):
        raise
    except Exception as error:
        text, trace = str(error), error.__traceback__
        while trace.tb_next is not None:
            trace = trace.tb_next
        file, line = trace.tb_frame.f_code.co_filename, trace.tb_lineno
        words = f"{type(error).__name__}: {text}"
        if not file.startswith(SOURCE) or not linecache.getline(file, line).strip().startswith("raise"):
            raise Fault(f"no words: {words} ({Path(file).name}, line {line})") from error
        if not isinstance(error, KINDS) or len(text) > 2000 or "\n" in text.replace("line\nbreak", ""):
            raise Fault(f"not in one line of a documented kind: {words}") from error
        if not (NAMED.search(text) or tempfile.tempdir in text):
            raise Fault(f"names nothing: {words}") from error
        raise Refused(words) from error


def rounding(data: Data) -> float:
    """How far off scores may be of the same numbers in another program, type or order.

    Of a column that is far from zero for its spread float32 has no digits, and of a constant one none at all.
    """
    rows = data if data.mask is None else veil.data.steps(data)
    columns = [np.asarray(a, np.float64).reshape(-1, a.shape[-1]) for a in (rows.query, rows.evidence) if a is not None]
    with np.errstate(all="ignore"):
        spread = np.concatenate([np.std(a, 0) / np.max(np.abs(a), 0) for a in columns])
    return 0.0 if np.all(spread > 1e-2) else float("inf")


def _same(found, scores, what: str, data: Data, least: float = 1e-4) -> None:
    tolerance = max(least, rounding(data))
    if np.any(np.isnan(found)) or not np.all(np.abs(found - scores) <= tolerance * (1 + np.abs(scores))):
        raise Fault(f"another score {what}: {found[:4]} in place of {scores[:4]}")


def in_another_order(fit, data, scores, one, rng, folder) -> None:
    """Columns go by name, where there are names, and one more does no harm."""
    names = (*data.evidence_names, *data.query_names)
    if data.observed is not None or not fit.query_names or len({*names}) < len(names):
        return
    frames = []
    for array, called in ((data.query, data.query_names), (data.evidence, data.evidence_names)):
        frame = None if array is None else pd.DataFrame(np.asarray(array), columns=list(called))
        frames.append(frame if frame is None else frame[[called[i] for i in rng.permutation(len(called))]])
    if data.evidence is None or not fit.evidence_names:
        given = Data(*frames)
    else:
        both = pd.concat(frames[::-1], axis=1)
        given = Data(both[[both.columns[i] for i in rng.permutation(len(both.columns))]])
    _same(attempt(lambda: veil.log_prob(fit, given)), scores, "with the columns in another order", data)


def a_column_is_absent(fit, data, scores, one, rng, folder) -> None:
    if data.query.shape[1] < 2 or not fit.query_names:
        return _must_refuse(lambda: veil.log_prob(fit, Data(np.zeros((3, data.query.shape[1] + 1)))), "a column more")
    frame = pd.DataFrame(np.asarray(data.query), columns=list(data.query_names))
    return _must_refuse(lambda: veil.log_prob(fit, frame[[data.query_names[0]]]), "a column that is absent")


def _must_refuse(function, what: str) -> None:
    try:
        found = attempt(function)
    except Refused:
        return
    raise Fault(f"accepted what is bad: {what}: {np.ravel(found)[:3]}")


def of_another_type(fit, data, scores, one, rng, folder) -> None:
    kind = rng.choice(["f4", "f8", "O", "list", "jax"])
    form = {"list": lambda a: a.tolist(), "jax": jax.numpy.asarray}.get(kind, lambda a: a.astype(kind))
    with np.errstate(all="ignore"):
        query, evidence = (None if a is None else form(np.asarray(a)) for a in (data.query, data.evidence))
    held = all(a is None or np.all(np.isfinite(np.asarray(a, np.float64))) for a in (query, evidence))
    if held and data.observed is None:
        _same(attempt(lambda: veil.log_prob(fit, Data(query, evidence))), scores, f"as {kind}", data, 1e-2)


def a_row_alone(fit, data, scores, one, rng, folder) -> None:
    row = int(rng.integers(len(data)))
    _same(attempt(lambda: veil.log_prob(fit, data[row])), scores[[row]], "of a row alone", data)


def with_holes(fit, data, scores, one, rng, folder) -> None:
    """An entry that nobody saw is integrated out: with all of them missing log p is zero."""
    query = np.where(rng.random(data.query.shape) < 0.4, np.nan, np.asarray(data.query, np.float64))
    query[0], query[1:, 0] = np.nan, np.where(np.isnan(query[1:]).all(1), data.query[1:, 0], query[1:, 0])
    if len(query) > 1:
        found = attempt(lambda: veil.log_prob(fit, Data(query, data.evidence)))
        if not np.all(np.isfinite(found)) or abs(found[0]) > ODD:
            raise Fault(f"not finite: log p of rows with holes {found}")


def outside(fit, data, scores, one, rng, folder) -> None:
    """Density zero, or a refusal, of what cannot be; NaN as evidence and infinities are refused."""
    value = {"poisson": [-1.0, 0.5], "bernoulli": [2.0, -3.0, 0.5], "categorical": [3.0, -1.0, 0.5]}.get(one.family)
    query = np.array(data.query, np.float64)
    if value is None:
        evidence = None if data.evidence is None else np.full(data.evidence.shape, np.nan)
        query = query if evidence is not None else np.full(query.shape, np.inf)
        return _must_refuse(lambda: veil.log_prob(fit, Data(query, evidence)), "NaN or infinite numbers")
    query[0, 0] = rng.choice(value)
    try:
        found = attempt(lambda: veil.log_prob(fit, Data(query)))
    except Refused:
        return None
    if found[0] != -np.inf:
        raise Fault(f"not finite: outside the support log p is {found[0]}")
    return None


def written_and_read(fit, data, scores, one, rng, folder) -> None:
    """What `veil.data.write` writes is read back; where it fails nothing is there."""
    ending = str(rng.choice([".npz", ".csv", ".parquet"]))
    path = folder / f"written{ending}"
    if ending == ".npz":
        veil.data.write(path, data.fields())
        again = attempt(lambda: veil.data.read(path))
    else:
        if not all(re.fullmatch("[a-z][a-z0-9]*", name) for name in data.query_names) or data.evidence is not None:
            return
        array = np.asarray(data.query) if data.observed is None else np.where(data.observed, data.query, np.nan)
        if np.isnan(array).all(0).any():
            return  # of which no table says that it holds numbers
        veil.data.write(path, {name: array[:, i] for i, name in enumerate(data.query_names)})
        again = attempt(lambda: veil.data.read(path))
    # as text a float32 has as many digits as tell it from others, which are not those of the float64 next to it
    same = np.array_equal(np.asarray(again.query).astype(data.query.dtype), data.query)
    if not same or (again.observed is None) != (data.observed is None):
        raise Fault(f"silent change of values: written to {ending} and read back")
    with suppress(TypeError):
        veil.data.write(path, {"a": np.array([object()])})
    left = [p.name for p in folder.iterdir() if p.name.startswith(".")]
    if left or len(attempt(lambda: veil.data.read(path))) != len(data):
        raise Fault(f"half-written files: {left}")


def sequences_alone(fit, data, scores, one, rng, folder) -> None:
    """A sequence scores the same without the others, and without the padding."""
    row = int(rng.integers(len(data)))
    found = attempt(lambda: veil.log_prob(fit, data[row]))
    _same(found, scores[[row]], "of a sequence alone", data)


VARIATIONS = (
    in_another_order,
    in_another_order,
    a_column_is_absent,
    of_another_type,
    a_row_alone,
    with_holes,
    outside,
    written_and_read,
)
VARIATIONS_OF_SEQUENCES = (sequences_alone, sequences_alone)
