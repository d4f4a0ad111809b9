"""A world model of a pendulum from its pictures: fifty steps ahead after five pictures, the actions known.

100 episodes of Gymnasium's Pendulum-v1 under random torques, 32 x 32 grey pixels, collected if they are not there. A
recurrent state-space model learns p(pictures | actions); it is told neither angle nor speed. On 40 other episodes it
sees five pictures and then only the actions: an open loop of 50 steps, 2.5 s. What it knows of the angle is read off
its states by a linear map, which was fitted to the filtered states of the training episodes. A good world model is
within some degrees after 50 steps, and as often outside its 90 % intervals as it says.

    python recipes/pendulum.py --minutes 15 --out pendulum
    python recipes/pendulum.py --quick                   # 24 short episodes that come with the library, few steps
"""

import argparse
import time
from pathlib import Path

import jax
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
parser.add_argument("--out", type=Path, default=Path("pendulum"), help="folder for pictures and film")
parser.add_argument("--quick", action="store_true", help="a small version of the experiment, for a first look")
parser.add_argument("--minutes", type=float, default=15.0, help="training time")
parser.add_argument("--steps", type=int, help="training steps, in place of --minutes")
parser.add_argument("--train", type=Path, help="folder of the training episodes (default: OUT/train)")
parser.add_argument("--test", type=Path, help="folder of the test episodes (default: OUT/test)")
arguments = parser.parse_args()
key_pace, key_fit, key_states, key_forecast = jax.random.split(jax.random.key(0), 4)
arguments.out.mkdir(parents=True, exist_ok=True)

# The settings of the model and its training, all of them.
latent, memory, levels, features = 16, 200, (16, 32, 64), 128
window, stride, batch, rate, warm_up, clip = 50, 10, 16, 1e-3, 200, 100.0
kl = (objective.Balanced(0.8),)
# The settings of the experiment.
seen, horizon, futures = 5, 50, 100
if arguments.quick:
    latent, memory, levels, features, window, futures, horizon = 4, 32, (8, 16), 32, 20, 20, 15

# Data: at each step the picture, and as evidence the torque that led to it. The true state is for the probe alone.
if arguments.quick:
    everything = veil.data.pendulum()
    recordings = [
        veil.data.Recording(part, name="pendulum") for part in (everything.episodes[:16], everything.episodes[16:])
    ]
else:
    recordings = [
        veil.collect("Pendulum-v1", count, out=folder or arguments.out / name, seed=seed, frames=32)
        for name, folder, count, seed in (("train", arguments.train, 100, 0), ("test", arguments.test, 40, 1))
    ]


def loaded(recording):
    """Grey pictures [N, T, H, W, 1] (dark is one) with their actions, and the true angles [N, T] in rad."""
    colours, true = recording.data("frame", "action"), recording.data("observation").query
    grey = 1.0 - np.mean(colours.query, -1, keepdims=True)
    return veil.Data(grey.astype(np.float32), colours.evidence), np.arctan2(true[..., 1], true[..., 0])


train, train_angle = loaded(recordings[0])
test, test_angle = loaded(recordings[1])
steps_each = train.query.shape[1]
begins = range(0, steps_each - seen - horizon + 1, horizon)
train_pieces, train_pieces_angle = cut(train, train_angle, begins, seen + horizon)
pieces, angle = cut(test, test_angle, begins, seen + horizon)
episode = np.arange(len(test)).repeat(len(begins))  # of each piece, for the standard errors

# The model, and its training.
decoder = images.PyramidDecoder(train.query.shape[2:], levels, features)
model = veil.rssm(latent, heads.Bernoulli(soft=True), decoder, memory=memory)
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


# The probe: a linear map from what the model remembers and infers to cos and sin of the angle.
def circle(angles):
    return np.stack([np.cos(angles), np.sin(angles)], -1)


probe = Probe(filtered(found, train_pieces, seen, key_states), circle(train_pieces_angle[:, seen:]))

