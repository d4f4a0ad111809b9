"""Gaussian mixtures by EM: one iteration from the same start, and a whole fit in a new process.

An iteration of ours is one of ``veil.fit``: the time between two of the calls of its ``record``, over the steps between
them, after the first compiled stretch. scikit-learn's is the difference of two ``fit`` that differ in ``max_iter``
(float32 and float64, the faster counts), pomegranate's ``summarize`` and ``from_summaries``. All start from the same
means, covariances and weights, in float32; ``quality`` is the difference of the final mean log-likelihoods
(nats a datum), computed by the same float64 code, after the same number of iterations.

``cold-*`` is a new process each time: imports, compilation, k-means++ and the fit to convergence, on the same file.
"""

import gc
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import common
import numpy as np

ITERATIONS = 10  # for the quality: all take as many from the same start
KINDS = {"full": "full", "tied": "tied", "diagonal": "diag", "spherical": "spherical"}


def blobs(rows: int, size: int, components: int, seed: int = 0) -> np.ndarray:
    """A float32 sample of a Gaussian mixture with overlapping components and correlated columns."""
    rng = np.random.default_rng(seed)
    means = 2.0 * rng.normal(size=(components, size))
    factors = np.eye(size) + 0.3 * rng.normal(size=(components, size, size)) / np.sqrt(size)
    labels = rng.integers(components, size=rows)
    points = rng.normal(size=(rows, size)).astype(np.float32)
    for k in range(components):
        chosen = labels == k
        points[chosen] = points[chosen] @ factors[k].T.astype(np.float32) + means[k].astype(np.float32)
    return points


class Start:
    """The means, covariances and weights that all start from: rows of the data, the data's variances, equal weights."""

    def __init__(self, points: np.ndarray, components: int, kind: str) -> None:
        rng = np.random.default_rng(1)
        rows = rng.choice(len(points), components, replace=False)
        self.kind, self.components = kind, components
        self.means = points[rows].astype(np.float64)
        variances = points[:50_000].astype(np.float64).var(0)
        self.variances = np.full_like(variances, variances.mean()) if kind == "spherical" else variances
        self.weights = np.full(components, 1.0 / components)

    def ours(self) -> Any:
        """A veil.Mixture with these parameters."""
        import jax.numpy as jnp

        import veil

        scales = np.sqrt(self.variances)
        each = jnp.asarray(np.tile(scales, (self.components, 1)), jnp.float32)
        covariance = {
            "full": lambda: veil.Full(factor=jnp.asarray(np.tile(np.diag(scales), (self.components, 1, 1)))),
            "tied": lambda: veil.Tied(veil.Full(factor=jnp.asarray(np.diag(scales)[None]))),
            "diagonal": lambda: veil.Diagonal(scale=each),
            "spherical": lambda: veil.Spherical(diagonal=veil.Diagonal(scale=each)),
        }[self.kind]()
        experts = veil.LinearGaussian(covariance, weight=jnp.asarray(self.means[:, :, None], jnp.float32))
        gate = veil.Softmax(weight=jnp.asarray(np.log(self.weights)[:, None], jnp.float32))
        return veil.Mixture(experts, self.components, gate)

    def sklearn(self, dtype: Any, iterations: int) -> Any:
        """A scikit-learn GaussianMixture that starts here."""
        from sklearn.mixture import GaussianMixture

        precisions = {
            "full": np.tile(np.diag(1 / self.variances), (self.components, 1, 1)),
            "tied": np.diag(1 / self.variances),
            "diagonal": np.tile(1 / self.variances, (self.components, 1)),
            "spherical": np.full(self.components, 1 / self.variances[0]),
        }[self.kind]
        return GaussianMixture(
            self.components,
            covariance_type=KINDS[self.kind],
            weights_init=self.weights.astype(dtype),
            means_init=self.means.astype(dtype),
            precisions_init=precisions.astype(dtype),
            max_iter=iterations,
            tol=0.0,
            init_params="random_from_data",  # overruled by the three above; the cheapest
        )

    def pomegranate(self) -> Any:
        """A pomegranate GeneralMixtureModel that starts here; None for covariances that it does not have."""
        import torch
        from pomegranate.distributions import Normal
        from pomegranate.gmm import GeneralMixtureModel

        if self.kind not in ("full", "diagonal"):  # its spherical covariance cannot be given a start
            return None
        covariance = np.diag(self.variances) if self.kind == "full" else self.variances
        return GeneralMixtureModel(
            [
                Normal(
                    torch.tensor(mean, dtype=torch.float32),
                    torch.tensor(covariance, dtype=torch.float32),
                    covariance_type="full" if self.kind == "full" else "diag",
                )
                for mean in self.means
            ],
            priors=torch.tensor(self.weights, dtype=torch.float32),
            check_data=False,
        )


