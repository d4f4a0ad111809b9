"""The whole way of a small input, file -> data -> fit -> score -> save -> load, and an oracle that says what went wrong.

    travel(case, seed, number, folder)    an `Outcome`; the same input for the same case, seed and number

What must hold. An error is veil's own, raised by a line of it, of a kind that is documented, in one line that names an
argument, a column or the file. What has to be refused is, and what is good is not. Rows, columns, sequences and every
number are those that were written; what is left out is named in a `DataWarning`, and there are no other warnings but
the fit's own notes. Scores of what a model can hold are finite, are numpy's where that can compute them, and the same
after saving and loading, with columns in another order, in another type, and of a row alone. Nothing half-written stays.
"""

import linecache
import math
import re
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
import pandas as pd

import mutations
import veil
from fuzz_forms import Input, in_arrow, in_numpy, in_text
from fuzz_memory import in_memory, in_sequences
from veil.data import Data, DataWarning
from veil.data.core import trees
from veil.parts import heads

CASES: dict[str, Callable] = {
    "text": in_text,
    "arrow": in_arrow,
    "numpy": in_numpy,
    "memory": in_memory,
    "sequences": in_sequences,
}
MODELS: dict[str, Callable] = {
    "gaussian": lambda: veil.density(veil.LinearGaussian()),
    "mixture": lambda: veil.Mixture(components=2),
    "regression": lambda: veil.density(veil.LinearGaussian()),
    "poisson": lambda: veil.density(veil.Linear(heads.Poisson())),
    "bernoulli": lambda: veil.density(veil.Linear(heads.Bernoulli())),
    "categorical": lambda: veil.density(veil.Linear(heads.Categorical(3))),
    "chain": lambda: veil.HMM(states=2),
}
SOURCE = str(Path(veil.__file__).parent)
KINDS = (ValueError, TypeError, FileNotFoundError, ModuleNotFoundError, IndexError)
NAMED = re.compile(
    r"query|evidence|weight|observed|index|mask|reset|lengths|episode|time|column|array|path|data|model|trajectory|found"
)
SECONDS, BYTES = 120.0, 2**31
ODD = 1e-3  # nats, beside rounding that is known


class Fault(Exception):
    """What no input may lead to."""


class Refused(Exception):
    """In veil's words."""


@dataclass
class Outcome:
    """``refused``: veil's words; ``fault``: kind and what happened, "" if nothing did; ``told``: what the input was."""

    told: str
    refused: str = ""
    fault: str = ""
    warned: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return self.fault.partition(":")[0]


def travel(case: str, seed: int, number: int, folder: Path, families: tuple[str, ...] = tuple(MODELS)) -> Outcome:
    """One input all the way; of other families than these only up to the data."""
    rng = np.random.default_rng([seed, list(CASES).index(case), number])
    tempfile.tempdir = str(folder)
    try:
        one = CASES[case](rng, folder)
        outcome = Outcome(f"{one.family}: {', '.join(one.told)}")
        with warnings.catch_warnings(record=True) as caught, mutations.limits(SECONDS, BYTES):
            warnings.simplefilter("always")
            try:
                _all_the_way(one, rng, folder, families, caught, outcome)
            except Refused as error:
                outcome.refused = str(error)
                if not (one.refuse or one.may):
                    outcome.fault = f"refused what is good: {error}"
            except Fault as error:
                outcome.fault = str(error)
            except TimeoutError as error:
                outcome.fault = f"hangs: {error}"
            except MemoryError as error:
                outcome.fault = f"memory: {error}"
    finally:
        tempfile.tempdir = None
    return outcome


def _all_the_way(one: Input, rng, folder: Path, families, caught, outcome: Outcome) -> None:
    before = {path.name for path in folder.iterdir()}
    data = attempt(one.read)
    _check_warnings(caught, outcome)
    if one.truth is not None:
        _check_data(data, one, outcome)
    left = {path.name for path in folder.iterdir()} - before
    if any(name.endswith(".part") for name in left):
        raise Fault(f"half-written files: {left}")
    if one.family not in families or isinstance(data.query, dict) or isinstance(data.evidence, dict):
        if data.mapped:
            attempt(data.fields)
        elif one.refuse and one.refuse != "outside the support":
            raise Fault(f"accepted what is bad: {one.refuse}")
        return
    del caught[:]
    fit = attempt(lambda: veil.fit(MODELS[one.family](), data, key=jax.random.key(0), steps=3, progress=False))
    if one.refuse:
        raise Fault(f"accepted what is bad: {one.refuse}")
    for each in caught:
        if each.category is not DataWarning and str(each.message) != "; ".join(fit.status.notes):
            raise Fault(f"warning of others: {each.category.__name__}: {each.message}")
    del caught[:]
    scores = _score(fit, data)
    if one.truth is not None:
        _check_scores(scores, fit, data, one)
    again = attempt(lambda: veil.load(veil.save(folder / "model", fit)))
    if not np.array_equal(veil.log_prob(again, data), scores):
        raise Fault("another score after loading")
    saved = sorted(path.name.split("-")[0] for path in (folder / "model").iterdir())
    if saved != ["model.json", "parameters"]:
        raise Fault(f"half-written files: {saved}")
    try:
        some = VARIATIONS_OF_SEQUENCES if one.family == "chain" else VARIATIONS
        some[rng.integers(len(some))](fit, data, scores, one, rng, folder)
    except Refused as error:
        raise Fault(f"refused what is good: when scored otherwise: {error}") from None
    _check_warnings(caught, outcome)


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


