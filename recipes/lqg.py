"""Planners where the best control is known: a mass that is pushed, whose place is seen through noise.

p(z_t+1 | z_t, u_t) = N(A z + B u, σ² I), o_t = place + N(0, σ²), cost ½ zᵀ Q z + ½ uᵀ R u: linear-quadratic-Gaussian
control. The least expected cost is had by Kalman's filter and Riccati's gain. Each planner acts by the same filter,
plans a few steps ahead from 64 draws of its belief, with Riccati's value behind them, and meets the same luck: what it
costs more is the planner's.
The table has costs as a share of the best, with the standard error of the difference, and milliseconds a decision.

    python recipes/lqg.py --out lqg            # two minutes
    python recipes/lqg.py --quick
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import veil
from veil.control import (
    CrossEntropy,
    GradientPlanner,
    Imagined,
    LinearQuadratic,
    PathIntegral,
    PlanningActor,
    Quadratic,
    Rewarded,
    Shooting,
    solve_linear_quadratic,
)
from veil.report import style

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("lqg"), help="folder for the picture (default: lqg)")
parser.add_argument("--episodes", type=int, default=64)
parser.add_argument("--steps", type=int, default=40, help="of an episode")
parser.add_argument("--horizon", type=int, default=5, help="of a plan")
parser.add_argument("--quick", action="store_true", help="few and short episodes, for a first look")
arguments = parser.parse_args()
episodes, steps, horizon = arguments.episodes, arguments.steps, arguments.horizon
if arguments.quick:
    episodes, steps, horizon = 4, 6, 2

NOISE, SIGHT = 0.05, 0.1
moved, steered = jnp.array([[1.0, 0.2], [-0.1, 0.95]]), jnp.array([[0.0], [0.4]])
cost, price = jnp.diag(jnp.array([1.0, 0.1])), 0.2 * jnp.eye(1)
start, begun = jnp.array([1.5, 0.0]), 0.3

world = veil.LDS(
    2,
    veil.Diagonal(scale=jnp.full((1, 1), SIGHT)),
    mean=start,
    factor=begun * jnp.eye(2),
    transition=moved,
    drift=jnp.concatenate([jnp.zeros((2, 1)), steered], 1),
    process=NOISE * jnp.eye(2),
    emission=jnp.array([[1.0, 0.0]]),
    offset=jnp.zeros(1),
)
solved = solve_linear_quadratic(LinearQuadratic(moved, steered, cost, price, horizon=400), temperature=0.0)
gain, behind = solved.gain[0], solved.curvature[0] - cost  # a step earns by where it leads


def paid(state, action):
    return 0.5 * state @ cost @ state + 0.5 * action @ price @ action


def earned(step):
    return -paid(step.after.latent, step.evidence)


value = lambda state: -0.5 * state.latent @ behind @ state.latent  # noqa: E731
problem = Imagined(world, Rewarded(earned), -4.0, 4.0, value=value)
planners = {
    "cross-entropy": CrossEntropy(horizon, 0.5, candidates=64, elites=8, rounds=4),
    "improving cross-entropy": CrossEntropy.improving(horizon, 0.5, candidates=64, elites=8, rounds=4),
    "path integral": PathIntegral(horizon, 0.5, candidates=64, temperature=0.02),
    "random shooting": Shooting(horizon, candidates=1024),
    "gradient": GradientPlanner(horizon, 30, 0.1, 1),
    "iterated quadratic": Quadratic(horizon, 1, 1),
}


def episodes_of(actor, key):
    """Costs [E, T] of an actor, and the places it was at [E, T]; the world's luck is the same for all."""

    def one(key, own):
        key_start, key_push, key_blur = jax.random.split(key, 3)
        pushes = NOISE * jax.random.normal(key_push, (steps, 2))
        blurs = SIGHT * jax.random.normal(key_blur, (steps, 1))

        def step(now, at):
            (state, memory), (push, blur, key) = now, at
            action, memory = actor.act(memory, state[:1] + blur, key)
            after = moved @ state + steered @ action + push
            return (after, memory), (paid(after, action), after[0])

        first = start + begun * jax.random.normal(key_start, (2,)), actor.init(own)
        return jax.lax.scan(step, first, (pushes, blurs, jax.random.split(own, steps)))[1]

    keys = jax.random.split(jax.random.key(0), episodes)
    run = jax.jit(lambda keys, own: jax.lax.map(lambda each: one(*each), (keys, own)))
    own = jax.random.split(key, episodes)
    jax.block_until_ready(run(keys[:1], own[:1]))  # compiled for one, and again for all
    jax.block_until_ready(run(keys, own))
    begin = time.perf_counter()
    found = jax.block_until_ready(run(keys, own))
    return *map(np.asarray, found), 1e3 * (time.perf_counter() - begin) / (episodes * steps)


nothing, particles = jnp.zeros(1), 8 if arguments.quick else 64
best = veil.FilteringActor.of(world, lambda state, key: -gain @ state.latent, nothing)
certain = veil.FilteringActor.of(world, lambda state, key: jnp.zeros(1), nothing)


class Best(veil.Actor):
    """Riccati's gain of the filter's mean: the best there is."""

    def init(self, key):
        return best.init(key)

    def act(self, memory, observation, key):
        belief, _ = best.updated(memory, observation, key)
        action = -gain @ best.filter.marginal(belief).mean
        return action, type(memory)(belief, action)


actors = {"Kalman and Riccati": Best(), "nothing": certain}
actors |= {
    name: PlanningActor.of(world, planner, problem, nothing, particles=particles) for name, planner in planners.items()
}
console = Console(width=110)
found = {}
for number, (name, actor) in enumerate(actors.items()):
    found[name] = episodes_of(actor, jax.random.key(1 + number))
    console.print(f"{name}: cost {found[name][0].sum(1).mean():.3f}")
lowest = found["Kalman and Riccati"][0].sum(1)
table = Table(title=f"{episodes} episodes of {steps} steps, plans of {horizon}")
for column in ("who acts", "cost", "of the best", "± (difference)", "ms a decision"):
    table.add_column(column, justify="left" if column == "who acts" else "right")
for name, (costs, _, spent) in found.items():
    each = costs.sum(1)
    error = (each - lowest).std(ddof=1) / len(each) ** 0.5 / lowest.mean()
    table.add_row(name, f"{each.mean():.3f}", f"{each.mean() / lowest.mean():.4f}", f"{error:.4f}", f"{spent:.2f}")
console.print(table)
arguments.out.mkdir(parents=True, exist_ok=True)
with style.figure(panel=(5.5, 3.2)) as (picture, (panel,)):
    for name, (_, places, _) in found.items():
        panel.plot(places[0], label=name, linewidth=2.5 if name.startswith("Kalman") else 1.0)
    style.label(panel, x=("step", "number"), y=("place", "m"), title="One episode, the same luck for all")
    style.legend(panel, fontsize=7)
picture.savefig(arguments.out / "lqg.png")
console.print(f"{arguments.out / 'lqg.png'}")
