"""A mixture of Bernoullis: prototypes of handwritten digits."""

import jax
import numpy as np

import veil
from veil.parts.heads import Bernoulli
from veil.report import plots, style
from veil.report.page import Picture
from veil.report.station import Findings, Row, Say, Station


def run(quick: bool, say: Say) -> Findings:
    images = veil.data.load("digits", query=[f"pixel{i}" for i in range(64)], evidence="label")
    order = np.random.default_rng(0).permutation(len(images))
    pixels = (images.query[order] >= 8).astype(np.float32)
    labels = np.asarray(images.evidence)[order, 0].astype(int)
    train, test = veil.Data(pixels[:1200]), veil.Data(pixels[1200:])
    components = 10 if quick else 30
    say(f"{components} prototypes")
    coins = veil.Linear(Bernoulli())
    alone = veil.fit(veil.density(coins), train, key=jax.random.key(0), progress=False)
    result = veil.fit(
        veil.Mixture(coins, components=components),
        train,
        key=jax.random.key(0),
        restarts=2 if quick else 8,
        progress=False,
    )
    before, after = (veil.evaluate(model, test) for model in (alone.model, result.model))
    owner = veil.infer(result.model, train).most_likely
    most = np.array([np.bincount(labels[:1200][owner == k], minlength=10).argmax() for k in range(components)])
    agree = float(np.mean(most[veil.infer(result.model, test).most_likely] == labels[1200:]))
    weight = np.asarray(result.model.experts.weight)[:, :, 0]
    prototypes = 1 / (1 + np.exp(-weight.reshape(components, 8, 8)))
    ranking = np.argsort(most, kind="stable")
    drawn = veil.sample(result.model, 24, key=jax.random.key(1)).query.reshape(-1, 8, 8)
    with style.figure(2, panel=(4.6, 3.3)) as (picture, (left, right)):
        plots.tiles(left, prototypes[ranking], 6 if components == 30 else 5)
        style.label(
            left, x=("each image 8 wide", "pixels"), y=("and 8 high", "pixels"), title="Prototypes: probability of ink"
        )
        real = train.query[: len(drawn)].reshape(-1, 8, 8)
        plots.tiles(right, np.concatenate([real, drawn]), 8, ("real", "drawn"), gap=4)
        style.label(
            right,
            x=("each image 8 wide", "pixels"),
            y=("and 8 high", "pixels"),
            title="Real digits, and digits drawn from the model",
        )
    caption = (
        "Left: the prototypes, in the order of the digit most of their images show. Right: real images and samples."
    )
    return Findings(
        rows=[
            Row(
                "held-out log-likelihood, independent pixels",
                f"{before.log_likelihood_per_datum:.3f} ± {before.standard_error:.3f}",
                "nats per image",
            ),
            Row(
                f"held-out log-likelihood, {components} prototypes",
                f"{after.log_likelihood_per_datum:.3f} ± {after.standard_error:.3f}",
                "nats per image",
            ),
            Row(
                "held-out digits whose prototype is of the right class",
                f"{100 * agree:.1f}",
                "%",
                "10",
                "by chance; labels not used to fit",
            ),
        ],
        pictures=[Picture(picture, caption, "digits")],
        text=[
            "Each pixel is a coin, and which 64 coins are tossed depends on the latent. Nobody said what a digit is: "
            "given the latent the pixels are independent, and to make that nearly true the latent must become the "
            "shape."
        ],
    )


STATION = Station(
    name="digits",
    order=80,
    title="Prototypes of digits",
    question="1,797 handwritten digits of 8 by 8 pixels, no labels: what does a discrete latent discover?",
    equation="<i>p</i>(<i>y</i>) = Σ<sub><i>z</i></sub> π<sub><i>z</i></sub> Π<sub><i>d</i></sub> "
    "p<sub><i>zd</i></sub><sup><i>y</i><sub>d</sub></sup> (1 − p<sub><i>zd</i></sub>)<sup>1 − "
    "<i>y</i><sub>d</sub></sup>. Query: an image. Latent: its prototype.",
    run=run,
    packages=("sklearn",),
)
