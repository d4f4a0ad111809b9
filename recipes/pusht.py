"""PushT from people's demonstrations: chunks of actions by squared error, a mixture, flow matching and diffusion.

A T is to be pushed onto its place; 206 episodes show how people did it, of which the first 90 are learned from. The
policies see nine points of the T and the agent, now and a step ago, and choose 16 actions, of which they execute 8:
the low-dimensional protocol of Diffusion Policy (Chi et al. 2023). The score of an episode is the greatest coverage
reached in 300 steps, in shares of 95 %, at most 1; it is the mean over 50 test seeds, of each of the last five
checkpoints. The T and its place are alike left and right of its stem, and so is the field: in a mirror along the stem
of the place every episode is another that could have been (``--mirrored``). Needs ``pip install 'veil[pusht]'``, and
the file of the demonstrations in a folder that $VEIL_DATA names.

    python recipes/pusht.py --out pusht --minutes 40       # each policy; on two cores
    python recipes/pusht.py --models flow-matching --seed 1 --mirrored
    python recipes/pusht.py --quick                        # a minute or two; scores mean little

A run that was stopped goes on where it was (``pip install 'veil[scale]'``).
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from importlib import util
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import affordable
from rich.console import Console
from rich.table import Table

import veil
from veil.data.bundled.pusht import find, observed
from veil.parts.heads import DiagonalGaussian, HomoscedasticGaussian
from veil.parts.nets import Residual
from veil.report import style
from veil.units import Range

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("pusht"), help="folder for scores and fits (default: pusht)")
parser.add_argument("--models", default="squared-error,mdn,flow-matching,diffusion", help="which, with commas between")
parser.add_argument("--minutes", type=float, default=40.0, help="of training, for each model (default: 40)")
parser.add_argument("--steps", type=int, help="of training, in place of minutes")
parser.add_argument("--mirrored", action="store_true", help="learn also from each episode as it is seen in a mirror")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--quick", action="store_true", help="200 steps, 5 test seeds, 100 steps of an episode")
arguments = parser.parse_args()
if util.find_spec("gym_pusht") is None or find() is None:
    what = "pip install 'veil[pusht]'" if util.find_spec("gym_pusht") is None else "export VEIL_DATA=the/folder"
    print(f"This recipe needs gym-pusht and pusht_human.npz: {what}")
    sys.exit(0)
from veil.control.worlds.pusht import SEEDS, SIDE, STEPS, keypoints, pusht_scores  # noqa: E402 -- needs gym-pusht

MARKS = (0.6, 0.7, 0.8, 0.9, 1.0)  # of training, where checkpoints are scored
seeds, length = (SEEDS[:5], 100) if arguments.quick else (SEEDS, STEPS)


def mirrored(episode):
    """The episode in a mirror: (x, y) is (512 - y, 512 - x), the angle of the place, 45 degrees, is itself."""
    flipped = lambda places: SIDE - places[..., ::-1]  # noqa: E731
    state = episode.observations["state"]
    agent, pose = flipped(state[:, :2]), np.c_[flipped(state[:, 2:4]), np.pi / 2 - state[:, 4]]
    seen = {"observation": observed(keypoints(pose), agent), "state": np.c_[agent, pose]}
    return replace(episode, observations=seen, actions={"action": flipped(episode.actions["action"])})


people = veil.data.recording("pusht", episodes=range(90))
if arguments.mirrored:
    people = replace(people, episodes=[*people.episodes, *map(mirrored, people.episodes)])
data = people.data("action", "observation", observations=2, horizon=16)
network = Residual(512, 3)
models = {
    "squared-error": (veil.density(veil.Linear(HomoscedasticGaussian()), trunk=network), veil.Mean()),
    "mdn": (veil.Mixture(veil.Linear(DiagonalGaussian(floor=0.02)), components=8, trunk=network), veil.LowNoise(0.5)),
    "flow-matching": (veil.ContinuousFlow(network, steps=10), veil.Sample()),
    "diffusion": (veil.Diffusion(network, draws=32), veil.Sample()),
}


def fit(model, steps, total, **more):
    """So many steps of AdamW on a curve that ends after ``total``, with a moving average of the parameters."""
    rate = optax.warmup_cosine_decay_schedule(0.0, 1e-3, min(500, total // 2), total)
    optimiser = veil.Optimiser(optax.adamw(rate, weight_decay=1e-4), average=0.999, clip=10.0)
    units = veil.Units.of(data, model, by=Range())
    key = jax.random.key(arguments.seed)
    return veil.fit(model, data, key=key, optimiser=optimiser, units=units, batch_size=256, steps=steps, **more)


def decision(policy):
    """Milliseconds of one decision of one environment: the median of fifty."""
    act, init = eqx.filter_jit(policy.act), policy.init(jax.random.key(0))
    seen, times = jnp.zeros(20), []
    for i in range(52):
        begin = time.perf_counter()
        jax.block_until_ready(act(init, seen, jax.random.key(i)))
        times.append(1e3 * (time.perf_counter() - begin))
    return float(np.median(times[2:]))


curves: dict[str, list[float]] = {}
table = Table("policy", "steps", "training", *(f"at {mark:.0%}" for mark in MARKS), "mean", "decision")
for name in arguments.models.split(","):
    model, choose = models[name]
    folder = arguments.out / f"{name}-{arguments.seed}{'-mirrored' * arguments.mirrored}"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "plan.json"
    if not kept.exists():
        steps = arguments.steps or (200 if arguments.quick else None)
        if steps is None:
            steps = affordable(
                lambda n, record, m=model: fit(m, n, n, record=record, progress=False), arguments.minutes
            )
        kept.write_text(json.dumps({"steps": steps, "seconds": 0.0, "scores": []}))
    plan = json.loads(kept.read_text())
    for mark in MARKS[len(plan["scores"]) :]:
        begin = time.perf_counter()
        found = fit(model, int(mark * plan["steps"]), plan["steps"], checkpoints=folder / "state")
        plan["seconds"] += time.perf_counter() - begin
        policy = veil.Policy(found, choose, low=0.0, high=512.0, execute=8)
        scores = pusht_scores(policy, jax.random.key(arguments.seed), seeds, length)
        plan["scores"].append(float(scores.mean()))
        veil.save(folder / f"at-{mark:.0%}".replace("%", ""), found)
        kept.write_text(json.dumps(plan))
        print(f"{name}: {mark:.0%} of {plan['steps']} steps, score {scores.mean():.3f}", flush=True)
    mean = f"{np.mean(plan['scores']):.3f}"
    each = [f"{score:.3f}" for score in plan["scores"]]
    curves[name] = plan["scores"]
    table.add_row(
        name, str(plan["steps"]), f"{plan['seconds'] / 60:.1f} min", *each, mean, f"{decision(policy):.1f} ms"
    )
with style.figure(panel=(5.0, 3.2)) as (picture, (panel,)):
    for name, scores in curves.items():
        panel.plot([100 * mark for mark in MARKS], scores, marker="o", label=name)
    panel.axhline(0.85, color="0.6", linewidth=0.8)
    style.label(panel, x=("share of training", "%"), y=("score", "mean of the test seeds"))
    panel.set_ylim(0.0, 1.0)
    panel.legend()
    arguments.out.mkdir(parents=True, exist_ok=True)
    picture.savefig(arguments.out / "scores.png")
Console().print(table)
