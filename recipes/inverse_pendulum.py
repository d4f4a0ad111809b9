"""What somebody is after who swings up a pendulum, from ten episodes, and acting by it: Pendulum-v1 by inverse soft Q.

An expert is trained by soft actor-critic, and plays ten episodes by draws from its soft-optimal policy. From these,
and from playing without being told of any reward, learn

* inverse soft Q (Garg et al. 2021): critics whose reward, Q - γ V, tells the expert's steps from one's own;
* adversarial inverse reinforcement learning (Fu et al. 2018): a judge tells them apart by a reward, and the same soft
  actor-critic is after that;
* behaviour cloning, which does not play: a squashed normal by maximum likelihood, and least squares.

All are judged by the mean return of 100 episodes, which begin where those of the others do, by the centre of what each
policy would do.

    python recipes/inverse_pendulum.py --out inverse_pendulum          # minutes for each seed
    python recipes/inverse_pendulum.py --quick
"""

import argparse
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import veil
from veil.control import Adversarial, FixedTemperature, InverseSoftQ, SoftActorCritic
from veil.control.trials import trials
from veil.report import style

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("inverse_pendulum"), help="folder (default: inverse_pendulum)")
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="repetitions (default: 0 1 2)")
parser.add_argument("--demonstrations", type=int, default=10, help="episodes of the expert (default: 10)")
parser.add_argument("--centre", action="store_true", help="the expert does not draw, and shows what it mostly does")
parser.add_argument(
    "--only", nargs="+", choices=("inverse", "adversarial", "cloning"), help="some of the learners (default: all)"
)
parser.add_argument("--quick", action="store_true", help="some hundred steps, two episodes, one repetition")
arguments = parser.parse_args()
WORLD, SMALL = "Pendulum-v1", veil.MLP((64, 64), "relu")
steps, judged, seeds = (600, 3, [0]) if arguments.quick else (20_000, 100, arguments.seeds)
shown = 2 if arguments.quick else arguments.demonstrations
playing = {"begin": 400, "batch_size": 32} if arguments.quick else {}

expert = SoftActorCritic(trunk=SMALL)
inverse = SoftActorCritic(trunk=SMALL, objective=InverseSoftQ(), temperature=FixedTemperature(0.01), policy_rate=1e-4)
adversarial = Adversarial(SoftActorCritic(trunk=SMALL, temperature=FixedTemperature(1.0), policy_rate=1e-4), rate=3e-4)


def playing_with(learner, count, recording, key):
    return learner.learn(WORLD, count, key=key, recording=recording, **playing)


def cloned(head, recording, key):
    """A policy by maximum likelihood, in units of the deviation: most of the time the pendulum stands still."""
    data, model = recording.data("action", "observation"), veil.density(veil.Linear(head), trunk=veil.MLP((64, 64)))
    units = veil.Units.of(data, model, by=veil.units.Deviation())
    return veil.fit(model, data, key=key, steps=100 if arguments.quick else 2000, units=units)


def by_likelihood(recording, key):
    head = veil.heads.Squashed(low=-2.0, high=2.0, margin=1e-3)
    return veil.Policy(cloned(head, recording, key), veil.LowNoise(0.0))


def by_squares(recording, key):
    return veil.Policy(cloned(veil.heads.HomoscedasticGaussian(), recording, key), veil.Mean(), low=-2.0, high=2.0)


learners = {
    "inverse soft Q": ("inverse", partial(playing_with, inverse, 2 * steps)),
    "adversarial": ("adversarial", partial(playing_with, adversarial, steps)),
    "cloning, squashed normal": ("cloning", by_likelihood),
    "cloning, least squares": ("cloning", by_squares),
}


def follows(seen):
    """Where the pendulum is after 0.05 s without torque."""
    angle, speed = jnp.arctan2(seen[1], seen[0]), seen[2]
    speed = jnp.clip(speed + 0.05 * 15.0 * jnp.sin(angle), -8.0, 8.0)
    angle = angle + 0.05 * speed
    return jnp.stack([jnp.cos(angle), jnp.sin(angle), speed])


