"""Goals on a grid: what somebody is on the way to, as it becomes clear step by step."""

import jax
import numpy as np

import veil
from veil.control import KnownReward
from veil.control.worlds.finite import people
from veil.control.worlds.grid import ROOMS, grid
from veil.evaluation.calibration import reliability
from veil.host.films import gif
from veil.report import grid_plots, style
from veil.report.page import Film, Picture
from veil.report.station import Findings, Row, Say, Station

TRUE = 2.0  # how rational the walkers are whom the model takes for people of rationality 1 at first


def run(quick: bool, say: Say) -> Findings:
    world = grid(ROOMS, slip=0.1)
    rewards = world.rewards(cost=1.0, worth=10.0)
    walkers = veil.Intent(world.problem, KnownReward(TRUE * rewards))
    many = 100 if quick else 1000
    key_seen, key_new, key_fit = jax.random.split(jax.random.key(0), 3)
    _, seen = people(walkers, key_seen, many, steps=40)
    truth, new = people(walkers, key_new, many, steps=40)
    say("how rational they are")
    start = veil.Episodic(veil.Intent(world.problem, KnownReward(rewards)))
    optimiser = veil.learning.choices.default_optimiser(200, 3e-2)
    fit = veil.fit(start, seen, key=key_fit, steps=200, optimiser=optimiser, progress=False)
    say("what they are on the way to")
    found = np.asarray(veil.infer(fit, new, filtered=True).probabilities)
    there = np.ones(new.query.shape[:2], bool) if new.mask is None else new.mask
    error = lambda beliefs: reliability(np.asarray(beliefs)[there], np.repeat(truth, there.sum(1))).error  # noqa: E731
    hasty = veil.Episodic(veil.Intent(world.problem, KnownReward(3 * TRUE * rewards)))
    rows = [
        Row(
            "rationality", f"{np.exp(float(fit.model.model.reward.log_rationality)):.3f}", "nats a reward", f"{TRUE:g}"
        ),
        Row("expected calibration error", f"{error(found):.4f}", "probability", "0", f"{many} new walkers, all steps"),
        Row(
            "the same, people taken for three times as rational",
            f"{error(veil.infer(hasty, new, filtered=True).probabilities):.4f}",
            "probability",
            "0",
        ),
    ]
    for step in (1, 5, 10):
        going = there[:, step - 1]
        share = np.mean(found[np.arange(many), step - 1, truth][going])
        rows.append(
            Row(f"probability of the true goal, {step} decisions seen", f"{share:.3f}", "of 4 goals: 0.25 to 1")
        )
    say("pictures")
    # somebody with a long way, who might go to several places for a while
    doubt = np.sum(np.where(there, 1.0 - found[np.arange(many), :, truth], 0.0), 1)
    one = int(np.argmax(np.where(there.sum(1) <= 20, doubt, 0.0)))
    path = world.places[new.evidence[one, there[one], 0].astype(int)]
    beliefs = found[one, there[one]]
    moments = np.unique(np.linspace(2, len(path), 3).astype(int))
    with style.figure(2, 2, panel=(3.6, 2.6)) as (picture, panels):
        for panel, moment in zip(panels, moments, strict=False):
            shown = dict(zip(world.goals, beliefs[moment - 1].tolist(), strict=True))
            grid_plots.belief(panel, world, path[:moment], shown, f"after {moment} decisions")
        for panel in panels[len(moments) : 3]:
            panel.remove()
        grid_plots.sharpening(panels[3], beliefs, world.goals)
    frames = grid_plots.film(world, path, beliefs, world.goals)
    return Findings(
        rows=rows,
        pictures=[
            Picture(
                picture,
                f"One walker, on the way to {world.goals[int(truth[one])]}: where they went (blue, the present place "
                "large), and how probable each of four goals is by then; yellow discs grow with the probability. Below "
                "on the right the same after every decision.",
                "goals",
            )
        ],
        films=[Film(gif(frames, rate=3, hold=2.0), "The same walker, decision by decision.", "belief")],
        text=[
            f"{many} simulated walkers (no person walked) are on the way to one of four goals, slip now and then, and "
            "act soft-optimally: an action that is worth one nat more is e times as likely. What they are on the "
            "way to is the latent of their actions, drawn once and kept, and Bayes' rule says after each decision how "
            "probable each goal is. Nobody told the model how rational people are: that was learned first, from other "
            "walkers.",
            "A posterior is worth as much as its calibration: of all moments at which it says 80 %, it should be right "
            "at 80 %. Who takes people for more rational than they are is surer of their aim than the steps allow.",
        ],
    )


STATION = Station(
    name="goals",
    order=93,
    title="Where is somebody going?",
    question="How soon does it show what somebody is on the way to, and can one trust the probabilities?",
    equation="<i>p</i>(<i>z</i> | <i>a</i><sub>1:t</sub>, <i>s</i><sub>1:t</sub>) ∝ <i>p</i>(<i>z</i>) "
    "Π<sub><i>k</i>≤<i>t</i></sub> π<sub><i>z</i></sub>(<i>a<sub>k</sub></i> | <i>s<sub>k</sub></i>), "
    "π<sub><i>z</i></sub> = exp(<i>Q<sub>z</sub></i> − <i>V<sub>z</sub></i>). Query: actions. Evidence: places. "
    "Latent: the goal of an episode.",
    run=run,
    packages=("PIL",),
)
