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

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import veil
from veil.control.imagined import Imagined, Rewarded
from veil.control.planning import CrossEntropy, PlanningActor
from veil.data import Recording
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
    angles: tuple[int, ...]
    horizon: int
    trials: int
    wanted: float


WORLDS = {
    "pendulum": World("Pendulum-v1", on_top, 2.0, (), 20, 10, -200.0),
    "cart": World("veil/CartPolePETS-v0", reached, 3.0, (1,), 25, 15, 160.0),
}
# The settings, all of them.
members, widths, rate, decay = 5, (128, 128), 1e-3, 1e-4
window, batch, chunk, learned, begun = 9, 32, 100, 500, 2000  # steps of learning after a trial, and at first
candidates, elites, rounds, draws = 128, 10, 3, 5
most = None
if arguments.quick:
    widths, learned, begun, chunk, candidates, elites, rounds, most = (8,), 20, 20, 20, 12, 3, 2, 12


def batches(data, count, rng):
    """So many batches of windows, one behind the other."""
    cuts = veil.data.windows(data, window, window - 1)
    rows = rng.integers(len(cuts), size=(count, batch))
    mask = np.ones(cuts.query.shape[:2], bool) if cuts.mask is None else cuts.mask
    return veil.Datum(*(jnp.asarray(part[rows], jnp.float32) for part in (cuts.query, cuts.evidence)), mask=mask[rows])


def work(inputs, outputs, horizon):
    """Floating point operations of a decision, in billions: products of the networks of all futures."""
    sizes = (inputs, *widths, outputs)
    products = sum(a * b for a, b in itertools.pairwise(sizes))
    shrunk = sum(max(2 * elites, int(candidates / 1.25**i)) for i in range(rounds))
    return 2e-9 * products * shrunk * draws * horizon


def learn_and_play(which, seed):
    """Returns of the random episode and all trials, minutes of this call on the wall and of a processor, the work."""
    world = WORLDS[which]
    folder = arguments.out / f"{which}_{seed}"
    (folder / "learned").mkdir(parents=True, exist_ok=True)
    keep = veil.model.SameMember() if arguments.futures == "one" else veil.model.NewMember()
    ensemble = veil.DynamicsEnsemble(members, veil.MLP(widths, "silu"), keep=keep, angles=world.angles)
    trainer = veil.Trainer(ensemble, optimiser=veil.Optimiser(optax.adamw(rate, weight_decay=decay), clip=10.0))
    bounds = jnp.full(1, -world.limit), jnp.full(1, world.limit)
    planner = CrossEntropy.improving(world.horizon, world.limit / 2, candidates, elites, rounds)
    run = eqx.filter_jit(lambda state, many: jax.lax.scan(trainer.step, state, many))

    def play(trial, policy=None):
        place = folder / f"trial_{trial:02d}"
        return veil.collect(world.name, 1, out=place, seed=1000 * seed + trial, policy=policy, max_steps=most).episodes

    begin, episodes = (time.perf_counter(), time.process_time()), list(play(0))
    state = trainer.start(Recording(episodes).data("observation", "action"), jax.random.key(seed))
    trials = arguments.trials or (2 if arguments.quick else world.trials)
    for trial in range(1, trials + 1):
        held = folder / "learned" / f"{trial:02d}.eqx"
        if held.exists():
            state = type(state)(eqx.tree_deserialise_leaves(held, state.learned), state.key)
        else:
            data, rng = Recording(episodes).data("observation", "action"), np.random.default_rng([seed, trial])
            for _ in range((begun if trial == 1 else learned) // chunk):
                state = run(state, batches(data, chunk, rng))[0]
            eqx.tree_serialise_leaves(held, state.learned)
        model, posterior = trainer.result(state)
        problem = Imagined(model, Rewarded(world.reward), *bounds, draws=draws)
        actor = PlanningActor.of(model, planner, problem, jnp.zeros(1), posterior)
        episodes += play(trial, actor)
        spent = (time.perf_counter() - begin[0]) / 60, (time.process_time() - begin[1]) / 60
        print(
            f"{which}, seed {seed}, trial {trial}: {episodes[-1].rewards.sum():.1f}, {spent[0]:.1f} minutes", flush=True
        )
    sizes = len(world.angles) + model.shape[0] + 1, 2 * model.shape[0]
    return [float(each.rewards.sum()) for each in episodes], spent, work(*sizes, world.horizon)


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
    "GFLOP a decision",
):
    table.add_column(column, justify="left" if column == "world" else "right")
curves: dict[str, list] = {}
for which in arguments.worlds:
    for seed in arguments.seeds:
        returns, minutes, billions = learn_and_play(which, seed)
        curves.setdefault(which, []).append(returns)
        wanted = WORLDS[which].wanted
        first = next((str(i) for i, each in enumerate(returns) if i and each >= wanted), "none")
        numbers = max(returns[1:]), float(np.mean(returns[-5:])), *minutes, billions
        table.add_row(
            which, str(seed), f"{returns[0]:.1f}", f"{wanted:.0f}", first, *(f"{each:.1f}" for each in numbers)
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