def log_likelihood(points: np.ndarray, weights: Any, means: Any, covariances: Any) -> float:
    """The mean log-likelihood in nats a datum, textbook code in float64, of the first 20,000 rows."""
    exact = points[:20_000].astype(np.float64)
    joints = []
    for weight, mean, covariance in zip(np.asarray(weights, np.float64), means, covariances, strict=True):
        factor = np.linalg.cholesky(np.asarray(covariance, np.float64))
        white = np.linalg.solve(factor, (exact - np.asarray(mean, np.float64)).T)
        normaliser = np.log(np.diag(factor)).sum() + 0.5 * exact.shape[1] * np.log(2 * np.pi)
        joints.append(np.log(weight) - 0.5 * (white**2).sum(0) - normaliser)
    stacked = np.stack(joints)
    top = stacked.max(0)
    return float(np.mean(top + np.log(np.exp(stacked - top).sum(0))))


def _dense(covariances: np.ndarray, components: int, size: int, kind: str) -> np.ndarray:
    if kind == "tied":
        return np.broadcast_to(covariances, (components, size, size))
    if kind == "full":
        return covariances
    return np.stack([np.diag(np.broadcast_to(variance, size)) for variance in covariances])


class Ours:
    """Iterations of ``veil.fit`` from a start."""

    def __init__(self, points: np.ndarray, start: Start) -> None:
        import veil

        self.data, self.start = veil.Data(points), start
        self.careful = False
        begin = time.perf_counter()
        self.fit(1)
        first = time.perf_counter() - begin
        begin = time.perf_counter()
        self.fit(1)
        self.compile_s = first - (time.perf_counter() - begin)

    def fit(self, steps: int, record: Any = None) -> Any:
        """So many iterations, whatever they gain."""
        import jax

        import veil

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return veil.fit(
                self.start.ours(),
                self.data,
                key=jax.random.key(0),
                steps=steps,
                tolerance=1e-30,
                progress=False,
                record=record,
            )

    def iteration(self, steps: int) -> float:
        """Milliseconds an iteration."""
        import jax

        calls: list[float] = []

        def record(_: dict[str, float]) -> None:
            self.careful |= bool(jax.config.jax_enable_x64)
            calls.append(time.perf_counter())

        self.fit(steps, record)
        if len(calls) != steps:
            raise RuntimeError(f"ours took {len(calls)} steps of {steps}")
        return 1e3 * common.pace(calls)

    def quality(self, points: np.ndarray) -> float:
        """The log-likelihood after ITERATIONS."""
        model = self.fit(ITERATIONS).model
        size = points.shape[1]
        covariances = np.asarray(model.experts.covariance.dense_covariance())
        covariances = np.broadcast_to(covariances, (self.start.components, size, size))
        logits = np.asarray(model.gate.weight, np.float64)[:, 0]
        weights = np.exp(logits - logits.max())
        return log_likelihood(points, weights / weights.sum(), np.asarray(model.experts.mean), covariances)


