"""What is somebody trying to do? Goals, rationality and rewards from the steps of simulated walkers on a grid.

A walker on a small map is on the way to one of four goals, acts soft-optimally (maximum causal entropy) and slips in
one step of ten. Watching, the exact posterior over the goal is Bayes' rule step by step; a picture shows how it
sharpens. The table says how well it is calibrated on walkers that were not seen, what happens if people are taken for
three times as rational as they are, and how close a network comes that reads the steps so far (amortized inference).
Then the other way round: from walkers across swamp and road, the reward of every place (inverse reinforcement
learning), and two kinds of people told apart without being told who is who. No person walked.

    python recipes/goals.py --out goals       # about two minutes on two cores
    python recipes/goals.py --quick           # few walkers, few steps
"""

import argparse
from pathlib import Path

import jax
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import veil
from veil.control import KnownReward, LinearReward, TableReward, kinds_apart
from veil.control.worlds.finite import people
from veil.control.worlds.grid import ROOMS, grid
from veil.evaluation.calibration import reliability
from veil.report import grid_plots, style

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("goals"), help="folder for the pictures (default: goals)")
parser.add_argument("--quick", action="store_true", help="few walkers, few steps")
parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default: 0)")
arguments = parser.parse_args()
many, steps = (200, 60) if arguments.quick else (2000, 3000)
key_seen, key_new, key_fit, key_land, key_kinds = jax.random.split(jax.random.key(arguments.seed), 5)
table = Table(title="What somebody wants, from what they do (simulated walkers)")
table.add_column("measured")
table.add_column("value", justify="right")


def rate(begin: float, count: int = steps) -> optax.GradientTransformation:
    """Adam that slows down along a cosine."""
    return optax.adam(optax.cosine_decay_schedule(begin, count))


def there(data: veil.Data) -> np.ndarray:
    """[N, T], which steps were taken."""
    return np.ones(data.query.shape[:2], bool) if data.mask is None else data.mask


# -- goals, step by step ----------------------------------------------------------------------------------------------

world = grid(ROOMS, slip=0.1)
goals = world.rewards(cost=2.0, worth=20.0)
walkers = veil.Intent(world.problem, KnownReward(goals))
_, seen = people(walkers, key_seen, many, steps=40)
truth, new = people(walkers, key_new, many, steps=40)
taken = there(new)

# The model is told neither how rational people are nor how common each goal is: both are learned from the walks.
start = veil.Episodic(veil.Intent(world.problem, KnownReward(0.5 * goals)))
fit = veil.fit(start, seen, key=key_fit, steps=min(steps, 300), optimiser=optax.adam(3e-2))
found = veil.infer(fit, new, filtered=True)


def error(probabilities: np.ndarray, kinds: np.ndarray = truth) -> str:
    """The expected calibration error over all steps."""
    return f"{reliability(probabilities[taken], np.repeat(kinds, taken.sum(1))).error:.4f}"


table.add_row("rationality learned (true: 2)", f"{np.exp(fit.model.model.reward.log_rationality):.3f}")
table.add_row("goal posterior: expected calibration error", error(found.probabilities))
hasty = veil.Episodic(veil.Intent(world.problem, KnownReward(3.0 * goals)))
table.add_row(" people taken for 3 times as rational", error(veil.infer(hasty, new, filtered=True).probabilities))
scales = (0.3, 1.0, 3.0)
pairs_of = veil.Episodic(veil.Intent(world.problem, KnownReward(goals, rationalities=scales)))
both = veil.fit(pairs_of, seen, key=key_fit, steps=min(steps, 300), optimiser=optax.adam(3e-2))
pairs = veil.infer(both, new, filtered=True).probabilities
by_goal = pairs.reshape(*pairs.shape[:2], len(world.goals), len(scales)).sum(-1)
table.add_row(" rationality inferred with the goal, of .3, 1 and 3", error(by_goal))
for step in (0, 4, 9):
    share = np.mean(found.probabilities[np.arange(many), step, truth])
    table.add_row(f" probability of the true goal after {step + 1} steps", f"{share:.3f}")

# A network that reads the steps so far, beside enumeration: trained on beginnings of any length of simulated walks.
_, more = people(walkers, key_fit, 5 * many, steps=40)
ends = np.random.default_rng(arguments.seed).integers(1, there(more).sum(1) + 1)
beginnings = veil.data.episodes(*([leaf[n, :t] for n, t in enumerate(ends)] for leaf in (more.query, more.evidence)))
one_of = veil.LatentIntent(world.problem, np.moveaxis(goals, 0, -1), latent=veil.priors.Codes(1, len(world.goals)))
reader = veil.fit(
    veil.Episodic(one_of),
    beginnings,
    key=key_fit,
    steps=steps,
    batch_size=128,
    objective=veil.ELBO(veil.objective.Enumerated()),
    optimiser=rate(3e-3),
)
exact = veil.infer(veil.Episodic(walkers), new, filtered=True).probabilities
read = veil.infer(reader, new, filtered=True).mean[:, :, 0]
logs = [np.log(np.maximum(each, 1e-30)) for each in (exact, read)]
divergence = np.sum(exact * (logs[0] - logs[1]), -1)
table.add_row("network: KL from the exact posterior (nats a step)", f"{divergence[taken].mean():.4f}")
table.add_row("network: expected calibration error", error(read))

