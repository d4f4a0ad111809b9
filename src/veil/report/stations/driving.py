"""The lecture's example: round the tree from demonstrations both ways, by one policy of each kind."""

from typing import Any, NamedTuple

import jax
import numpy as np

import veil
from veil.control.worlds import Tree, demonstrate, drives
from veil.parts.heads import DiagonalGaussian, HomoscedasticGaussian
from veil.report import plots, style
from veil.report.page import Picture
from veil.report.station import Findings, Row, Say, Station

MIXTURE, EPISODE = "mixture density network", "mixture, one latent an episode"
TURNED = 0.25  # radians to one side: clearly on the way there


class Kind(NamedTuple):
    """A policy's model, how it chooses its actions, and for how many steps it learns, from steps or from episodes."""

    model: Any
    choose: Any
    steps: int
    episodes: bool = False


def kinds() -> dict[str, Kind]:
    trunk, smooth = veil.MLP((64, 64)), veil.nets.Residual(64, 2)
    gaussians = lambda components: veil.Mixture(veil.Linear(DiagonalGaussian()), components=components, trunk=trunk)  # noqa: E731
    squared = veil.density(veil.Linear(HomoscedasticGaussian()), trunk=trunk)
    return {
        "squared error": Kind(squared, veil.Mean(), 2000),
        "one Gaussian": Kind(veil.density(veil.Linear(DiagonalGaussian()), trunk=trunk), veil.Sample(), 2000),
        MIXTURE: Kind(gaussians(4), veil.Sample(), 2000),
        EPISODE: Kind(veil.Episodic(gaussians(2)), veil.Sample(), 400, episodes=True),
        "conditional VAE": Kind(veil.ConditionalVAE(2, HomoscedasticGaussian()), veil.Likeliest(16), 3000),
        "normalising flow": Kind(veil.NormalisingFlow(), veil.Sample(), 3000),
        "flow matching": Kind(veil.ContinuousFlow(smooth), veil.Sample(), 3000),
        "diffusion": Kind(veil.Diffusion(smooth, draws=16), veil.Sample(), 3000),
    }


