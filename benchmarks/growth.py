"""How a step of learning grows with the data and the model: milliseconds, memory and compilation, to where it bends.

Every point is a process of its own: a fit of a few steps on random numbers, timed between calls of its ``record`` after
the first stretch of steps (which compiles). Memory is the process's peak less what it had before the fit (data and
libraries); ``per unit`` is the time over that of the point before, over the growth: 1 is linear, below it is better.

* ``rows``: a mixture of 20 Gaussians in 10 dimensions, 1,000 to ten million rows.
* ``columns``: a mixture of 4 Gaussians, 10,000 rows, 2 to 256 columns (their products grow as the square).
* ``components``: 100,000 rows of 10 columns, 2 to 512 components.
* ``ppca-columns``: probabilistic PCA with 10 latents, 1,000 rows of 100 to 30,000 columns.
* ``hmm-steps``, ``lds-steps``: one sequence of 1,000 to a million steps; ten states, or eight latents.
* ``sequences``: an LDS of 1 to 10,000 sequences of 100 steps.
* ``batch``, ``width``: a VAE 784-400-20, batches of 32 to 8,192; batches of 128, layers of 100 to 3,200.
"""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import common
import numpy as np

POINT = """
import sys
import growth
growth.point(sys.argv[1], int(sys.argv[2]))
"""
STEPS = 16  # of which the first stretch, four, compiles


def _sequences(count: int, steps: int, columns: int) -> Any:
    import veil

    outputs = np.random.default_rng(0).normal(size=(count, steps, columns)).astype(np.float32)
    return veil.Data(outputs, mask=np.ones((count, steps), bool))


def _rows(count: int, columns: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, columns)).astype(np.float32)


def _mixture(components: int) -> Any:
    import veil

    return veil.Mixture(components=components)


def _lds(count: int, steps: int) -> tuple[Any, Any]:
    import veil

    return veil.LDS(latent=8), _sequences(count, steps, 8)


def _hmm(steps: int) -> tuple[Any, Any]:
    import veil

    return veil.HMM(states=10), _sequences(1, steps, 4)


def _ppca(columns: int) -> tuple[Any, Any]:
    import veil

    return veil.FactorAnalysis(10, veil.Spherical()), _rows(1000, columns)


def _vae(width: int) -> tuple[Any, Any]:
    import veil

    net = veil.MLP((width,))
    images = (_rows(10_000, 784) > 0).astype(np.float32)
    return veil.VAE(20, veil.heads.Bernoulli(), net), images


Made = tuple[Any, Any, dict[str, Any]]
CASES: dict[str, tuple[list[int], Callable[[int], Made]]] = {
    "rows": ([10**power for power in range(3, 8)], lambda n: (_mixture(20), _rows(n, 10), {})),
    "columns": ([2, 8, 32, 128, 256], lambda n: (_mixture(4), _rows(10_000, n), {})),
    "components": ([2, 8, 32, 128, 512], lambda n: (_mixture(n), _rows(100_000, 10), {})),
    "ppca-columns": ([100, 1000, 10_000, 30_000], lambda n: (*_ppca(n), {})),
    "hmm-steps": ([10**power for power in range(3, 7)], lambda n: (*_hmm(n), {})),
    "lds-steps": ([10**power for power in range(3, 7)], lambda n: (*_lds(1, n), {})),
    "sequences": ([1, 10, 100, 1000, 10_000], lambda n: (*_lds(n, 100), {})),
    "batch": ([32, 128, 512, 2048, 8192], lambda n: (*_vae(400), {"batch_size": n})),
    "width": ([100, 400, 1600, 3200], lambda n: (*_vae(n), {"batch_size": 128})),
}


def point(name: str, size: int) -> None:
    """One point, in this process: prints milliseconds a step, seconds of the first steps and megabytes."""
    import time
    import warnings

    import jax

    import veil

    model, data, options = CASES[name][1](size)

    def fit(record: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            key = jax.random.key(0)
            veil.fit(model, data, key=key, steps=STEPS, tolerance=1e-30, progress=False, record=record, **options)

    calls: list[float] = []
    before, begin = common.peak_memory(), time.perf_counter()
    fit(lambda _: calls.append(time.perf_counter()))
    whole = len(calls) < STEPS  # a closed form has no steps worth the name
    seconds = common.seconds(lambda: fit(None)) if whole else common.pace(calls)
    found = {"ms": 1e3 * seconds, "first": calls[0] - begin, "peak": common.peak_memory() - before, "whole": whole}
    print(json.dumps(found))


def growth(name: str, options: common.Options) -> list[common.Case]:
    """All points of a case; ``--quick``: the first three."""
    cases, last = [], None
    for size in CASES[name][0][: 3 if options.quick else None]:
        _, found = common.python(POINT, name, str(size))
        details = {
            "peak memory over data and libraries, MB": round(found["peak"], 1),
            "start, compilation and the first steps, s": round(found["first"], 2),
        }
        if last is not None:
            details["per unit, to the point before"] = round(found["ms"] / last[1] / (size / last[0]), 2)
        last = size, found["ms"]
        what = "a whole fit" if found["whole"] else "a step"
        cases.append(common.Case(f"{name}-{size}", what, "ms", found["ms"], None, {}, details))
    return cases


if __name__ == "__main__":
    common.main("growth", __doc__, {name: partial(growth, name) for name in CASES}, ("components",))
