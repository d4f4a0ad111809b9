"""What the estimators share: precision, row counts that share compiled code, random keys, covariances, warnings."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from veil.data import Data
from veil.learning.fitting import fit
from veil.learning.result import Fit
from veil.maths.kmeans import canonical_order
from veil.parts.covariance import Covariance, Diagonal, Full, Spherical, Tied
from veil.parts.start import KMeans, RandomResponsibilities, RandomRows, Start

FLOATS = [np.float64, np.float32]
FEWEST, MOST = 32, 4096  # between these, row counts are filled up to a power of two

COVARIANCES = ("full", "tied", "diag", "spherical")
STARTS = ("kmeans", "k-means++", "random", "random_from_data")


def precision(*arrays: np.ndarray) -> Any:
    """A context in which JAX computes in float64 if one of the arrays is float64, and else in float32.

    >>> with precision(np.zeros(1)):
    ...     print(jax.numpy.zeros(1).dtype)
    float64
    """
    return jax.enable_x64(np.result_type(*arrays) == np.float64)


def rows_compiled(count: int) -> int:
    """How many rows ``count`` rows are filled up to, so that folds of nearly one size share compiled functions.

    >>> [rows_compiled(n) for n in (5, 133, 134, 100_000)]
    [32, 256, 256, 100000]
    """
    return max(FEWEST, 1 << (count - 1).bit_length()) if count <= MOST else count


def filled(array: np.ndarray, rows: int) -> np.ndarray:
    """``array`` followed by copies of its first row, ``rows`` in all.

    >>> filled(np.array([1, 2]), 4).tolist()
    [1, 2, 1, 1]
    """
    return np.concatenate([array, np.repeat(array[:1], rows - len(array), axis=0)])


def as_data(query: np.ndarray, evidence: np.ndarray | None = None, weight: np.ndarray | None = None) -> Data:
    """Data in the order of the rows, filled up with rows of weight zero to ``rows_compiled``.

    >>> as_data(np.ones((40, 2)))
    Data('data': N=64, query (y0, y1), total weight 40)
    """
    weight = np.ones(len(query), query.dtype) if weight is None else weight
    rows = rows_compiled(len(query))
    weight = np.concatenate([weight, np.zeros(rows - len(weight), weight.dtype)])
    return Data(filled(query, rows), None if evidence is None else filled(evidence, rows), weight)


def distinct(
    query: np.ndarray, evidence: np.ndarray | None, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """The distinct rows, sorted, the weights of equal ones added, without those of weight zero.

    An integer weight is thus the same as repeated rows to the last digit, and so is any other order of the rows: a fit
    of very flexible models to few data amplifies even a difference in the last digit. Many rows stay as they are.

    >>> distinct(np.array([[2.0], [1.0], [2.0]]), None, np.array([1.0, 3.0, 1.0]))[2].tolist()
    [3.0, 2.0]
    """
    if np.any(weight > 0):  # if not, Data refuses them
        keep = weight > 0
        query, evidence, weight = query[keep], None if evidence is None else evidence[keep], weight[keep]
    if len(query) > MOST:
        return query, evidence, weight
    whole = query if evidence is None else np.concatenate([query, evidence], axis=1)
    order = canonical_order(whole)
    new = np.concatenate([[True], np.any(whole[order[1:]] != whole[order[:-1]], axis=1)])
    summed = np.bincount(np.cumsum(new) - 1, weight[order]).astype(weight.dtype)
    first = order[new]
    return query[first], None if evidence is None else evidence[first], summed


class Seed(NamedTuple):
    """One draw from scikit-learn's ``random_state``, for JAX and for numpy."""

    number: int

    @staticmethod
    def draw(random_state: Any) -> "Seed":
        """The next number of a ``RandomState``; of an int always the same."""
        return Seed(int(check_random_state(random_state).randint(2**31 - 1)))

    def key(self) -> Any:
        """A JAX key."""
        return jax.random.key(self.number)

    def generator(self) -> np.random.Generator:
        """A numpy generator."""
        return np.random.default_rng(self.number)


def start(init_params: str) -> Start:
    """veil's start of scikit-learn's name.

    >>> start("k-means++").iterations
    0
    """
    if init_params == "random":
        return RandomResponsibilities()
    return {"kmeans": KMeans(), "k-means++": KMeans(iterations=0), "random_from_data": RandomRows()}[init_params]


def covariance(covariance_type: str, reg_covar: float, total: float, components: int) -> Covariance:
    """veil's covariance of scikit-learn's name, with a floor that adds ``reg_covar`` to standardised variances.

    veil's floor ε adds ε / n_k to the variances of a component that has n_k data, so ε = ``reg_covar`` x the average
    n_k; that average rounded up to a power of two: ε is compiled in, and folds of nearly one size should share it.

    >>> covariance("diag", 1e-3, 1000.0, 2).floor
    0.512
    """
    share = total if covariance_type == "tied" else total / components
    floor = float(reg_covar) * 2.0 ** float(np.ceil(np.log2(share)))
    if covariance_type == "tied":
        return Tied(Full(floor))
    return {"full": Full, "diag": Diagonal, "spherical": Spherical}[covariance_type](floor)


def tolerance(tol: float) -> float:
    """veil's tolerance for scikit-learn's ``tol``: the gain still to come, extrapolated, in nats per datum.

    EM also wants the last step's gain to be below a hundred times that, which is scikit-learn's rule.

    >>> tolerance(1e-3)
    1e-05
    """
    return max(0.01 * float(tol), float(np.finfo(np.float32).tiny))


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def fit_quietly(model: Any, data: Data, **options: Any) -> Fit:
    """``veil.fit`` whose notes stay in its status, to be told once by ``tell``."""
    with _quiet():
        return fit(model, data, **options)


def bounds(result: Fit) -> list[float]:
    """The log-likelihood per datum at each step, without the prior (nats)."""
    return (result.history.value - result.history.penalty).tolist()


def converged(result: Fit, tol: float, before: float = -np.inf) -> bool:
    """Whether EM stopped by itself or, when it took all steps, the last one gained less than ``tol``.

    ``before``: the log-likelihood per datum where a fit went on, of the step before its first.
    """
    values = [before, *bounds(result)]
    return result.status.converged or (
        result.status.reason == "all steps taken" and bool(abs(values[-1] - values[-2]) < tol)
    )


def tell(result: Fit, fine: bool) -> None:
    """Warn, as scikit-learn does, of a fit that did not converge, and of whatever ``veil.fit`` noted."""
    lines = list(result.status.notes)
    if not fine:
        lines.append(
            "Best performing initialization did not converge. Try different init parameters, or increase max_iter, "
            f"tol, or check for degenerate data. ({result.status.reason})"
        )
    for line in lines:
        warnings.warn(line, ConvergenceWarning, stacklevel=3)
