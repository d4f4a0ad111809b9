"""Swinging up in a handful of trials: an ensemble of networks learns how states go on, and plans are made inside it.

PETS (Chua et al. 2018): after one episode of random actions a ``veil.DynamicsEnsemble`` learns from all episodes so
far, an actor that plans by the cross-entropy method inside it plays one more, and so on. What an action earns is known,
the dynamics are not. Worlds: Gymnasium's Pendulum-v1, where a return of -200 is a pendulum that is swung up, and the
cart with a pole of PETS, ``veil/CartPolePETS-v0``, of whose 200 there are 160 to be reached in 15 trials.

Everything is kept in the folder as it comes, and the same call goes on from there.

    python recipes/pets.py --out pets                     # minutes
    python recipes/pets.py --worlds cart --seeds 0 1 2 --futures any
    python recipes/pets.py --quick
"""

import argparse
import itertools
import time
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import veil
from veil.control import CrossEntropy, ModelBased, Planning, Rewarded, prepared
from veil.objective import Bagging
from veil.posterior import Undecided
from veil.report import style

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("pets"), help="folder (default: pets)")
parser.add_argument("--worlds", nargs="+", choices=("pendulum", "cart"), default=["pendulum", "cart"])
parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="repetitions (default: 0)")
parser.add_argument("--trials", type=int, help="episodes after the random one (default: 10 and 15)")
parser.add_argument("--futures", choices=("one", "any"), default="one", help="a member for a future, or for each step")
parser.add_argument("--quick", action="store_true", help="two trials of a few steps, and little of everything")
arguments = parser.parse_args()


def on_top(step):
    """Pendulum-v1: of the state before, (cos, sin, speed), and the torque."""
    cosine, sine, speed = step.before.state
    return -(jnp.arctan2(sine, cosine) ** 2 + 0.1 * speed**2 + 0.001 * jnp.sum(step.evidence**2))


def reached(step):
    """PETS: how near the tip (the pole hangs at the angle 0) is to where it is wanted, and the force."""
    x, angle = step.after.state[:2]
    away = (x - 0.6 * jnp.sin(angle)) ** 2 + (-0.6 * jnp.cos(angle) - 0.6) ** 2
    return jnp.exp(-away / 0.6**2) - 0.01 * jnp.sum(step.evidence**2)


class World(NamedTuple):
    name: str
    reward: object
    limit: float
    size: int  # of the state
    angles: tuple[int, ...]
    horizon: int
    trials: int
    wanted: float


WORLDS = {
    "pendulum": World("Pendulum-v1", on_top, 2.0, 3, (), 20, 10, -200.0),
    "cart": World("veil/CartPolePETS-v0", reached, 3.0, 4, (1,), 25, 15, 160.0),
}
# The settings, all of them.
members, widths, rate, decay = 5, (128, 128), 1e-3, 1e-4
window, batch, updates, first = 9, 32, 2.5, 2000  # steps of learning for each decision, and after the random episode
candidates, elites, rounds, draws = 128, 10, 3, 5
most = None
if arguments.quick:
    widths, first, batch, candidates, elites, rounds, most = (8,), 20, 4, 12, 3, 2, 12


def learned(which, seed):
    """Returns of the random episode and all trials, minutes of this call on the wall and of a processor."""
    world = WORLDS[which]
    keep = veil.model.SameMember() if arguments.futures == "one" else veil.model.NewMember()
    agent = ModelBased(
        veil.DynamicsEnsemble(members, veil.MLP(widths, "silu"), keep=keep, angles=world.angles),
        Undecided(),
        Planning(CrossEntropy.improving(world.horizon, world.limit / 2, candidates, elites, rounds), draws, noise=0.0),
        "observation",
        Rewarded(world.reward),
        discount=1.0,
        objective=Bagging(),
        optimiser=veil.Optimiser(optax.adamw(rate, weight_decay=decay), clip=10.0),
        batch_size=batch,
        window=window,
        updates=updates,
        random=1,
        first=first,
    )

    def told(now):
        print(
            f"{which}, seed {seed}, trial {now.done - 1}: {now.returns[-1]:.1f}, {now.seconds / 60:.1f} minutes",
            flush=True,
        )

    trials = arguments.trials or (2 if arguments.quick else world.trials)
    begin = time.perf_counter(), time.process_time()
    place = arguments.out / f"{which}_{arguments.futures}_{seed}"
    make = lambda: prepared(world.name, max_steps=most)  # noqa: E731
    skill = agent.learn(make, 1 + trials, out=place, seed=seed, progress=False, watch=told)
    spent = (time.perf_counter() - begin[0]) / 60, (time.process_time() - begin[1]) / 60
    return skill.returns, spent


def work(which):
    """Floating point operations of a decision, in billions: products of the networks of all futures."""
    world = WORLDS[which]
    sizes = (world.size + len(world.angles) + 1, *widths, 2 * world.size)
    products = sum(a * b for a, b in itertools.pairwise(sizes))
    shrunk = sum(max(2 * elites, int(candidates / 1.25**i)) for i in range(rounds))
    return 2e-9 * products * shrunk * draws * world.horizon


arguments.out.mkdir(parents=True, exist_ok=True)
table = Table(title="Swinging up by an ensemble and a planner")
for column in (
    "world",
    "seed",
    "random",
    "wanted",
    "first trial there",
    "best",
    "last five",
    "minutes",
    "of a processor",
    "GFLOP a decision",
):
    table.add_column(column, justify="left" if column == "world" else "right")
curves: dict[str, list] = {}
for which in arguments.worlds:
    for seed in arguments.seeds:
        returns, spent = learned(which, seed)
        curves.setdefault(which, []).append(returns)
        wanted = WORLDS[which].wanted
        there = next((str(i) for i, each in enumerate(returns) if i and each >= wanted), "none")
        numbers = np.max(returns[1:]), np.mean(returns[-5:]), *spent, work(which)
        table.add_row(
            which, str(seed), f"{returns[0]:.1f}", f"{wanted:.0f}", there, *(f"{each:.1f}" for each in numbers)
        )
Console(width=120).print(table)

with style.figure(len(curves), panel=(4.0, 3.0)) as (picture, panels):
    for panel, (which, each) in zip(np.atleast_1d(panels), curves.items(), strict=True):
        for returns in each:
            panel.plot(returns, marker="o", color="C0")
        panel.axhline(WORLDS[which].wanted, color="C1", linestyle="--")
        style.label(panel, x=("trial", "number"), y=("return", "reward"), title=WORLDS[which].name)
picture.savefig(arguments.out / "pets.png")
print(arguments.out / "pets.png")
