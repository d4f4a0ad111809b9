"""A world model of a running body from its pictures: HalfCheetah, fifty steps ahead after five pictures.

200 episodes of 100 steps of Gymnasium's HalfCheetah-v5 under random actions, each kept for three steps on average:
64 x 64 pixels in colour, of which the model gets the lower three quarters (above is sky) at half the size, and the
reward. A recurrent state-space model learns p(pictures, rewards | actions); it is told no angle and no speed. On 40
other episodes it sees five steps and then only the actions: an open loop of 50 steps, 2.5 s. What it knows of the body
is read off its states by a linear map, which was fitted to the filtered states of the training episodes; the map's own
error is part of the 90 % intervals. Beside the model are what needs no model, the last value held (as the simulator has
it) and the training episodes' average, and the same map where the model sees every picture (not open loop).

    pip install 'gymnasium[mujoco]'
    python recipes/half_cheetah.py --minutes 15 --out half_cheetah
    python recipes/half_cheetah.py --quick               # few short episodes, few steps
"""

import argparse
import time
from importlib import util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import Probe, affordable, bootstrapped, cut, filtered, open_loop, turned
from rich.console import Console
from rich.table import Table

import veil
from veil import objective
from veil.parts import heads, images
from veil.report import forecasts, plots, style

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("half_cheetah"), help="folder for pictures and film")
parser.add_argument("--quick", action="store_true", help="a small version of the experiment, for a first look")
parser.add_argument("--minutes", type=float, default=15.0, help="training time")
parser.add_argument("--steps", type=int, help="training steps, in place of --minutes")
parser.add_argument("--seed", type=int, default=0, help="of the training, not of the episodes")
parser.add_argument("--train", type=Path, help="folder of the training episodes (default: OUT/train)")
parser.add_argument("--test", type=Path, help="folder of the test episodes (default: OUT/test)")
arguments = parser.parse_args()
if util.find_spec("mujoco") is None:
    print("HalfCheetah needs MuJoCo; install it with: pip install 'gymnasium[mujoco]'")
    raise SystemExit(0)
key_pace, key_fit, key_filter, key_forecast = jax.random.split(jax.random.key(arguments.seed), 4)
arguments.out.mkdir(parents=True, exist_ok=True)

# The settings of the model and its training, all of them.
latent, memory, levels, features = 30, 200, (16, 32, 64), 128
window, stride, batch, rate, warm_up, clip = 50, 10, 16, 1e-3, 200, 100.0
kl = (objective.Balanced(0.8),)
# The settings of the experiment.
episodes, length, keep = (200, 40), 100, 2 / 3
seen, horizon, between, futures = 5, 50, 23, 50
if arguments.quick:
    latent, memory, levels, features, window, futures, horizon = 4, 32, (8, 16), 32, 20, 20, 15
    episodes, length, between = (6, 3), 24, 5


# Data: at each step picture and reward, and as evidence the action that led to it. The true state is for the probe.
class Kept(veil.Actor):
    """Actions drawn from -1 to 1 and kept for some steps, so that the body moves more than it trembles."""

    def init(self, key):
        return jax.random.uniform(key, (6,), minval=-1.0, maxval=1.0)

    def act(self, memory, observation, key):
        key_keep, key_draw = jax.random.split(key)
        action = jnp.where(jax.random.bernoulli(key_keep, keep), memory, self.init(key_draw))
        return action, action


places = arguments.train or arguments.out / "train", arguments.test or arguments.out / "test"
recordings = [
    veil.collect("HalfCheetah-v5", count, out=folder, seed=seed, frames=64, max_steps=length, policy=Kept())
    for seed, (folder, count) in enumerate(zip(places, episodes, strict=True))
]
SHAPE = (24, 32, 3)
head = veil.joint.Joint(
    {"frame": heads.HomoscedasticGaussian(), "reward": heads.DiagonalGaussian()}  # a scale for each pixel, learnt
)


def loaded(recording):
    """Pictures and rewards with their actions, and the true states [N, T, 15]: see GROUPS."""
    given = recording.data(["frame", "reward"], "action")
    low = given.query["frame"][:, :, 16:]
    small = low.reshape(*low.shape[:2], 24, 2, 32, 2, 3).mean((3, 5)).astype(np.float32)
    query = {"frame": small, "reward": given.query["reward"].astype(np.float32)}
    true = recording.data("observation").query.astype(np.float64)  # height, pitch, 6 joints; their speeds, 3 and 6
    pitch = np.stack([np.cos(true[..., 1]), np.sin(true[..., 1])], -1)  # the body may turn over
    body = np.concatenate([pitch, true[..., 2:9], true[..., 11:]], -1)
    return veil.Data(query, given.evidence), body


