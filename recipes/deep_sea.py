"""Where control as inference does not explore, and the temperature that does: DeepSea.

N rows of N places; a step goes down a row, to the left or to the right, and which action is which is another at each
place. Every step to the right costs a little; who goes right N times finds a treasure of 1. By chance that takes 2^N
episodes. Two agents learn rewards and dynamics from what they see (posterior means: a reward of 0 and an even chance of
all places of the next row count as one visit, ``Beliefs``) and act soft-optimally for them (``veil.maths.soft``):

* soft Q: the means are taken for the truth, at a fixed temperature. It is optimal control for what is believed, and
  what is not known is worth nothing.
* K-learning: the temperature falls as 1 / √episode, and a reward that is known only up to s² / (n + 1) is worth s² /
  (2 τ (n + 1)) more: the soft value of a random reward, log E exp(r / τ) τ. The same recursion, risk-seeking towards
  its own ignorance (O'Donoghue, Osband & Ionescu 2020, "Making sense of reinforcement learning and probabilistic
  inference").

    python recipes/deep_sea.py --out deep_sea          # some minutes
    python recipes/deep_sea.py --quick
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from veil.control.exploration import Beliefs, KLearning, SoftQ, search
from veil.control.worlds.deep_sea import DeepSea
from veil.report import style

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("deep_sea"), help="folder for the picture (default: deep_sea)")
parser.add_argument("--episodes", type=int, default=10_000, help="of each agent (default: 10000)")
parser.add_argument("--seeds", type=int, default=3, help="repetitions (default: 3)")
parser.add_argument("--quick", action="store_true", help="small seas, few episodes, one repetition")
arguments = parser.parse_args()
AGENTS = {"soft Q": SoftQ, "K-learning": KLearning}

episodes, seeds = (600, 1) if arguments.quick else (arguments.episodes, arguments.seeds)
sizes = {"soft Q": (6,), "K-learning": (6,)}
if not arguments.quick:
    sizes = {"soft Q": (8, 10, 12, 14, 16), "K-learning": (10, 20, 30)}

table = Table(title=f"DeepSea, {episodes} episodes, {seeds} repetitions")
for column in ("agent", "rows", "treasure first found in episode", "mean return of the last tenth (best: 0.99)"):
    table.add_column(column, justify="left" if column == "agent" else "right")
curves: dict[str, np.ndarray] = {}
for agent, chosen in sizes.items():
    for size in chosen:
        runs = []
        for seed in range(seeds):
            sea = DeepSea(size, mapping=seed)  # which action is "right" is drawn anew at each place
            learner = AGENTS[agent](Beliefs(reach=sea.below))
            runs.append(search(sea, learner, jax.random.key(seed), most=episodes, beyond=True).returns)
        first = [str(1 + int(np.argmax(run > 0.5))) if (run > 0.5).any() else "never" for run in runs]
        last = [float(run[-(episodes // 10) :].mean()) for run in runs]
        table.add_row(agent, str(size), ", ".join(first), ", ".join(f"{value:.3f}" for value in last))
        curves[f"{agent}, {size} rows"] = np.cumsum(runs[0] > 0.5)
Console(width=120).print(table)

arguments.out.mkdir(parents=True, exist_ok=True)
shown = {
    name: curves[name]
    for agent in sizes
    for name in dict.fromkeys((f"{agent}, {sizes[agent][0]} rows", f"{agent}, {sizes[agent][-1]} rows"))
}
with style.figure(panel=(5.0, 3.2)) as (picture, (panel,)):
    for name, found in shown.items():
        panel.plot(1 + np.arange(episodes), found, label=name, linestyle="--" if name.startswith("soft") else "-")
    style.label(panel, x=("episode", "number"), y=("treasures found", "number"), title="Who finds the treasure")
    panel.legend()
picture.savefig(arguments.out / "deep_sea.png")
print(arguments.out / "deep_sea.png")
