"""A world model of a pendulum from its pictures: an open loop beside the truth."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

import veil
from veil.learning.choices import default_optimiser
from veil.objective import ELBO, Balanced
from veil.parts import heads, images
from veil.report import forecasts, plots, style
from veil.report.page import Film, Picture
from veil.report.station import Findings, Row, Say, Station

SEEN, HORIZON = 5, 30
HELD_OUT = 4  # episodes
MIDDLE = slice(3, 13)  # pixels that the rod reaches, shown enlarged


def run(quick: bool, say: Say) -> Findings:
    colours = veil.data.pendulum().data("frame", "action")
    # dark pixels, in which the rod is, near one
    dark = np.clip(1.5 * (1.0 - np.mean(colours.query, -1, keepdims=True)), 0.0, 1.0).astype(np.float32)
    everything = veil.Data(dark, colours.evidence)
    train, test = everything[:-HELD_OUT], everything[-HELD_OUT:]
    steps = 40 if quick else 600
    memory, levels, features = (16, (4, 8), 16) if quick else (64, (16, 32), 64)
    decoder = images.PyramidDecoder(dark.shape[2:], levels, features)
    model = veil.rssm(8, heads.Bernoulli(soft=True), decoder, memory=memory)
    say(f"{steps} steps")
    with warnings.catch_warnings():
        if quick:  # so few steps leave the latents dead
            warnings.filterwarnings("ignore", "collapse")
        found = veil.fit(
            model,
            veil.data.windows(train, 30, 10),
            key=jax.random.key(0),
            objective=ELBO(kl=(Balanced(0.8),)),
            optimiser=default_optimiser(steps, 3e-3),
            batch_size=16,
            steps=steps,
            progress=False,
        )
    say("open loop")
    # every episode from two places
    places = np.array([0, len(dark[0]) - SEEN - HORIZON])[:, None] + np.arange(SEEN + HORIZON)
    query, evidence = (np.concatenate(each[:, places]) for each in (test.query, np.asarray(test.evidence)))
    pieces = veil.Data(query, evidence)
    ahead = veil.forecast(found, pieces, HORIZON, 10 if quick else 50, key=jax.random.key(1), after=SEEN, states=True)
    assert ahead.truth is not None
    guesses = {
        "open loop": ahead.mean,
        "the last picture seen, standing still": pieces.query[:, SEEN - 1 : SEEN],
        "the average picture": train.query.mean((0, 1))[None, None],
    }
    away = {name: _distance(guess, ahead.truth) for name, guess in guesses.items()}
    rows = [
        Row(
            f"error of the open loop, {step} steps ahead",
            _with_error(away["open loop"][:, step - 1]),
            "share of full scale, root mean square",
            "",
            "; ".join(f"{name}: {errors[:, step - 1].mean():.3f}" for name, errors in list(away.items())[1:]),
        )
        for step in (1, 5, 10, 20, 30)
    ]
    say("pictures")
    shown = np.array([0, 3, 6, 9, 12, 15, 18, 21, 25, 29])
    with style.figure(panel=(8.6, 2.4)) as (strip, (panel,)):
        plots.tiles(
            panel, np.concatenate([ahead.truth[0, shown], ahead.mean[0, shown]])[:, MIDDLE, MIDDLE, 0], len(shown)
        )
        words = ", ".join(str(each + 1) for each in shown)
        style.label(panel, x=(f"{words} steps ahead; the middle 10 wide", "pixels"), y=("the middle 10 high", "pixels"))
        panel.set_title("Truth above, mean of the open loop below")
    with style.figure(panel=(5.4, 3.0)) as (curve, (panel,)):
        for number, (name, errors) in enumerate(away.items()):
            colour, dashes = style.COLOURS[number], style.DASHES[number]
            panel.plot(np.arange(1, HORIZON + 1), errors.mean(0), color=colour, linestyle=dashes, label=name)
        style.label(panel, x=("ahead", "steps of 0.05 s"), y=("error", "share of full scale"))
        panel.set_ylim(0, 1.6 * max(errors.mean(0).max() for errors in away.values()))
        style.legend(panel, loc="upper left")
    return Findings(
        rows=rows,
        pictures=[
            Picture(
                strip,
                f"A held-out episode. {SEEN} pictures were seen, then only the torques: what happened, and what the "
                "model expects, on average.",
                "pendulum-strip",
            ),
            Picture(
                curve,
                f"How far pictures are from the truth, {HELD_OUT} held-out episodes from {places.shape[0]} places "
                "each.",
                "pendulum-error",
            ),
        ],
        films=[
            Film(
                _film(found.model, pieces.query[0, :SEEN], ahead),
                "The same as a film, ten frames a second: truth, mean, and two of the futures. With a blue edge: open "
                "loop.",
                "pendulum-film",
            )
        ],
        text=[
            f"{len(train)} episodes of 60 random torques, pictures of 16 by 16 pixels; the model is told neither angle "
            "nor speed. Each step has a memory, which a recurrent network keeps of torques and latents, and a latent, "
            "which the pictures inform. Without pictures the latent is drawn from what the memory expects.",
            "Where the mean is blurred the futures disagree about the angle; each of them is sharp. What learns "
            "in a minute from so little loses its way sooner than the model of <code>recipes/pendulum.py</code>.",
        ],
    )


def _distance(guess: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Root mean square over the pixels [N, H]."""
    return np.asarray(np.sqrt(np.mean((guess - truth) ** 2, axis=(2, 3, 4))))


def _with_error(values: np.ndarray) -> str:
    """A mean over sequences and its standard error."""
    return f"{values.mean():.3f} ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}"


def _film(model: Any, past: np.ndarray, ahead: veil.Forecast) -> bytes:
    """A GIF with the rod dark on light ground; of two futures what is expected of each picture, not tossed coins."""
    assert ahead.truth is not None
    futures = forecasts.clear(model, ahead).paths
    parts = (futures, ahead.mean, ahead.standard_deviation, ahead.truth)
    paths, mean, spread, truth = (part[..., MIDDLE, MIDDLE, :] for part in parts)
    light = veil.Forecast(1 - paths, 1 - mean, spread, 1 - truth)
    with tempfile.TemporaryDirectory() as folder:
        forecasts.film(Path(folder) / "film.gif", 1 - past[..., MIDDLE, MIDDLE, :], light, size=96)
        return (Path(folder) / "film.gif").read_bytes()


STATION = Station(
    name="pendulum",
    order=97,
    title="What will the pendulum do? A world model from pictures",
    question="From twenty short films of a pendulum under random torques: what happens in the next 30 steps, if only "
    "the torques are known?",
    equation="<i>h<sub>t</sub></i> = GRU(<i>h<sub>t−1</sub></i>, <i>z<sub>t−1</sub></i>, <i>x<sub>t</sub></i>), "
    "<i>p</i>(<i>z<sub>t</sub></i> | <i>h<sub>t</sub></i>) <i>p</i>(<i>y<sub>t</sub></i> | <i>h<sub>t</sub></i>, "
    "<i>z<sub>t</sub></i>). Query: pictures. Evidence: torques. Latent: a path.",
    run=run,
    packages=("PIL",),
)
