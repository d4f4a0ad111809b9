"""``veil solve``: soft values and the soft-optimal policy of a finite decision problem."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from veil.cli import options, worlds
from veil.cli.program import Refusal
from veil.cli.using import check_file, write_table

Goal = Annotated[
    str | None,
    typer.Option("--goal", help="Of a map, the letter that is wanted; of walks several (A,B). Default: the first."),
]
Walks = Annotated[
    int | None, typer.Option("--walks", help="Draw so many episodes of those who act like this, into --out.", min=1)
]
WalksFile = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where --walks are written, a table.")]
Temperature = Annotated[float, typer.Option("--temperature", help="In units of reward; 0: the best action.", min=0.0)]
Hoped = Annotated[
    bool, typer.Option("--hoped", help="Infer luck, too, as Bayes' rule does, instead of holding it fixed.")
]
Picture = Annotated[
    Path | None, typer.Option("--picture", metavar="FILE", help="Of a map, values and actions: a .png to write.")
]
ARROWS = "↑→↓←·"
SHOWN = 20  # states that a table lists


def solve(
    world: worlds.World,
    goal: Goal = None,
    temperature: Temperature = 1.0,
    hoped: Hoped = False,
    discount: worlds.Discount = None,
    horizon: worlds.Horizon = None,
    slip: worlds.Slip = 0.0,
    seed: options.Seed = 0,
    picture: Picture = None,
    walks: Walks = None,
    out: WalksFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Solve a finite decision problem exactly, by control as inference: soft values, and the policy that follows.

    A map has walls (#), floor (.), a start (@) and goals (capital letters): a step costs 2, a goal is worth 20. A .npz
    file has next [S, A, N] and probabilities [S, A, N] (or probabilities [S, A, S] alone), reward, and, if it likes,
    start, ends, final, discount and horizon. --walks simulates, for veil intent, those who act by the policy: a row a
    decision, with the columns episode, step, state and action, and of a map row, column and goal.
    """
    if picture is not None and picture.suffix != ".png":
        raise Refusal(f"--picture: expected a file that ends in .png; got {picture.name!r}")
    if picture is not None and not picture.parent.is_dir():
        raise Refusal(f"--picture: the folder {picture.parent} does not exist; create it first")
    if (walks is None) != (out is None):
        raise Refusal("--walks, --out: how many episodes to draw, and the file they are for: give both or none")
    wanted = [None] if goal is None else [each.strip() for each in goal.split(",")]
    if len(wanted) > 1 and walks is None:
        raise Refusal(f"--goal {goal}: one is solved for; several are for --walks, each walker having one of them")
    if out is not None:
        check_file(out, world)
    import numpy as np

    from veil.control.optimality import Fixed, Hoped, returned
    from veil.control.optimality import solve as solved

    opened = worlds.opened(world, discount, horizon, slip, seed)
    luck = Hoped() if hoped else Fixed()
    try:
        solutions = [solved(opened.wanting(each), temperature, luck) for each in wanted]
    except ValueError as error:
        raise Refusal(str(error)) from error
    found, grid = solutions[0], opened.grid
    problem = found.problem
    if picture is not None and grid is None:
        raise Refusal("--picture: only a map has one; leave it out")
    if out is not None and walks is not None:
        names = [each or ("" if grid is None else grid.goals[0]) for each in wanted]
        write_table(out, _walked(solutions, grid, names, walks, seed), quiet=as_json)
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


def _map(grid: Any, policy: Any) -> str:
    """The map, an arrow where one would go."""
    import numpy as np

    rows = np.full(grid.shape, "#", dtype="<U1")
    ends = np.asarray(grid.problem.ends)
    for state, (row, column) in enumerate(grid.places):
        rows[row, column] = grid.ground[state] if ends[state] else ARROWS[int(np.argmax(policy[state]))]
    return "\n".join("".join(row) for row in rows)


def _walked(solutions: Any, grid: Any, goals: list[str], count: int, seed: int) -> list[tuple[str, Any]]:
    """Columns of simulated decisions: each walker has one of the goals, all alike likely."""
    import jax
    import numpy as np

    from veil.control.worlds.finite import simulate
    from veil.data import steps

    which = np.random.default_rng(seed).integers(len(goals), size=count)
    parts: list[tuple[Any, ...]] = []
    for k, solution in enumerate(solutions):
        numbers = np.flatnonzero(which == k)
        if not len(numbers):
            continue
        seen = simulate(solution, jax.random.fold_in(jax.random.key(seed), k), len(numbers))
        there = np.ones(seen.query.shape[:2], bool) if seen.mask is None else seen.mask
        row, step = np.nonzero(there)
        rows = steps(seen)
        state = rows.evidence["state"] if isinstance(rows.evidence, dict) else rows.evidence
        acted = rows.query[:, 0].astype(int)
        parts.append((numbers[row], step, state[:, 0].astype(int), acted, np.full(len(row), k)))
    whole = [np.concatenate(each) for each in zip(*parts, strict=True)]
    order = np.lexsort((whole[1], whole[0]))
    episode, step, state, action, kind = (each[order] for each in whole)
    named: list[tuple[str, Any]] = [("episode", episode), ("step", step), ("state", state), ("action", action)]
    if grid is not None:
        place = grid.places[state]
        named += [("row", place[:, 0]), ("column", place[:, 1]), ("goal", np.array(goals)[kind])]
    return named


def _drawn(path: Path, grid: Any, values: Any, policy: Any) -> None:
    from veil.report import style
    from veil.report.grid_plots import walk

    with style.figure(panel=(0.5 * grid.shape[1] + 2.0, 0.5 * grid.shape[0] + 1.0)) as (figure, (panel,)):
        walk(figure, panel, grid, values, policy)
    figure.savefig(path)