plane, _, first = open_loop(found, pieces, horizon, futures, seen, probe, key_forecast)
angles = np.arctan2(plane[..., 1], plane[..., 0])  # [pieces, futures, horizon]

true = angle[:, seen:]
mean = np.arctan2(np.sin(angles).mean(1), np.cos(angles).mean(1))  # on the circle
low, high = np.quantile(turned(angles - mean[:, None]), (0.05, 0.95), axis=1)
error = np.degrees(np.abs(turned(true - mean)))
inside = (turned(true - mean) >= low) & (turned(true - mean) <= high)
stays = np.degrees(np.abs(turned(true - angle[:, seen - 1 : seen])))


def with_error(values, measure, digits):
    return bootstrapped(values, measure, digits, episode)


console = Console(width=120)
table = Table(
    title=f"Open loop after {seen} pictures, {len(pieces)} pieces of {len(test)} test episodes; {len(train)} training "
    f"episodes, {minutes:.1f} minutes, {steps} steps"
)
for column in (
    "step",
    "median error (degrees)",
    "in 90 % interval (%)",
    "its width (degrees)",
    "error if it stayed (degrees)",
):
    table.add_column(column, justify="right")
for step in sorted({1, 10, 20, 30, 40, 50, horizon}):
    if step <= horizon:
        at = step - 1
        table.add_row(
            str(step),
            with_error(error[:, at], np.median, 1),
            with_error(100 * inside[:, at], np.mean, 1),
            with_error(np.degrees(high - low)[:, at], np.median, 1),
            with_error(stays[:, at], np.median, 1),
        )
table.add_row("all", with_error(error, np.median, 1), with_error(100 * inside, np.mean, 1), "", "")
console.print(table)

# A filmstrip: truth above the mean of the open loop. A film of the first piece: truth, mean, two futures.
strip = np.linspace(0, horizon - 1, 10).astype(int)
with style.figure(panel=(9.0, 2.3)) as (picture, (panel,)):
    plots.tiles(panel, np.concatenate([first.truth[0, strip], first.mean[0, strip]])[..., 0], 10)
    style.label(
        panel,
        x=("steps " + ", ".join(str(each + 1) for each in strip), "pixels"),
        y=("prediction below truth", "pixels"),
        title=f"Open loop: {seen} pictures were seen, then only actions",
    )
    picture.savefig(arguments.out / "filmstrip.png")
shown = forecasts.expected(found.model, jax.tree.map(lambda leaf: leaf[:1, :2], first.states))  # no coins for pixels
light = veil.Forecast(1 - shown, 1 - first.mean, first.standard_deviation, 1 - first.truth)
forecasts.film(arguments.out / "film.gif", 1 - pieces.query[0, :seen], light)

# The angle of four pieces, unwrapped: what was seen, and what the model says is to come.
chosen = np.linspace(0, len(pieces) - 1, 4).astype(int)
with style.figure(2, 2, panel=(4.6, 2.6)) as (picture, panels):
    for panel, row in zip(panels, chosen, strict=True):
        known = np.degrees(np.unwrap(angle[row]))
        middle = known[seen - 1] + np.degrees(
            np.unwrap(np.r_[angle[row, seen - 1], mean[row]])[1:] - angle[row, seen - 1]
        )
        paths = middle[None] + np.degrees(turned(angles[row] - mean[row][None]))
        fan = veil.Forecast(
            paths[None, :, :, None], middle[None, :, None], paths.std(0)[None, :, None], known[None, seen:, None]
        )
        forecasts.fan(panel, known[:seen], fan, 0, name="angle from upright")
        style.label(panel, x=("step of 0.05 s", "count"), y=("angle from upright", "degrees"))
    style.legend(panels[0])
    picture.savefig(arguments.out / "angle.png")
for name in ("filmstrip.png", "film.gif", "angle.png"):
    console.print(arguments.out / name)
