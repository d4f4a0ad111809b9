"""Bach's chorales with a deep Markov model: what a held-out piece is worth, three ways, and a piece of its own.

A piece is a sequence of 88 keys that sound or not, a step a quarter note. The model is a Markov chain of 100 latents
with gated transitions (Krishnan et al. 2017), its posterior a network that reads the piece from its end back to each
step. The table gives lower bounds of log p(piece), nats a step, on pieces that were not seen: the ELBO, importance
weighting of whole paths, and a particle filter that proposes from the same posterior and resamples on the way. The
first row is a model without memory, every key a coin of its own. The papers report about -6 to -7 nats a step, on other
splits and mostly in finer steps, so that they do not compare.

The chorales are needed: ``veil data`` prints the command that brings them. ``--quick`` takes a few pieces of three
chords that it makes up.

    python recipes/chorales.py --out chorales --minutes 10
    python recipes/chorales.py --quick
"""

import argparse
import time
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import veil
from veil import objective, posterior
from veil.learning.choices import default_optimiser
from veil.parts import heads
from veil.parts.nets import Identity
from veil.report import style

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("chorales"), help="folder for the picture")
parser.add_argument("--quick", action="store_true", help="made-up pieces, a few seconds of training")
parser.add_argument("--minutes", type=float, default=10.0, help="training time")
parser.add_argument("--samples", type=int, default=200, help="paths of the importance weighting, and particles")
arguments = parser.parse_args()
key_fit, key_evaluate, key_draw = jax.random.split(jax.random.key(0), 3)
LOWEST = 21  # the first key of a piano as a MIDI number


def made_up(rng, count=30, steps=16):
    """Pieces of chords that change every other step: tonic, subdominant, dominant, each piece in a key of its own.

    Each ends a few steps earlier or later.
    """
    tonic = 40 + rng.integers(0, 12, (count, 1))
    root = tonic + rng.choice([0, 5, 7], (count, steps // 2)).repeat(2, 1)
    notes = root[..., None] + np.array([0, 4, 7, 12]) - LOWEST
    rolls = [(np.arange(88) == piece[..., None]).any(1).astype(float) for piece in notes]
    return veil.data.episodes([roll[: rng.integers(steps // 2, steps + 1)] for roll in rolls])


rng = np.random.default_rng(0)
pieces = made_up(rng) if arguments.quick else veil.data.load("chorales")
order = rng.permutation(len(pieces))
some = len(pieces) // 6
test, watched, train = pieces[order[:some]], pieces[order[some : 3 * some // 2]], pieces[order[3 * some // 2 :]]

latent, width, size = (4, 16, 16) if arguments.quick else (100, 200, 600)
model = veil.dmm(latent, heads.Bernoulli(), veil.MLP((width // 2, width // 2), "relu"), width)
reader = veil.Sequential(Identity(), posterior.Future(size))


def fit(steps, held_out=None, record=None):
    return veil.fit(
        model,
        train,
        key=key_fit,
        posterior=reader,
        objective=veil.ELBO(kl=objective.Annealed(max(1, steps // 5))),
        optimiser=default_optimiser(steps, 1e-3),
        batch_size=20,
        steps=steps,
        held_out=held_out,
        record=record,
    )


steps = 60
if not arguments.quick:
    clock = []
    fit(40, record=lambda _: clock.append(time.perf_counter()))
    pace = (clock[-1] - clock[4]) / (len(clock) - 5)
    steps = max(100, int(60 * arguments.minutes / pace))
begin = time.perf_counter()
found = fit(steps, None if arguments.quick else watched)
minutes = (time.perf_counter() - begin) / 60
samples = 20 if arguments.quick else arguments.samples
known = veil.evaluate(found, test, key=key_evaluate, samples=samples, particles=samples).approximation

length = test.mask.sum() / len(test)  # steps of a piece, on average: bounds are of whole pieces
sounds = np.clip(train.query[train.mask].mean(0), 1e-4, 1 - 1e-4)
heard = test.query[test.mask]
coins = np.sum(heard * np.log(sounds) + (1 - heard) * np.log(1 - sounds)) / len(test)
bounds = [("keys as coins, no memory (exact)", coins, 0.0)]
for name, bound in (
    ("ELBO", known.bounds.elbo_average),
    (f"importance weighting, {samples} paths", known.bounds.importance_average),
    (f"particle filter, {samples} particles", known.particles.combined_average),
):
    bounds.append((name, bound.value, bound.monte_carlo_error))

console = Console()
table = Table(
    title=f"{len(test)} held-out pieces of {length:.0f} steps; {minutes:.1f} minutes, {found.status.steps} steps"
)
for column in ("bound of log p", "nats a step", "its error by the draws"):
    table.add_column(column, justify="left" if column.startswith("bound") else "right")
for name, value, error in bounds:
    table.add_row(name, f"{value / length:.3f}", f"{error / length:.3f}")
console.print(table)

real = test.query[0][test.mask[0]]
drawn = veil.sample(found.model, 1, key=key_draw, steps=len(real)).query[0]
low, high = (LOWEST + int(each) for each in np.flatnonzero(pieces.query[pieces.mask].any(0))[[0, -1]])
arguments.out.mkdir(parents=True, exist_ok=True)
with style.figure(2, panel=(5.2, 3.4)) as (picture, panels):
    for panel, roll, title in zip(panels, (real, drawn), ("A held-out piece", "Drawn from the model"), strict=True):
        edges = (-0.5, len(roll) - 0.5, LOWEST - 0.5, LOWEST + 87.5)
        panel.imshow(np.asarray(roll).T, origin="lower", aspect="auto", extent=edges, vmin=0, vmax=1)
        panel.set_ylim(low - 2, high + 2)
        style.label(panel, x=("time", "quarter notes"), y=("key that sounds", "MIDI number"), title=title)
    picture.savefig(arguments.out / "rolls.png")
console.print(f"picture: {arguments.out / 'rolls.png'}")
