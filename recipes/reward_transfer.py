"""A reward that was found in one world: what is it worth in another? Random problems, after Fu et al. 2018.

16 states, 4 actions, next states at random (Dirichlet), any action in state 0 earns 1. Demonstrations are soft-optimal
walks. Inverse reinforcement learning finds a reward of states, and one of states and actions, each by ``veil.fit``.
Then the dynamics are drawn anew, and the best there is to do for the reward that was found is done for the true one:
0 % is what a random policy earns, 100 % the best. Where it was found both rewards are about as good, as any policy that
is right is; a reward of actions says nothing of other dynamics, one of states does (section 7.1 of "Learning robust
rewards with adversarial inverse reinforcement learning"). The actions themselves, copied, are the third line.

    python recipes/reward_transfer.py --out reward_transfer     # a minute or two
    python recipes/reward_transfer.py --quick
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import veil
from veil.control import MDP, TableReward, solve
from veil.control.optimality import returned
from veil.control.worlds.finite import random_problem, simulate
from veil.report import style

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("reward_transfer"), help="folder for the picture")
parser.add_argument("--problems", type=int, default=20, help="pairs of worlds (default: 20)")
parser.add_argument("--walks", type=int, default=2000, help="demonstrations of 50 steps each (default: 2000)")
parser.add_argument("--quick", action="store_true", help="three pairs of worlds, few walks")
arguments = parser.parse_args()
problems, walks = (3, 300) if arguments.quick else (arguments.problems, arguments.walks)
LENGTH = 50


def share(world: MDP, log_policy: jax.Array) -> float:
    """What a policy earns, of what lies between a random policy and the best."""
    best = solve(world, temperature=0.0).log_policy
    least, most = (float(returned(world, each)) for each in (jnp.full_like(best, -jnp.log(4.0)), best))
    return (float(returned(world, log_policy)) - least) / (most - least)


def weighted(shown: veil.Data) -> veil.Data:
    """Every pair of state and action that was seen, and how often."""
    rows = veil.data.steps(shown)
    counts = np.zeros((16, 4))
    np.add.at(counts, (rows.evidence[:, 0].astype(int), rows.query[:, 0].astype(int)), 1.0)
    state, action = np.nonzero(counts)
    return veil.Data(query=action, evidence=state, weight=counts[state, action])


found: dict[str, list[tuple[float, float]]] = {"reward of states": [], "reward of states and actions": [], "copy": []}
off: list[float] = []
with jax.enable_x64(True):
    for number in range(problems):
        key_here, key_there, key_walks, key_fit = jax.random.split(jax.random.key(number), 4)
        here, there = random_problem(key_here), random_problem(key_there)
        data = weighted(simulate(solve(here), key_walks, walks, LENGTH))
        for name, reward in (
            ("reward of states", TableReward(states=16)),
            ("reward of states and actions", TableReward(states=16, actions=4)),
        ):
            fit = veil.fit(veil.Intent(here, reward), data, key=key_fit, progress=False)
            table = fit.model.reward.numbers[0]
            policies = [solve(world.rewarded(table), temperature=0.0).log_policy for world in (here, there)]
            found[name].append((share(here, policies[0]), share(there, policies[1])))
            if table.ndim == 1:
                off.append(float(np.sqrt(np.mean((table - table.mean() - here.reward + here.reward.mean()) ** 2))))
        likeliest = fit.model.log_policies()[0].argmax(-1)  # what was seen, without a reward behind it
        copied = jnp.log(jax.nn.one_hot(likeliest, 4))
        found["copy"].append((share(here, copied), share(there, copied)))

table = Table(
    title=f"{problems} pairs of random worlds, {walks} walks of {LENGTH} steps: share of what can be gained, %"
)
for column in ("found from walks", "where it was found", "other dynamics"):
    table.add_column(column, justify="left" if column == "found from walks" else "right")
for name, each in found.items():
    values = 100 * np.array(each)
    error = values.std(0, ddof=1) / np.sqrt(len(values))
    table.add_row(name, *(f"{mean:.1f} ± {spread:.1f}" for mean, spread in zip(values.mean(0), error, strict=True)))
console = Console(width=110)
console.print(table)
console.print(f"reward of states: off the true one by {np.mean(off):.3f} (root mean square, up to a constant)")

arguments.out.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(0)
with style.figure(2, panel=(3.6, 3.0), sharey=True) as (picture, panels):
    for side, (panel, title) in enumerate(zip(panels, ("where it was found", "other dynamics"), strict=True)):
        for place, each in enumerate(found.values()):
            values = np.array(each)[:, side]
            panel.plot(
                place + rng.uniform(-0.15, 0.15, len(values)), values, "o", alpha=0.6, color=style.COLOURS[place]
            )
            panel.plot([place - 0.3, place + 0.3], [values.mean()] * 2, color=style.INK)
        panel.set_xticks(range(len(found)), ["of states", "of states\nand actions", "copied\nactions"])
        panel.axhline(0.0, color=style.GREY, linestyle=":")
        style.label(panel, x=("reward", "what is acted for"), y=("of what can be gained", "share"), title=title)
picture.savefig(arguments.out / "transfer.png")
console.print(arguments.out / "transfer.png")
