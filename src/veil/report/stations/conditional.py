"""A conditional VAE: which of the ways is the latent's choice."""

import warnings

import jax
import numpy as np

import veil
from veil.learning.choices import default_optimiser
from veil.parts import heads, priors
from veil.report import plots, style
from veil.report.page import Picture
from veil.report.station import Findings, Row, Say, Station

BEST, ONE = 1.28235, 0.6554  # what any conditional density, and one Gaussian, can reach


def run(quick: bool, say: Say) -> Findings:
    train = veil.data.bishop_inverse(2000 if quick else 20_000, np.random.default_rng(1))
    test = veil.data.bishop_inverse(3000, np.random.default_rng(2))
    steps = 200 if quick else 2500
    net = veil.MLP((32,) if quick else (64, 64), "silu")
    decompositions = {
        "p(y|x,z) p(z)": veil.VAE(2, heads.DiagonalGaussian(), net),
        "p(y|x,z) p(z|x)": veil.VAE(priors.ConditionalNormal(2, net), heads.DiagonalGaussian(), net),
        "p(y|z) p(z|x)": veil.VAE(priors.ConditionalNormal(2, net), heads.DiagonalGaussian(), net, evidence=False),
    }
    one = veil.fit(
        veil.density(veil.Linear(heads.DiagonalGaussian()), trunk=net),
        train,
        key=jax.random.key(0),
        steps=steps,
        progress=False,
    )
    alone = veil.evaluate(one.model, test)
    rows = [
        Row(
            "one Gaussian given x",
            f"{alone.log_likelihood_per_datum:.3f}",
            "nats per datum",
            f"{ONE}",
            "best of its kind",
        )
    ]
    fits = {}
    for name, model in decompositions.items():
        say(name)
        with warnings.catch_warnings():
            # a latent that is not used has its row in the table
            warnings.filterwarnings("ignore", "collapse")
            fits[name] = veil.fit(
                model,
                train,
                key=jax.random.key(0),
                objective=veil.ImportanceWeighted(10),
                optimiser=default_optimiser(steps, 5e-3),
                steps=steps,
                progress=False,
            )
        found = veil.evaluate(fits[name], test, key=jax.random.key(1), samples=50 if quick else 200, progress=False)
        remark = f"lower bound; {found.approximation.latents.active_units} of 2 latents active"
        text = f"{found.log_likelihood_per_datum:.3f} ± {found.standard_error:.3f}"
        rows.append(Row(f"conditional VAE, {name}", text, "nats per datum", f"{BEST}", remark))
    grid = np.linspace(0, 1, 400)[:, None]
    with style.figure(len(fits), panel=(3.4, 3.4)) as (picture, panels):
        for panel, (name, fit) in zip(panels, fits.items(), strict=True):
            drawn = veil.sample(fit.model, 8, key=jax.random.key(2), evidence=grid)
            plots.points(
                panel, np.concatenate([np.asarray(test.evidence)[:800], test.query[:800]], 1), color=style.GREY
            )
            pairs = np.stack([np.repeat(grid[:, 0], 8), drawn.query.reshape(-1)], 1)
            plots.points(panel, pairs, color=style.ORANGE)
            style.label(panel, x=("x", "no unit"), y=("y", "no unit"), title=name)
    caption = (
        "Held-out data (grey) and draws of y for every x (orange): where there are several y, there are several draws."
    )
    return Findings(
        rows=rows,
        pictures=[Picture(picture, caption, "conditional")],
        text=[
            "One x, several y: a Gaussian given x puts its mean between them. A latent may choose among the ways, and "
            "each of the three decompositions can say so. Trained with the ELBO of one draw, models like these may "
            "ignore z altogether (posterior collapse: the fit says so); ten importance-weighted draws avoid it here."
        ],
    )


STATION = Station(
    name="conditional",
    order=86,
    title="A conditional variational autoencoder",
    question="Bishop's inverse problem again, now with a continuous latent: can it choose between the ways?",
    equation="<i>p</i>(<i>y</i>|<i>x</i>) = ∫ <i>p</i>(<i>y</i>|<i>x</i>,<i>z</i>) <i>p</i>(<i>z</i>|<i>x</i>) "
    "d<i>z</i>. Evidence: x. Query: y. Latent: which way.",
    run=run,
)
