"""The slalom: 24 ways through, demonstrated by a script, and which of them policies take."""

from typing import Any

import jax
import numpy as np

import veil
from veil.control.worlds import Slalom, demonstrate, drives
from veil.parts.heads import DiagonalGaussian, HomoscedasticGaussian
from veil.report import plots, style
from veil.report.page import Picture
from veil.report.station import Findings, Row, Say, Station

HORIZON, EXECUTE = 8, 1  # actions chosen at once, and how many of them are carried out

SHORT = {
    "demonstrations": "Demonstrations",
    "squared error": "Squared error",
    "mixture density network, one latent an episode": "MDN, a latent an episode",
    "flow matching, in chunks": "Flow matching, chunks",
}


def run(quick: bool, say: Say) -> Findings:
    world, trunk = Slalom(), veil.MLP((64, 64))
    shown = demonstrate(world, 48 if quick else 96, jax.random.key(0))
    recording = shown.recording("slalom")
    actions = recording.data("action", "observation")
    episodes = recording.data("action", "observation", sequences=True)
    chunks = recording.data("action", "observation", horizon=HORIZON)
    routes = 6 if quick else 36
    squared = veil.density(veil.Linear(HomoscedasticGaussian()), trunk=trunk)
    mixture = veil.Mixture(veil.Linear(DiagonalGaussian()), components=routes, trunk=trunk)
    flow = veil.ContinuousFlow(veil.nets.Residual(128, 2))
    learned: dict[str, tuple[Any, Any, dict[str, Any], dict[str, Any]]] = {
        "squared error": (squared, actions, {"steps": 1000}, {"choose": veil.Mean()}),
        "mixture density network, one latent an episode": (
            veil.Episodic(mixture),
            episodes,
            {"steps": 600, "batch_size": 32},
            {"choose": veil.LowNoise()},
        ),
        "flow matching, in chunks": (flow, chunks, {"steps": 4000}, {"execute": EXECUTE}),
    }
    if quick:
        del learned["squared error"]
    count = 48 if quick else 240
    driven = {"demonstrations": shown}
    for name, (model, data, fitting, acting) in learned.items():
        say(name)
        if quick:
            fitting = fitting | {"steps": fitting["steps"] // 10}
        fit = veil.fit(model, data, key=jax.random.key(1), progress=False, **fitting)
        driven[name] = drives(world, veil.Policy(fit, **acting), count, jax.random.key(2))
    rows = []
    for name, some in driven.items():
        rate, error = some.rate()
        spread, uncertain = some.entropy()
        taken = len(np.unique(some.outcome[some.success]))
        rows += [
            Row(f"{name}: get through", f"{100 * rate:.1f} ± {100 * error:.1f}", "%", "", f"of {len(some)} drives"),
            Row(
                f"{name}: entropy of routes",
                f"{spread:.3f} ± {uncertain:.3f}",
                "share of log 24",
                "",
                f"{taken} of 24 routes among those that got through",
            ),
        ]
    say("pictures")
    with style.figure(len(driven), 2, panel=(2.9, 2.6), sharey="row", gridspec_kw={"height_ratios": (2.6, 1)}) as (
        picture,
        panels,
    ):
        for i, (name, some) in enumerate(driven.items()):
            plots.drives(panels[i], world, some, most=96)
            style.label(panels[i], x=("across", "row spacings"), y=("ahead", "row spacings"), title=SHORT[name])
            plots.outcomes(panels[len(driven) + i], some)
            style.label(panels[len(driven) + i], x=("route", "number"), y=("drives", "share"))
    return Findings(
        rows=rows,
        pictures=[
            Picture(
                picture,
                "Above: up to 96 drives each, seen from above, from the start below to the finish above; those that "
                "hit a cylinder are orange and end there. Below: which of the 24 routes those that got through took; "
                "the dashed line: all equally often.",
                "slalom",
            )
        ],
        text=[
            f"{len(shown)} demonstrations by a script (no person drove), equally many for each of 24 routes through "
            "rows of one, two and three cylinders. A policy sees where the disc is and where it is wanted, and moves "
            "the latter.",
            "Squared error averages over the routes that are still open, which leads between them, into a cylinder; "
            "where it gets through, only the place where it began has chosen for it. A mixture of "
            f"{routes} components whose latent is drawn once an episode learns whole routes, and keeps to the one that "
            f"it drew. Flow matching chooses {HORIZON} actions at once from one draw of noise, carries out {EXECUTE} "
            "and chooses again: while several routes are open it may change its mind, sometimes too late.",
        ],
    )


STATION = Station(
    name="slalom",
    order=92,
    title="Twenty-four ways through a slalom",
    question="Do policies take all the ways that they were shown, and do they get through?",
    equation="<i>p</i>(<i>a</i><sub>1:T</sub> | <i>o</i><sub>1:T</sub>) = Σ<sub><i>z</i></sub> <i>p</i>(<i>z</i> | "
    "<i>o</i><sub>1</sub>) Π<sub><i>t</i></sub> <i>p</i>(<i>a<sub>t</sub></i> | <i>o<sub>t</sub></i>, <i>z</i>), or "
    "<i>p</i>(<i>a<sub>t:t+H</sub></i> | <i>o<sub>t</sub></i>) of a chunk. Query: actions. Evidence: observations. "
    "Latent: the route of an episode, or a chunk's noise.",
    run=run,
    packages=("diffrax",),
)
