"""What is a cook about to do? Sub-goals inferred online from the steps of people who play Overcooked, and a film.

Games of human pairs (Carroll et al. 2019). Between two interactions of a player lies an errand: to the onions, the
dishes, a pot, where soups are served, or to a counter. How rational people are on the way, how common each cell is with
what they hold, and how often they change their minds is learned from the games to learn from (``veil.SwitchingIntent``,
maximum likelihood); on the held-out ones the posterior over cells is exact after every step and never sees what
follows. Scored is the interaction that comes so many steps of 150 ms later, beside how often each cell was gone for
with that object in hand.

    python recipes/overcooked_subgoals.py --out overcooked_subgoals   # some minutes on two cores
    python recipes/overcooked_subgoals.py --quick                     # one kitchen, few games
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from veil.control.worlds import subgoals
from veil.control.worlds.kitchens import picture
from veil.control.worlds.overcooked import State, logged
from veil.data.bundled.overcooked import KITCHENS, SECONDS, THINGS, trials
from veil.report import style

AHEAD = (1, 3, 6)  # steps before the interaction

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("overcooked_subgoals"), help="folder for the pictures and films")
parser.add_argument("--quick", action="store_true", help="one kitchen, few games")
arguments = parser.parse_args()
arguments.out.mkdir(parents=True, exist_ok=True)
names, limit = (["cramped-room"], 1) if arguments.quick else (list(KITCHENS), None)


def frequencies(model, games):
    """[things, cells]: how often each cell was interacted with, one added to each of them."""
    found = np.ones((len(THINGS), len(model.cells)))
    for game in games:
        for player in range(2):
            for each in subgoals.errands(game, player):
                if each.goal is not None:
                    found[each.held, np.flatnonzero(model.cells == each.goal)[0]] += 1
    return found / found.sum(1, keepdims=True)


def scores(model, base, games):
    """Of every interaction and step ahead: log p of the cell and of its kind, by the posterior and by frequency."""
    found = {ahead: [] for ahead in AHEAD}
    for game in games:
        for player in range(2):
            belief = model.belief(game, player)
            for each in subgoals.errands(game, player):
                for ahead in AHEAD if each.goal is not None else ():
                    step = each.end - ahead  # the state from which the interaction is so many actions away
                    if step < each.begin:
                        continue
                    cell = np.flatnonzero(model.cells == each.goal)[0]
                    alike = model.kinds == model.kinds[cell]
                    sums = [p[where].sum() for p in (belief[step], base[each.held]) for where in (cell, alike)]
                    found[ahead].append([game.pair, *np.log(sums), belief[step].argmax() == cell])
    return {ahead: np.array(rows) for ahead, rows in found.items()}


def gained(rows):
    """Nats by which the posterior is better for the cell, and 95 % of it, pairs drawn again."""
    more, pairs = rows[:, 1] - rows[:, 3], np.unique(rows[:, 0])
    each = np.array([[more[rows[:, 0] == pair].sum(), np.sum(rows[:, 0] == pair)] for pair in pairs])
    again = each[np.random.default_rng(0).integers(len(each), size=(2000, len(each)))].sum(1)
    low, high = np.quantile(again[:, 0] / again[:, 1], (0.025, 0.975))
    return f"{more.mean():.2f} [{low:.2f}, {high:.2f}]"


table = Table(
    title="The next interaction of held-out players (nats; by the posterior, by frequency with the object in hand)"
)
for column in (
    "kitchen",
    "steps ahead",
    "interactions",
    "cell",
    "by frequency",
    "gain [95 %]",
    "kind",
    "by frequency",
    "right",
):
    table.add_column(column, justify="left" if column == "kitchen" else "right")
models = {}
for name in names:
    learned, held_out = ([game for game in trials(name) if game.held_out == test][:limit] for test in (False, True))
    models[name] = model = subgoals.learn(learned, key=jax.random.key(0))
    for ahead, rows in scores(model, frequencies(model, learned), held_out).items():
        cell, kind, cell_base, kind_base, right = rows[:, 1:].mean(0)
        values = [f"{-value:.3f}" for value in (cell, cell_base)]
        table.add_row(
            name,
            str(ahead),
            str(len(rows)),
            *values,
            gained(rows),
            f"{-kind:.3f}",
            f"{-kind_base:.3f}",
            f"{100 * right:.0f} %",
        )
Console(width=140).print(table)

# -- a film and a picture ---------------------------------------------------------------------------------------------

for name, model in models.items():
    game = next(game for game in trials(name) if game.held_out)
    some = range(0, 40) if arguments.quick else range(300, 500)
    subgoals.film(model, game, arguments.out / f"{name}.gif", some)
    print(arguments.out / f"{name}.gif")
name, model = next(iter(models.items()))
game = next(game for game in trials(name) if game.held_out)
beliefs = np.zeros((len(game) + 1, 2, len(model.kitchen.tiles)))
for player in range(2):
    beliefs[:, player, model.cells] = model.belief(game, player)
errand = [each for each in subgoals.errands(game, 0) if each.goal is not None and len(each.steps) >= 4][-1]
moments = np.linspace(errand.begin, errand.end - 1, 4).astype(int)
states = logged(game)
with style.figure(4, panel=(2.6, 2.4)) as (drawn, panels):
    for panel, moment in zip(panels, moments, strict=True):
        state = State(*(np.asarray(part[moment]) for part in states))
        panel.imshow(picture(model.kitchen, state, aims=beliefs[moment]))
        panel.grid(False)
        panel.set(xticks=[], yticks=[])
        style.label(panel, x=("kitchen", "cells"), y=("kitchen", "cells"), title=f"{moment * SECONDS:.1f} s")
drawn.savefig(arguments.out / "subgoals.png")
print(arguments.out / "subgoals.png")
