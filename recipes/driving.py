"""Round the tree, left or right: behaviour cloning from demonstrations that go both ways.

A simulated car drives at 5 m/s towards a tree. A scripted driver (no person drove) tosses a coin and swerves to the
left or to the right, 8 m before the tree. From 200 such demonstrations three policies learn the steering rate from
position and heading: with squared error, with one Gaussian, and with a mixture density network. Then each drives 1000
times, and everything is repeated with new demonstrations and new starting weights.

    python recipes/driving.py --out driving          # five repetitions, about two minutes on two cores
    python recipes/driving.py --quick                # one repetition, fewer steps
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import veil
from veil.control.worlds import Tree, demonstrate, drives
from veil.parts.heads import DiagonalGaussian, HomoscedasticGaussian
from veil.report import plots, style

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("driving"), help="folder for the pictures (default: driving)")
parser.add_argument("--quick", action="store_true", help="one repetition, fewer steps and drives")
arguments = parser.parse_args()
repetitions, steps, count = (1, 300, 100) if arguments.quick else (5, 3000, 1000)

# The models: p(steering | position, heading). All have the same network below.
network = veil.MLP((64, 64))
squared_error = veil.density(veil.Linear(HomoscedasticGaussian()), trunk=network)  # its mean is least squares
one_gaussian = veil.density(veil.Linear(DiagonalGaussian()), trunk=network)
mixture = veil.Mixture(veil.Linear(DiagonalGaussian()), components=4, trunk=network)

# The policies: a model, and how an action is chosen from p(action | observation).
policies = {
    "squared error, its mean": (squared_error, veil.Mean()),
    "one Gaussian, sampled": (one_gaussian, veil.Sample()),
    "one Gaussian, its mean": (one_gaussian, veil.Mean()),
    "mixture density network, sampled": (mixture, veil.Sample()),
    "mixture density network, likeliest": (mixture, veil.Likeliest()),
    "mixture density network, its mean": (mixture, veil.Mean()),
}

world = Tree()
rates = {name: [] for name in policies}
hits = {name: [] for name in policies}
lefts = {name: [] for name in policies}
fits = {name: [] for name in policies}
pictures = {}
for repetition in range(repetitions):
    key_demonstrations, key_fit, key_drive = jax.random.split(jax.random.key(repetition), 3)
    shown = demonstrate(world, 200, key_demonstrations)
    assert shown.success.all(), "the scripted driver knows the way"
    data = shown.recording("driving").data("action", "observation")
    pictures.setdefault("demonstrations", shown)
    fitted = {model: veil.fit(model, data, key=key_fit, steps=steps) for model, _ in policies.values()}
    for name, (model, choose) in policies.items():
        policy = veil.Policy(fitted[model], choose)
        driven = drives(world, policy, count, key_drive)
        rates[name].append(100 * driven.rate()[0])
        hits[name].append(100 * driven.hit.mean())
        lefts[name].append(100 * driven.outcome[driven.success].mean() if driven.success.any() else np.nan)
        fits[name].append(veil.evaluate(fitted[model], data).log_likelihood_per_datum)
        pictures.setdefault(name, driven)

# The table: mean over repetitions ± its standard error.
table = Table(title=f"Round the tree: {count} drives after 200 demonstrations, {repetitions} repetitions (mean ± s.e.)")
for column in (
    "policy",
    "success (%)",
    "hits the tree (%)",
    "successes on the left (%)",
    "log-likelihood (nats a datum)",
):
    table.add_column(column, justify="left" if column == "policy" else "right")


def shown_as(values: list[float], digits: int = 1) -> str:
    """Mean and standard error over the repetitions that have a value."""
    some = np.array(values)[np.isfinite(values)]
    if len(some) == 0:
        return "none"
    if len(some) == 1:
        return f"{some[0]:.{digits}f}"
    error = np.std(some, ddof=1) / np.sqrt(len(some))
    return f"{np.mean(some):.{digits}f} ± {error:.{digits}f}"


for name in policies:
    table.add_row(name, shown_as(rates[name]), shown_as(hits[name]), shown_as(lefts[name]), shown_as(fits[name], 3))
Console(width=130).print(table)

# The picture: sixty drives of each policy, first repetition.
arguments.out.mkdir(parents=True, exist_ok=True)
chosen = ("demonstrations", "squared error, its mean", "one Gaussian, sampled", "mixture density network, sampled")
with style.figure(2, 2, panel=(4.6, 2.35), sharex=True, sharey=True) as (picture, panels):
    for panel, name in zip(panels, chosen, strict=True):
        plots.drives(panel, world, pictures[name])
        style.label(panel, x=("along the road", "m"), y=("across", "m"), title=name[0].upper() + name[1:])
picture.savefig(arguments.out / "driving.png")
print(arguments.out / "driving.png")
