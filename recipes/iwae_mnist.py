"""The one-layer table of the IWAE paper on MNIST (Burda et al. 2016): VAE and IWAE, and what draws are worth.

784-200-200-50, tanh, dynamic binarisation, Adam (ε 1e-4) with batches of 20 and the paper's schedule: rates
1e-3 · 10^(-i/7) for 3^i epochs, i = 0 ... 7. That is 3,280 epochs; ``--minutes`` scales all stages alike so that each
model ends in that time (the number of steps follows from the pace of a short run). The table gives the negative
importance-weighted bound with 5,000 samples on held-out images (binarised once), its standard error, active units, and
the published figures of the full schedule: VAE 86.76 (19), IWAE-5 85.54 (22), IWAE-50 84.78 (25), nats (units).

MNIST is needed: ``veil data`` prints the command that brings it. ``--quick`` takes scikit-learn's digits instead.

    python recipes/iwae_mnist.py --minutes 40 --out iwae_mnist      # three models, two hours in all
    python recipes/iwae_mnist.py --steps 240000 --models IWAE-50    # stopped at any time, the same command goes on
    python recipes/iwae_mnist.py --quick
"""

import argparse
import time
from pathlib import Path

import jax
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import veil
from veil import objective
from veil.parts import heads
from veil.report import style

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("iwae_mnist"), help="folder for the picture")
parser.add_argument("--quick", action="store_true", help="scikit-learn's digits, a few seconds of training")
parser.add_argument("--minutes", type=float, default=40.0, help="training time of each model")
parser.add_argument("--steps", type=int, help="training steps of each model, with checkpoints in --out")
parser.add_argument("--batch", type=int, default=20, help="images a step sees")
parser.add_argument("--models", default="VAE,IWAE-5,IWAE-50", help="which, with commas between them")
parser.add_argument("--test", type=int, default=10_000, help="held-out images that are evaluated")
arguments = parser.parse_args()
STAGES, PUBLISHED = 8, {"VAE": "86.76 (19)", "IWAE-5": "85.54 (22)", "IWAE-50": "84.78 (25)"}
key = jax.random.key(0)

if arguments.quick:
    grey = veil.data.load("digits", query=[f"pixel{i}" for i in range(64)], evidence=()).query / 16
    train, held_out, latent, widths, samples = grey[:1500], grey[1500:1600], 8, (32, 32), 30
else:
    train, held_out = (np.asarray(veil.data.load(name).query).reshape(-1, 784) for name in ("mnist", "mnist-test"))
    latent, widths, samples = 50, (200, 200), 5000
coins = np.random.default_rng(0).random(held_out.shape) < held_out
test = veil.Data(coins[: arguments.test].astype(np.float32))
train = veil.Data(train.astype(np.float32))
model = veil.VAE(latent, heads.Bernoulli(soft=True), veil.MLP(widths, "tanh"))
bounds = {
    "VAE": veil.ELBO(),
    "IWAE-5": veil.ImportanceWeighted(5, objective.Pathwise()),
    "IWAE-50": veil.ImportanceWeighted(50, objective.Pathwise()),
    "DReG-50": veil.ImportanceWeighted(50),
}


def schedule(steps):
    """The paper's rates over that many steps: stage i takes 3^i parts of 3,280."""
    ends = np.cumsum(3.0 ** np.arange(STAGES)) / sum(3.0 ** np.arange(STAGES)) * steps
    rates = 1e-3 * 10 ** (-np.arange(STAGES) / 7)
    return optax.join_schedules([optax.constant_schedule(rate) for rate in rates], [int(end) for end in ends[:-1]])


def fit(bound, steps, record=None, checkpoints=None):
    optimiser = optax.adam(schedule(steps), eps=1e-4)
    options = {"steps": steps, "batch_size": arguments.batch, "optimiser": optimiser, "record": record}
    options["checkpoints"] = checkpoints
    return veil.fit(model, train, key=key, objective=objective.Binarised(bound), **options)


console = Console()
table = Table(title=f"Negative log-likelihood of {len(test)} held-out images, {samples} samples, nats")
for column in ("model", "minutes", "epochs", "ELBO", "importance-weighted", "active units", "published (units)"):
    table.add_column(column, justify="left" if column == "model" else "right")
curves = {}
for name in ["VAE", "IWAE-5"] if arguments.quick else arguments.models.split(","):
    steps = arguments.steps or 100
    if not arguments.quick and arguments.steps is None:
        clock = []
        fit(bounds[name], 300, lambda _, clock=clock: clock.append(time.perf_counter()))
        pace = (clock[-1] - clock[20]) / (len(clock) - 21)
        steps = max(300, int(arguments.minutes * 60 / pace))
    begin = time.perf_counter()
    kept = arguments.out / f"{name}-checkpoints" if arguments.steps else None
    found = fit(bounds[name], steps, checkpoints=kept)
    values = found.history.value
    minutes = (time.perf_counter() - begin) / 60
    result = veil.evaluate(found, test, key=jax.random.key(1), samples=samples)
    known = result.approximation
    table.add_row(
        name,
        f"{minutes:.1f}",
        f"{steps * arguments.batch / len(train):.1f}",
        f"{-known.bounds.elbo_average.value:.2f}",
        f"{-result.log_likelihood_per_datum:.2f} ± {result.standard_error:.2f}",
        str(known.latents.active_units),
        PUBLISHED.get(name, "84.32 (none)" if name == "DReG-50" else ""),
    )
    width = max(1, len(values) // 200)
    smooth = np.array(values[: len(values) // width * width]).reshape(-1, width).mean(1)
    curves[name] = (np.arange(len(smooth)) + 1) * width * minutes / len(values), -smooth
    console.print(table)  # after each model: a long run that is stopped has shown what it had

arguments.out.mkdir(parents=True, exist_ok=True)
with style.figure(panel=(6.2, 3.8)) as (picture, (panel,)):
    for (name, (x, y)), colour in zip(curves.items(), style.COLOURS, strict=False):
        panel.plot(x, y, color=colour, label=name)
    low = min(float(y.min()) for _, y in curves.values())
    panel.set_ylim(low - 1, low + 0.25 * low)
    style.label(panel, x=("training time", "minutes"), y=("negative training bound", "nats per image"))
    style.legend(panel)
    picture.savefig(arguments.out / "curves.png")
console.print(f"picture: {arguments.out / 'curves.png'}")
