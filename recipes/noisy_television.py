"""A television that shows noise: which bonuses tire of what cannot be learned?

``veil/NoisyTelevision-v0`` has a screen that shows another channel whenever one watches: noise that is drawn anew, in
which there is nothing to be learned. Each bonus learns from visits of a place, a third of them spent watching, and is
asked after each part of them what it is to watch once more, on screens that it does not learn from; beside it at the
end what it is to watch elsewhere, where nobody has been, which should be much more. Information gain, disagreement and
counts should fall to nothing: after 1,000 visits below 5 % of the first value, before anything was seen. The error of a
prediction does not, and of random network distillation and curiosity nobody promises it. What is trained by gradients
learns from a memory of all steps so far, drawn again and again; the others from each step once.

    python recipes/noisy_television.py --out noisy_television     # minutes
    python recipes/noisy_television.py --seeds 0 1 2
    python recipes/noisy_television.py --quick
"""

import argparse
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import veil
from veil.control.exploration.bonus import Transition
from veil.control.exploration.counts import Counted, Tally
from veil.control.exploration.curiosity import Curiosity, Discrete, PredictionError
from veil.control.exploration.curves import curve
from veil.control.exploration.distillation import RandomNetworkDistillation
from veil.control.exploration.ensemble import Disagreement
from veil.control.exploration.linear import LinearGain
from veil.control.exploration.measures import GainBound, InformationBelow, JensenRenyi, VarianceOfMeans
from veil.control.exploration.network import NetworkGain
from veil.control.exploration.steps import SecondOrder, Variational
from veil.control.worlds.television import WATCH, Television
from veil.parts.heads import BoundedGaussian
from veil.report import style
from veil.zoo.bayesian import BayesianNetwork

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("noisy_television"), help="folder (default: noisy_television)")
parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="repetitions (default: 0)")
parser.add_argument("--bonuses", nargs="+", help="some of them, by the first words of their names (default: all)")
parser.add_argument("--quick", action="store_true", help="a tenth of the visits, three bonuses")
arguments = parser.parse_args()

# The settings, all of them.
visits, parts, batch, replays = (100, 3, 20, 2) if arguments.quick else (1000, 11, 60, 40)
rate, average, width = 5e-3, 0.99, 32
world = Television(length=2, entries=4)  # one place, and the end
steps = 3 * visits  # every third one watches
updates = steps // (batch * (parts - 1))  # between two values, of new steps


def choice(step):
    """One number for each action."""
    return jax.nn.one_hot(step.action, 3, dtype=float)


def inputs(step):
    """What networks see of a step."""
    return step.observation, choice(step)


def features(step):
    """φ of the linear one."""
    return jnp.concatenate([jnp.ones(1), step.observation, choice(step)])


def cell(step):
    """What is counted: the place, and what was done there."""
    return jnp.stack([jnp.argmax(step.observation[: world.length]), step.action])


optimiser = veil.Optimiser(optax.adam(rate), average=average)
ensemble = veil.DynamicsEnsemble(5, veil.MLP((width, width), "silu"), BoundedGaussian(0.1, 1.0))
network = {"network": BayesianNetwork((width,)), "inputs": inputs, "optimiser": optimiser, "most": float(steps)}
members = {"ensemble": ensemble, "action": choice, "optimiser": optimiser}
# name, unit, whether it is of what can be learned, whether from a memory
BONUSES = {
    "counts": (Counted(Tally((world.length, 3)), cell, offset=1.0), "1", True, False),
    "information, linear": (LinearGain(features, noise=1.0), "nat", True, False),
    "information, VIME's step": (NetworkGain(step=SecondOrder(), **network), "nat", True, True),
    "information, all the way": (NetworkGain(step=Variational(), **network), "nat", True, True),
    "disagreement, gain bound": (Disagreement(GainBound(), **members), "nat", True, True),
    "disagreement, members' information": (Disagreement(InformationBelow(), **members), "nat", True, True),
    "disagreement, Jensen-Rényi": (Disagreement(JensenRenyi(), **members), "nat", True, True),
    "disagreement, variance": (Disagreement(VarianceOfMeans(), **members), "1", True, True),
    "random network distillation": (RandomNetworkDistillation(optimiser=optax.adam(1e-3)), "1", False, True),
    "curiosity": (Curiosity(Discrete(3)), "1", False, True),
    "prediction error": (PredictionError(inputs=inputs), "1", False, True),
}
QUICK = ("counts", "information, linear", "prediction error")
chosen = [
    name
    for name in BONUSES
    if (name in QUICK if arguments.quick else True)
    and (arguments.bonuses is None or any(name.startswith(word) for word in arguments.bonuses))
]


