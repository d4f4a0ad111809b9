"""MiniGrid: rooms behind doors, seen through a window of 7 x 7 cells, with a reward at the end and nowhere else.

Proximal policy optimisation with and without something new to look for, in MiniGrid-DoorKey-8x8-v0 (find a key, open a
door with it, go to the goal) or another of its environments, such as MiniGrid-MultiRoom-N2-S4-v0, -MultiRoom-N4-S5-v0
and -KeyCorridorS3R1-v0. The agent sees the window's cells and its own direction as rows of ones and zeros, and not the
words of the task, which are always the same; it has no memory. Bonuses: counts of hashed windows (count), the same
divided by the root of the episode's own visits (episodic), the information gain of a Bayesian network of what comes
next (gain), random network distillation (rnd), or none. Counts are of all episodes.

With --television the window is a screen, too: after `done`, an action without another use, it shows other cells each
time, in which there is nothing to be learned. Who likes what is new to it may stay and watch; the share of the last
tenth of all frames that was spent watching is reported.

Reported are the frames after which an episode first earned something, and after which a hundred in a row were solved in
nine of ten cases, for each seed, with the share of the last hundred that were solved. Runs are kept in the folder; a
finished one is not repeated.

    pip install 'veil[exploration]'
    python recipes/doors_and_keys.py --out doors
    python recipes/doors_and_keys.py --env MiniGrid-MultiRoom-N4-S5-v0 --bonuses none count --frames 1000000
    python recipes/doors_and_keys.py --television --bonuses none count gain rnd --seeds 0
    python recipes/doors_and_keys.py --quick
"""

import argparse
import json
import time
from importlib import util
from pathlib import Path

import gymnasium
import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import veil
from veil.control import exploration as novel
from veil.control.proximal import ProximalPolicy, proximal
from veil.parts.nets import MLP
from veil.report import style

BONUSES = ("none", "count", "episodic", "gain", "rnd")
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("doors"), help="folder (default: doors)")
parser.add_argument("--env", default="MiniGrid-DoorKey-8x8-v0", help="(default: MiniGrid-DoorKey-8x8-v0)")
parser.add_argument("--bonuses", nargs="+", choices=BONUSES, default=["none", "count", "episodic", "rnd"])
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
parser.add_argument("--frames", type=int, default=500_000, help="of all environments together (default: 500000)")
parser.add_argument("--weight", type=float, default=0.5, help="of what is new beside what is earned (default: 0.5)")
parser.add_argument("--television", action="store_true", help="the action `done` shows noise")
parser.add_argument(
    "--quick", action="store_true", help="four thousand frames of a room of 5 x 5, one seed, small networks"
)
arguments = parser.parse_args()
if util.find_spec("minigrid") is None:
    print("MiniGrid is a package of its own; install it with: pip install 'veil[exploration]'")
    raise SystemExit(0)
name, frames, seeds = arguments.env, arguments.frames, arguments.seeds
if arguments.quick:
    name, frames, seeds = "MiniGrid-Empty-5x5-v0", 4096, [0]
LAST, WELL = 100, 0.9
KINDS = np.array([11, 6, 3])  # of things, colours and states (open, closed, locked)
PLACES = np.concatenate([[0], np.cumsum(KINDS)[:-1]])


class Television(gymnasium.Wrapper):
    """After `done` the window shows things, colours and states that are drawn anew each time."""

    def __init__(self, env):
        super().__init__(env)
        self.watched = []  # for each step, whether it was spent so

    def step(self, action):
        seen, *rest = self.env.step(action)
        self.watched.append(action == self.unwrapped.actions.done)
        if self.watched[-1]:
            seen = seen | {"image": self.np_random.integers(KINDS, size=(7, 7, 3)).astype(np.uint8)}
        return seen, *rest


