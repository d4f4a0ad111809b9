"""A VAE on Fashion-MNIST with image networks: samples, reconstructions, and what the bound is worth.

Grey values of 28 x 28 pixels, padded to 32 x 32 for the pyramid, as discretised logistics on their 256 levels: the
likelihood is that of the 8-bit images themselves, in nats an image (the padding is a missing part of the image and
scores nothing). KL warm-up, then the plain bound.

Fashion-MNIST is needed: ``veil data`` prints the command that brings it. ``--quick`` takes scikit-learn's digits.

    python recipes/fashion_mnist.py --minutes 20 --out fashion_mnist
    python recipes/fashion_mnist.py --quick
"""

import argparse
import time
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import veil
from veil import objective
from veil.learning.choices import default_optimiser
from veil.parts import heads, images
from veil.report import plots, style

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("fashion_mnist"), help="folder for the pictures")
parser.add_argument("--quick", action="store_true", help="scikit-learn's digits, a few seconds of training")
parser.add_argument("--minutes", type=float, default=20.0, help="training time")
parser.add_argument("--test", type=int, default=1000, help="held-out images that are evaluated")
arguments = parser.parse_args()
key = jax.random.key(0)


def framed(grey, size):
    """Images in the middle of a larger frame [N, size, size, 1], and where they are."""
    grey = np.asarray(grey).reshape(len(grey), *[int(np.sqrt(np.asarray(grey)[0].size))] * 2)
    border = (size - grey.shape[1]) // 2
    around = ((0, 0), (border, border), (border, border))
    return np.pad(grey, around)[..., None], np.pad(np.ones_like(grey, bool), around)[..., None]


if arguments.quick:
    digits = veil.data.load("digits", query=[f"pixel{i}" for i in range(64)], evidence=()).query
    (train, seen), (test, seen_test) = framed(digits[:1500], 8), framed(digits[1500:1600], 8)
    head, latent, widths, side = heads.DiscretisedLogistic(0.0, 16.0, 17), 4, (16, 32), 8
else:
    (train, seen) = framed(veil.data.load("fashion-mnist").query, 32)
    (test, seen_test) = framed(veil.data.load("fashion-mnist-test").query[: arguments.test], 32)
    head, latent, widths, side = heads.DiscretisedLogistic(0.0, 1.0, 256), 32, (32, 64, 128), 32
whole = bool(seen.all())
train_data, test_data = (
    veil.Data(each.astype(np.float32), observed=None if whole else there)
    for each, there in ((train, seen), (test, seen_test))
)
model = veil.VAE(latent, head, images.PyramidDecoder((side, side, 1), widths, 256))


def fit(steps, record=None):
    return veil.fit(
        model,
        train_data,
        key=key,
        objective=veil.ELBO(kl=objective.Annealed(max(1, steps // 5))),
        optimiser=default_optimiser(steps, 1e-3),
        batch_size=128,
        steps=steps,
        record=record,
    )


steps = 100
if not arguments.quick:
    clock = []
    fit(60, lambda _: clock.append(time.perf_counter()))
    pace = (clock[-1] - clock[10]) / (len(clock) - 11)
    steps = max(200, int(60 * arguments.minutes / pace))
begin = time.perf_counter()
found = fit(steps)
minutes = (time.perf_counter() - begin) / 60
result = veil.evaluate(found, test_data, key=jax.random.key(1), samples=50 if arguments.quick else 500)
known = result.approximation

console = Console()
table = Table(title=f"{len(test)} held-out images, nats per image; {minutes:.1f} minutes, {steps} steps of 128")
for column in ("quantity", "value", "what it is"):
    table.add_column(column)
for row in known.rows():
    table.add_row(*row)
console.print(table)

arguments.out.mkdir(parents=True, exist_ok=True)
drawn = veil.sample(found.model, 40, key=jax.random.key(2)).query[..., 0]
codes = jax.numpy.asarray(veil.infer(found, test_data[np.arange(20)]).mean)
again = np.stack([np.asarray(found.model.likelihood(code, None).location) for code in codes])[..., 0]
low, high = head.low, head.high
with style.figure(2, panel=(5.0, 4.0)) as (picture, (left, right)):
    pairs = np.stack([test[:20, ..., 0], again], 1).reshape(-1, side, side)
    plots.tiles(left, np.clip((pairs - low) / (high - low), 0, 1), 8)
    plots.tiles(right, np.clip((drawn - low) / (high - low), 0, 1), 8)
    pixels = {"x": (f"each image {side} wide", "pixels"), "y": (f"and {side} high", "pixels")}
    style.label(left, **pixels, title="Held-out images, each with its reconstruction")
    style.label(right, **pixels, title="Drawn from the model")
    picture.savefig(arguments.out / "images.png")
console.print(f"picture: {arguments.out / 'images.png'}")
