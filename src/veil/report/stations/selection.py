"""How many components: BIC."""

import jax
import numpy as np

import veil
from veil.report import plots, style
from veil.report.page import Picture
from veil.report.station import Findings, Row, Say, Station

MCLUST = 2314.316  # R package mclust, faithful: three components of one shape (EEE), the best of its 14 kinds


def run(quick: bool, say: Say) -> Findings:
    data = veil.data.load("faithful")
    kinds = {"own covariances": veil.Full(), "one shared": veil.Tied()}
    most = 3 if quick else 4
    lines, best, best_name = {}, np.inf, ""
    for kind, covariance in kinds.items():
        say(kind)
        candidates = {k: veil.Mixture(veil.LinearGaussian(covariance), components=k) for k in range(1, most + 1)}
        chosen = veil.select(
            candidates, data, key=jax.random.key(0), restarts=3 if quick else 10, tolerance=1e-8, progress=False
        )
        lines[kind] = (np.arange(1, most + 1), np.array([chosen.scores[str(k)] for k in candidates]))
        if chosen.scores[chosen.best] < best:
            best, best_name, winner = chosen.scores[chosen.best], f"{chosen.best}, {kind}", chosen.fit.model
    with style.figure(2) as (picture, (left, right)):
        plots.curves(left, lines, points=True)
        left.set_xticks(range(1, most + 1))
        low = min(float(np.min(values)) for _, values in lines.values())
        left.set_ylim(low - 8, low + 90)
        style.label(
            left,
            x=("components", "count"),
            y=("BIC, smaller is better", "nats × 2"),
            title="One component is far above",
        )
        plots.points(right, data.query)
        plots.ellipses(right, winner)
        style.label(right, x=("eruption", "min"), y=("waiting time", "min"), title=f"The best ({best_name}), to 2 sd")
    caption = "Left: BIC by number of components. Right: the mixture with the smallest."
    return Findings(
        rows=[
            Row("components with the smallest BIC", best_name, "", "3, one shared", "R package mclust"),
            Row("its BIC", f"{best:.3f}", "nats × 2", f"{MCLUST:.3f}", "R package mclust"),
        ],
        pictures=[Picture(picture, caption, "selection")],
        text=[
            "More components always fit better. The Bayesian information criterion charges each parameter half the "
            "logarithm of the number of data, which approximates the evidence for the model itself."
        ],
    )


STATION = Station(
    name="selection",
    order=70,
    title="How many components",
    question="Two kinds of eruption, or three, or five?",
    equation="BIC = (number of parameters) · log <i>N</i> − 2 log <i>L</i>",
    run=run,
)