class Window(gymnasium.ObservationWrapper):
    """Ones and zeros: what is in each of the 49 cells, its colour and its state, and where the agent looks."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (49 * int(KINDS.sum()) + 4,), np.float32)

    def observation(self, observation):
        cells = np.zeros((49, KINDS.sum()), np.float32)
        for place, values in zip(PLACES, observation["image"].reshape(49, 3).T, strict=True):
            cells[np.arange(49), place + values] = 1.0
        return np.concatenate([cells.ravel(), np.eye(4, dtype=np.float32)[observation["direction"]]])


screens = []  # of one run


def make():
    import minigrid  # noqa: F401

    env = gymnasium.make(name)
    if arguments.television:
        screens.append(env := Television(env))
    return Window(env)


def watching():
    """The share of the last tenth of a run's steps that were spent watching."""
    return float(np.mean([screen.watched[-len(screen.watched) // 10 :] for screen in screens]))


def bonus_of(word):
    if word in ("count", "episodic"):
        count = novel.Counted(novel.Hashed())
        return count if word == "count" else novel.Rarely(count)
    if word == "gain":
        small = {"network": veil.BayesianNetwork((4,))} if arguments.quick else {}
        return novel.NetworkGain(inputs=novel.Chosen(7), **small)
    return None if word == "none" else novel.RandomNetworkDistillation()


def solved(found):
    """Frames after which nine of the last hundred episodes in ten were solved; None: never."""
    well = np.asarray(found["returns"]) > 0
    if len(well) < LAST:
        return None
    shares = np.convolve(well, np.ones(LAST) / LAST, "valid")
    there = np.flatnonzero(shares >= WELL)
    return int(found["steps"][there[0] + LAST - 1]) if len(there) else None


console = Console(width=120)
results = {}
for word in arguments.bonuses:
    for seed in seeds:
        shown = "-television" if arguments.television else ""
        place = arguments.out / f"{name}{shown}-{word}-{arguments.weight}-{seed}-{frames}.json"
        if not place.exists():
            begin = time.perf_counter()
            screens.clear()
            agent = ProximalPolicy(trunk=MLP((8,) if arguments.quick else (64, 64), "tanh"), new=arguments.weight)
            run = proximal(make, frames, key=jax.random.key(seed), agent=agent, bonus=bonus_of(word), together=16)
            told = {"returns": run.returns.tolist(), "steps": run.steps.tolist(), "first": run.first_reward()}
            told |= {"watching": watching()} if arguments.television else {}
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(json.dumps(told | {"seconds": time.perf_counter() - begin}))
        results[word, seed] = found = json.loads(place.read_text())
        pace = frames / found["seconds"]
        words = f"first reward after {found['first']}, solved after {solved(found)}, {pace:.0f} frames a second"
        words += f", {found['watching']:.0%} of the last steps spent watching" if arguments.television else ""
        console.print(f"{word}, seed {seed}: {words}")

table = Table(title=f"{name}, {frames} frames, {len(seeds)} seeds")
columns = ["bonus", "first reward after frames, each seed", "solved after", "share solved at the end", "return"]
for column in columns + (["watching"] if arguments.television else []):
    table.add_column(column, justify="left" if column == "bonus" else "right")
with style.figure(panel=(5.0, 3.2)) as (picture, (panel,)):
    for number, word in enumerate(arguments.bonuses):
        runs = [results[word, seed] for seed in seeds]
        firsts, wells = ([str(each(run) or "never") for run in runs] for each in (lambda run: run["first"], solved))
        last = [np.asarray(run["returns"][-LAST:]) for run in runs]
        shares, means = (
            [f"{each(x):.2f}" if len(x) else "-" for x in last] for each in (lambda x: (x > 0).mean(), np.mean)
        )
        watched = [[f"{run['watching']:.0%}" for run in runs]] if arguments.television else []
        table.add_row(word, *(", ".join(each) for each in (firsts, wells, shares, means, *watched)))
        for seed, run in zip(seeds, runs, strict=True):
            if len(run["returns"]) >= LAST:
                many = np.convolve(np.asarray(run["returns"]) > 0, np.ones(LAST) / LAST, "valid")
                label = word if seed == seeds[0] else None
                panel.plot(run["steps"][LAST - 1 :], many, color=style.COLOURS[number], label=label, linewidth=1.0)
    style.label(panel, x=("frames", "number"), y=("solved of a hundred episodes", "share"), title=name)
    style.legend(panel)
console.print(table)
arguments.out.mkdir(parents=True, exist_ok=True)
picture.savefig(arguments.out / "doors_and_keys.png")
console.print(f"{arguments.out / 'doors_and_keys.png'}")
