"""One joint density, every conditional."""

import jax
import numpy as np

import veil
from veil.report import plots, style
from veil.report.page import Picture
from veil.report.station import Findings, Row, Say, Station


def run(quick: bool, say: Say) -> Findings:
    data = veil.data.load("faithful")
    say("the joint")
    joint = veil.fit(veil.Mixture(components=2), data, key=jax.random.key(0), restarts=3, progress=False).model
    say("its conditionals")
    waiting = veil.condition(joint, query=[1], evidence=[0])
    eruption = veil.condition(joint, query=[0], evidence=[1])
    both = veil.log_prob(joint, data)
    gaps = []
    for conditional, given in ((waiting, 0), (eruption, 1)):
        marginal = veil.condition(joint, query=[given])
        pair = veil.Data(data.query[:, [1 - given]], data.query[:, [given]])
        gaps.append(
            np.max(np.abs(veil.log_prob(marginal, data.query[:, given]) + veil.log_prob(conditional, pair) - both))
        )
    spread = float(np.std(data.query[:, 1]))
    guess = veil.predict(waiting, data.query[:, [0]])
    error = float(np.sqrt(np.mean((guess.mean - data.query[:, [1]]) ** 2)))
    with style.figure(2) as (picture, (left, right)):
        image = plots.conditional(left, waiting, data.query)
        style.label(left, x=("eruption, given", "min"), y=("waiting time", "min"), title="p(waiting | eruption)")
        style.colour_scale(picture, left, image, ("density", "1/min"))
        image = plots.conditional(right, eruption, data.query[:, ::-1])
        style.label(right, x=("waiting time, given", "min"), y=("eruption", "min"), title="p(eruption | waiting)")
        style.colour_scale(picture, right, image, ("density", "1/min"))
    caption = (
        "Both conditionals of one joint mixture, with the data. At a waiting time of about 66 minutes both kinds of "
        "eruption are likely."
    )
    return Findings(
        rows=[
            Row("p(a) p(b | a) against p(a, b), largest gap", f"{max(gaps):.1e}", "nats", "0", "float32"),
            Row(
                "error of the predicted waiting time",
                f"{error:.2f}",
                "min (root mean square)",
                f"{spread:.2f}",
                "by the mean",
            ),
        ],
        pictures=[Picture(picture, caption, "conditioning")],
        text=[
            "A mixture fitted to all columns answers any question about some of them given others, by Bayes' rule and "
            "in closed form: each component contributes a linear regression, and the evidence says how much each "
            "counts."
        ],
    )


STATION = Station(
    name="conditioning",
    order=50,
    title="Any variable, given any other",
    question="One model of all the variables: what does it say of one, once another is known?",
    equation="<i>p</i>(<i>y</i><sub>a</sub> | <i>y</i><sub>b</sub>) = Σ<sub><i>z</i></sub> <i>p</i>(<i>z</i> | "
    "<i>y</i><sub>b</sub>) <i>p</i>(<i>y</i><sub>a</sub> | <i>y</i><sub>b</sub>, <i>z</i>), where "
    "<i>p</i>(<i>z</i> | <i>y</i><sub>b</sub>) ∝ π<sub><i>z</i></sub> N(<i>y</i><sub>b</sub>; μ<sub><i>z</i>,b</sub>, "
    "Σ<sub><i>z</i>,bb</sub>).",
    run=run,
)