def _check_warnings(caught, outcome: Outcome) -> None:
    for each in caught:
        if each.category is not DataWarning:
            raise Fault(f"warning of others: {each.category.__name__}: {each.message}")
        outcome.warned.append(str(each.message))


def _check_data(data: Data, one: Input, outcome: Outcome) -> None:
    whole, said = one.truth, " ".join(outcome.warned)
    for name in whole.left:
        if (name or "''") not in said and "column0" not in said and repr(name) not in said:
            raise Fault(f"silently left out: column {name!r}")
    for role in ("query", "evidence"):
        truth, found = getattr(whole, role), getattr(data, role)
        if truth is None or found is None:
            if truth is not found:
                raise Fault(f"silent change of columns: {role} is {found is not None}")
            continue
        observed = data.observed if role == "query" else None
        leaves = [leaf for _, leaf in trees.leaves(found)]
        masks = [leaf for _, leaf in trees.leaves(observed)] or [np.ones(leaf.shape, bool) for leaf in leaves]
        array = np.concatenate([np.where(m, x, np.nan) for m, x in zip(masks, map(np.asarray, leaves), strict=True)], -1)
        if isinstance(truth, list):
            there = np.ones(array.shape[:2], bool) if data.mask is None else data.mask
            sizes = there.sum(1).tolist()
            if sizes != [len(each) for each in truth]:
                raise Fault(f"silent change of sequences: {sizes} in place of {[len(each) for each in truth]}")
            array, truth = array[there], np.concatenate(truth)
        if array.shape != truth.shape:
            raise Fault(f"silent change of rows or columns: {role} {array.shape} in place of {truth.shape}")
        if not np.array_equal(array, truth, equal_nan=True):
            place = tuple(np.argwhere(~((array == truth) | (np.isnan(array) & np.isnan(truth))))[0])
            raise Fault(f"silent change of values: {role} {array[place]!r} in place of {truth[place]!r} at {place}")
        names = getattr(whole, f"{role}_names")
        if names is not None and names != getattr(data, f"{role}_names"):
            raise Fault(f"silent change of names: {getattr(data, f'{role}_names')} in place of {names}")
    weight = None if data.weight is None else np.asarray(data.weight, np.float64)
    if (weight is None) != (whole.weight is None) or (weight is not None and not np.array_equal(weight, whole.weight)):
        raise Fault(f"silent change of weights: {weight} in place of {whole.weight}")


def _score(fit, data) -> np.ndarray:
    """log p of each datum, none of which may be NaN or infinite: all are data that were fitted."""
    scores = attempt(lambda: veil.log_prob(fit, data))
    found = attempt(lambda: veil.evaluate(fit, data))
    weight = np.ones(len(scores)) if data.weight is None else np.asarray(data.weight, np.float64)
    if scores.shape != (len(data),):
        raise Fault(f"silent change of rows: {scores.shape} scores of {len(data)} data")
    if not np.all(np.isfinite(scores[weight > 0])) or np.any(np.isnan(scores)) or np.any(scores == np.inf):
        raise Fault(f"not finite: log p {scores} called {found.kind}")
    total = float(np.sum(np.where(weight > 0, weight * scores.astype(np.float64), 0.0)))
    numbers = (found.log_likelihood, found.log_likelihood_per_datum, found.standard_error, found.n, found.bic, found.aic)
    if not all(math.isfinite(number) for number in numbers):
        raise Fault(f"not finite: an evaluation of {numbers}")
    if not math.isclose(found.log_likelihood, total, rel_tol=1e-5, abs_tol=1e-5) or found.rows != len(data):
        raise Fault(f"another total: {found.log_likelihood} in place of {total}")
    if not math.isclose(found.n, weight.sum(), rel_tol=1e-5):
        raise Fault(f"another total weight: {found.n} in place of {weight.sum()}")
    return scores


