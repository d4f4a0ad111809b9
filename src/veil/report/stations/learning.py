"""EM against gradients."""

import time
from typing import Any

import jax
import numpy as np
import optax

import veil
from veil.report import plots, style
from veil.report.page import Picture
from veil.report.station import Findings, Row, Say, Station

BEST = -1130.2640 / 272  # nats per datum


def timed(model: Any, data: Any, steps: int, **options: Any) -> tuple[Any, float]:
    """A fit, and its seconds a step: the fastest of three equal fits, once everything is compiled."""
    paces = []
    for _ in range(4):
        clock: list[float] = []

        def record(numbers: dict[str, Any], clock: list[float] = clock) -> None:
            clock.append(time.perf_counter())

        result = veil.fit(model, data, key=jax.random.key(3), steps=steps, progress=False, record=record, **options)
        # the first four steps come in one stretch, after which the first of them is recorded
        paces.append((clock[-1] - clock[0]) / max(len(clock) - 4, 1))
    return result, min(paces[1:])


def run(quick: bool, say: Say) -> Findings:
    data = veil.data.load("faithful")
    steps = 300 if quick else 1000
    slow, fast = optax.sgd(0.1), optax.adam(0.01)
    bad = veil.RandomResponsibilities()
    model = veil.Mixture(components=2, start=bad)
    ways: dict[str, dict[str, Any]] = {
        "EM": {"tolerance": 1e-9},
        "Monte Carlo EM, 5 draws": {"objective": veil.ExpectedLogLikelihood(samples=5)},
        "gradient ascent": {"objective": veil.Marginal(), "optimiser": slow, "batch_size": len(data)},
        "gradients with Adam": {"objective": veil.Marginal(), "optimiser": fast, "batch_size": len(data)},
    }
    lines, timings, rows = {}, {}, []
    for name, options in ways.items():
        say(name)
        result, pace = timed(model, data, 200 if "Monte" in name else steps, **options)
        gap = np.maximum(BEST - (result.history.value - result.history.penalty), 1e-5)
        lines[name] = (np.arange(1, len(gap) + 1), gap)
        timings[name] = (1e3 * pace * np.arange(1, len(gap) + 1), gap)
        near = np.flatnonzero(gap < 0.01)
        reached = f"{near[0]}" if near.size else f"not in {len(gap)}"
        rows.append(Row(f"{name}: steps to 0.01 nats from the best", reached, "count"))
        rows.append(Row(f"{name}: time a step", f"{1e6 * pace:.0f}", "microseconds", "", "compiled, all 272 data"))
    with style.figure(2, sharey=True) as (picture, (left, right)):
        plots.curves(left, lines)
        plots.curves(right, timings)
        right.get_legend().remove()
        for panel in (left, right):
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_ylim(0.7e-5, 2.0)
        gap_label = ("below the best", "nats per datum")
        style.label(left, x=("step", "count"), y=gap_label, title="By steps")
        style.label(right, x=("time", "ms, without compiling"), y=gap_label, title="By time")
    return Findings(
        rows=rows,
        pictures=[
            Picture(
                picture,
                "The same mixture from the same bad start, both components alike and in the middle of the data. "
                "The distance is to the maximum, -1130.2640 nats for 272 eruptions.",
                "learning",
            )
        ],
        text=[
            "EM guesses the latents, p(z | y), then fits as if the guess were true; it never falls and needs no step "
            "size. Gradient ascent climbs the same log-likelihood directly: by Fisher's identity its slope is the "
            "slope of EM's objective. Monte Carlo EM replaces the guess by draws from it: it stays a little below the "
            "top, as noise keeps it moving.",
            "The whole experiment, with a harder mixture and several starts, is recipes/em_or_gradients.py.",
        ],
    )


STATION = Station(
    name="learning",
    order=20,
    title="EM, or gradients",
    question="The latent is not seen. Guess it and fit in turns, or climb the likelihood directly?",
    equation="log <i>p</i>(<i>y</i>) ≥ E<sub><i>q</i></sub>[log <i>p</i>(<i>y</i>, <i>z</i>) − log "
    "<i>q</i>(<i>z</i>)], with equality at <i>q</i>(<i>z</i>) = <i>p</i>(<i>z</i> | <i>y</i>): EM raises the right "
    "side in <i>q</i> and in the model in turns; gradients raise the left side.",
    run=run,
)