# -- what places are worth: inverse reinforcement learning ------------------------------------------------------------

land = grid(
    """
    ..~~~...
    ..~~~.::
    .....~::
    .~~..~::
    .~~.....
    """,
    slip=0.1,
    stay=True,
    discount=0.9,
)
worth = land.features("~:") @ np.array([-1.0, 1.0])
strollers = veil.Intent(land.problem, LinearReward(land.features("~:"), weights=np.array([[-1.0, 1.0]])))
_, walks = people(strollers, key_land, many // 2, steps=20)
map_fit = veil.fit(
    veil.Episodic(veil.Intent(land.problem, TableReward(states=land.problem.states))),
    walks,
    key=key_fit,
)
recovered = np.array(map_fit.model.model.reward.numbers[0])
recovered += worth.mean() - recovered.mean()  # found up to a constant
table.add_row("reward map: correlation with the true one", f"{np.corrcoef(worth, recovered)[0, 1]:.3f}")
table.add_row("reward map: root mean squared difference (nats)", f"{np.sqrt(np.mean((worth - recovered) ** 2)):.3f}")

# -- two kinds of people ----------------------------------------------------------------------------------------------

shore = grid("A.....B\n.......\n...@...", slip=0.1)
two = veil.Intent(shore.problem, KnownReward(shore.rewards()), logits=np.log([0.3, 0.7]))
_, mixed = people(two, key_kinds, many // 4, steps=30)
kinds, others = people(two, jax.random.fold_in(key_kinds, 1), many // 4, steps=30)
blank = veil.Intent(shore.problem, TableReward(states=shore.problem.states, kinds=2, key=key_fit))
for name, model in (("as they come", blank), ("from groups of episodes", kinds_apart(blank, mixed, key=key_fit))):
    count = min(steps, 400)
    classes = veil.fit(veil.Episodic(model), mixed, key=key_fit, steps=count, optimiser=optax.adam(5e-2))
    told = veil.infer(classes, others, filtered=True)
    right = np.mean(told.most_likely[:, -1] == kinds)
    loss = -np.sum(told.log_likelihood, 0) / np.maximum(there(others).sum(0), 1)
    table.add_row(f"two kinds, started {name}: told apart", f"{100 * max(right, 1 - right):.1f} %")
    table.add_row(" nats a step: first, second, sixth", ", ".join(f"{loss[t]:.3f}" for t in (0, 1, 5)))
best = np.mean(veil.log_prob(veil.Episodic(two), others))
table.add_row(" nats an episode; of the true model", f"{-np.mean(veil.log_prob(classes, others)):.3f}; {-best:.3f}")
Console(width=100).print(table)

# -- pictures ---------------------------------------------------------------------------------------------------------

arguments.out.mkdir(parents=True, exist_ok=True)
row = int(np.argmax(np.where(truth == world.goals.index("C"), taken.sum(1), 0)))
path = world.places[new.evidence[row, taken[row], 0].astype(int)]
moments = np.unique(np.linspace(0, len(path) - 1, 4).astype(int))
with style.figure(2, (len(moments) + 1) // 2, panel=(3.0, 2.8)) as (picture, panels):
    for panel, moment in zip(panels, moments, strict=True):
        shown = dict(zip(world.goals, found.probabilities[row, moment].tolist(), strict=True))
        grid_plots.belief(panel, world, path[: moment + 1], shown, f"after {moment + 1} steps")
picture.savefig(arguments.out / "goals.png")
with style.figure(2, panel=(3.6, 2.6)) as (picture, panels):
    for panel, values, title in zip(panels, (worth, recovered), ("true reward", "recovered"), strict=True):
        panel.grid(False)
        image = panel.imshow(land.laid(values), cmap="RdBu", vmin=-1.5, vmax=1.5)
        style.label(panel, x=("column", "1"), y=("row", "1"), title=title)
        style.colour_scale(picture, panel, image, ("reward", "nats"))
picture.savefig(arguments.out / "reward.png")
calibrated = reliability(found.probabilities[taken], np.repeat(truth, taken.sum(1)))
with style.figure(panel=(3.6, 3.0)) as (picture, panels):
    (panel,) = panels
    panel.plot([0.2, 1], [0.2, 1], color="0.6", linestyle="--", label="calibrated")
    panel.plot(calibrated.confidence, calibrated.accuracy, marker="o", label="goal posterior")
    style.legend(panel)
    style.label(panel, x=("probability of the likeliest goal", "1"), y=("how often it was true", "1"))
picture.savefig(arguments.out / "calibration.png")
print(*(arguments.out / name for name in ("goals.png", "reward.png", "calibration.png")))
