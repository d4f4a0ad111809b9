"""The words of ``veil explore`` as what they stand for: bonuses by their names, and who explores."""

from collections.abc import Callable
from typing import Any

from veil.cli.program import Refusal

BONUSES = {
    "none": "no bonus",
    "count": "counts of states that are numbered",
    "hash": "counts of hashed observations",
    "pseudo-count": "from a density: a table, a grid, or a context tree of an image",
    "gain": "information gain of a Bayesian network of the dynamics",
    "linear": "information gain of linear dynamics",
    "disagreement": "an ensemble's",
    "rnd": "random network distillation",
    "icm": "the curiosity module",
}
HELP = ", ".join(BONUSES) + "."
CELLS = 24  # of each entry of a grid
FEW = 3  # entries of which a grid is made


def check(word: str) -> None:
    """Raise Refusal for a bonus that is not known."""
    from veil.data.core.columns import suggestion

    if word not in BONUSES:
        raise Refusal(f"--bonus: there is no {word!r}; {suggestion(word, tuple(BONUSES))}")


def making(asked: dict[str, Any]) -> Callable[[], Any]:
    """What makes the environment; DeepSea as pictures. Raises Refusal for one that is not there."""
    from veil.control.collecting import environment
    from veil.control.worlds.walked import deep_sea

    if asked["env"] == "deep-sea":
        return lambda: deep_sea(asked["size"], asked["stochastic"], pictures=True)

    def make() -> Any:
        try:
            return environment(asked["env"])
        except ValueError as error:
            raise Refusal(f"ENV: {str(error).removeprefix('env: ')}") from error

    return make


def bonus_of(word: str, world: Any) -> Any:
    """The bonus of a name for an environment; None for none. Raises Refusal for one that does not go with it."""
    import gymnasium

    from veil.control import exploration as novel

    spaces, seen = gymnasium.spaces, world.observation_space
    choices = int(world.action_space.n) if isinstance(world.action_space, spaces.Discrete) else None
    numbered = isinstance(seen, spaces.Discrete)
    if word == "none":
        return None
    if word == "count":
        if not numbered:
            raise Refusal("--bonus count: it is of states that are numbered; take hash or pseudo-count for vectors")
        return novel.Counted(novel.Tally(int(seen.n)))
    if word == "pseudo-count":
        return novel.Counted(novel.PseudoCounts(_density(novel, spaces, seen)[0]), about=_density(novel, spaces, seen)[1])
    if numbered and word != "hash":
        raise Refusal(f"--bonus {word}: states that are numbered are no vectors; take count")
    inputs = novel.left if choices is None else novel.chosen(choices)
    makers: dict[str, Callable[[], Any]] = {
        "hash": lambda: novel.Counted(novel.Hashed()),
        "gain": lambda: novel.NetworkGain(inputs=inputs),
        "linear": lambda: novel.LinearGain(novel.with_one(inputs)),
        "disagreement": lambda: novel.Disagreement(**({} if choices is None else {"action": novel.one_hot(choices)})),
        "rnd": novel.RandomNetworkDistillation,
        "icm": lambda: novel.Curiosity() if choices is None else novel.Curiosity(novel.Choice(choices)),
    }
    return makers[word]()
