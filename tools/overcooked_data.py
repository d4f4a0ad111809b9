"""How the file of the Overcooked games was made, once, from the pickles of the package overcooked-ai (MIT licence).

A pickle runs code when it is read: do this in an environment of its own, as it was done here,

    python -m venv overcooked && overcooked/bin/pip install pandas
    overcooked/bin/pip install --no-deps overcooked-ai==1.1.0
    PYTHONPATH=src overcooked/bin/python tools/overcooked_data.py \
        overcooked/lib/python3*/site-packages/overcooked_ai_py/data/human_data src/veil/data/bundled/overcooked.npz

It needs numpy and pandas only: ``bundled/overcooked.py`` is read by its path for the kitchens and the numbers of
things.
"""

import ast
import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np
import pandas

SOURCE = Path(__file__).parents[1] / "src/veil/data/bundled/overcooked.py"
PUBLISHED = {"random0": "forced-coordination", "random3": "counter-circuit"}
MOVES = {(0, -1): 0, (0, 1): 1, (1, 0): 2, (-1, 0): 3, (0, 0): 4}


def described():
    """The module of the kitchens, without the library, which needs JAX."""
    for name in ("veil", "veil.data", "veil.data.recorded", "veil.data.recorded.recordings"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["veil.data.recorded.recordings"].__dict__.update(Episode=None, Recording=None)
    specification = importlib.util.spec_from_file_location("overcooked", SOURCE)
    module = importlib.util.module_from_spec(specification)
    sys.modules["overcooked"] = module
    specification.loader.exec_module(module)
    return module


def plain(text):
    return json.loads(text.replace("'", '"').replace("True", "true").replace("False", "false"))


def converted(states, actions, rewards, kitchen, things, width):
    """The arrays of one game; ``width`` counters and 2 pots, padded with zeros."""
    cell = lambda place: place[1] * kitchen.width + place[0]  # noqa: E731
    counters = {int(each): i for i, each in enumerate(kitchen.counters)}
    pots = {int(each): i for i, each in enumerate(kitchen.pots)}
    shapes = {"place": 2, "facing": 2, "held": 2, "counters": width, "onions": 2, "ticks": 2}
    found = {part: np.zeros((len(states), size), np.uint8) for part, size in shapes.items()}
    for t, state in enumerate(states):
        assert (state["order_list"], state["pot_explosion"]) == (["onion"], False)
        for i, player in enumerate(state["players"]):
            found["place"][t, i] = cell(player["position"])
            found["facing"][t, i] = MOVES[tuple(player["orientation"])]
            found["held"][t, i] = things.index(player["held_object"]["name"]) if "held_object" in player else 0
        for each in state["objects"].values():
            where = cell(each["position"])
            if where in pots:
                kind, found["onions"][t, pots[where]], found["ticks"][t, pots[where]] = each["state"]
                assert kind == "onion"
            else:
                found["counters"][t, counters[where]] = things.index(each["name"])
    found["action"] = np.array(
        [[5 if a == "INTERACT" else MOVES[tuple(a)] for a in each] for each in actions], np.uint8
    )
    found["reward"] = np.array(rewards, np.uint8)
    return found


module = described()
folder, out = map(Path, sys.argv[1:])
width = max(len(each.counters) for each in module.KITCHENS.values())
games, labels = [], []
for held_out, file in enumerate(("clean_train_trials.pickle", "clean_test_trials.pickle")):
    table = pandas.read_pickle(folder / file)
    for (layout, pair, _), rows in table.groupby(["layout_name", "workerid_num", "run"], sort=False):
        name = PUBLISHED.get(layout, layout.replace("_", "-"))
        kitchen = module.KITCHENS[name]
        assert ast.literal_eval(rows.layout.iloc[0]) == list(kitchen.rows)
        states, following = [plain(each) for each in rows.state], [plain(each) for each in rows.next_state]
        assert states[1:] == following[:-1]
        actions = [plain(each) for each in rows.joint_action]
        games.append(converted([*states, following[-1]], actions, rows.reward, kitchen, module.THINGS, width))
        labels.append((list(module.KITCHENS).index(name), pair, held_out, len(actions)))
joined = {part: np.concatenate([game[part] for game in games]) for part in games[0]}
# column by column they are compressed best
kept = {part: np.asfortranarray(array) for part, array in joined.items()}
about = dict(zip(("kitchen", "pair", "held_out", "lengths"), np.array(labels, np.int32).T, strict=True))
np.savez_compressed(out, **kept, **{part: np.ascontiguousarray(array) for part, array in about.items()})
print(f"{out}: {out.stat().st_size} bytes, {len(games)} games, {len(joined['action'])} joint actions")
