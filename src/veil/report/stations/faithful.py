"""One Gaussian or two: Old Faithful."""

import jax
import numpy as np

import veil
from veil.report import plots, style
from veil.report.page import Picture
from veil.report.station import Findings, Row, Say, Station

BEST_ONE, BEST_TWO, BEST_WAITING = -1289.7967, -1130.2640, -1034.00175  # maximum likelihoods, by scikit-learn


def run(quick: bool, say: Say) -> Findings:
    data = veil.data.load("faithful")
    key = jax.random.key(0)
    say("one Gaussian")
    one = veil.fit(veil.density(veil.LinearGaussian()), data, key=key, progress=False)
    say("a mixture of two")
    two = veil.fit(veil.Mixture(components=2), data, key=key, restarts=3, progress=False)
    say("waiting time alone")
    waiting = data.select(["waiting"])
    alone = veil.fit(veil.Mixture(components=2), waiting, key=key, restarts=3, progress=False)
    scores = [veil.evaluate(result.model, data) for result in (one, two)]
    alone_score = veil.evaluate(alone.model, waiting)

    with style.figure(2, sharey=True) as (plane, panels):
        for panel, result, title in zip(panels, (one, two), ("One Gaussian", "Mixture of two"), strict=True):
            plots.contours(panel, result.model, data.query)
            style.label(panel, x=("eruption", "min"), y=("waiting time", "min"), title=title)
    with style.figure(2) as (line, (left, right)):
        normal = veil.condition(one.model, query=[1])
        plots.densities(left, {"one Gaussian": normal, "mixture": alone.model}, waiting.query[:, 0])
        style.label(left, x=("waiting time", "min"), y=("density", "1/min"), title="Waiting time alone")
        certain = np.asarray(veil.infer(two.model, data).probabilities)
        plots.responsibilities(right, data.query, certain)
        plots.ellipses(right, two.model)
        style.label(right, x=("eruption", "min"), y=("waiting time", "min"), title="Who is responsible, 2 sd")
    return Findings(
        rows=[
            Row(
                "log-likelihood, one Gaussian", f"{scores[0].log_likelihood:.4f}", "nats", f"{BEST_ONE:.4f}", "maximum"
            ),
            Row(
                "log-likelihood, mixture of two",
                f"{scores[1].log_likelihood:.4f}",
                "nats",
                f"{BEST_TWO:.4f}",
                "maximum",
            ),
            Row(
                "log-likelihood of waiting time, mixture of two",
                f"{alone_score.log_likelihood:.4f}",
                "nats",
                f"{BEST_WAITING:.4f}",
                "maximum",
            ),
            Row(
                "BIC gained by the mixture",
                f"{(scores[0].bic or 0.0) - (scores[1].bic or 0.0):.1f}",
                "nats × 2",
                "",
                "above 10: decisive",
            ),
            Row("EM steps to convergence", f"{two.status.steps}", "count"),
        ],
        pictures=[
            Picture(
                plane,
                "Eruptions of Old Faithful (dots) with the fitted density: contours hold 25, 50, 75 and 95 % of it. "
                "The single Gaussian puts its highest density where no eruption is.",
                "faithful-plane",
            ),
            Picture(
                line,
                "Left: the waiting time alone. Right: each eruption in the colour of the component responsible for it, "
                "blended where that is uncertain.",
                "faithful-line",
            ),
        ],
        text=[
            "The geyser erupts for a short or a long time, and then lets one wait for a short or a long time. One "
            "Gaussian can only stretch over both; two, with a latent <i>z</i> that says which, fit each."
        ],
    )


STATION = Station(
    name="faithful",
    order=10,
    title="One Gaussian, or a mixture",
    question="272 eruptions of a geyser: how long, and how long until the next. Is one Gaussian enough?",
    equation="<i>p</i>(<i>y</i>) = Σ<sub><i>z</i></sub> π<sub><i>z</i></sub> N(<i>y</i>; μ<sub><i>z</i></sub>, "
    "Σ<sub><i>z</i></sub>): the density of an eruption is that of its kind, weighted by how frequent each kind is. "
    "Query: an eruption. Latent: its kind. Evidence: none.",
    run=run,
)
