"""EM, Monte Carlo EM or gradients: one mixture, the same starts, likelihood per step and per second.

Five overlapping Gaussians in the plane, 4000 points. Four ways to learn start from the same responsibilities: good ones
(k-means) and bad ones (every component alike, in the middle of the data). Each way starts several times.

* EM: guess the latents, p(z | y), and fit as if the guess were true. Never falls, has no step size.
* Monte Carlo EM: replace the guess by ten draws from it. For latents that cannot be summed; here to compare.
* gradient ascent: climb log p(y) itself, all data in each step, a fixed step size.
* Adam: the same with its steps rescaled.

Times are of compiled steps: each way runs once unmeasured to compile (that time is in the table), then is measured;
the time of a step is that of the fastest run of a way, as other work on the machine only ever adds to it.

    python recipes/em_or_gradients.py --out em_or_gradients    # about three minutes on two cores
    python recipes/em_or_gradients.py --quick
"""

import argparse
import time
from pathlib import Path

import jax
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import veil
from veil.report import style

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("em_or_gradients"), help="folder for the picture")
parser.add_argument("--quick", action="store_true", help="fewer points, steps and starts")
arguments = parser.parse_args()
points, steps, tries = (500, 100, 1) if arguments.quick else (4000, 1500, 5)
NEAR = 0.01  # nats per datum from the best: "there"

rng = np.random.default_rng(0)
means = np.array([[0.0, 0.0], [3.0, 0.5], [-2.5, 2.0], [0.5, 3.5], [1.5, -3.0]])
component = rng.integers(0, 5, points)
data = veil.Data(means[component] + rng.standard_normal((points, 2)) @ np.array([[1.0, 0.3], [0.0, 0.8]]))

starts = {"k-means": veil.KMeans(), "all components alike": veil.RandomResponsibilities()}
gradients = {"objective": veil.Marginal(), "batch_size": points}
ways = {
    "EM": {"tolerance": 1e-8},
    "Monte Carlo EM, 10 draws": {"objective": veil.ExpectedLogLikelihood(samples=10)},
    "gradient ascent": {"optimiser": optax.sgd(0.2), **gradients},
    "Adam": {"optimiser": optax.adam(0.01), **gradients},
}


def measured(model, seed, options):
    """A fit's log-likelihoods, and its seconds a step once its first steps are done (NaN if it took too few)."""
    clock = []
    record = lambda numbers: clock.append(time.perf_counter())  # noqa: E731
    result = veil.fit(model, data, key=jax.random.key(seed), steps=steps, record=record, **options)
    # the first four steps come in one stretch, after which the first of them is recorded
    pace = (clock[-1] - clock[0]) / (len(clock) - 4) if len(clock) >= 20 else np.nan
    return result.history.value - result.history.penalty, pace


curves, compiling = {}, {}
paces = {way: [] for way in ways}
for start_name, start in starts.items():
    model = veil.Mixture(components=5, start=start)
    for way, options in ways.items():
        begin = time.perf_counter()
        measured(model, 0, options)
        first = time.perf_counter() - begin
        begin = time.perf_counter()
        runs = [measured(model, seed, options) for seed in range(tries)]
        compiling[start_name, way] = max(0.0, first - (time.perf_counter() - begin) / tries)
        curves[start_name, way] = [values for values, _ in runs]
        paces[way] += [pace for _, pace in runs]
fastest = {way: float(np.nanmin(some)) for way, some in paces.items()}

best = max(values.max() for many in curves.values() for values in many)
truth = f"The best of all runs: {best:.5f} nats per datum. “There” is within {NEAR} of it."
table = Table(title=f"One mixture, {points} points, {tries} starts each", caption=truth)
for column in (
    "start",
    "way",
    "there",
    "steps to it",
    "seconds to it",
    "below the best at the end",
    "ms a step",
    "compiling (s)",
):
    table.add_column(column, justify="left" if column in ("start", "way") else "right")
for (start_name, way), many in curves.items():
    pace = fastest[way]
    arrived = [np.flatnonzero(best - values < NEAR) for values in many]
    needed = [found[0] for found in arrived if len(found)]
    typical = f"{np.median(needed):.0f}" if needed else "-"
    seconds = f"{np.median(needed) * pace:.3f}" if needed else "-"
    gap = f"{np.median([best - values[-1] for values in many]):.5f}"
    counted = f"{len(needed)} of {tries}"
    table.add_row(
        start_name, way, counted, typical, seconds, gap, f"{1e3 * pace:.2f}", f"{compiling[start_name, way]:.1f}"
    )
Console(width=130).print(table)

# The picture: every run thin, one panel by steps and one by seconds for each kind of start.
arguments.out.mkdir(parents=True, exist_ok=True)
with style.figure(2, 2, sharey=True, panel=(5.0, 3.1)) as (picture, panels):
    for row, start_name in enumerate(starts):
        by_step, by_time = panels[2 * row], panels[2 * row + 1]
        for i, way in enumerate(ways):
            for j, values in enumerate(curves[start_name, way]):
                count = np.arange(1, len(values) + 1)
                gap = np.maximum(best - values, 1e-5)
                look = {"color": style.COLOURS[i], "linewidth": 0.9, "alpha": 0.8, "label": way if j == 0 else None}
                by_step.plot(count, gap, **look)
                by_time.plot(count * fastest[way], gap, **look)
        for panel in (by_step, by_time):
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_ylim(0.7e-5, 3.0)
        gap_label = ("below the best", "nats per datum")
        style.label(by_step, x=("step", "count"), y=gap_label, title=f"Start: {start_name}")
        style.label(by_time, x=("time", "s, without compiling"), y=gap_label, title=f"Start: {start_name}")
    style.legend(panels[0], loc="upper right")
picture.savefig(arguments.out / "em_or_gradients.png")
print(arguments.out / "em_or_gradients.png")
