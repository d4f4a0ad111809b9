"""Where somebody was who explored: maps of how often, and how they grow."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from veil.control.exploration.searching import Search
from veil.host.films import write_film
from veil.report import style

FRAMES = 60


def visits(panel: Any, picture: Any, counts: np.ndarray, title: str = "") -> None:
    """How often each place of a sea [N, N] was met, on a logarithmic scale; white where nobody was."""
    shown = np.where(counts > 0, np.log10(np.maximum(counts, 1)), np.nan)
    image = panel.imshow(shown, cmap="viridis", vmin=0, vmax=4, origin="upper")
    style.label(panel, x=("column", "number"), y=("row", "number"), title=title)
    panel.grid(False)
    style.whole(panel)
    style.colour_scale(picture, panel, image, ("visits", "powers of ten"))


def map_of(found: Search, mark: int = -1, title: str = "") -> Any:
    """A figure of the visits by then."""
    size = found.sea.size
    with style.figure(panel=(4.2, 3.6)) as (picture, (panel,)):
        visits(panel, picture, found.visits[mark][: size * size].reshape(size, size), title or _words(found, mark))
    return picture


def write_growth(path: str | os.PathLike[str], found: Search) -> Path:
    """A film (.gif, .mp4) of the map as it grows.

    Raises ValueError for another ending, ModuleNotFoundError where Pillow or imageio-ffmpeg is missing.
    """
    chosen = np.unique(np.linspace(0, len(found.marks) - 1, min(FRAMES, len(found.marks))).round().astype(int))
    write_film(Path(path), [style.pixels(map_of(found, int(mark))) for mark in chosen], 10)
    return Path(path)


def _words(found: Search, mark: int) -> str:
    return f"DeepSea {found.sea.size}, after {found.marks[mark]} episodes"