def run(quick: bool, say: Say) -> Findings:
    world, chosen = Tree(), kinds()
    if quick:
        chosen = {name: chosen[name] for name in ("squared error", MIXTURE, EPISODE)}
    shown = demonstrate(world, 60 if quick else 200, jax.random.key(0))
    recording = shown.recording("driving")
    steps, episodes = (recording.data("action", "observation", sequences=whole) for whole in (False, True))
    count = 200 if quick else 1000
    rows = [
        Row(
            "demonstrations that pass the tree",
            percent(shown.success),
            "%",
            "",
            f"{100 * (shown.outcome == 1).mean():.0f} % on the left",
        )
    ]
    driven, fitted = {"demonstrations": shown}, {}
    for name, kind in chosen.items():
        say(name)
        fitted[name] = veil.fit(
            kind.model,
            episodes if kind.episodes else steps,
            key=jax.random.key(1),
            steps=kind.steps // 8 if quick else kind.steps,
            progress=False,
        )
        driven[name] = drives(world, veil.Policy(fitted[name], kind.choose), count, jax.random.key(2))
        rows.append(
            Row(f"drives that pass the tree, {name}", percent(driven[name].success), "%", "", sides(driven[name]))
        )
    best = drives(world, veil.Policy(fitted[MIXTURE], veil.Likeliest()), count, jax.random.key(2))
    rows.append(Row(f"{MIXTURE}, taking the likeliest action", percent(best.success), "%", "", sides(best)))
    rows += [
        Row(
            f"drives that change sides, {name}",
            percent(changing(world, driven[name])),
            "%",
            "",
            f"in the last 8 m before the tree clearly to one side ({TURNED} rad), then to the other",
        )
        for name in ("demonstrations", MIXTURE, EPISODE, "conditional VAE", "flow matching", "diffusion")
        if name in driven
    ]
    say("pictures")
    columns = 3 if len(driven) % 3 == 0 else 2
    with style.figure(columns, len(driven) // columns, panel=(3.5, 1.75), sharex=True, sharey=True) as (roads, panels):
        for panel, (name, some) in zip(panels, driven.items(), strict=True):
            plots.drives(panel, world, some)
            title = f"{name[0].upper()}{name[1:]}: {100 * some.rate()[0]:.1f} %"
            style.label(panel, x=("along the road", "m"), y=("across", "m"), title=title)
    steering = np.linspace(-1.8, 1.8, 60 if quick else 300)
    here = np.broadcast_to(np.array([[world.tree - 7.0, 0.0, 0.0]]), (len(steering), 3))
    with style.figure(panel=(5.4, 3.0)) as (choice, (panel,)):
        densities = {
            name: (steering, np.exp(veil.log_prob(fitted[name].model, veil.Data(steering, here))))
            for name in ("squared error", "one Gaussian", MIXTURE, "flow matching")
            if name in fitted
        }
        plots.curves(panel, densities)
        style.label(
            panel,
            x=("steering rate, left is positive", "rad/s"),
            y=("density", "s/rad"),
            title="7 m before the tree, straight ahead",
        )
        style.legend(panel, room=0.25, ncols=2)
    return Findings(
        rows=rows,
        pictures=[
            Picture(
                roads,
                "Sixty drives each, from left to right; the disc is the tree with the car's width, drives that hit it "
                "are orange. In the titles how many drives pass the tree.",
                "driving-roads",
            ),
            Picture(
                choice,
                "What four of the policies would do in the middle of the road, 7 m before the tree: all densities are "
                "exact, that of flow matching by its ODE.",
                "driving-choice",
            ),
        ],
        text=[
            f"{len(shown)} demonstrations by a scripted driver (no person drove), who tosses a coin for the side and "
            "swerves 8 m before the tree. The policies see position and heading, and choose a steering rate every half "
            "second; the simulated car obeys.",
            "The mean of “left” and “right” is “straight on”, into the tree. One Gaussian covers left, right and all "
            "in between, and what is in between hits the tree. All the others have a latent that says which way: one "
            "of a few Gaussians, a code, or noise that an invertible network or a field carries to one side or the "
            "other. The conditional VAE learns by a bound, and some of its draws lie between: it takes the best of "
            "sixteen.",
            "A latent that is drawn at every step may say “left” at one and “right” at the next, while both are still "
            "open; one that is drawn once an episode is kept.",
        ],
    )


def changing(world: Tree, some: Any) -> np.ndarray:
    """Which drives head clearly to one side and then to the other before the tree [N]."""
    x, heading = some.paths[..., 0], some.paths[..., 2]
    near = (x > world.tree - 8.0) & (x < world.tree)
    return np.asarray(np.any(near & (heading > TURNED), 1) & np.any(near & (heading < -TURNED), 1))


def percent(which: np.ndarray) -> str:
    """How often, in percent, with its standard error."""
    rate = float(np.mean(which))
    return f"{100 * rate:.1f} ± {100 * np.sqrt(rate * (1 - rate) / len(which)):.1f}"


def sides(some: Any) -> str:
    """How the drives of a policy went, in words."""
    hit, left = some.hit, some.outcome[some.success]
    words = f"{100 * hit.mean():.1f} % hit it"
    return f"{words}; {100 * left.mean():.0f} % of the rest on the left" if len(left) else words


STATION = Station(
    name="driving",
    order=90,
    title="Round the tree, left or right",
    question="Half of the demonstrations pass the tree on the left, half on the right. What does a policy learn from "
    "both?",
    equation="π(<i>a</i> | <i>o</i>) = ∫ <i>p</i>(<i>a</i> | <i>o</i>, <i>z</i>) <i>p</i>(<i>z</i> | "
    "<i>o</i>) d<i>z</i>. Query: the action. Evidence: the observation. Latent: the way round.",
    run=run,
    packages=("diffrax", "flowjax"),
)