def _sklearn_fit(points: np.ndarray, start: Start, dtype: Any, iterations: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return start.sklearn(dtype, iterations).fit(points)


def _sklearn_iteration(points: np.ndarray, start: Start, dtype: Any, extra: int) -> float:
    short = common.seconds(lambda: _sklearn_fit(points, start, dtype, 1))
    long = common.seconds(lambda: _sklearn_fit(points, start, dtype, 1 + extra))
    return 1e3 * (long - short) / extra


def _pomegranate_iteration(tensor: Any, start: Start, iterations: int) -> float:
    model = start.pomegranate()
    begin = time.perf_counter()
    for _ in range(iterations):
        model.summarize(tensor)
        model.from_summaries()
    return 1e3 * (time.perf_counter() - begin) / iterations


def _pomegranate_quality(points: np.ndarray, tensor: Any, start: Start) -> float:
    model = start.pomegranate()
    for _ in range(ITERATIONS):
        model.summarize(tensor)
        model.from_summaries()
    covariances = np.stack([part.covs.detach().numpy() for part in model.distributions])
    means = [part.means.detach().numpy() for part in model.distributions]
    dense = _dense(covariances, start.components, points.shape[1], start.kind)
    return log_likelihood(points, model.priors.detach().numpy(), means, dense)


def iteration(name: str, options: common.Options) -> common.Case:
    """One EM iteration of a case called kind-rows-columns-components."""
    import torch

    torch.set_num_threads(common.PINNED)
    kind, amount, size, components = name.split("-")
    rows = int(amount.replace("k", "000").replace("m", "000000"))
    points = blobs(rows, int(size), int(components))
    start = Start(points, int(components), kind)
    large = rows > 500_000
    repeats = options.repeats or (2 if options.quick else 3 if large else 5)
    steps, extra = (12, 1) if large else (24, 2)
    ours = Ours(points, start)
    double = points.astype(np.float64)
    tensor = torch.from_numpy(points)
    measures = {
        "ours": lambda: ours.iteration(steps),
        "float32": lambda: _sklearn_iteration(points, start, np.float32, extra),
        "float64": lambda: _sklearn_iteration(double, start, np.float64, extra),
    }
    if start.pomegranate() is not None:
        measures["pomegranate"] = lambda: _pomegranate_iteration(tensor, start, extra)
    times = common.in_turn(measures, repeats)
    quality, compile_s = ours.quality(points), ours.compile_s
    faster = min(("float32", "float64"), key=lambda precision: statistics.median(times[precision]))
    model = _sklearn_fit(double, start, np.float64, ITERATIONS)
    dense = _dense(model.covariances_, int(components), int(size), kind)
    peers = {
        "scikit-learn": common.Peer(
            common.version("scikit-learn"),
            statistics.median(times[faster]),
            common.ratio(times["ours"], times[faster]),
            quality - log_likelihood(points, model.weights_, model.means_, dense),
        )
    }
    if "pomegranate" in times:
        peers["pomegranate"] = common.Peer(
            common.version("pomegranate"),
            statistics.median(times["pomegranate"]),
            common.ratio(times["ours"], times["pomegranate"]),
            quality - _pomegranate_quality(points, tensor, start),
        )
    slower = "float64" if faster == "float32" else "float32"
    details = {
        "precision": "float64, the careful sums" if ours.careful else "float32, the fast sums",
        "scikit-learn's faster precision": faster,
        f"scikit-learn in {slower}, ms": statistics.median(times[slower]),
        "ours over repeats, ms": f"{min(times['ours']):.4g} to {max(times['ours']):.4g} ({repeats} repeats)",
    }
    if kind == "full":
        del double, tensor, ours, model
        gc.collect()
        details |= _memory(points, int(components))
    return common.Case(name, "one EM iteration", "ms", statistics.median(times["ours"]), compile_s, peers, details)


MEMORY = """
import json, sys
import common
import gmm, numpy as np
import veil
points = np.load(sys.argv[1])
start = gmm.Start(points, int(sys.argv[2]), "full")
small = gmm.Ours(points[:20000], start)
small.fit(2)
before = common.peak_memory()
gmm.Ours(points, start).fit(6)
print(json.dumps({"before": before, "peak": common.peak_memory(), "data": points.nbytes / 2**20}))
"""


def _memory(points: np.ndarray, components: int) -> dict[str, Any]:
    """Peak memory of a fit over the process with the data and the libraries loaded, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "points.npy")
        np.save(path, points)
        _, found = common.python(MEMORY, str(path), str(components))
    size = points.shape[1] + 1
    pairs = 4 * len(points) * size * (size + 1) / 2 / 2**20
    return {
        "peak memory of a fit over the loaded data, MB": round(found["peak"] - found["before"], 1),
        "the data, MB": round(found["data"], 1),
        "all pairwise products would be, MB": round(pairs, 1),
    }


COLD_OURS = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
import jax
import veil
fitted = veil.fit(veil.Mixture(components=4), np.load(sys.argv[1]), key=jax.random.key(0), progress=False)
print(json.dumps({"value": float(fitted.history.value[-1] - fitted.history.penalty[-1]), "steps": fitted.status.steps}))
"""

COLD_SKLEARN = """
import json, sys
import numpy as np
from sklearn.mixture import GaussianMixture
model = GaussianMixture(4, init_params="k-means++", random_state=0).fit(np.load(sys.argv[1]))
print(json.dumps({"value": float(model.lower_bound_), "steps": int(model.n_iter_)}))
"""


def cold(name: str, options: common.Options) -> list[common.Case]:
    """A whole process, with a compilation cache on disk that is warm and one that is empty."""
    repeats = options.repeats or (3 if options.quick else 7)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "points.npy"))
        np.save(path, blobs(10_000, 8, 4))
        caches = iter(range(1000))

        def environment(cache: str) -> dict[str, str]:
            return {
                "JAX_COMPILATION_CACHE_DIR": os.path.join(folder, cache),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            }

        found: dict[str, dict[str, Any]] = {}

        def process(who: str, source: str, cache: str | None) -> float:
            place = f"empty{next(caches)}" if cache is None else cache
            taken, found[who] = common.python(source, path, environment=environment(place))
            return taken

        process("warm", COLD_OURS, "kept")  # fills the cache, and the disk's
        process("scikit-learn", COLD_SKLEARN, None)
        times = common.in_turn(
            {
                "warm": lambda: process("warm", COLD_OURS, "kept"),
                "empty": lambda: process("empty", COLD_OURS, None),
                "scikit-learn": lambda: process("scikit-learn", COLD_SKLEARN, None),
            },
            repeats,
        )
    cases = []
    for cache in ("warm", "empty"):
        peer = common.Peer(
            common.version("scikit-learn"),
            statistics.median(times["scikit-learn"]),
            common.ratio(times[cache], times["scikit-learn"]),
            found[cache]["value"] - found["scikit-learn"]["value"],
        )
        details = {"steps": f"{found[cache]['steps']}, scikit-learn {found['scikit-learn']['steps']}"}
        what = f"a whole process, {cache} compilation cache"
        middle = statistics.median(times[cache])
        compiling = statistics.median(times["empty"]) - statistics.median(times["warm"]) if cache == "empty" else None
        cases.append(common.Case(f"{name}-{cache}", what, "s", middle, compiling, {"scikit-learn": peer}, details))
    return cases


ITERATION_CASES = (
    "full-100k-10-20",
    "full-100k-32-16",
    "tied-100k-10-20",
    "diagonal-100k-10-20",
    "spherical-100k-10-20",
    "full-1m-10-20",
)
CASES: dict[str, common.Function] = {
    **{name: lambda options, name=name: iteration(name, options) for name in ITERATION_CASES},
    "cold-10k-8-4": lambda options: cold("cold-10k-8-4", options),
}

if __name__ == "__main__":
    common.main("gmm", __doc__, CASES, ("full-100k-10-20", "cold-10k-8-4"))
