"""Pictures of forecasts: a fan chart of numbers, and a film of images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from veil import distributions
from veil.data.core import trees
from veil.report import style
from veil.report.films import gif
from veil.report.page import Picture
from veil.units import Units, unwrapped
from veil.verbs.forecasting import Forecast
from veil.zoo.state_space import StateSpace

MOST = 6  # panels of one picture
SHARES = (0.9, 0.5)
PATHS = 20  # drawn one by one
GAP = 2  # pixels between the images of a film


def fan(
    panel: Any, past: np.ndarray, found: Forecast, entry: int, *, sequence: int = 0, name: str = "y", shown: int = 200
) -> None:
    """One entry of y: what was seen [T] in grey, the median of the forecast with intervals, some paths, the truth.

    Of a long past the last ``shown`` steps.
    """
    begin = len(past)
    first = max(0, begin - shown)
    ahead = np.arange(begin, begin + found.mean.shape[1])
    panel.plot(np.arange(first, begin), past[first:], color=style.INK, linewidth=1.0, label="seen")
    for share, alpha in zip(SHARES, (0.15, 0.3), strict=True):
        low, high = (side[sequence, :, entry] for side in found.interval(share))
        panel.fill_between(ahead, low, high, color=style.BLUE, alpha=alpha, linewidth=0, label=f"{share:.0%} interval")
    paths = found.paths[sequence, :PATHS, :, entry]
    panel.plot(ahead, paths.T, color=style.BLUE, linewidth=0.4, alpha=0.35)
    panel.plot(ahead, found.quantile(0.5)[sequence, :, entry], color=style.BLUE, label="median")
    if found.truth is not None:
        panel.plot(ahead, found.truth[sequence, :, entry], color=style.ORANGE, linestyle="--", label="truth")
    style.label(panel, x=("step", "count"), y=(name, "its unit"))


def part(found: Forecast, *paths: trees.Path) -> Forecast:
    """The forecast of one array of a query that is a dictionary, by the keys that lead to it; of several side by side.

    >>> step = np.zeros((1, 2, 3, 1))
    >>> both = {"angle": step, "speed": step}
    >>> part(Forecast(both, both, both), ("angle",), ("speed",)).mean.shape
    (1, 2, 3, 2)
    """
    truth = None if found.truth is None else picked(found.truth, *paths)
    paths_, mean, spread = (picked(tree, *paths) for tree in (found.paths, found.mean, found.standard_deviation))
    return Forecast(paths_, mean, spread, truth)


def picked(tree: Any, *paths: trees.Path) -> np.ndarray:
    """One array of a tree by the keys that lead to it, or several side by side."""
    leaves = dict(trees.leaves(tree))
    return np.concatenate([leaves[path] for path in paths], -1)


def expected(model: Any, states: Any) -> Any:
    """The mean of y at each step of some futures: of their ``states`` [..., H, ...] in a ``Forecast``.

    A mean and no draw: pictures without the noise of their pixels. Of a ``StateSpace`` model, as a fit gives it.
    """
    inner, units = unwrapped(model)
    units = units or Units()

    def mean(memory: Any, latent: Any) -> Any:
        return distributions.moments(units.distribution(inner.emission(memory, latent)))[0]

    for _ in states.memory.shape[:-1]:
        mean = jax.vmap(mean)
    return jax.tree.map(np.asarray, mean(states.memory, states.latent))


def chart(path: str | os.PathLike[str], past: Sequence[np.ndarray], found: Forecast, names: Sequence[str] = ()) -> None:
    """Write the fan charts of ``fans`` as .png, .svg or .pdf."""
    fans(past, found, names).figure.savefig(path)


def fans(past: Sequence[np.ndarray], found: Forecast, names: Sequence[str] = ()) -> Picture:
    """Fan charts, a row of panels a sequence and a panel an entry, at most six in all.

    ``past``: of each sequence what was seen, [T_n, D].
    """
    width = min(found.mean.shape[2], 3)
    rows = min(len(past), max(1, MOST // width))
    with style.figure(width, rows, panel=(7.0, 2.8) if width == 1 else style.PANEL) as (picture, panels):
        for number, panel in enumerate(panels):
            row, entry = divmod(number, width)
            name = names[entry] if names else f"y{entry}"
            fan(panel, past[row][:, entry], found, entry, sequence=row, name=name)
            panel.set_title(f"sequence {row}")
        style.legend(panels[0], room=0.3)
    return Picture(picture, "What was seen of each sequence, and the forecast of the steps behind it.", "forecast")


def clear(model: Any, found: Forecast, paths: int = 2) -> Forecast:
    """A forecast of a ``StateSpace`` whose first paths are the mean of y along each, without the noise of pixels.

    It needs the ``states`` of the forecast; of any other model it is as it was.
    """
    if not isinstance(unwrapped(model)[0], StateSpace) or found.states is None:
        return found
    return replace(found, paths=expected(model, jax.tree.map(lambda leaf: leaf[:, :paths], found.states)))


def film(
    path: str | os.PathLike[str],
    past: np.ndarray,
    found: Forecast,
    *,
    sequence: int = 0,
    size: int = 128,
    rate: int = 10,
) -> None:
    """Write one sequence of images as .gif or .mp4: truth (if it is known), the mean, and two of the futures.

    Draws of soft Bernoulli pixels are coloured noise: ``clear`` makes futures of each path's mean.

    First what was seen, [T, H, W] or [T, H, W, C] in [0, 1], in all of them, then H steps of the forecast, framed.

    Args:
        path: the file; its ending says which.
        past: what was seen.
        found: of images.
        sequence: which.
        size: pixels of each image's longer side, at least.
        rate: frames a second.

    Raises:
        ValueError: no images, or an unknown ending.
        ModuleNotFoundError: Pillow, or for .mp4 imageio-ffmpeg, is not installed; the message has the command.
    """
    frames = [_frame(images, size, ahead) for images, ahead in _rows(past, found, sequence)]
    place = Path(path)
    if place.suffix == ".gif":
        place.write_bytes(gif(frames, rate))
    elif place.suffix == ".mp4":
        _video(place, frames, rate)
    else:
        raise ValueError(f"path must end in .gif or .mp4; got {place.name!r}")


def _rows(past: np.ndarray, found: Forecast, sequence: int) -> list[tuple[list[np.ndarray], bool]]:
    if found.mean.ndim not in (4, 5):
        raise ValueError(
            f"a film is of images [H, W] or [H, W, C]; each step has the shape {list(found.mean.shape[2:])}"
        )
    seen = [([image] * (3 if found.truth is None else 4), False) for image in past]
    parts = [found.mean[sequence], *found.paths[sequence, :2]]
    if found.paths.shape[1] < 2:
        parts.append(found.paths[sequence, 0])
    if found.truth is not None:
        parts.insert(0, np.nan_to_num(found.truth[sequence], nan=1.0))
    return seen + [(list(images), True) for images in zip(*parts, strict=True)]


def _frame(images: list[np.ndarray], size: int, ahead: bool) -> np.ndarray:
    """Images side by side, 8-bit colours, enlarged by repeating pixels; a blue edge round what is forecast."""
    factor = max(1, -(-size // max(images[0].shape[:2])))
    shown = []
    for image in images:
        colours = np.repeat(image[..., None], 3, 2) if image.ndim == 2 else image
        colours = np.repeat(colours, 3, 2) if colours.shape[2] == 1 else colours[..., :3]
        large = np.round(255 * np.clip(colours, 0, 1)).astype(np.uint8).repeat(factor, 0).repeat(factor, 1)
        edge = np.array([0, 114, 178], np.uint8) if ahead else np.array([255, 255, 255], np.uint8)
        framed = np.tile(edge, (large.shape[0] + 2 * GAP, large.shape[1] + 2 * GAP, 1))
        framed[GAP:-GAP, GAP:-GAP] = large
        shown.append(framed)
    whole = np.concatenate(shown, 1)
    return whole[: whole.shape[0] // 2 * 2, : whole.shape[1] // 2 * 2]  # codecs want even sides


def _video(path: Path, frames: list[np.ndarray], rate: int) -> None:
    try:
        import imageio_ffmpeg
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "an .mp4 needs imageio-ffmpeg; install it with: pip install imageio-ffmpeg, or write a .gif"
        ) from error
    height, width = frames[0].shape[:2]
    writer = imageio_ffmpeg.write_frames(str(path), (width, height), fps=rate, macro_block_size=2)
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()