# Of the states: columns, unit, and the factor to it from rad, m/s and rad/s.
GROUPS = {
    "torso's pitch": (slice(0, 2), "degrees", np.degrees(1.0)),
    "joints": (slice(2, 8), "degrees", np.degrees(1.0)),
    "forward speed": (slice(8, 9), "m/s", 1.0),
    "joints' speeds": (slice(9, 15), "rad/s", 1.0),
}


train, train_state = loaded(recordings[0])
test, test_state = loaded(recordings[1])
begins = range(0, train_state.shape[1] - seen - horizon + 1, between)
train_pieces, train_true = cut(train, train_state, begins, seen + horizon)
pieces, state = cut(test, test_state, begins, seen + horizon)
episode = np.arange(len(test)).repeat(len(begins))  # of each piece, for the standard errors

# The model, and its training.
decoder = veil.joint.Branches(
    {"frame": images.PyramidDecoder(SHAPE, levels, features), "reward": veil.MLP((features,), "elu")}
)
model = veil.rssm(latent, head, decoder, memory=memory)
cuts = veil.data.windows(train, window, stride)


def fit(steps, key, record=None):
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, min(warm_up, steps // 5), steps, rate / 100)
    return veil.fit(
        model,
        cuts,
        key=key,
        objective=veil.ELBO(kl=kl),
        optimiser=veil.Optimiser(optax.adam(schedule), clip=clip, bounded=True),
        batch_size=batch,
        steps=steps,
        record=record,
    )


begin = time.perf_counter()
steps = arguments.steps or (30 if arguments.quick else None)
if steps is None:
    steps = affordable(lambda steps, record: fit(steps, key_pace, record), arguments.minutes)
found = fit(steps, key_fit)
minutes = (time.perf_counter() - begin) / 60
veil.save(arguments.out / "model", found)


# The probe: a linear map from what the model remembers and infers to the state of the body. The open loop through it.
key_train, key_test = jax.random.split(key_filter)
probe = Probe(filtered(found, train_pieces, seen, key_train), train_true[:, seen:])
looking = probe(filtered(found, pieces, seen, key_test))  # [pieces, horizon, 15]
bodies, pictured, first = open_loop(found, pieces, horizon, futures, seen, probe, key_forecast)
true = {name: part[:, seen:] for name, part in pieces.query.items()}
last = {name: part[:, seen - 1] for name, part in pieces.query.items()}
average = {name: part.mean((0, 1)) for name, part in train.query.items()}

# Errors of everything by everybody: [pieces, horizon, entries].


def away(states, group):
    """From the truth, [..., horizon, entries]; of the pitch within half a turn."""
    part, _, factor = GROUPS[group]
    if group == "torso's pitch":
        pitch = [np.arctan2(each[..., 1:2], each[..., :1]) for each in (states, ahead_true)]
        return factor * turned(pitch[0] - pitch[1])
    return factor * (states - ahead_true)[..., part]


ahead_true = state[:, seen:]
means = {
    "model": bodies.mean(1),
    "last value held": np.broadcast_to(state[:, seen - 1, None], ahead_true.shape),
    "average": np.broadcast_to(train_state.mean((0, 1)), ahead_true.shape),
    "not open loop": looking,
}
errors = {who: {group: np.abs(away(mean, group)) for group in GROUPS} for who, mean in means.items()}
rewards = {
    "model": np.abs(pictured["reward"] - true["reward"]),
    "last value held": np.abs(last["reward"][:, None] - true["reward"]),
    "average": np.abs(average["reward"] - true["reward"]),
}
pixels = {  # the mean square of each picture
    "model": np.mean((pictured["frame"] - true["frame"]) ** 2, (2, 3, 4)),
    "last value held": np.mean((last["frame"][:, None] - true["frame"]) ** 2, (2, 3, 4)),
    "average": np.mean((average["frame"] - true["frame"]) ** 2, (2, 3, 4)),
}
drawn = bodies + probe.spread * np.random.default_rng(0).normal(size=bodies.shape)
inside = {}
for group in GROUPS:
    centre = away(means["model"], group)
    scatter = np.stack([away(drawn[:, i], group) for i in range(futures)], 1) - centre[:, None]
    if group == "torso's pitch":
        scatter = np.degrees(turned(np.radians(scatter)))
    low, high = np.quantile(scatter, (0.05, 0.95), axis=1)
    inside[group] = 100.0 * ((low <= -centre) & (-centre <= high))


def with_error(values, measure, digits):
    return bootstrapped(values, measure, digits, episode)


def root(squares):
    return np.sqrt(np.mean(squares))


console = Console(width=150)
table = Table(
    title=f"Open loop after {seen} steps, {len(pieces)} pieces of {len(test)} test episodes; {len(train)} training "
    f"episodes, {minutes:.1f} minutes, {steps} steps. Medians of absolute errors, of pixels (0 to 1) root mean squares"
)
for column in ("step", "", *(f"{name} ({unit})" for name, (_, unit, _) in GROUPS.items()), "reward", "pixels"):
    table.add_column(column, justify="left" if column == "" else "right")
ends = [step for step in sorted({1, 10, 25, 50, horizon}) if step <= horizon]
for step in ends:
    for who, of_group in errors.items():
        row = [
            with_error(error[:, step - 1], np.median, 2 if "speed" in group else 1) for group, error in of_group.items()
        ]
        row.append(with_error(rewards[who][:, step - 1], np.median, 2) if who in rewards else "")
        row.append(with_error(pixels[who][:, step - 1], root, 3) if who in pixels else "")
        table.add_row(str(step) if who == "model" else "", who, *row, end_section=who == "not open loop")
console.print(table)
held = Table(title="How often the truth is in the model's 90 % intervals, %")
for column in ("step", *GROUPS):
    held.add_column(column, justify="right")
for step in ends:
    held.add_row(str(step), *(with_error(each[:, step - 1], np.mean, 1) for each in inside.values()))
held.add_row("all", *(with_error(each, np.mean, 1) for each in inside.values()))
console.print(held)

# A filmstrip: truth above the mean of the open loop. A film of the first piece: truth, mean, two futures.
strip = np.linspace(0, horizon - 1, 10).astype(int)
with style.figure(panel=(9.0, 1.9)) as (picture, (panel,)):
    plots.tiles(panel, np.clip(np.concatenate([true["frame"][0, strip], pictured["frame"][0, strip]]), 0, 1), 10)
    style.label(
        panel,
        x=("steps " + ", ".join(str(each + 1) for each in strip), "pixels"),
        y=("prediction below truth", "pixels"),
        title=f"Open loop: {seen} steps were seen, then only actions",
    )
    picture.savefig(arguments.out / "filmstrip.png")
ahead = forecasts.part(first, ("frame",))
shown = forecasts.expected(found.model, jax.tree.map(lambda leaf: leaf[:1, :2], first.states))["frame"]  # without noise
film = [np.clip(each, 0, 1) for each in (shown, ahead.mean, ahead.truth)]
forecasts.film(
    arguments.out / "film.gif",
    pieces.query["frame"][0, :seen],
    veil.Forecast(film[0], film[1], ahead.standard_deviation, film[2]),
)

# The torso's pitch of four pieces: what was seen, and what the model says is to come.
chosen = np.linspace(0, len(pieces) - 1, 4).astype(int)
with style.figure(2, 2, panel=(4.6, 2.6)) as (picture, panels):
    for panel, row in zip(panels, chosen, strict=True):
        angles = [np.unwrap(np.arctan2(each[..., 1], each[..., 0])) for each in (state[row], bodies[row].mean(0))]
        pitch, middle = (
            np.degrees(angles[0]),
            angles[1] + 2 * np.pi * np.round((angles[0][seen] - angles[1][0]) / 2 / np.pi),
        )
        swing = turned(np.arctan2(drawn[row, ..., 1], drawn[row, ..., 0]) - middle)
        paths = np.degrees(middle + swing)
        fan = veil.Forecast(
            paths[None, ..., None], paths.mean(0)[None, :, None], paths.std(0)[None, :, None], pitch[None, seen:, None]
        )
        forecasts.fan(panel, pitch[:seen], fan, 0, name="torso's pitch")
        style.label(panel, x=("step of 0.05 s", "count"), y=("torso's pitch", "degrees"))
    style.legend(panels[0])
    picture.savefig(arguments.out / "pitch.png")
for name in ("filmstrip.png", "film.gif", "pitch.png"):
    console.print(arguments.out / name)
