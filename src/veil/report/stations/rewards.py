"""What places are worth, from how people walk among them: inverse reinforcement learning."""

import jax
import numpy as np

import veil
from veil.control import LinearReward, TableReward, solve
from veil.control.optimality import returned
from veil.control.worlds.finite import people
from veil.control.worlds.grid import grid
from veil.report import style
from veil.report.page import Picture
from veil.report.station import Findings, Row, Say, Station

LAND = """
..~~~...
..~~~.::
.....~::
.~~..~::
.~~.....
"""
WORTH = np.array([-1.0, 1.0])  # of a swamp ~ and a meadow :, nats a step


def run(quick: bool, say: Say) -> Findings:
    land = grid(LAND, slip=0.1, stay=True, discount=0.9)
    features = land.features("~:")
    worth = features @ WORTH
    strollers = veil.Intent(land.problem, LinearReward(features, weights=WORTH[None]))
    key_walks, key_fit = jax.random.split(jax.random.key(0))
    many = 100 if quick else 1000
    _, walks = people(strollers, key_walks, many, steps=20)
    seen = veil.data.steps(walks)
    counts = np.zeros((land.problem.states, land.problem.actions))
    np.add.at(counts, (seen.evidence[:, 0].astype(int), seen.query[:, 0].astype(int)), 1.0)
    state, action = np.nonzero(counts)
    pairs = veil.Data(
        query=action, evidence=state, weight=counts[state, action]
    )  # equal decisions are one, with a weight
    found, rows = {}, []
    for name, reward in (
        ("a number a place", TableReward(states=land.problem.states)),
        ("two weights", LinearReward(features)),
    ):
        say(name)
        model = veil.Intent(land.problem, reward)
        fit = veil.fit(model, pairs, key=key_fit, progress=False)
        table = np.asarray(fit.model.reward.tables()[0])
        found[name] = table + worth.mean() - table.mean()  # what is found is found up to a constant
        rows.append(
            Row(
                f"{name}: root mean squared difference from the true reward",
                f"{np.sqrt(np.mean((found[name] - worth) ** 2)):.3f}",
                "nats",
                "0",
                f"{many} walks of 20 steps",
            )
        )
    # the test of a reward is what it does elsewhere: the same land without slips, where walls stand in the way
    other = grid(LAND.replace("....~::\n", "#.##~::\n", 1), stay=True, discount=0.9)
    kept = np.array([np.flatnonzero((land.places == place).all(1))[0] for place in other.places])
    truth = other.problem.rewarded(worth[kept])
    best = float(solve(truth, temperature=0.0).expected_return)
    for name, table in found.items():
        policy = solve(other.problem.rewarded(table[kept]), temperature=0.0).log_policy
        rows.append(
            Row(
                f"{name}: return in another land of who acts best for it",
                f"{float(returned(truth, policy)):.2f}",
                "nats",
                f"{best:.2f}",
                "walls, and nobody slips; reference: the best there is",
            )
        )
    say("pictures")
    limit = 1.5
    with style.figure(3, panel=(3.6, 2.6)) as (picture, panels):
        for panel, (name, values) in zip(panels, {"true": worth, **found}.items(), strict=True):
            image = panel.imshow(land.laid(values), cmap="RdBu", vmin=-limit, vmax=limit)
            panel.grid(False)
            style.label(panel, x=("column", "number"), y=("row", "number"), title=name)
            style.colour_scale(picture, panel, image, ("reward", "nats"))
    return Findings(
        rows=rows,
        pictures=[
            Picture(
                picture,
                "What a step on each place is worth: in truth, and as it was found from walks alone, by a number for "
                "every place, and by one weight for swamp and one for meadow. Red costs, blue is worth something.",
                "rewards",
            )
        ],
        text=[
            f"{many} walks by simulated people (no person walked) who like meadows and avoid swamps. Nobody says so; "
            "the reward is what makes their steps likely. The likelihood of a decision is the soft-optimal policy's, "
            "which sees ahead: a place may be visited because of what lies behind it. Its gradient is exact, and of "
            "weights it is concave: at the maximum people of the model meet swamp and meadow as often as those seen.",
            "A reward is worth more than a copy of the steps: it says what people would do elsewhere, here in a land "
            "with walls and without slips.",
        ],
    )


STATION = Station(
    name="rewards",
    order=94,
    title="What are places worth to somebody?",
    question="From nothing but how people walk, what do they like?",
    equation="max<sub><i>r</i></sub> Σ log π<sub><i>r</i></sub>(<i>a</i> | <i>s</i>), "
    "<i>Q</i>(<i>s</i>, <i>a</i>) = <i>r</i>(<i>s</i>) + γ E[<i>V</i>(<i>s</i>′)], "
    "<i>V</i>(<i>s</i>) = log Σ<sub><i>a</i></sub> e<sup><i>Q</i>(<i>s</i>, <i>a</i>)</sup>. "
    "Query: actions. Evidence: places. The reward is a parameter.",
    run=run,
)
