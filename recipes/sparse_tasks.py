"""Tasks whose reward nobody meets by chance: learners with and without something new to look for.

* car: Gymnasium's MountainCarContinuous-v0, episodes of 500 steps; 1 at the top of the hill, and nothing else (VIME's
  form of it: no price of actions).
* cart: ``veil/CartPoleSwingUpSparse-v0``, each action done four times: 1 a step while the pole stands in the middle. A
  step is an action here; papers on dm_control count the environment's own steps, of which it has four.
* cheetah: Gymnasium's HalfCheetah-v5, episodes of 500 steps; 1 a step while the body is more than 5 metres forward, and
  nothing else (VIME's form of it; the place is seen). It needs MuJoCo: pip install 'veil[exploration]'

Agents: ppo (proximal policy optimisation) with every bonus; sac, soft actor-critic; maxinfo, the same with the
information gain of an ensemble (MaxInfoSAC), whose weight is learned. Bonuses of ppo: information gain of a Bayesian
network of the dynamics (VIME's second-order step), pseudo-counts of a density on a grid, random network distillation,
or none. Reported are the steps after which an episode earned something, and after which the last ten did so on average
(car: .9, cart: 100, cheetah: 50). Runs are kept in the folder; a finished one is not repeated.

    python recipes/sparse_tasks.py --out sparse              # about a minute and a half a run on one core
    python recipes/sparse_tasks.py --tasks car --seeds 0 1 2 3 4
    python recipes/sparse_tasks.py --tasks cart --agents maxinfo sac --steps 50000 --seeds 0  # four minutes a run
    python recipes/sparse_tasks.py --tasks cheetah --bonuses gain --steps 1000000 --seeds 0
    python recipes/sparse_tasks.py --quick
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
from veil.control import FixedGainWeight, LearnedGainWeight, MaxInfoActorCritic, SoftActorCritic, prepared
from veil.control import exploration as novel
from veil.control.proximal import ProximalPolicy, proximal
from veil.parts.heads import BoundedGaussian
from veil.parts.nets import MLP
from veil.report import style
from veil.zoo.ensemble import DynamicsEnsemble

TASKS, AGENTS = ("car", "cart", "cheetah"), ("ppo", "sac", "maxinfo")
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("sparse"), help="folder (default: sparse)")
parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["car", "cart"])
parser.add_argument("--agents", nargs="+", choices=AGENTS, default=["ppo"])
parser.add_argument(
    "--bonuses", nargs="+", choices=("none", "gain", "pseudo-count", "rnd"), default=["none", "gain", "pseudo-count"]
)
parser.add_argument(
    "--weight", type=float, default=1.0, help="of what is new beside what is earned, of ppo (default: 1)"
)
parser.add_argument("--gain", type=float, help="what a nat of gain is worth to maxinfo (default: learned, from 10)")
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
parser.add_argument("--steps", type=int, default=250_000, help="of all environments together (default: 250000)")
parser.add_argument(
    "--quick",
    action="store_true",
    help="two thousand steps of the last task, one seed, small networks, ppo and maxinfo",
)
arguments = parser.parse_args()
steps, seeds = (2048, [0]) if arguments.quick else (arguments.steps, arguments.seeds)
agents = ["ppo", "maxinfo"] if arguments.quick else arguments.agents
tasks = arguments.tasks[-1:] if arguments.quick else arguments.tasks
if "cheetah" in tasks and util.find_spec("mujoco") is None:
    print("HalfCheetah needs MuJoCo, and is left out; install it with: pip install 'veil[exploration]'")
    tasks.remove("cheetah")
    if not tasks:
        raise SystemExit(0)
WELL, LAST = {"car": 0.9, "cart": 100.0, "cheetah": 50.0}, 10
CELLS = 24


def car():
    env = gymnasium.make("MountainCarContinuous-v0", max_episode_steps=500)
    return gymnasium.wrappers.TransformReward(env, lambda reward: float(reward > 50.0))


def cart():
    return prepared("veil/CartPoleSwingUpSparse-v0", repeat=4)


class Far(gymnasium.Wrapper):
    """1 a step while the body is more than 5 metres forward."""

    def step(self, action):
        seen, _, terminated, truncated, info = self.env.step(action)
        return seen, float(info["x_position"] > 5.0), terminated, truncated, info


def cheetah():
    return Far(
        gymnasium.make("HalfCheetah-v5", max_episode_steps=500, exclude_current_positions_from_observation=False)
    )


def bonus_of(name, task):
    if name == "gain":
        small = {"network": veil.BayesianNetwork((4,))} if arguments.quick else {}
        return novel.NetworkGain(**small)
    if name == "rnd":
        return novel.RandomNetworkDistillation()
    if task == "cheetah":  # a grid of 18 numbers is mostly empty: of the place alone
        cell = lambda step: novel.Bins(CELLS, -10.0, 10.0)(step.following[:1])  # noqa: E731
        return novel.Counted(novel.PseudoCounts(novel.DirichletCategorical((CELLS,), 1e-3)), about=cell)
    ends = {"car": ((-1.2, -0.07), (0.6, 0.07)), "cart": ((-1.8, -1, -1, -4, -8), (1.8, 1, 1, 4, 8))}[task]
    if task == "car":
        cell = lambda step: novel.Bins(CELLS, *ends)(step.following)  # noqa: E731
        return novel.Counted(novel.PseudoCounts(novel.DirichletCategorical((CELLS, CELLS), 1e-3)), about=cell)
    cell = lambda step: novel.Bins(8, *ends)(step.following)  # noqa: E731
    return novel.Counted(novel.PseudoCounts(novel.DirichletCategorical((8,) * 5, 1e-3)), about=cell)


def learned(name, make, task, key):
    """Returns of the episodes while it learned, and when each was over."""
    if name in ("sac", "maxinfo"):
        small = arguments.quick
        agent = SoftActorCritic(trunk=MLP((8,) if small else (64, 64), "relu"))
        if name == "maxinfo":
            team = DynamicsEnsemble(5, MLP((4,) if small else (32, 32), "silu"), BoundedGaussian(0.1, 1.0))
            worth = LearnedGainWeight(10.0) if arguments.gain is None else FixedGainWeight(arguments.gain)
            agent = MaxInfoActorCritic(agent, novel.Disagreement(ensemble=team), worth)
        size = {"begin": steps - 100, "batch_size": 8} if small else {"batch_size": 128}
        skill = agent.learn(make, steps, key=key, **size)
        return skill.returns, skill.steps
    agent = ProximalPolicy(entropy=1e-3, epochs=8, new=arguments.weight)
    run = proximal(make, steps, key=key, agent=agent, bonus=None if name == "none" else bonus_of(name, task))
    return run.returns, run.steps


def solved(found, task):
    """Steps after which the mean of the last ten episodes is as wanted; None: never."""
    returns, ends = np.asarray(found["returns"]), found["steps"]
    if len(returns) < LAST:
        return None
    means = np.convolve(returns, np.ones(LAST) / LAST, "valid")
    well = np.flatnonzero(means >= WELL[task])
    return int(ends[well[0] + LAST - 1]) if len(well) else None


console = Console(width=120)
results, MAKERS = {}, {"car": car, "cart": cart, "cheetah": cheetah}
names = [*(arguments.bonuses if "ppo" in agents else []), *(agent for agent in agents if agent != "ppo")]
for task in tasks:
    for name in names:
        for seed in seeds:
            size = arguments.gain if name == "maxinfo" else arguments.weight
            place = arguments.out / f"{task}-{name}-{size}-{seed}-{steps}.json"
            if not place.exists():
                begin = time.perf_counter()
                returns, ends = learned(name, MAKERS[task], task, jax.random.key(seed))
                earned = np.flatnonzero(returns != 0)
                told = {"returns": returns.tolist(), "steps": ends.tolist()}
                told |= {"first": int(ends[earned[0]]) if len(earned) else None, "seconds": time.perf_counter() - begin}
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(json.dumps(told))
            found = json.loads(place.read_text())
            results[task, name, seed] = found
            last = np.mean(found["returns"][-LAST:]) if found["returns"] else float("nan")
            words = f"first reward after {found['first']}, solved after {solved(found, task)}, at the end {last:.2f}"
            console.print(f"{task}, {name}, seed {seed}: {words}, {found['seconds']:.0f} s")

table = Table(title=f"{steps} steps, {len(seeds)} seeds")
for column in ("task", "bonus or agent", "first reward after steps, each seed", "solved after", "return at the end"):
    table.add_column(column, justify="left" if column in ("task", "bonus or agent") else "right")
with style.figure(len(tasks), panel=(4.6, 3.2)) as (picture, panels):
    for panel, task in zip(panels, tasks, strict=True):
        for number, name in enumerate(names):
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