@eqx.filter_jit
def no_torque(skill, seen, key):
    """The reward that was recovered, of states [N, 3]."""
    one = lambda each, key: skill.reward(each, jnp.zeros(1), follows(each), key, draws=256)  # noqa: E731
    return jax.vmap(one)(seen, jax.random.split(key, len(seen)))


arguments.out.mkdir(parents=True, exist_ok=True)
table = Table(title=f"{WORLD}: {shown} episodes of an expert, {judged} judged")
for column in ("who", "seed", "mean return", "standard error", "minutes", "of a processor"):
    table.add_column(column, justify="left" if column == "who" else "right")
curves: dict[str, list] = {}
found: dict[str, veil.Actor] = {}


def judge(name, seed, make):
    """Make an actor, let it play, and write down how it went."""
    begin = time.perf_counter(), time.process_time()
    actor = make()
    wall, processor = (time.perf_counter() - begin[0]) / 60, (time.process_time() - begin[1]) / 60
    result = trials(WORLD, actor, judged, seed=1000).as_dict()
    numbers = result["return_mean"], result["return_standard_error"], wall, processor
    table.add_row(name, str(seed), *(f"{number:.1f}" for number in numbers))
    print("{}, seed {}: {:.1f} ± {:.1f}, {:.1f} minutes".format(name, seed, *numbers), flush=True)
    found.setdefault(name, actor)
    if isinstance(actor, veil.control.Skill):
        curves.setdefault(name, []).append((actor.steps, actor.returns))
    return actor


for seed in seeds:
    keys = jax.random.split(jax.random.key(seed), 1 + len(learners))
    wise = judge("expert", seed, lambda key=keys[0]: expert.learn(WORLD, steps, key=key, **playing))
    showing = replace(wise, choose=veil.LowNoise(0.0) if arguments.centre else veil.Sample())
    recording = veil.collect(WORLD, shown, out=arguments.out / f"shown_{seed}", seed=seed, policy=showing, force=True)
    returns = np.array([episode.rewards.sum() for episode in recording.episodes])
    error = returns.std(ddof=1) / np.sqrt(shown)
    table.add_row("what was shown", str(seed), f"{returns.mean():.1f}", f"{error:.1f}", "", "")
    for key, (name, (kind, learn)) in zip(keys[1:], learners.items(), strict=True):
        if not arguments.only or kind in arguments.only:
            judge(name, seed, lambda key=key, learn=learn, recording=recording: learn(recording, key))
Console(width=120).print(table)

angles, speeds = np.linspace(-np.pi, np.pi, 41), np.linspace(-8, 8, 33)
turned, moving = np.meshgrid(angles, speeds)
seen = np.stack([np.cos(turned), np.sin(turned), moving], -1).reshape(-1, 3).astype(np.float32)
panels = {"true": -(turned**2) - 0.1 * moving**2}
for name in ("inverse soft Q", "adversarial"):
    if name in found:
        panels[name] = np.asarray(no_torque(found[name], seen, jax.random.key(0))).reshape(turned.shape)
with style.figure(1 + len(panels), panel=(4.0, 3.2)) as (picture, (first, *others)):
    for number, (name, each) in enumerate(curves.items()):
        for ends, returns in each:
            first.plot(ends, returns, color=f"C{number}", label=name if each[0][0] is ends else None)
    style.label(first, x=("step", "number"), y=("return of an episode", "reward"), title="While learning")
    first.legend()
    for panel, (name, values) in zip(others, panels.items(), strict=True):
        image = panel.pcolormesh(angles, speeds, values, cmap="Blues")
        picture.colorbar(image, ax=panel, label="reward (number)")
        style.label(panel, x=("angle from upright", "rad"), y=("speed", "rad/s"), title=f"Reward of no torque: {name}")
picture.savefig(arguments.out / "inverse_pendulum.png")
print(arguments.out / "inverse_pendulum.png")
