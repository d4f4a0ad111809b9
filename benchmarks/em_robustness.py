"""EM on hostile data: who raises, returns NaN, or lowers the (penalised) likelihood.

Every case is one data set, 200 x 3 unless it says otherwise, fitted with 6 components in float32 and float64, with
full, tied, diagonal and spherical covariances, and (without ``--quick``) from three seeds. The figure is the number of
those fits that failed; ratio is (1 + theirs) / (1 + ours). ``ordinary`` is the data that the others spoil. A failure is

* raises: any exception;
* nan: parameters, or the mean log-likelihood of the training data, are not finite;
* falls: the value that the library itself reports falls from one iteration to the next by more than rounding
  (64 units in the last place of the larger of one and the value). Ours reports the penalised log-likelihood, and would
  undo such a step and stop: that counts as a fall.

The peers with their defaults, and at most 50 iterations: scikit-learn's GaussianMixture, pomegranate's
GeneralMixtureModel (float32 only, no tied covariance), hmmlearn's GMMHMM with one state, whose EM is that of a mixture
(it computes in float64 whatever comes).
"""

import collections
import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any

import common
import numpy as np

COMPONENTS, STEPS, ROWS = 6, 50, 200
KINDS = {"full": "full", "tied": "tied", "diagonal": "diag", "spherical": "spherical"}


def _blobs() -> np.ndarray:
    rng = np.random.default_rng(3)
    means = np.array([[0.0, 0.0, 0.0], [4.0, 1.0, -2.0], [-3.0, 5.0, 1.0]])
    return means[rng.integers(3, size=ROWS)] + rng.normal(size=(ROWS, 3)) @ np.diag([1.0, 0.5, 2.0])


def ordinary() -> np.ndarray:
    """Three blobs, nothing wrong with them."""
    return _blobs()


def duplicated_rows() -> np.ndarray:
    """Five different rows, forty times each: fewer than there are components."""
    return np.tile(_blobs()[:5], (40, 1))


def identical_rows() -> np.ndarray:
    """One row, two hundred times."""
    return np.tile(_blobs()[:1], (ROWS, 1))


def constant_columns() -> np.ndarray:
    """Two of three columns never change."""
    points = _blobs()
    points[:, 1:] = [7.5, 0.0]
    return points


def few_points() -> np.ndarray:
    """Four rows: fewer than there are components."""
    return _blobs()[:4]


def one_point() -> np.ndarray:
    """One row."""
    return _blobs()[:1]


def column_scales() -> np.ndarray:
    """Columns on scales 1e-6, 1 and 1e6."""
    return _blobs() * [1e-6, 1.0, 1e6]


def far_means() -> np.ndarray:
    """Means at 1e6, variances about one."""
    return _blobs() + 1e6


def outliers() -> np.ndarray:
    """Three rows of two hundred at 1e30."""
    points = _blobs()
    points[[5, 50, 150]] = [[1e30, 0.0, 0.0], [-1e30, 1e30, 0.0], [1.0, 1.0, -1e30]]
    return points


def heavy_ties() -> np.ndarray:
    """A column that is mostly zero, a binary one, and one of three values."""
    points = _blobs()
    points[:, 0] *= np.abs(points[:, 0]) > 4.0
    return np.stack([points[:, 0], points[:, 1] > 2.0, np.clip(np.round(points[:, 2] / 3.0), -1, 1)], 1)


def missing_rows() -> np.ndarray:
    """Twenty rows without any entry."""
    points = _blobs()
    points[::10] = np.nan
    return points


def missing_column() -> np.ndarray:
    """A column without any entry."""
    points = _blobs()
    points[:, 1] = np.nan
    return points


def missing_entries() -> np.ndarray:
    """A third of the entries missing at random."""
    points = _blobs()
    points[np.random.default_rng(4).random(points.shape) < 1 / 3] = np.nan
    return points


DATA: dict[str, Callable[[], np.ndarray]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        ordinary,
        duplicated_rows,
        identical_rows,
        constant_columns,
        few_points,
        one_point,
        column_scales,
        far_means,
        outliers,
        heavy_ties,
        missing_rows,
        missing_column,
        missing_entries,
    )
}


class Stopped(Exception):
    """Ours undid a step and stopped."""


Outcome = tuple[Any, float, Any]  # parameters, mean log-likelihood, the values reported at each iteration


def ours(points: np.ndarray, kind: str, seed: int) -> Outcome:
    """veil.fit with its defaults."""
    import jax

    import veil

    covariance = {"full": veil.Full, "tied": veil.Tied, "diagonal": veil.Diagonal, "spherical": veil.Spherical}[kind]()
    with jax.enable_x64(points.dtype == np.float64):
        model = veil.Mixture(veil.LinearGaussian(covariance), COMPONENTS)
        fitted = veil.fit(model, points, key=jax.random.key(seed), steps=STEPS, progress=False)
        value = veil.evaluate(fitted.model, points).log_likelihood_per_datum
        if fitted.status.reason.startswith("stopped"):
            raise Stopped(fitted.status.reason)
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(fitted.model)]
    return leaves, value, fitted.history.value


