"""The lecture's example: round the tree from demonstrations both ways."""

import jax
import numpy as np

import veil
from veil.control.worlds import Tree, demonstrate, drives
from veil.parts.heads import DiagonalGaussian, HomoscedasticGaussian
from veil.report import plots, style
from veil.report.page import Picture
from veil.report.station import Findings, Row, Say, Station


def run(quick: bool, say: Say) -> Findings:
    world = Tree()
    shown = demonstrate(world, 60 if quick else 200, jax.random.key(0))
    data = shown.recording("driving").data("action", "observation")
    trunk = veil.MLP((64, 64))
    models = {
        "squared error": (veil.density(veil.Linear(HomoscedasticGaussian()), trunk=trunk), veil.Mean()),
        "one Gaussian": (veil.density(veil.Linear(DiagonalGaussian()), trunk=trunk), veil.Sample()),
        "mixture density network": (
            veil.Mixture(veil.Linear(DiagonalGaussian()), components=4, trunk=trunk),
            veil.Sample(),
        ),
    }
    count = 200 if quick else 1000
    rows = [
        Row(
            "demonstrations that pass the tree",
            percent(shown),
            "%",
            "",
            f"{100 * (shown.outcome == 1).mean():.0f} % on the left",
        )
    ]
    driven = {"demonstrations": shown}
    fitted = {}
    for name, (model, choose) in models.items():
        say(name)
        fitted[name] = veil.fit(model, data, key=jax.random.key(1), steps=400 if quick else 3000, progress=False).model
        policy = veil.Policy(fitted[name], choose)
        driven[name] = drives(world, policy, count, jax.random.key(2))
        rows.append(Row(f"drives that pass the tree, {name}", percent(driven[name]), "%", "", sides(driven[name])))
    best = drives(
        world, veil.Policy(fitted["mixture density network"], choose=veil.Likeliest()), count, jax.random.key(2)
    )
    rows.append(Row("the same, taking the likeliest action", percent(best), "%", "", sides(best)))
    say("pictures")
    with style.figure(2, 2, panel=(4.6, 2.35), sharex=True, sharey=True) as (roads, panels):
        for panel, (name, some) in zip(panels, driven.items(), strict=True):
            plots.drives(panel, world, some)
            style.label(panel, x=("along the road", "m"), y=("across", "m"), title=name[0].upper() + name[1:])
    x = world.tree - 7.0
    steering = np.linspace(-1.8, 1.8, 300)
    here = np.broadcast_to(np.array([[x, 0.0, 0.0]]), (300, 3))
    with style.figure(panel=(5.4, 3.0)) as (choice, (panel,)):
        densities = {
            name: (steering, np.exp(veil.log_prob(model, veil.Data(steering, here)))) for name, model in fitted.items()
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
                "are orange.",
                "driving-roads",
            ),
            Picture(
                choice, "What each policy would do in the middle of the road, 7 m before the tree.", "driving-choice"
            ),
        ],
        text=[
            f"{len(shown)} demonstrations by a scripted driver (no person drove), who tosses a coin for the side and "
            "swerves 8 m before the tree. The policies see position and heading, and choose a steering rate every half "
            "second; the simulated car obeys.",
            "The mean of “left” and “right” is “straight on”, into the tree. One Gaussian covers left, right and all "
            "in between, and what is in between hits the tree. The mixture chooses a side, as the demonstrations do.",
        ],
    )


def percent(some: object) -> str:
    """A success rate with its standard error, in percent."""
    rate, error = some.rate()  # type: ignore[attr-defined]
    return f"{100 * rate:.1f} ± {100 * error:.1f}"


def sides(some: object) -> str:
    """How the drives of a policy went, in words."""
    hit, left = some.hit, some.outcome[some.success]  # type: ignore[attr-defined]
    words = f"{100 * hit.mean():.1f} % hit it"
    return f"{words}; {100 * left.mean():.0f} % of the rest on the left" if len(left) else words


STATION = Station(
    name="driving",
    order=90,
    title="Round the tree, left or right",
    question="Half of the demonstrations pass the tree on the left, half on the right. What does a policy learn from "
    "both?",
    equation="π(<i>a</i> | <i>o</i>) = Σ<sub><i>z</i></sub> <i>p</i>(<i>z</i> | <i>o</i>) <i>p</i>(<i>a</i> | "
    "<i>o</i>, <i>z</i>). Query: the action. Evidence: the observation. Latent: the way round.",
    run=run,
)
