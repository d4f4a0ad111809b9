"""Pictures of a kitchen from above, and films of a game."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from veil.control.worlds.overcooked import DISH, ONION, SOUP, State
from veil.data.bundled.overcooked import COOKING, ONIONS, Kitchen
from veil.data.core.packages import needed

Colour = tuple[int, int, int]
FLOOR, COUNTER, EDGE, STEEL, DARK = (244, 240, 232), (196, 160, 116), (168, 132, 92), (150, 156, 163), (52, 56, 62)
WHITE, YELLOW, ORANGE, GREEN = (252, 252, 252), (240, 200, 90), (224, 130, 40), (120, 180, 140)
PLAYERS: tuple[Colour, Colour] = ((0, 114, 178), (213, 94, 0))
SEEN = 0.04  # the least probability that is drawn
FINE = 2  # pixels drawn for each pixel shown, a side


def picture(kitchen: Kitchen, state: State, side: int = 48, aims: Any = None) -> UInt8[np.ndarray, "height width 3"]:
    """One state of a game; a cell has ``side`` pixels. The first player is blue, the second red; both look ahead.

    A pot shows its onions, and how long its soup has been cooking as a ring that closes when it is done. ``aims``
    [2, cells]: with which probability a cell is what a player is about, a ring around it, whose area is that.
    """
    needed("drawing needs Pillow", "control", "PIL.Image", "PIL.ImageDraw")
    from PIL import Image, ImageDraw

    cell = side * FINE
    image = Image.new("RGB", (kitchen.width * cell, kitchen.height * cell), FLOOR)
    pen = ImageDraw.Draw(image)
    where = lambda index: (np.array([index % kitchen.width, index // kitchen.width]) + 0.5) * cell  # noqa: E731

    def disc(middle: np.ndarray, radius: float, colour: Colour, outline: Colour | None = None) -> None:
        pen.ellipse(_box(middle, radius * cell), fill=colour, outline=outline, width=FINE)

    def thing(kind: int, middle: np.ndarray, size: float = 1.0) -> None:
        if kind in (DISH, SOUP):
            disc(middle, 0.26 * size, WHITE, STEEL)
        if kind in (ONION, SOUP):
            disc(middle, 0.17 * size, YELLOW if kind == ONION else ORANGE, EDGE)

    for index, letter in enumerate(kitchen.tiles):
        middle = where(index)
        if letter == " ":
            continue
        pen.rectangle(_box(middle, 0.5 * cell), fill=GREEN if letter == "S" else COUNTER, outline=EDGE, width=FINE)
        if letter in "OD":
            for shift in ((-0.18, 0.12), (0.18, 0.12), (0.0, -0.16)):
                thing(ONION if letter == "O" else DISH, middle + np.array(shift) * cell, 0.75)
    for index, onions, ticks in zip(kitchen.pots, state.onions, state.ticks, strict=True):
        middle = where(index)
        disc(middle, 0.4, DARK, STEEL)
        done = ticks >= COOKING
        if onions == ONIONS:
            disc(middle, 0.3, ORANGE)
            pen.arc(
                _box(middle, 0.4 * cell),
                -90,
                -90 + 360 * float(ticks) / COOKING,
                fill=WHITE,
                width=(4 + 3 * done) * FINE,
            )
        for i in range(int(onions) * (onions < ONIONS)):
            disc(middle + np.array([(i - 0.5) * 0.3, 0.0]) * cell, 0.13, YELLOW)
    for index, kind in zip(kitchen.counters, state.counters, strict=True):
        thing(int(kind), where(index))
    for place, facing, held, colour in zip(state.place, state.facing, state.held, PLAYERS, strict=True):
        middle = where(place)
        ahead = np.array(((0, -1), (0, 1), (1, 0), (-1, 0)))[int(facing)]
        disc(middle, 0.36, colour, DARK)
        disc(middle + 0.36 * cell * ahead, 0.09, DARK)
        thing(int(held), middle + 0.12 * cell * ahead, 0.9)
    for shares, colour, side_of in zip([] if aims is None else aims, PLAYERS, (-1, 1), strict=False):
        for target in np.flatnonzero(np.asarray(shares) >= SEEN).tolist():
            middle = where(target) + 0.05 * side_of * cell
            pen.ellipse(_box(middle, 0.44 * float(shares[target]) ** 0.5 * cell), outline=colour, width=4 * FINE)
    width, height = image.size
    return np.asarray(image.resize((width // FINE, height // FINE), Image.Resampling.BOX))


def film(
    kitchen: Kitchen, states: State, steps: Sequence[int] | None = None, side: int = 48, aims: Any = None
) -> list[Any]:
    """A picture of each of the states [T, ...], with ``aims`` [T, 2, cells], or of those at ``steps``: for

    ``veil.host.films.gif``.
    """
    chosen = range(len(states.place)) if steps is None else steps
    whole: Any = jax.tree.map(np.asarray, states)
    at = lambda t: jax.tree.map(lambda part: part[t], whole)  # noqa: E731
    return [picture(kitchen, at(t), side, None if aims is None else aims[t]) for t in chosen]


def _box(middle: np.ndarray, half: float) -> tuple[float, float, float, float]:
    x, y = middle
    return x - half, y - half, x + half, y + half
