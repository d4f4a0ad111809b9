"""Tasks whose reward nobody meets by chance: proximal policy optimisation with and without something new to look for.

* car: Gymnasium's MountainCarContinuous-v0, episodes of 500 steps; 1 at the top of the hill, and nothing else (VIME's
  form of it: no price of actions).
* cart: ``veil/CartPoleSwingUpSparse-v0``, each action done four times: 1 a step while the pole stands in the middle.

Bonuses: information gain of a Bayesian network of the dynamics (VIME's second-order step), pseudo-counts of a density
on a grid, random network distillation, or none. Reported are the steps after which an episode earned something, and
after which the last ten did so on average (car: .9, cart: 100). Runs are kept in the folder; a finished one is
not repeated.

    python recipes/sparse_tasks.py --out sparse              # about a minute and a half a run on one core
    python recipes/sparse_tasks.py --tasks car --seeds 0 1 2 3 4
    python recipes/sparse_tasks.py --quick
"""

import argparse
import json
import time
from pathlib import Path

import gymnasium
import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import veil
from veil.control import exploration as novel
from veil.control import prepared
from veil.control.proximal import ProximalPolicy, proximal
from veil.report import style

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("sparse"), help="folder (default: sparse)")
parser.add_argument("--tasks", nargs="+", choices=("car", "cart"), default=["car", "cart"])
parser.add_argument(
    "--bonuses", nargs="+", choices=("none", "gain", "pseudo-count", "rnd"), default=["none", "gain", "pseudo-count"]
)
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
parser.add_argument("--steps", type=int, default=250_000, help="of all environments together (default: 250000)")
parser.add_argument("--quick", action="store_true", help="two thousand steps, one seed, small networks")
arguments = parser.parse_args()
steps, seeds = (2048, [0]) if arguments.quick else (arguments.steps, arguments.seeds)
WELL, LAST = {"car": 0.9, "cart": 100.0}, 10
CELLS = 24


def car():
    env = gymnasium.make("MountainCarContinuous-v0", max_episode_steps=500)
    return gymnasium.wrappers.TransformReward(env, lambda reward: float(reward > 50.0))


def cart():
    return prepared("veil/CartPoleSwingUpSparse-v0", repeat=4)


def bonus_of(name, task):
    if name == "gain":
        small = {"network": veil.BayesianNetwork((4,))} if arguments.quick else {}
        return novel.NetworkGain(**small)
    if name == "rnd":
        return novel.RandomNetworkDistillation()
    ends = {"car": ((-1.2, -0.07), (0.6, 0.07)), "cart": ((-1.8, -1, -1, -4, -8), (1.8, 1, 1, 4, 8))}[task]
    if task == "car":
        cell = lambda step: novel.Bins(CELLS, *ends)(step.following)  # noqa: E731
        return novel.Counted(novel.PseudoCounts(novel.DirichletCategorical((CELLS, CELLS), 1e-3)), about=cell)
    cell = lambda step: novel.Bins(8, *ends)(step.following)  # noqa: E731
    return novel.Counted(novel.PseudoCounts(novel.DirichletCategorical((8,) * 5, 1e-3)), about=cell)


def solved(found, task):
    """Steps after which the mean of the last ten episodes is as wanted; None: never."""
    returns, ends = np.asarray(found["returns"]), found["steps"]
    if len(returns) < LAST:
        return None
    means = np.convolve(returns, np.ones(LAST) / LAST, "valid")
    well = np.flatnonzero(means >= WELL[task])
    return int(ends[well[0] + LAST - 1]) if len(well) else None


console = Console(width=120)
results = {}
for task in arguments.tasks:
    for name in arguments.bonuses:
        for seed in seeds:
            place = arguments.out / f"{task}-{name}-{seed}-{steps}.json"
            if not place.exists():
                begin = time.perf_counter()
                run = proximal(
                    {"car": car, "cart": cart}[task],
                    steps,
                    key=jax.random.key(seed),
                    agent=ProximalPolicy(entropy=1e-3, epochs=8),
                    bonus=None if name == "none" else bonus_of(name, task),
                )
                told = {"returns": run.returns.tolist(), "steps": run.steps.tolist()}
                told |= {"first": run.first_reward(), "seconds": time.perf_counter() - begin}
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(json.dumps(told))
            found = json.loads(place.read_text())
            results[task, name, seed] = found
            last = np.mean(found["returns"][-LAST:]) if found["returns"] else float("nan")
            words = f"first reward after {found['first']}, solved after {solved(found, task)}, at the end {last:.2f}"
            console.print(f"{task}, {name}, seed {seed}: {words}, {found['seconds']:.0f} s")

table = Table(title=f"{steps} steps, {len(seeds)} seeds")
for column in ("task", "bonus", "first reward after steps, each seed", "solved after", "return at the end"):
    table.add_column(column, justify="left" if column in ("task", "bonus") else "right")
with style.figure(len(arguments.tasks), panel=(4.6, 3.2)) as (picture, panels):
    for panel, task in zip(panels, arguments.tasks, strict=True):
        for number, name in enumerate(arguments.bonuses):
            runs = [results[task, name, seed] for seed in seeds]
            said = [", ".join("never" if x is None else str(x) for x in each) for each in
                    ([run["first"] for run in runs], [solved(run, task) for run in runs])]  # fmt: skip
            ends = [np.mean(run["returns"][-LAST:]) for run in runs if run["returns"]]
            table.add_row(task, name, *said, f"{np.mean(ends):.2f}" if ends else "-")
            for seed, run in zip(seeds, runs, strict=True):
                label = name if seed == seeds[0] else None
                many = np.convolve(run["returns"], np.ones(LAST) / LAST, "valid") if len(run["returns"]) >= LAST else []
                panel.plot(run["steps"][LAST - 1 :], many, color=style.COLOURS[number], label=label, linewidth=1.0)
        style.label(panel, x=("steps", "number"), y=(f"return, mean of {LAST} episodes", "reward"), title=task)
        style.legend(panel)
console.print(table)
arguments.out.mkdir(parents=True, exist_ok=True)
picture.savefig(arguments.out / "sparse_tasks.png")
console.print(f"{arguments.out / 'sparse_tasks.png'}")
