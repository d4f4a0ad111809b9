"""Noise that depends on the input: the motorcycle data."""

import jax
import numpy as np

import veil
from veil.parts.heads import DiagonalGaussian, HomoscedasticGaussian
from veil.report import plots, style
from veil.report.page import Picture
from veil.report.station import Findings, Row, Say, Station


def run(quick: bool, say: Say) -> Findings:
    data = veil.data.load("mcycle")
    held_out, training = data.split(0.3, np.random.default_rng(0))
    if len(held_out) > len(training):
        held_out, training = training, held_out
    trunk = veil.MLP((32, 32))
    models = {
        "line": veil.density(veil.LinearGaussian()),
        "network, constant width": veil.density(veil.Linear(HomoscedasticGaussian()), trunk=trunk),
        "network, varying width": veil.density(veil.Linear(DiagonalGaussian(floor=0.03)), trunk=trunk),
    }
    rows, fitted = [], {}
    for name, model in models.items():
        say(name)
        if name == "line":
            result = veil.fit(model, training, key=jax.random.key(0), progress=False)
        else:
            steps = 300 if quick else 1500
            result = veil.fit(model, training, key=jax.random.key(0), steps=steps, held_out=held_out, progress=False)
        fitted[name] = result.model
        score = veil.evaluate(fitted[name], held_out)
        value = f"{score.log_likelihood_per_datum:.3f} ± {score.standard_error:.3f}"
        rows.append(Row(f"held-out log-likelihood, {name}", value, "nats per datum"))
    x = np.linspace(2.0, 58.0, 200)
    with style.figure(3, panel=(3.4, 3.1), sharey=True) as (picture, panels):
        for panel, (name, model) in zip(panels, fitted.items(), strict=True):
            guess = veil.predict(model, x[:, None])
            mean, width = guess.mean[:, 0], guess.standard_deviation[:, 0]
            for part, colour in ((training, style.GREY), (held_out, style.ORANGE)):
                pairs = np.concatenate([np.asarray(part.evidence), part.query], 1)
                where = "training" if part is training else "held out"
                plots.points(panel, pairs, color=colour, label=where)
            band = {"mean ± 2 sd": (mean - 2 * width, mean + 2 * width)}
            plots.curves(panel, {"mean ± 2 sd": (x, mean)}, band=band)
            panel.set_ylim(-220, 140)
            style.label(panel, x=("time after impact", "ms"), y=("acceleration", "g"), title=name[0].upper() + name[1:])
        style.legend(panels[0], loc="lower right")
    caption = "Acceleration of a head after impact: mean and two standard deviations of p(y | x) by three models."
    return Findings(
        rows=rows,
        pictures=[Picture(picture, caption, "mcycle")],
        text=[
            f"{len(training)} measurements to learn from, {len(held_out)} held out, which also say when a network "
            "stops learning. The head is at rest before the impact and shakes after it, so a model must learn its own "
            "uncertainty. With one value of y likely for each x, a mixture would add nothing here."
        ],
    )


STATION = Station(
    name="mcycle",
    order=40,
    title="How sure, and where",
    question="Noise that is small in one place and large in another: does the model know?",
    equation="<i>p</i>(<i>y</i> | <i>x</i>) = N(<i>y</i>; μ(<i>x</i>), σ(<i>x</i>)²): mean and width both functions of "
    "x. Query: acceleration. Evidence: time. Latent: none.",
    run=run,
)
