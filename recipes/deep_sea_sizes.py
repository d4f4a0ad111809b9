"""All 21 sizes of bsuite's DeepSea, 10 to 50 rows, still and windy: Q-learning that counts, and what counting adds.

The score is bsuite's: the share of sizes that are solved (fewer than nine in ten episodes went astray, in the windy sea
eight in ten) within 10,000 episodes and before 2^N + 100. Values begin at the best return there may be; the bonus is
1 / N √(n + 1) for what was done n times, and in the windy sea mean rewards are doubted by two standard errors. The same
without the bonus (optimism), and the bonus without optimism, are shown beside it. ``deep_sea.py`` is
about soft policies in the same sea.

    python recipes/deep_sea_sizes.py --out deep_sea_sizes      # some minutes
    python recipes/deep_sea_sizes.py --quick
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from veil.control.exploration.searching import counting, search
from veil.control.exploration.tabular import QLearning
from veil.control.worlds.deep_sea import DeepSea
from veil.report import style

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("deep_sea_sizes"), help="folder for the picture")
parser.add_argument("--seeds", type=int, nargs="+", default=[0])
parser.add_argument("--weight", type=float, help="of the bonus (default: 1 / rows)")
parser.add_argument("--learners", nargs="+", default=["counts", "optimism"], help="counts, optimism, bonus, chance")
parser.add_argument("--quick", action="store_true", help="two small sizes")
arguments = parser.parse_args()
sizes = (6, 8) if arguments.quick else tuple(range(10, 51, 2))
most = 1000 if arguments.quick else 10_000


def learner(name, sea):
    counts = counting(sea, arguments.weight)
    return {
        "counts": counts,
        "optimism": replace(counts, bonus=None),
        "bonus": replace(counts, optimism=0.0, doubt=0.0),
        "chance": QLearning(random=0.1),
    }[name]


console = Console(width=110)
found = {}
for windy in (False, True):
    for name in arguments.learners:
        for seed in arguments.seeds:
            begin = time.perf_counter()
            rows = []
            for size in sizes:
                sea = DeepSea(size, stochastic=windy)
                rows.append(search(sea, learner(name, sea), jax.random.key(seed), most=most).solved)
            spent = time.perf_counter() - begin
            found[windy, name, seed] = rows, spent
            console.print(f"{'windy' if windy else 'still'}, {name}, seed {seed}: {spent:.0f} s")

table = Table(title=f"DeepSea, {len(sizes)} sizes, {sizes[0]} to {sizes[-1]}")
for column in ("sea", "learner", "seed", "score", "episodes to solve, smallest, middle, largest", "growth", "seconds"):
    table.add_column(column, justify="left" if column in ("sea", "learner") else "right")
with style.figure(2, panel=(4.4, 3.2)) as (picture, panels):
    for (windy, name, seed), (rows, spent) in found.items():
        good = [DeepSea(size).beats_chance(row) for size, row in zip(sizes, rows, strict=True)]
        solved = np.array([(size, row) for size, row in zip(sizes, rows, strict=True) if row is not None], float)
        growth = f"N^{np.polyfit(*np.log(solved.T), 1)[0]:.2f}" if len(solved) > 1 else "-"
        some = ", ".join(str(rows[i]) for i in (0, len(rows) // 2, -1))
        sea = "windy" if windy else "still"
        table.add_row(sea, name, str(seed), f"{np.mean(good):.2f}", some, growth, f"{spent:.0f}")
        if len(solved):
            panels[int(windy)].loglog(*solved.T, marker="o", markersize=3, label=f"{name}, seed {seed}")
    for panel, sea in zip(panels, ("still", "windy"), strict=True):
        panel.loglog(sizes, [min(2.0**size, 1e4) for size in sizes], color="grey", linestyle=":", label="2^N, chance")
        style.label(panel, x=("rows", "number"), y=("episodes to solve", "number"), title=f"The {sea} sea")
        style.legend(panel, fontsize=7)
console.print(table)
arguments.out.mkdir(parents=True, exist_ok=True)
picture.savefig(arguments.out / "deep_sea_sizes.png")
console.print(f"{arguments.out / 'deep_sea_sizes.png'}")
