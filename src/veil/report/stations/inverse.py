"""Bishop's inverse problem: a conditional Gaussian against a mixture density network."""

import jax
import numpy as np

import veil
from veil.data import bishop_inverse
from veil.parts.heads import DiagonalGaussian, HomoscedasticGaussian
from veil.report import plots, style
from veil.report.page import Picture
from veil.report.station import Findings, Row, Say, Station

FLOOR, ONE, LEAST_SQUARES = 1.28235, 0.6554, 0.2122  # the best any density, one Gaussian, one of constant width can do


def run(quick: bool, say: Say) -> Findings:
    training = bishop_inverse(1000 if quick else 8000, np.random.default_rng(1))
    fresh = bishop_inverse(20_000, np.random.default_rng(2))
    wide = veil.MLP((64, 64, 64), "silu")
    models = {
        "least squares": (veil.density(veil.Linear(HomoscedasticGaussian()), trunk=wide), LEAST_SQUARES),
        "one Gaussian": (veil.density(veil.Linear(DiagonalGaussian()), trunk=wide), ONE),
        "mixture density network": (veil.Mixture(veil.Linear(DiagonalGaussian()), components=8, trunk=wide), FLOOR),
    }
    rows, fitted = [], {}
    for name, (model, best) in models.items():
        say(name)
        fitted[name] = veil.fit(
            model, training, key=jax.random.key(0), steps=300 if quick else 4000, progress=False
        ).model
        score = veil.evaluate(fitted[name], fresh)
        value = f"{score.log_likelihood_per_datum:.4f} ± {score.standard_error:.4f}"
        rows.append(Row(f"held-out log-likelihood, {name}", value, "nats per datum", f"{best:.4f}", "best of its kind"))
    say("pictures")
    pairs = np.concatenate([fresh.evidence, fresh.query], 1) if fresh.evidence is not None else fresh.query
    with style.figure(3, panel=(3.4, 3.2), sharey=True) as (picture, panels):
        for panel, (name, model) in zip(panels, fitted.items(), strict=True):
            image = plots.conditional(
                panel, model, pairs, evidence=(0.0, 1.0), query=(-0.2, 1.2), brightest=6.0, most=400
            )
            style.label(panel, x=("x", "no unit"), y=("t", "no unit"), title=name[0].upper() + name[1:])
        style.colour_scale(picture, panels[-1], image, ("density p(t | x)", "no unit"))
    caption = (
        "p(t | x) of three models, darker where larger, with held-out data. For x near 0.5 three values of t are "
        "possible; the average of them is none of them."
    )
    return Findings(
        rows=rows,
        pictures=[Picture(picture, caption, "inverse")],
        text=[
            "Forwards, x = t + 0.3 sin 2πt + noise is easy. Backwards, several t give one x. Least squares predicts "
            "their mean; one Gaussian of varying width at least says where it is unsure; a mixture whose weights, "
            "means and widths are a network's outputs says what the possibilities are. The references are the exact "
            "optima of each kind, found by numerical integration."
        ],
    )


STATION = Station(
    name="inverse",
    order=30,
    title="A conditional Gaussian, or a mixture density network",
    question="One x, several right answers t: what does each model make of it?",
    equation="<i>p</i>(<i>t</i> | <i>x</i>) = Σ<sub><i>z</i></sub> π<sub><i>z</i></sub>(<i>x</i>) N(<i>t</i>; "
    "μ<sub><i>z</i></sub>(<i>x</i>), σ<sub><i>z</i></sub>(<i>x</i>)²), all functions of x by one network. "
    "Query: t. Evidence: x. Latent: which branch.",
    run=run,
)
