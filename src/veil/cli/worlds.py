"""WORLD on the command line: a finite decision problem, from a map, from tables or by name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from veil.cli.program import Refusal

World = Annotated[
    str,
    typer.Argument(
        metavar="WORLD",
        help="A map drawn with characters (FILE.txt), tables (FILE.npz), rooms, random:STATES, or deep-sea:ROWS.",
    ),
]
Discount = Annotated[float | None, typer.Option("--discount", help="In (0, 1]; default: the world's own.")]
Horizon = Annotated[int | None, typer.Option("--horizon", help="Decisions; default: the world's own.", min=1)]
Slip = Annotated[float, typer.Option("--slip", help="Of a map, the chance that a step goes astray.", min=0.0, max=1.0)]
NUMBERS: dict[str, Any] = {"discount": float, "horizon": int}
PARTS = {"next", "probabilities", "reward", "start", "ends", "final", "features", *NUMBERS}
UNREAD = ("rooms", "random", "deep-sea")  # names, and no files


@dataclass(frozen=True)
class Opened:
    """A world: its ``problem``, without a reward if it is a map; the ``grid`` of a map, and its ``text``; features."""

    problem: Any
    grid: Any = None
    text: str | None = None
    features: Any = None

    def wanting(self, goal: str | None) -> Any:
        """The problem of somebody who is on the way to a goal of the map; of other worlds their own."""
        if self.grid is None:
            if self.problem.reward is None:
                raise Refusal("WORLD: these tables have no reward; to solve them takes one")
            return self.problem
        (one,) = self.goals(goal or self.grid.goals[:1])
        return self.problem.altered(reward=self.grid.rewards()[self.grid.goals.index(one)])

    def goals(self, asked: Any) -> list[str]:
        """Those of the map that are asked for. Raises Refusal for others."""
        if not self.grid.goals:
            raise Refusal("WORLD: this map has no goal, a capital letter")
        wrong = [each for each in asked if each not in self.grid.goals]
        if wrong:
            raise Refusal(f"--goal: this map has {', '.join(self.grid.goals)}; got {wrong[0]!r}")
        return list(asked)


def opened(word: str, discount: float | None, horizon: int | None, slip: float, seed: int) -> Opened:
    """The world of a word or a file. Raises Refusal, ValueError."""
    import jax

    from veil.control.worlds import finite
    from veil.control.worlds.grid import ROOMS

    name, _, number = word.partition(":")
    given = {"discount": discount, "horizon": horizon}
    changed: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if name in ("random", "deep-sea"):
        if number and not number.isdecimal():
            raise Refusal(f"WORLD: expected a number of states or rows behind {name}:; got {word!r}")
        if name == "random":
            return Opened(finite.random_problem(jax.random.key(seed), int(number or 16), **changed))
        return Opened(finite.deep_sea(int(number or 10)).altered(**changed))
    if word == "rooms":
        return of_map(ROOMS, slip, changed)
    path = Path(word)
    if not path.is_file():
        raise Refusal(
            f"WORLD: there is no file {word!r}; give a map (.txt), tables (.npz), rooms, random:16 or deep-sea:10"
        )
    if path.suffix == ".npz":
        return _tables(path, changed)
    try:
        return of_map(path.read_text(), slip, changed)
    except UnicodeDecodeError as error:
        raise Refusal(f"WORLD: {word!r} is no text; a map is drawn with characters") from error


def of_map(text: str, slip: float, changed: dict[str, Any]) -> Opened:
    """The world of a map."""
    from veil.control.worlds.grid import grid

    world = grid(text, slip=slip, **changed)
    return Opened(world.problem, world, text)


def _tables(path: Path, changed: dict[str, Any]) -> Opened:
    import numpy as np

    from veil.parts.decisions import MDP, DenseTransitions, SparseTransitions

    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise Refusal(f"WORLD: {path.name} cannot be read as .npz: {error}") from error
    if found.keys() - PARTS or not found.keys() & {"next", "probabilities"}:
        rest = ", ".join(sorted(PARTS - {"next", "probabilities"}))
        raise Refusal(
            f"WORLD: expected the arrays next and probabilities (or one of them), and any of {rest}; it has "
            f"{', '.join(sorted(found)) or 'none'}"
        )
    moves: Any = (
        SparseTransitions(found["next"], found.get("probabilities"))
        if "next" in found
        else DenseTransitions(found["probabilities"])
    )
    given: dict[str, Any] = {name: found[name] for name in ("start", "ends", "final") if name in found}
    given |= {name: kind(found[name]) for name, kind in NUMBERS.items() if name in found}
    return Opened(MDP(moves, found.get("reward"), **(given | changed)), features=found.get("features"))