def sklearn(points: np.ndarray, kind: str, seed: int) -> Outcome:
    """scikit-learn."""
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(COMPONENTS, covariance_type=KINDS[kind], max_iter=STEPS, random_state=seed).fit(points)
    return [model.weights_, model.means_, model.covariances_], model.score(points), model.lower_bounds_


def pomegranate(points: np.ndarray, kind: str, seed: int) -> Outcome:
    """pomegranate, its fit written out for the values."""
    import torch
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    kinds = {"full": "full", "diagonal": "diag", "spherical": "sphere"}
    parts = [Normal(covariance_type=kinds[kind]) for _ in range(COMPONENTS)]
    model = GeneralMixtureModel(parts, random_state=seed)
    tensor = torch.from_numpy(points)
    values: list[float] = []
    for _ in range(STEPS):
        values.append(float(model.summarize(tensor)) / len(points))
        if len(values) > 1 and values[-1] - values[-2] < 1e-6:
            break
        model.from_summaries()
    parameters = [p.detach().numpy() for part in model.distributions for p in (part.means, part.covs)]
    return parameters, float(model.log_probability(tensor).mean()), values


def hmmlearn(points: np.ndarray, kind: str, seed: int) -> Outcome:
    """hmmlearn's mixture with one hidden state."""
    from hmmlearn.hmm import GMMHMM

    logging.getLogger("hmmlearn").setLevel(logging.CRITICAL)
    model = GMMHMM(1, COMPONENTS, covariance_type=KINDS[kind], n_iter=STEPS, tol=1e-6, random_state=seed).fit(points)
    values = np.asarray(list(model.monitor_.history)) / len(points)
    return [model.weights_, model.means_, model.covars_], model.score(points) / len(points), values


LIBRARIES = {"ours": ours, "scikit-learn": sklearn, "pomegranate": pomegranate, "hmmlearn": hmmlearn}


def verdict(library: str, points: np.ndarray, kind: str, seed: int) -> str | None:
    """What went wrong, in a few words; None if nothing did."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            parameters, value, values = LIBRARIES[library](points, kind, seed)
    except Stopped as error:
        return f"falls, and {error}"
    except Exception as error:
        return f"raises {type(error).__name__}: {str(error).strip().splitlines()[0][:90] if str(error) else ''}"
    if not all(np.all(np.isfinite(leaf)) for leaf in parameters if np.issubdtype(leaf.dtype, np.floating)):
        return "nan in the parameters"
    if not np.isfinite(value):
        return "nan in the likelihood"
    values = np.asarray(values, np.float64)
    if not np.all(np.isfinite(values)):
        return "nan in the values reported"
    precision = 64 * np.finfo(points.dtype).eps
    falls = values[:-1] - values[1:]
    worst = falls - precision * np.maximum(1.0, np.abs(values[:-1]))
    if len(falls) and np.max(worst) > 0:
        step = int(np.argmax(worst))
        return f"falls by {falls[step]:.2g} nats a datum at step {step + 1} of {len(falls)}"
    return None


def robustness(name: str, options: common.Options) -> common.Case:
    """One data set in all combinations."""
    dtypes = (np.float32,) if options.quick else (np.float32, np.float64)
    kinds = ("full", "diagonal") if options.quick else tuple(KINDS)
    seeds = range(1 if options.quick else options.repeats or 3)
    counts: dict[str, int] = {}
    tried: dict[str, int] = {}
    details: dict[str, Any] = {}
    for library in LIBRARIES:
        reasons: collections.Counter[str] = collections.Counter()
        failures, tried[library] = 0, 0
        for dtype in dtypes:
            points = DATA[name]().astype(dtype)
            for kind in kinds:
                if library == "pomegranate" and (kind == "tied" or dtype == np.float64):
                    continue
                for seed in seeds:
                    wrong = verdict(library, points, kind, seed)
                    tried[library] += 1
                    if wrong is not None:
                        failures += 1
                        reasons[wrong.split()[0]] += 1
                        print(f"  {library} {np.dtype(dtype).name} {kind} seed {seed}: {wrong}", file=sys.stderr)
        counts[library] = failures
        details[library] = f"{failures} of {tried[library]} failed" + "".join(
            f", {amount} {reason}" for reason, amount in reasons.items()
        )
    peers = {
        library: common.Peer(common.version(library), counts[library], (1 + counts[library]) / (1 + counts["ours"]))
        for library in LIBRARIES
        if library != "ours"
    }
    return common.Case(name, "fits that failed", "fits", counts["ours"], None, peers, details)


CASES: dict[str, common.Function] = {name: lambda options, name=name: robustness(name, options) for name in DATA}
QUICK = ("duplicated-rows", "constant-columns", "few-points", "outliers", "missing-rows")

if __name__ == "__main__":
    common.main("em_robustness", __doc__, CASES, QUICK)
