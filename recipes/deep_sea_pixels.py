"""DeepSea from pictures of one pixel: networks that count, that differ by priors of their own, and that do neither.

* counts: one Q-network with a bonus for what was done seldom, weight / √n, and 1 for what never was. It is told the
  number of the picture.
* hashes: the same, but pictures are told apart by 32 random projections of their pixels and the action (SimHash).
* priors: twenty Q-networks with random priors that stay, one of which is followed in each episode.
* no priors: the same without the priors, a bootstrap alone.
* greedy: one network that does what it believes to be best, and nothing else.

Solved is bsuite's rule: fewer than nine in ten episodes went astray. Runs are kept in the folder; a finished one is
not repeated. Tables instead of networks: ``deep_sea_sizes.py``.

    python recipes/deep_sea_pixels.py --out deep_sea_pixels          # about ten minutes on one core
    python recipes/deep_sea_pixels.py --sizes 50 --methods counts priors
    python recipes/deep_sea_pixels.py --quick
"""

import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from veil.control.bootstrapped import BootstrappedQ, optimistic, pictured
from veil.control.exploration import Counted, Hashed, search
from veil.control.worlds.deep_sea import DeepSea
from veil.report import style

METHODS = ("counts", "hashes", "priors", "no priors", "greedy")
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("deep_sea_pixels"), help="folder (default: deep_sea_pixels)")
parser.add_argument("--sizes", type=int, nargs="+", default=[10, 20, 30], help="rows (default: 10 20 30)")
parser.add_argument("--methods", nargs="+", choices=METHODS, default=["counts", "hashes", "priors"])
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
parser.add_argument("--episodes", type=int, default=10_000, help="at most (default: 10000)")
parser.add_argument("--windy", action="store_true", help="the stochastic sea, with wind and noisy rewards")
parser.add_argument("--quick", action="store_true", help="a small sea, one seed, two hundred episodes")
arguments = parser.parse_args()
sizes, seeds, most = arguments.sizes, arguments.seeds, arguments.episodes
if arguments.quick:
    sizes, seeds, most = [6], [0], 200
WINDOW = 50  # episodes whose mean return is drawn


def learner(name, sea):
    eyes = pictured(sea.pictures())
    if name == "counts":
        return optimistic(sea.land, eyes=eyes)
    if name == "hashes":
        pictures = jnp.asarray(sea.pictures())
        done = lambda step: (pictures[step.observation], jax.nn.one_hot(step.action, 2))  # noqa: E731
        weight = 1.0 / sea.size
        hashed = Counted(Hashed(), about=done, offset=weight**2)
        return BootstrappedQ(members=1, prior=0.0, told=1.0, bonus=hashed, weight=weight, eyes=eyes)
    if name == "greedy":
        return BootstrappedQ(members=1, prior=0.0, told=1.0, eyes=eyes)
    return BootstrappedQ(prior=3.0 if name == "priors" else 0.0, eyes=eyes)


console = Console(width=130)
kind = "windy" if arguments.windy else "still"
results = {}
for size in sizes:
    sea = DeepSea(size, stochastic=arguments.windy)
    for name in arguments.methods:
        for seed in seeds:
            place = arguments.out / f"{kind}-{size}-{name.replace(' ', '-')}-{seed}-{most}.json"
            if not place.exists():
                begin = time.perf_counter()
                found = search(sea, learner(name, sea), jax.random.key(seed), most=most)
                first = np.flatnonzero(found.returns > 0.5)
                told = {"returns": found.returns.tolist(), "solved": found.solved, "coverage": found.coverage}
                told |= {"first": int(first[0]) + 1 if len(first) else None, "seconds": time.perf_counter() - begin}
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(json.dumps(told))
            results[size, name, seed] = told = json.loads(place.read_text())
            words = f"treasure in episode {told['first']}, solved after {told['solved']}, {told['seconds']:.0f} s"
            console.print(f"{size} rows, {name}, seed {seed}: {words}")

said = lambda values: ", ".join("never" if value is None else str(value) for value in values)  # noqa: E731
table = Table(title=f"The {kind} sea from pictures, {most} episodes at most")
for column in ("rows", "who", "solved", "after episodes, each seed", "treasure first in", "states seen", "seconds"):
    table.add_column(column, justify="left" if column == "who" else "right")
with style.figure(len(sizes), panel=(4.2, 3.2)) as (picture, panels):
    for panel, size in zip(panels, sizes, strict=True):
        for number, name in enumerate(arguments.methods):
            runs = [results[size, name, seed] for seed in seeds]
            solved = [run["solved"] for run in runs]
            share = f"{sum(episode is not None for episode in solved)} of {len(runs)}"
            seen, spent = np.mean([run["coverage"] for run in runs]), np.mean([run["seconds"] for run in runs])
            firsts = said(run["first"] for run in runs)
            table.add_row(str(size), name, share, said(solved), firsts, f"{seen:.0%}", f"{spent:.0f}")
            for run in runs:
                many = np.convolve(run["returns"], np.ones(WINDOW) / WINDOW, "valid")
                ends, label = WINDOW + np.arange(len(many)), name if run is runs[0] else None
                panel.plot(ends, many, color=style.COLOURS[number], label=label, linewidth=1.0)
        title = f"{size} rows"
        style.label(panel, x=("episode", "number"), y=(f"return, mean of {WINDOW} episodes", "reward"), title=title)
        style.legend(panel)
console.print(table)
arguments.out.mkdir(parents=True, exist_ok=True)
picture.savefig(arguments.out / "deep_sea_pixels.png")
console.print(f"{arguments.out / 'deep_sea_pixels.png'}")
