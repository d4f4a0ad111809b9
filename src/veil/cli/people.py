"""Whose decisions ``veil intent`` is about: their model, in words, and what they decided, checked."""

from typing import Any

from veil.cli import fitting, worlds
from veil.cli.program import Refusal
from veil.cli.waiting import waiting

REWARDS = ("goals", "table", "linear", "mlp")
HIDDEN = "32,32"


def model(
    opened: worlds.Opened,
    reward: str,
    kinds: int,
    changes: bool,
    rationalities: Any,
    features: Any,
    hidden: Any,
    key: Any,
) -> tuple[list[str], Any]:
    """What the kinds are called, and the model."""
    from veil.parts.rewards import KnownReward, LinearReward, NeuralReward, TableReward
    from veil.zoo.episodic import Episodic
    from veil.zoo.intent import Intent
    from veil.zoo.switching_intent import SwitchingIntent

    several: Any = SwitchingIntent if changes else Episodic
    problem, grid = opened.problem, opened.grid
    if reward == "goals":
        goals = opened.goals(grid.goals)
        scales = _numbers(rationalities)
        names = [goal if len(scales) == 1 else f"{goal} x {scale:g}" for goal in goals for scale in scales]
        return names, several(Intent(problem, KnownReward(grid.rewards(), scales)))
    made: Any
    if reward == "table":
        made = TableReward(problem.states, kinds=kinds, key=key)
    else:
        numbers = _features(opened, features, reward == "mlp")
        sizes = tuple(fitting._sizes(hidden or HIDDEN))
        made = (
            LinearReward(numbers, kinds, key=key)
            if reward == "linear"
            else NeuralReward(numbers, sizes, kinds, key=key)
        )
    model = Intent(problem, made)
    names = [f"kind {k}" for k in range(kinds)]
    return names, several(model) if kinds > 1 else model


def _features(opened: worlds.Opened, asked: str | None, placed: bool) -> Any:
    """What a reward is made of: tables' own features; of a map whether one arrives at a ground, and a step's cost."""
    import numpy as np

    from veil.control.worlds.grid import FLOOR, START

    if opened.grid is None:
        if opened.features is None:
            raise Refusal("--reward: linear and mlp need features; this .npz has no array of this name: use table")
        return opened.features
    grid = opened.grid
    letters = asked or "".join(sorted(set(grid.ground.tolist()) - {FLOOR, START}))
    wrong = sorted(set(letters) - set(grid.ground.tolist()))
    if wrong:
        raise Refusal(f"--features: this map has {''.join(sorted(set(grid.ground.tolist())))}; got {wrong[0]!r}")
    if placed:
        places = grid.places / np.maximum(np.array(grid.shape) - 1, 1)
        return np.concatenate([grid.features(letters), places], -1)
    return grid.arrivals(letters)


def _numbers(text: str | None) -> tuple[float, ...]:
    if text is None:
        return (1.0,)
    try:
        found = tuple(float(each) for each in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(0 < each < float("inf") for each in found):
        raise Refusal(f"--rationalities: expected positive numbers with commas between them: 0.3,1,3; got {text!r}")
    return found


def read(
    source: str, model: Any, state: str, action: str, weight: str | None, episode: str, time: str | None
) -> tuple[Any, Any, Any]:
    """The decisions, how they are sequences (None: rows), and the columns asked for."""
    from veil.cli import reading
    from veil.model import OfSequences

    columns = reading.names(action, "--action"), reading.names(state, "--state")
    if not isinstance(model, OfSequences):
        if time is not None:
            raise Refusal("--time: people of one kind decide row by row; leave it out")
        return reading.open_data(source, *columns, weight), None, columns
    if not reading.is_file(source) or episode not in reading.all_columns(source):
        raise Refusal(
            f"--episode: {source} has no column {episode!r}, and where there are several kinds or goals one must say "
            "whose decision each row is"
        )
    how = reading.Sequences(episode, time)
    return reading.open_data(source, *columns, weight, None, how), how, columns


def check(data: Any, problem: Any) -> None:
    """Raise Refusal for states, actions and steps that the world does not have."""
    import numpy as np

    limits: list[tuple[str, Any, tuple[Any, ...]]] = [("action", data.query, (problem.actions,))]
    limits += [("state", data.evidence, (problem.states, problem.horizon))]
    for name, array, counts in limits:
        wanted = 1 if name == "action" else 1 + (problem.horizon is not None)
        if array is None or array.shape[-1] != wanted:
            more = " and the step, since this world has a horizon (--state state,step)" if wanted == 2 else ""
            raise Refusal(
                f"--{name}: expected one column, the {name}{more}; got {0 if array is None else array.shape[-1]}"
            )
        there = np.ones(array.shape[:-1], bool) if data.mask is None else data.mask
        for i in range(wanted):
            values = array[..., i][there]
            if data.observed is not None and name == "action":
                values = values[data.observed[..., i][there]]
            wrong = values[(values != np.round(values)) | (values < 0) | (values >= counts[i])]
            if len(wrong):
                called = ("state", "step")[i] if name == "state" else name
                raise Refusal(
                    f"DATA: this world's {called}s are whole numbers from 0 to {counts[i] - 1}; got {wrong[0]:g}"
                )


def one(model: Any) -> Any:
    """The ``Intent`` of a single decision that a model of episodes, or of decisions, is made of."""
    from veil.zoo.episodic import Episodes
    from veil.zoo.switching_intent import SwitchingIntent

    if isinstance(model, SwitchingIntent):
        return model.intent
    return model.model if isinstance(model, Episodes) else model


def begun(model: Any, data: Any, key: Any, quiet: bool) -> Any:
    """The model to start from: kinds whose rewards are unknown begin with a group of episodes each."""
    from veil.control.kinds import kinds_apart
    from veil.model import OfSequences
    from veil.parts.rewards import KnownReward
    from veil.zoo.episodic import Episodic
    from veil.zoo.switching_intent import SwitchingIntent

    person = one(model)
    if not isinstance(model, OfSequences) or isinstance(person.reward, KnownReward):
        return model
    with waiting("telling kinds apart", quiet):
        apart = kinds_apart(person, data, key=key)
    return SwitchingIntent(apart) if isinstance(model, SwitchingIntent) else Episodic(apart)
