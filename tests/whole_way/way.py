"""The whole way of a small input, file -> data -> fit -> score -> save -> load, and what went wrong on it.

    travel(case, seed, number, folder)    an `Outcome`; the same input for the same case, seed and number

What must hold. An error is veil's own, raised by a line of it, of a kind that is documented, in one line that names an
argument, a column or the file. What has to be refused is, and what is good is not. Rows, columns, sequences and every
number are those that were written; what is left out is named in a `DataWarning`, and there are no other warnings but
the fit's own notes. Scores of what a model can hold are finite, are numpy's where that can compute them, and the same
after saving and loading, with columns in another order, in another type, of a row alone. Nothing half-written stays.
"""

import math
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np

import mutations
import veil
from veil.data import Data, DataWarning
from veil.data.core import trees
from veil.parts import heads
from whole_way.files import Input, in_arrow, in_numpy
from whole_way.memory import in_memory, in_sequences
from whole_way.scoring import VARIATIONS, VARIATIONS_OF_SEQUENCES, Fault, Refused, attempt, rounding
from whole_way.text import in_text

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
LATER = ("outside the support", "nothing is observed")  # what only a fit refuses, in part
SECONDS, BYTES = 600.0, 2**31


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
    if one.stream is not None and not isinstance(data.query, dict):
        try:
            _check_blocks(attempt(lambda: list(one.stream().blocks(5))), data)
        except Refused as error:
            if "cannot be streamed by rows" not in str(error):  # columns one after the other, compressed: as documented
                raise
    left = {path.name for path in folder.iterdir()} - before
    if any(name.endswith(".part") for name in left):
        raise Fault(f"half-written files: {left}")
    if one.family not in families or isinstance(data.query, dict) or isinstance(data.evidence, dict):
        if data.mapped:
            attempt(data.fields)
        elif one.refuse not in ("", *LATER):
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
    data = data[np.arange(len(data))] if data.mapped else data
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
        array = np.concatenate(
            [np.where(m, x, np.nan) for m, x in zip(masks, map(np.asarray, leaves), strict=True)], -1
        )
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


def _check_blocks(blocks: list[Data], data: Data) -> None:
    """Read in blocks a file is what it is as a whole."""
    for role in ("query", "evidence", "weight", "observed"):
        parts, whole = [getattr(part, role) for part in blocks], getattr(data, role)
        if role == "observed":
            parts = [np.ones(b.query.shape, bool) if b.observed is None else b.observed for b in blocks]
            whole = np.ones(data.query.shape, bool) if whole is None else whole
        if (whole is None) != (parts[0] is None) or not (whole is None or np.array_equal(np.concatenate(parts), whole)):
            raise Fault(f"silent change of values: the {role} in blocks is not that of the whole")
    if blocks[0].query_names != data.query_names:
        raise Fault(f"silent change of names: in blocks {blocks[0].query_names}")


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
    numbers = (
        found.log_likelihood,
        found.log_likelihood_per_datum,
        found.standard_error,
        found.n,
        found.bic,
        found.aic,
    )
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
    total, weight = weight.sum(), weight / weight.max()
    x = np.ones((len(y), 1))
    if one.truth.evidence is not None:
        x = np.column_stack(
            [x, (one.truth.evidence - one.truth.evidence.mean(0)) / np.maximum(one.truth.evidence.std(0), 1e-300)]
        )
    with np.errstate(all="ignore"):
        shift = np.average(y, axis=0, weights=weight)
        unit = np.sqrt(np.average((y - shift) ** 2, axis=0, weights=weight))
        z = (y - shift) / unit
        scaled = x * np.sqrt(weight)[:, None]
        if not np.all(np.isfinite(z)) or np.any(np.abs(shift) > 1e3 * unit) or np.linalg.cond(scaled) > 100:
            return
        if rounding(data) > 0:
            return
        slope = np.linalg.lstsq(scaled, z * np.sqrt(weight)[:, None], rcond=None)[0]
        rest = z - x @ slope
        covariance = (rest * weight[:, None]).T @ rest / weight.sum()
        if not np.all(np.isfinite(covariance)) or np.linalg.cond(covariance) > 1e3 or np.trace(covariance) < 1e-2:
            return
        if total < 1e-3 or weight.sum() / weight.max() < 5 or weight[weight > 0].min() < 1e-3:
            return  # the prior is not small then, and of less than a thousandth of a datum nothing is learned
        inverse, log_det = np.linalg.inv(covariance), np.linalg.slogdet(covariance)[1]
        size = y.shape[1] * np.log(2 * np.pi) + log_det
        expected = -0.5 * (size + np.einsum("ni,ij,nj->n", rest, inverse, rest)) - np.log(unit).sum()
    worst = float(np.max(np.abs(expected - scores)))
    if worst > 0.02:
        raise Fault(f"another likelihood than numpy's: {worst:.3g} nats off; {scores[:3]} in place of {expected[:3]}")