@eqx.filter_jit
def measured(bonus, batches, probes, key):
    return curve(bonus, batches, probes, key)


def data(seed, again):
    """Batches [parts, updates, batch, ...], each step once or ``replays`` times as many drawn from all so far."""
    every = Transition(*world.visits(steps, jax.random.key(seed)))
    total = updates * (parts - 1)
    if not again:
        rows = np.arange(total * batch).reshape(total, batch)
    else:
        rng, fresh = np.random.default_rng(seed), np.repeat(np.arange(1, total + 1) * batch, replays)
        rows = rng.integers(fresh[:, None], size=(len(fresh), batch))
    rows = np.concatenate([rows, rows[: len(rows) // (parts - 1)]])  # behind the last value nothing counts
    rows = rows.reshape(parts, -1, batch)
    return jax.tree.map(lambda leaf: leaf[rows], every)


arguments.out.mkdir(parents=True, exist_ok=True)
seen = visits * np.arange(parts) / (parts - 1)
table = Table(title=f"Watching noise: the bonus before anything was seen, and after {visits} visits")
for column in ("bonus", "unit", "seed", "first", "after", "% of the first", "below 5 %", "elsewhere", "seconds"):
    table.add_column(column, justify="left" if column in ("bonus", "unit", "below 5 %") else "right")
curves: dict[str, list] = {}
for name in chosen:
    bonus, unit, learnable, again = BONUSES[name]
    for seed in arguments.seeds:
        begin = time.perf_counter()
        there = Transition(*world.visits(32, jax.random.key(1000 + seed), WATCH))
        # the same from and to the end, where an episode is over: nobody has gone on from there
        places = np.r_[world.length - 1 : -1 : -1, world.length : world.length + world.entries]
        elsewhere = Transition(there.observation[:, places], there.action, there.following[:, places])
        probes = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), there, elsewhere)
        found = np.asarray(measured(bonus, data(seed, again), probes, jax.random.key(2000 + seed)))
        values, new = found[:, :32].mean(1), found[-1, 32:].mean()
        share = values[-1] / values[0]
        curves.setdefault(name, []).append(values / values[0])
        words = ("yes" if share < 0.05 else "no") + ("" if learnable else " (not asked)")
        spent = time.perf_counter() - begin
        numbers = f"{values[0]:.3g}", f"{values[-1]:.3g}", f"{100 * share:.2f}", words, f"{new:.3g}", f"{spent:.0f}"
        table.add_row(name, unit, str(seed), *numbers)
        print(name, seed, *numbers, flush=True)
Console(width=120).print(table)

with style.figure(panel=(6.0, 4.0)) as (picture, panels):
    panel = np.atleast_1d(panels)[0]
    for number, (name, each) in enumerate(curves.items()):
        for values in each:
            line = "-" if BONUSES[name][2] else "--"
            panel.plot(seen, values, line, color=f"C{number % 10}", label=name if values is each[0] else None)
    panel.axhline(0.05, color="black", linewidth=0.8)
    panel.set_yscale("log")
    style.label(panel, x=("visits", "number"), y=("bonus", "share of the first"), title="Watching noise")
    style.legend(panel, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
picture.savefig(arguments.out / "noisy_television.png")
print(arguments.out / "noisy_television.png")
