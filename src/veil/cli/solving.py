"""``veil solve``: soft values and the soft-optimal policy of a finite decision problem."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from veil.cli import options
from veil.cli.program import Refusal

World = Annotated[
    str,
    typer.Argument(
        metavar="WORLD",
        help="A map drawn with characters (FILE.txt), tables (FILE.npz), random:STATES, or deep-sea:ROWS.",
    ),
]
Goal = Annotated[str | None, typer.Option("--goal", help="Of a map, the letter that is wanted; default: the first.")]
Temperature = Annotated[float, typer.Option("--temperature", help="In units of reward; 0: the best action.", min=0.0)]
Hoped = Annotated[
    bool, typer.Option("--hoped", help="Infer luck, too, as Bayes' rule does, instead of holding it fixed.")
]
Discount = Annotated[float | None, typer.Option("--discount", help="In (0, 1]; default: the world's own.")]
Horizon = Annotated[int | None, typer.Option("--horizon", help="Decisions; default: the world's own.", min=1)]
Slip = Annotated[float, typer.Option("--slip", help="Of a map, the chance that a step goes astray.", min=0.0, max=1.0)]
Picture = Annotated[
    Path | None, typer.Option("--picture", metavar="FILE", help="Of a map, values and actions: a .png to write.")
]
ARROWS = "↑→↓←·"
SHOWN = 20  # states that a table lists


def solve(
    world: World,
    goal: Goal = None,
    temperature: Temperature = 1.0,
    hoped: Hoped = False,
    discount: Discount = None,
    horizon: Horizon = None,
    slip: Slip = 0.0,
    seed: options.Seed = 0,
    picture: Picture = None,
    as_json: options.AsJson = False,
) -> None:
    """Solve a finite decision problem exactly, by control as inference: soft values, and the policy that follows.

    A map has walls (#), floor (.), a start (@) and goals (capital letters): a step costs 2, a goal is worth 20. A .npz
    file has next [S, A, N] and probabilities [S, A, N] (or probabilities [S, A, S] alone), reward, and, if it likes,
    start, ends, final, discount and horizon.
    """
    if picture is not None and picture.suffix != ".png":
        raise Refusal(f"--picture: expected a file that ends in .png; got {picture.name!r}")
    if picture is not None and not picture.parent.is_dir():
        raise Refusal(f"--picture: the folder {picture.parent} does not exist; create it first")
    import numpy as np

    from veil.control.optimality import Fixed, Hoped, returned
    from veil.control.optimality import solve as solved

    try:
        problem, grid = _opened(world, goal, discount, horizon, slip, seed)
        found = solved(problem, temperature, Hoped() if hoped else Fixed())
    except ValueError as error:
        raise Refusal(str(error)) from error
    if picture is not None and grid is None:
        raise Refusal("--picture: only a map has one; leave it out")
    values = np.asarray(found.values if problem.horizon is None else found.values[0])
    policy = np.exp(np.asarray(found.log_policy if problem.horizon is None else found.log_policy[0]))
    start = float(np.asarray(problem.start) @ values)
    if picture is not None:
        _drawn(picture, grid, values, policy)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "world": world,
                    "states": problem.states,
                    "actions": problem.actions,
                    "horizon": problem.horizon,
                    "discount": float(problem.discount),
                    "temperature": temperature,
                    "luck": "hoped" if hoped else "fixed",
                    "value_of_start": start,
                    "expected_return": float(returned(problem, found.log_policy)),
                    "values": values.tolist(),
                    "policy": policy.tolist(),
                }
            )
        )
        return
    where = "" if problem.horizon is None else f", at the first of {problem.horizon} decisions"
    typer.echo(f"{world}: {problem.states} states, {problem.actions} actions{where}")
    typer.echo(f"soft value at the start {start:.4f}; expected return {float(returned(problem, found.log_policy)):.4f}")
    if grid is not None:
        typer.echo(_map(grid, policy))
    else:
        for state in range(min(SHOWN, problem.states)):
            chances = " ".join(f"{chance:.3f}" for chance in policy[state])
            typer.echo(f"state {state}: value {values[state]:.4f}; actions {chances}")
        if problem.states > SHOWN:
            typer.echo(f"and {problem.states - SHOWN} more; --json prints all of them")


def _opened(
    word: str, goal: str | None, discount: float | None, horizon: int | None, slip: float, seed: int
) -> tuple[Any, Any]:
    """The problem, and the map that it is of, or None."""
    import jax

    from veil.control.worlds import finite
    from veil.control.worlds.grid import grid

    name, _, number = word.partition(":")
    given = {"discount": discount, "horizon": horizon}
    changed: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if name in ("random", "deep-sea"):
        if number and not number.isdecimal():
            raise Refusal(f"WORLD: expected a number of states or rows behind {name}:; got {word!r}")
        if name == "random":
            return finite.random_problem(jax.random.key(seed), int(number or 16), **changed), None
        return finite.deep_sea(int(number or 10)).altered(**changed), None
    path = Path(word)
    if not path.is_file():
        raise Refusal(f"WORLD: there is no file {word!r}; give a map (.txt), tables (.npz), random:16 or deep-sea:10")
    if path.suffix == ".npz":
        return _tables(path).altered(**changed), None
    try:
        world = grid(path.read_text(), slip=slip)
    except UnicodeDecodeError as error:
        raise Refusal(f"WORLD: {word!r} is no text; a map is drawn with characters") from error
    if not world.goals:
        raise Refusal("WORLD: this map has no goal, a capital letter")
    wanted = goal or world.goals[0]
    if wanted not in world.goals:
        raise Refusal(f"--goal: this map has {', '.join(world.goals)}; got {wanted!r}")
    reward = world.rewards()[world.goals.index(wanted)]
    return world.problem.altered(reward=reward, **changed), world


def _tables(path: Path) -> Any:
    import numpy as np

    from veil.parts.decisions import MDP, DenseTransitions, SparseTransitions

    known = {"next", "probabilities", "reward", "start", "ends", "final", "discount", "horizon"}
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise Refusal(f"WORLD: {path.name} cannot be read as .npz: {error}") from error
    wrong = sorted(found.keys() - known)
    if wrong or "reward" not in found or not found.keys() & {"next", "probabilities"}:
        rest = ", ".join(sorted(known - {"next", "probabilities", "reward"}))
        raise Refusal(
            f"WORLD: expected the arrays next and probabilities (or one of them), reward, and any of {rest}; it has "
            f"{', '.join(sorted(found)) or 'none'}"
        )
    moves: Any = (
        SparseTransitions(found["next"], found.get("probabilities"))
        if "next" in found
        else DenseTransitions(found["probabilities"])
    )
    given: dict[str, Any] = {name: found[name] for name in ("start", "ends", "final") if name in found}
    numbers = {"discount": float, "horizon": int}
    given |= {name: kind(found[name]) for name, kind in numbers.items() if name in found}
    return MDP(moves, found["reward"], **given)


def _map(grid: Any, policy: Any) -> str:
    """The map, an arrow where one would go."""
    import numpy as np

    rows = np.full(grid.shape, "#", dtype="<U1")
    ends = np.asarray(grid.problem.ends)
    for state, (row, column) in enumerate(grid.places):
        rows[row, column] = grid.ground[state] if ends[state] else ARROWS[int(np.argmax(policy[state]))]
    return "\n".join("".join(row) for row in rows)


def _drawn(path: Path, grid: Any, values: Any, policy: Any) -> None:
    from veil.report import style
    from veil.report.grid_plots import walk

    with style.figure(panel=(0.5 * grid.shape[1] + 2.0, 0.5 * grid.shape[0] + 1.0)) as (figure, (panel,)):
        walk(figure, panel, grid, values, policy)
    figure.savefig(path)
