"""Acting by what is seen: a world model of pictures is learned, and a policy that dreams in it.

Tasks: Gymnasium's Pendulum-v1 from 32 x 32 pictures, each action done twice, where up to -200 on average is a pendulum
that swings up and stays, and about -150 the best there is; and dm_control's cart with a pole in our own form
(``veil.control.worlds``), from 64 x 64 pictures, each action done eight times: of 1000 there are some 850 to be had.
Five episodes of random actions, then a recurrent state-space model of pictures, rewards and ends is learned, and in its
dreams a policy and its values (Dreamer's actor-critic), while the policy plays on, an episode at a time. It is told
neither places nor speeds. In the end episodes without exploration, whose starts no learner saw. A run that was stopped
goes on where it was, and one of fewer episodes goes on to more.

    python recipes/picture_agent.py --seeds 0 1 2 3 4 --out agents       # about a quarter of an hour a seed on one core
    python recipes/picture_agent.py --task swing-up --out agents         # an hour a seed
    python recipes/picture_agent.py --quick                              # small and short, for a first look
    python recipes/picture_agent.py --agent planner                      # the cross-entropy method in the same model
"""

import argparse
import json
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import veil
from veil.control import (
    CrossEntropy,
    Dreaming,
    FixedTemperature,
    ImaginedActorCritic,
    ModelBased,
    Planning,
    Within,
    play,
    prepared,
    world_model,
)
from veil.control.agent.models import query
from veil.objective import Balanced
from veil.parts.heads import TwoHot
from veil.report import style


class Task(NamedTuple):
    """A world and how it is seen; what differs in the settings from task to task."""

    world: str
    side: int  # of a picture, pixels
    repeat: int
    limit: float  # of an action
    episodes: int
    judged: int
    reward: object = None  # a head; None: a normal in the units of the random episodes
    levels: tuple[int, ...] = (16, 32, 64)


# The rewards of random actions say nothing of those to come on a cart, so that its head has its own units.
cart = {"side": 64, "repeat": 8, "limit": 1.0, "episodes": 50, "judged": 20, "reward": TwoHot(-3.0, 3.0, 61)}
cart["levels"] = (8, 16, 32, 64)
TASKS = {
    "pendulum": Task("Pendulum-v1", 32, 2, 2.0, 30, 100),
    "balance": Task("veil/CartPoleBalance-v0", **cart),
    "swing-up": Task("veil/CartPoleSwingUp-v0", **cart),
}
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("agents"), help="folder, with one for each task, agent and seed")
parser.add_argument("--task", choices=tuple(TASKS), default="pendulum")
parser.add_argument("--seeds", type=int, nargs="+", default=[0])
parser.add_argument("--agent", choices=("actor", "planner"), default="actor")
parser.add_argument(
    "--episodes", type=int, help="to learn from, the random ones among them (default: 30 of 200 frames, 50 of 1000)"
)
parser.add_argument("--updates", type=float, help="learning steps a decision (default: 1)")
parser.add_argument("--judged", type=int, help="episodes in the end (default: 100, 20 of carts)")
parser.add_argument("--quick", action="store_true", help="a small version of the experiment, for a first look")
arguments = parser.parse_args()
task = TASKS[arguments.task]

# The settings of the world model and its training, all of them.
latent, memory, width, rate, batch, window, first, updates = 16, 128, 128, 6e-4, 8, 50, 500, 1.0
# Those of what acts.
discount, horizon, starts = 0.98, 15, 128
episodes, judged, random, levels = arguments.episodes or task.episodes, arguments.judged or task.judged, 5, task.levels
most = None
if arguments.updates:
    updates = arguments.updates
if arguments.quick:
    latent, memory, width, batch, window, first, updates = 4, 16, 16, 2, 20, 10, 0.1
    episodes, judged, random, horizon, starts, most = 4, 2, 2, 5, 16, 200

shows = {"frame": (task.side, task.side, 1)}
model, posterior = world_model(shows, latent=latent, memory=memory, width=width, levels=levels, reward=task.reward)
if arguments.agent == "actor":
    learner = ImaginedActorCritic(
        Within((-task.limit,), (task.limit,)),
        horizon=horizon,
        rate=3e-4,
        critic_rate=1e-3,
        temperature=FixedTemperature(1e-3),
    )
    behaviour = Dreaming(learner, starts)
else:
    behaviour = Planning(CrossEntropy(horizon + 5, 1.0, candidates=100, elites=10, rounds=4))
agent = ModelBased(
    model,
    posterior,
    behaviour,
    query(shows),
    discount=discount,
    objective=veil.ELBO(kl=(Balanced(0.8),)),
    optimiser=veil.Optimiser(optax.adam(rate), clip=100.0, bounded=True),
    batch_size=batch,
    window=window,
    updates=updates,
    first=first,
    random=random,
)


def environment():
    return prepared(task.world, frames=task.side, grey=True, repeat=task.repeat, max_steps=most)


console = Console(width=120)
rows = []
for seed in arguments.seeds:
    place = arguments.out / f"{arguments.task}-{arguments.agent}-{updates:g}-{seed}"
    done = place / f"judged-{episodes}.json"
    if not done.exists():
        begun = time.perf_counter()
        spent = place / "seconds.txt"
        before = float(spent.read_text()) if spent.exists() else 0.0

        def watch(progressed, spent=spent, before=before, seed=seed):
            spent.write_text(f"{before + progressed.seconds}")
            last, steps = progressed.returns[-1], progressed.steps[-1]
            console.print(f"seed {seed}: episode {progressed.done}, {steps} frames, return {last:.0f}")

        skill = agent.learn(environment, episodes, out=place, seed=seed, watch=watch)
        minutes = (before + time.perf_counter() - begun) / 60
        veil.save(place / "skill", skill)
        worlds = [environment() for _ in range(min(10, judged))]
        found = [float(each.rewards.sum()) for each in play(worlds, skill, range(judged), seed=1_000_000 + seed)]
        frames = int(skill.steps[-1])
        told = {"returns": found, "minutes": minutes, "frames": frames}
        told |= {"learning": skill.returns.tolist(), "steps": skill.steps.tolist()}
        done.write_text(json.dumps(told))
    rows.append((seed, json.loads(done.read_text())))

table = Table(title=f"{arguments.agent}: returns of {judged} episodes without exploration ({task.world}, pictures)")
for column in ("seed", "frames", "minutes", "mean", "standard error", "worst", "last 5 while learning"):
    table.add_column(column, justify="right")
for seed, told in rows:
    returns = np.array(told["returns"])
    error = returns.std(ddof=1) / len(returns) ** 0.5
    last = np.mean(told["learning"][-5:])
    numbers = f"{returns.mean():.1f}", f"{error:.1f}", f"{returns.min():.0f}", f"{last:.0f}"
    table.add_row(str(seed), str(told["frames"]), f"{told['minutes']:.1f}", *numbers)
console.print(table)
with style.figure(1, panel=(5.0, 3.2)) as (picture, (panel,)):
    for seed, told in rows:
        panel.plot(told["steps"], told["learning"], label=f"seed {seed}")
    style.label(panel, x=("frame", "number"), y=("return of an episode", "reward"), title="While learning, exploring")
    panel.legend()
file = arguments.out / f"{arguments.task}_{arguments.agent}.png"
picture.savefig(file)
console.print(f"{file}")
console.print(f"median over seeds {np.median([np.mean(told['returns']) for _, told in rows]):.1f}")
