"""PCA, the linear VAE and a VAE on the same digits: where the integral ends, and what replaces it."""

import jax
import numpy as np

import veil
from veil import objective
from veil.learning.choices import default_optimiser
from veil.parts import heads, nets
from veil.report import plots, style
from veil.report.page import Picture
from veil.report.station import Findings, Row, Say, Station

LATENT = 10
EXACT = 17.45195  # nats an image, all 1,797 of them


def run(quick: bool, say: Say) -> Findings:
    images = veil.data.load("digits", query=[f"pixel{i}" for i in range(64)], evidence="label")
    order = np.random.default_rng(0).permutation(len(images))
    pixels = np.asarray(images.query[order] / 16, np.float32)
    labels = np.asarray(images.evidence)[order, 0].astype(int)
    train, test = veil.Data(pixels[:1200]), veil.Data(pixels[1200:])
    key = jax.random.key(0)

    say("exact PPCA")
    everything = veil.evaluate(veil.fit(veil.PPCA(LATENT), pixels, key=key, progress=False).model, pixels)
    exact = veil.fit(veil.PPCA(LATENT), train, key=key, progress=False).model
    exact_test, exact_train = (veil.evaluate(exact, data) for data in (test, train))

    noise = heads.HomoscedasticGaussian(shared=True)
    say("the linear VAE")
    steps = 100 if quick else 3000
    linear = veil.fit(
        veil.VAE(LATENT, noise, nets.Identity()),
        train,
        key=key,
        objective=veil.ELBO(objective.StickingTheLanding()),
        optimiser=default_optimiser(steps, 1e-2),
        steps=steps,
        progress=False,
    )
    linear_train = veil.evaluate(
        linear, train, key=key, samples=5 if quick else 50, progress=False
    ).approximation.bounds

    say("a VAE")
    steps = 100 if quick else 2500
    net = veil.MLP((64,) if quick else (128, 128), "silu")
    warm = veil.ELBO(kl=objective.Annealed(steps // 2))
    deep = veil.fit(
        veil.VAE(LATENT, noise, net),
        train,
        key=key,
        objective=warm,
        optimiser=default_optimiser(steps, 3e-3),
        steps=steps,
        held_out=test,
        patience=10**6,
        progress=False,
    )
    found = veil.evaluate(deep, test, key=key, samples=30 if quick else 300, progress=False)
    known = found.approximation
    say("a VAE with a plane for a latent")
    plane = veil.fit(veil.VAE(2, noise, net), train, key=key, steps=steps, progress=False)
    places = veil.infer(plane, test).mean
    drawn = veil.sample(deep.model, 12, key=jax.random.key(1)).query.reshape(-1, 8, 8)
    codes = veil.infer(deep, test).mean[:12]
    again = np.stack([np.asarray(deep.model.likelihood(code, None).mean) for code in jax.numpy.asarray(codes)])
    pictures = _pictures(
        test.query[:12].reshape(-1, 8, 8), again.reshape(-1, 8, 8), drawn, places, labels[1200:], known
    )
    elbo = linear_train.elbo_average
    return Findings(
        rows=[
            Row("exact PPCA, all images", f"{everything.log_likelihood_per_datum:.5f}", "nats per image", f"{EXACT}"),
            Row("exact PPCA, training images", f"{exact_train.log_likelihood_per_datum:.3f}", "nats per image"),
            Row(
                "linear VAE, ELBO of the training images",
                f"{elbo.value:.3f} ± {elbo.monte_carlo_error:.3f}",
                "nats per image",
                f"{exact_train.log_likelihood_per_datum:.3f}",
                "the same model: its bound must come to the exact value",
            ),
            Row(
                "exact PPCA, held-out images",
                f"{exact_test.log_likelihood_per_datum:.2f} ± {exact_test.standard_error:.2f}",
                "nats per image",
            ),
            Row(
                "VAE, held-out images",
                f"{found.log_likelihood_per_datum:.2f} ± {found.standard_error:.2f}",
                "nats per image",
                "",
                f"lower bound, {known.bounds.samples} importance samples",
            ),
            Row("VAE, ELBO of the held-out images", f"{known.bounds.elbo_average.value:.2f}", "nats per image"),
            Row("active units", str(known.latents.active_units), f"of {LATENT}"),
        ],
        pictures=pictures,
        text=[
            "With a linear decoder the integral over the latent is a Gaussian one: PPCA is exact. Inference "
            "by a network is not needed there, which makes it the place to test it: the bound of a linear VAE must "
            "come to the exact likelihood. With a network as decoder there is nothing left to compare with but bounds."
        ],
    )


def _pictures(
    real: np.ndarray, again: np.ndarray, drawn: np.ndarray, places: np.ndarray, labels: np.ndarray, known: object
) -> list[Picture]:
    with style.figure(panel=(8.8, 3.0)) as (tiles, (panel,)):
        rows = np.clip(np.concatenate([real, again, drawn]), 0, 1)
        plots.tiles(panel, rows, len(real), ("held out", "made again", "drawn"), gap=3)
        style.label(panel, x=("each image 8 wide", "pixels"), y=("and 8 high", "pixels"))
    with style.figure(2, panel=(4.4, 3.8)) as (latent, (plane, units)):
        for digit in range(10):
            chosen = labels == digit
            colour = style.COLOURS[digit % len(style.COLOURS)]
            plane.scatter(*places[chosen].T, s=26, color=colour, marker=f"${digit}$", linewidths=0)
        style.label(
            plane,
            x=("posterior mean of z₁", "prior's standard deviations"),
            y=("posterior mean of z₂", "prior's standard deviations"),
            title="A latent of two dimensions",
        )
        kl = np.sort(known.latents.kl)[::-1]  # type: ignore[attr-defined]
        units.bar(np.arange(len(kl)), kl, color=style.BLUE)
        style.label(units, x=("latent dimension", "rank"), y=("KL(q || p)", "nats"), title="What each one carries")
    return [
        Picture(
            tiles,
            "Images that were not trained on, what the VAE makes of its code of each, and draws from the model.",
            "vae",
        ),
        Picture(
            latent,
            "Left: codes of held-out digits, drawn as what they are; no label was used. Right: KL by dimension.",
            "latent",
        ),
    ]


STATION = Station(
    name="autoencoder",
    order=83,
    title="PCA and the variational autoencoder",
    question="The latent of a digit is continuous: an integral instead of a sum. When can it be done, and what if not?",
    equation="<i>p</i>(<i>y</i>) = ∫ <i>p</i>(<i>z</i>) <i>p</i>(<i>y</i>|<i>z</i>) d<i>z</i> ≥ "
    "E<sub>q(z|y)</sub>[log <i>p</i>(<i>y</i>|<i>z</i>)] − KL(<i>q</i>(<i>z</i>|<i>y</i>) ‖ <i>p</i>(<i>z</i>)). "
    "Query: an image. Latent: its code.",
    run=run,
    packages=("sklearn",),
)
