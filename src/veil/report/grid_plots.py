"""Pictures of walks on a grid: values, and the policy as arrows; the belief about a goal as it sharpens."""

from typing import Any

import numpy as np

from veil.control.worlds.grid import MOVES, Grid
from veil.report import style


def walk(picture: Any, panel: Any, grid: Grid, values: Any, policy: Any = None, unit: str = "nats") -> None:
    """Numbers of states as a map's colours, goals as letters, and the mean move of a policy [S, A]."""
    shown = panel.imshow(grid.laid(values), cmap=style.matplotlib().colormaps["Blues"])
    panel.set_facecolor("0.75")  # walls
    style.colour_scale(picture, panel, shown, ("value", unit))
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
    style.label(panel, x=("column", "number"), y=("row", "number"), title="Soft values, and where one would go")
