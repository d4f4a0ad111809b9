"""Pictures of walks on a grid: values, and the policy as arrows; the belief about a goal as it sharpens."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from veil.control.worlds.grid import MOVES, Grid
from veil.report import style


def belief(panel: Any, grid: Grid, path: Any, goals: dict[str, float], title: str = "") -> None:
    """Where somebody went, the cells [T, 2] of ``path``, and how probable each goal, a letter of the map, is now."""
    walls = np.isnan(grid.laid(np.zeros(grid.problem.states)))
    panel.imshow(np.where(walls, 1.0, np.nan), cmap="Greys", vmin=0, vmax=1.6)
    panel.plot(*np.transpose(path)[::-1], color=style.BLUE, marker=".")
    panel.plot(path[-1][1], path[-1][0], color=style.BLUE, marker="o", markersize=8)
    for goal, probability in goals.items():
        for place in grid.places[grid.ground == goal]:
            panel.scatter(place[1], place[0], s=900 * probability + 1, color=style.YELLOW, alpha=0.7)
            panel.annotate(f"{goal} {probability:.2f}", place[::-1], ha="center", va="center", fontsize=8)
    panel.grid(False)
    panel.set_xlim(-0.9, grid.shape[1] - 0.1)
    panel.set_ylim(grid.shape[0] - 0.1, -0.9)
    style.label(panel, x=("column", "number"), y=("row", "number"), title=title)


def sharpening(panel: Any, beliefs: Any, names: Sequence[str], until: int | None = None) -> None:
    """The posterior [T, K] over goals after each decision; ``until``: only so many of them, of a longer axis."""
    shown = np.asarray(beliefs)[:until]
    for k, name in enumerate(names):
        panel.plot(
            np.arange(1, len(shown) + 1),
            shown[:, k],
            label=name,
            color=style.COLOURS[k % len(style.COLOURS)],
            linestyle=style.DASHES[k // len(style.COLOURS) % len(style.DASHES)],
            marker=style.MARKERS[k % len(style.MARKERS)],
        )
    panel.set_xlim(0.5, len(beliefs) + 0.5)
    panel.set_ylim(-0.03, 1.03)
    style.whole(panel, "x")
    style.legend(panel, loc="center left", bbox_to_anchor=(1, 0.5))
    style.label(panel, x=("decisions seen", "count"), y=("posterior probability", "share"))


def film(
    grid: Grid, path: Any, beliefs: Any, names: Sequence[str], letters: Any = None
) -> list[UInt8[np.ndarray, "height width 3"]]:
    """A picture after each decision: where somebody went, and what was believed then about the goal.

    ``path`` [T, 2] cells, ``beliefs`` [T, K] of goals called ``names``; ``letters`` [K]: where on the map each is
    (None: their names; none: nowhere).
    """
    letters = names if letters is None else letters
    wide = max(3.0, 0.42 * grid.shape[1])
    frames = []
    for t in range(1, len(path) + 1):
        with style.figure(2, panel=(wide, max(2.4, 0.42 * grid.shape[0]))) as (picture, (left, right)):
            goals = dict.fromkeys(letters, 0.0)
            for letter, chance in zip(letters, beliefs[t - 1], strict=bool(letters)):
                goals[letter] += float(chance)
            belief(left, grid, path[:t], goals, f"after {t} decision{'s' * (t > 1)}")
            sharpening(right, beliefs, names, t)
        frames.append(style.pixels(picture))
    return frames


def walk(
    picture: Any, panel: Any, grid: Grid, values: Any, policy: Any = None, quantity: str = "value", title: str = ""
) -> None:
    """Numbers of states as a map's colours, goals as letters, and the mean move of a policy [S, A]."""
    shown = panel.imshow(grid.laid(values), cmap=style.matplotlib().colormaps["Blues"])
    panel.set_facecolor("0.75")  # walls
    style.colour_scale(picture, panel, shown, (quantity, "nats"))
    ends = np.asarray(grid.problem.ends)
    if policy is not None:
        moves = MOVES[: np.shape(policy)[1]]
        moved = np.asarray(policy) @ moves
        for (row, column), (down, right) in zip(grid.places[~ends], 0.4 * moved[~ends], strict=True):
            panel.annotate(
                "",
                (column + right, row + down),
                (column - right, row - down),
                arrowprops={"arrowstyle": "->", "color": "0.15", "lw": 1.2},
            )
    for (row, column), letter in zip(grid.places[ends], grid.ground[ends], strict=True):
        panel.text(column, row, letter, ha="center", va="center", weight="bold", color="#d55e00")
    panel.grid(False)
    panel.set_xticks(range(0, grid.shape[1], max(1, grid.shape[1] // 8)))
    panel.set_yticks(range(0, grid.shape[0], max(1, grid.shape[0] // 4)))
    style.label(
        panel,
        x=("column", "number"),
        y=("row", "number"),
        title=title or f"The {quantity} of places, and where one would go",
    )
