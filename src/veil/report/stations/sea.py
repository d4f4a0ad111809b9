"""DeepSea: a treasure that chance does not find, and counting does."""

import tempfile
from pathlib import Path

import jax
import numpy as np

from veil.control.exploration.searching import counting, search
from veil.control.exploration.tabular import QLearning
from veil.control.worlds.deep_sea import DeepSea
from veil.report import explored, style
from veil.report.page import Film, Picture
from veil.report.station import Findings, Row, Say, Station


def run(quick: bool, say: Say) -> Findings:
    sea = DeepSea(6 if quick else 20)
    learners = {
        "counts": counting(sea),
        "no counts": QLearning(random=0.1),
        "optimism alone": QLearning(optimism=1.0),
    }
    most = 100 if quick else 1000
    found = {}
    for name, learner in learners.items():
        say(name)
        found[name] = search(sea, learner, jax.random.key(0), most=most, beyond=True)
    say("pictures")
    size, counts = sea.size, found["counts"]
    with style.figure(3, panel=(4.2, 3.4)) as (picture, panels):
        for panel, name in zip(panels, ("counts", "no counts"), strict=False):
            met = found[name].visits[-1][: size * size].reshape(size, size)
            explored.visits(panel, picture, met, f"{name}: visits of {most} episodes")
        for name, each in found.items():
            panels[2].plot(1 + np.arange(most), np.cumsum(each.returns > 0.5), label=name)
        style.label(panels[2], x=("episode", "number"), y=("treasures found", "number"))
        style.legend(panels[2])
    with tempfile.TemporaryDirectory() as folder:
        growth = explored.write_growth(Path(folder) / "sea.gif", counts).read_bytes()
    says = lambda each: "not found" if each.solved is None else f"episode {each.solved}"  # noqa: E731
    return Findings(
        rows=[
            Row(
                f"DeepSea of {size} rows, solved by bsuite's rule, counting",
                says(counts),
                "episodes",
                f"by chance the treasure is met once in 2^{size} = {2**size} episodes",
                f"without counts: {says(found['no counts'])}; optimism alone: {says(found['optimism alone'])}",
            ),
            Row(
                "states seen, with counts and without",
                f"{counts.coverage:.0%}, {found['no counts'].coverage:.0%}",
                "of those below the start",
                "all that can be reached",
                "",
            ),
        ],
        pictures=[
            Picture(
                picture,
                "Each state's visits: a row is a step, the treasure is at the lower right. Right, how often it was "
                "found by then.",
                "sea",
            )
        ],
        films=[Film(growth, "Where somebody was who counts, as episodes go by.", "sea-growth")],
        text=[
            "Every step to the right costs a little, and only who goes right at every row finds a treasure. Q-learning "
            "that is told of rewards only learns to go left. A bonus of weight / √(n + 1) for what was done n times, "
            "with values that begin at the best there may be, goes where it has not been.",
            "<code>veil explore deep-sea --size 50</code> looks further down, and <code>veil explore ENV --bonus rnd"
            "</code> makes any environment's reward curious.",
        ],
    )


STATION = Station(
    name="sea",
    order=99,
    title="Exploration: a treasure that chance does not find",
    question="How does one find what one has never seen any trace of?",
    equation="<i>r</i>(<i>s</i>, <i>a</i>) + β / √(<i>n</i>(<i>s</i>, <i>a</i>) + 1), with <i>n</i> = 1 / (e<sup>gain"
    "</sup> - 1) of any density's prediction gain.",
    run=run,
    packages=("PIL",),
)