def _check_scores(scores, fit, data, one: Input) -> None:
    """Against numpy: of a Gaussian, and of linear regression, at the maximum of the likelihood."""
    if one.family not in ("gaussian", "regression") or data.observed is not None:
        return
    y = np.asarray(one.truth.query, np.float64)
    weight = np.ones(len(y)) if data.weight is None else np.asarray(data.weight, np.float64)
    weight = weight / weight.max()
    x = np.ones((len(y), 1))
    if one.truth.evidence is not None:
        x = np.column_stack([x, (one.truth.evidence - one.truth.evidence.mean(0)) / np.maximum(one.truth.evidence.std(0), 1e-300)])
    with np.errstate(all="ignore"):
        shift = np.average(y, axis=0, weights=weight)
        unit = np.sqrt(np.average((y - shift) ** 2, axis=0, weights=weight))
        z = (y - shift) / unit
        scaled = x * np.sqrt(weight)[:, None]
        if not np.all(np.isfinite(z)) or np.any(np.abs(shift) > 1e3 * unit) or np.linalg.cond(scaled) > 100:
            return  # where float32 has no digits to compare
        slope = np.linalg.lstsq(scaled, z * np.sqrt(weight)[:, None], rcond=None)[0]
        rest = z - x @ slope
        covariance = (rest * weight[:, None]).T @ rest / weight.sum()
        if not np.all(np.isfinite(covariance)) or np.linalg.cond(covariance) > 1e3 or np.trace(covariance) < 1e-2:
            return
        if weight.sum() / weight.max() < 5 or weight[weight > 0].min() < 1e-3:
            return  # the prior is not small then
        inverse, log_det = np.linalg.inv(covariance), np.linalg.slogdet(covariance)[1]
        size = y.shape[1] * np.log(2 * np.pi) + log_det
        expected = -0.5 * (size + np.einsum("ni,ij,nj->n", rest, inverse, rest)) - np.log(unit).sum()
    worst = float(np.max(np.abs(expected - scores)))
    if worst > 0.02:
        raise Fault(f"another likelihood than numpy's: {worst:.3g} nats off; {scores[:3]} in place of {expected[:3]}")


# -- scoring otherwise ---------------------------------------------------------------------------------------------------


def _rounding(data: Data) -> float:
    """How far off scores may be, of the same numbers in another type or order: what float32 loses of the columns."""
    with np.errstate(all="ignore"):
        spread = [np.std(np.asarray(a, np.float64), 0) / np.max(np.abs(a), 0) for a in (data.query, data.evidence) if a is not None]
    spread = np.concatenate([each.ravel() for each in spread])
    return float("inf") if not np.all(spread > 1e-2) else 1e-2


def _same(found, scores, what: str, tolerance: float) -> None:
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
    _same(attempt(lambda: veil.log_prob(fit, given)), scores, "with the columns in another order", 1e-4)


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
    tolerance = _rounding(data) if data.observed is None else float("inf")
    with np.errstate(all="ignore"):
        query, evidence = (None if a is None else form(np.asarray(a)) for a in (data.query, data.evidence))
    held = all(a is None or np.all(np.isfinite(np.asarray(a, np.float64))) for a in (query, evidence))
    if held and tolerance < 1:
        found = attempt(lambda: veil.log_prob(fit, Data(query, evidence)))
        _same(found, scores, f"as {kind}", tolerance)


def a_row_alone(fit, data, scores, one, rng, folder) -> None:
    row = int(rng.integers(len(data)))
    _same(attempt(lambda: veil.log_prob(fit, data[row])), scores[[row]], "of a row alone", 1e-4)


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
    same = np.array_equal(np.asarray(again.query, np.float64), np.asarray(data.query, np.float64))
    if not same or (again.observed is None) != (data.observed is None):
        raise Fault(f"silent change of values: written to {ending} and read back")
    try:
        veil.data.write(path, {"a": np.array([object()])})
    except TypeError:
        pass
    left = [p.name for p in folder.iterdir() if p.name.startswith(".")]
    if left or len(attempt(lambda: veil.data.read(path))) != len(data):
        raise Fault(f"half-written files: {left}")


def sequences_alone(fit, data, scores, one, rng, folder) -> None:
    """A sequence scores the same without the others, and without the padding."""
    row = int(rng.integers(len(data)))
    found = attempt(lambda: veil.log_prob(fit, data[row]))
    _same(found, scores[[row]], "of a sequence alone", 1e-4)


VARIATIONS = (in_another_order, in_another_order, a_column_is_absent, of_another_type, a_row_alone, with_holes, outside, written_and_read)
VARIATIONS_OF_SEQUENCES = (sequences_alone, sequences_alone)
