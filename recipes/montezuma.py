"""Montezuma's Revenge: a key is a hundred right decisions away, and everything before it is worth nothing.

Proximal policy optimisation on the Atari console's memory, 128 bytes, which is all that the game knows; a decision is
four frames, and a quarter of them are the one before again (sticky actions). Bonuses: counts of places (count: the
room, and where in it, which three of the bytes say), counts of hashed memories (hash), random network distillation
(rnd), or none. Reported are the decisions after which an episode first earned something (the key is worth 100), the
best return of an episode, and how many rooms were entered. Runs are kept in the folder; a finished one is not repeated.

    pip install 'veil[atari]'
    python recipes/montezuma.py --out montezuma          # about a quarter of an hour a run on one core
    python recipes/montezuma.py --bonuses count --decisions 5000000
    python recipes/montezuma.py --quick
"""

import argparse
import json
import time
from importlib import util
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from veil.control import exploration as novel
from veil.control.proximal import ProximalPolicy, proximal
from veil.parts.nets import MLP
from veil.report import style

BONUSES = ("none", "count", "hash", "rnd")
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("montezuma"), help="folder (default: montezuma)")
parser.add_argument("--bonuses", nargs="+", choices=BONUSES, default=list(BONUSES))
parser.add_argument("--seeds", type=int, nargs="+", default=[0])
parser.add_argument("--decisions", type=int, default=1_000_000, help="of all environments together (default: 1000000)")
parser.add_argument("--weight", type=float, default=1.0, help="of what is new beside what is earned (default: 1)")
parser.add_argument("--quick", action="store_true", help="two thousand decisions, two bonuses, small networks")
arguments = parser.parse_args()
if util.find_spec("ale_py") is None:
    print("The Arcade Learning Environment is a package of its own; install it with: pip install 'veil[atari]'")
    raise SystemExit(0)
decisions, bonuses = arguments.decisions, arguments.bonuses
if arguments.quick:
    decisions, bonuses = 2048, ["none", "count"]
ROOM, ACROSS, UP = 3, 42, 43  # the bytes that say where one is (Anand et al. 2019, the atariari labels)
LAST = 100
rooms = set()  # of one run


class Memory(gymnasium.ObservationWrapper):
    """The bytes as numbers, from 0 to 255; the rooms are noted."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = gymnasium.spaces.Box(0.0, 255.0, (128,), np.float32)

    def observation(self, observation):
        rooms.add(int(observation[ROOM]))
        return observation.astype(np.float32)


def make():
    import ale_py

    gymnasium.register_envs(ale_py)
    least = {"max_num_frames_per_episode": 200} if arguments.quick else {}
    return Memory(gymnasium.make("ALE/MontezumaRevenge-v5", obs_type="ram", **least))


def place(step):
    """Which of 24 rooms, and which of 20 x 16 places in it."""
    seen = step.following
    return jnp.stack([seen[ROOM], seen[ACROSS] // 8, seen[UP] // 16])


def bonus_of(word):
    if word == "count":
        return novel.Counted(novel.Tally((24, 20, 16)), about=place)
    if word == "hash":
        return novel.Counted(novel.Hashed(features=lambda seen: seen - 128.0))
    return None if word == "none" else novel.RandomNetworkDistillation()


console = Console(width=120)
results = {}
for word in bonuses:
    for seed in arguments.seeds:
        file = arguments.out / f"{word}-{arguments.weight}-{seed}-{'quick' if arguments.quick else decisions}.json"
        if not file.exists():
            begin = time.perf_counter()
            rooms.clear()
            agent = ProximalPolicy(trunk=MLP((8,) if arguments.quick else (64, 64), "tanh"), new=arguments.weight)
            run = proximal(make, decisions, key=jax.random.key(seed), agent=agent, bonus=bonus_of(word), together=16)
            told = {"returns": run.returns.tolist(), "steps": run.steps.tolist(), "first": run.first_reward()}
            told |= {"rooms": sorted(rooms), "seconds": time.perf_counter() - begin}
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(told))
        results[word, seed] = found = json.loads(file.read_text())
        best = max(found["returns"], default=np.nan)
        words = f"first reward after {found['first']}, {len(found['rooms'])} rooms, best {best:.0f}"
        console.print(f"{word}, seed {seed}: {words}, {decisions / found['seconds']:.0f} decisions a second")

table = Table(title=f"Montezuma's Revenge, {decisions} decisions, {len(arguments.seeds)} seeds")
for column in ("bonus", "first reward after decisions, each seed", "best return", f"mean of the last {LAST}", "rooms"):
    table.add_column(column, justify="left" if column == "bonus" else "right")
with style.figure(panel=(5.0, 3.2)) as (picture, (panel,)):
    for number, word in enumerate(bonuses):
        runs = [results[word, seed] for seed in arguments.seeds]
        tell = {
            "first": [str(run["first"] or "never") for run in runs],
            "best": [f"{max(run['returns'], default=np.nan):.0f}" for run in runs],
            "last": [f"{np.mean(run['returns'][-LAST:] or np.nan):.0f}" for run in runs],
            "rooms": [str(len(run["rooms"])) for run in runs],
        }
        table.add_row(word, *(", ".join(each) for each in tell.values()))
        for seed, run in zip(arguments.seeds, runs, strict=True):
            if not run["returns"]:
                continue  # no episode was over
            many = min(LAST, len(run["returns"]))
            means = np.convolve(run["returns"], np.ones(many) / many, "valid")
            label = word if seed == arguments.seeds[0] else None
            panel.plot(run["steps"][many - 1 :], means, color=style.COLOURS[number], label=label, linewidth=1.0)
    style.label(panel, x=("decisions", "number"), y=("return", "points"), title="Montezuma's Revenge")
    style.legend(panel)
console.print(table)
arguments.out.mkdir(parents=True, exist_ok=True)
picture.savefig(arguments.out / "montezuma.png")
console.print(f"{arguments.out / 'montezuma.png'}")
