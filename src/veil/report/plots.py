"""What is drawn again and again, each as a function of a panel (see ``style.figure``), models and data."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from veil.data import Data
from veil.evaluation.likelihood import log_prob
from veil.report import style
from veil.verbs.conditioning import condition

Curve = tuple[np.ndarray, np.ndarray]


def curves(
    panel: Any, lines: Mapping[str, Curve], *, points: bool = False, band: Mapping[str, Curve] | None = None
) -> None:
    """Named curves (x, y), told apart by colour and dash, with a legend if there are several; ``band``: (low, high)."""
    for i, (name, (x, y)) in enumerate(lines.items()):
        colour = style.COLOURS[i % len(style.COLOURS)]
        marker = style.MARKERS[i % len(style.MARKERS)] if points else ""
        dash = style.DASHES[
            (i + i // len(style.COLOURS)) % len(style.DASHES)
        ]  # another with the colour the second time
        panel.plot(x, y, color=colour, linestyle=dash, marker=marker, label=name)
        if band is not None and name in band:
            panel.fill_between(x, *band[name], color=colour, alpha=0.15, linewidth=0)
    if len(lines) > 1:
        style.legend(panel)


def history(
    panel: Any,
    value: np.ndarray,
    held_out: np.ndarray | None = None,
    *,
    steps: np.ndarray | None = None,
    unit: str = "nats per datum",
    warm_up: int = 0,
) -> None:
    """A fit's objective at each step, with its running mean where steps are noisy; held-out values [M, 2] as points.

    The first ``warm_up`` steps, in which the objective itself changes, are shaded.
    """
    steps = np.arange(len(value)) if steps is None else steps
    window = max(1, len(value) // 100)
    rough = bool(window > 1 and np.any(np.diff(value) < -1e-4 * np.maximum(1, np.abs(value[:-1]))))
    tested = held_out is not None and len(held_out) > 0
    width, colour = (0.7, style.SKY) if rough else (1.6, style.BLUE)
    panel.plot(steps, value, color=colour, linewidth=width, label="each step")
    if rough:
        mean = np.convolve(value, np.ones(window) / window, "valid")
        panel.plot(steps[window - 1 :], mean, color=style.BLUE, label=f"mean of {window} steps")
    finite = value[np.isfinite(value)]
    if tested and held_out is not None:
        panel.plot(held_out[:, 0], held_out[:, 1], color=style.ORANGE, marker="o", markersize=3, label="held out")
        finite = np.concatenate([finite, held_out[np.isfinite(held_out[:, 1]), 1]])
    if len(finite) > 1:  # a bad start should not hide the rest
        low = float(np.percentile(finite, 2)) if len(finite) > 50 else float(np.min(finite))
        top = float(np.max(finite))
        margin = 0.08 * (top - low) or 1.0
        panel.set_ylim(low - margin, top + margin)
    if warm_up:
        panel.axvspan(0, min(warm_up, steps[-1]), color=style.YELLOW, alpha=0.15, linewidth=0, label="KL warm-up")
    if rough or tested or warm_up:
        style.legend(panel, room=0.15)
    style.whole(panel, "x")
    style.label(panel, x=("step", "count"), y=("objective", unit))


def points(panel: Any, data: np.ndarray, **options: Any) -> None:
    """Data [N, 2] as small grey points below everything else."""
    defaults = {"s": 9, "color": style.GREY, "alpha": 0.55, "linewidths": 0, "zorder": 1}
    panel.scatter(data[:, 0], data[:, 1], **(defaults | options))


def bounds(data: np.ndarray, margin: float = 0.08) -> tuple[float, float]:
    """The range of some values, and a little more."""
    low, high = float(np.min(data)), float(np.max(data))
    extra = margin * (high - low or 1.0)
    return low - extra, high + extra


def grid(x: tuple[float, float], y: tuple[float, float], size: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two axes [S] and all their pairs [S², 2], x fastest."""
    first, second = np.linspace(*x, size), np.linspace(*y, size)
    return first, second, np.stack(np.meshgrid(first, second), -1).reshape(-1, 2)


def contours(panel: Any, model: Any, data: np.ndarray, *, size: int = 120) -> None:
    """A density as contours that hold 25, 50, 75 and 95 % of the probability inside, over data [N, 2]."""
    x, y, pairs = grid(bounds(data[:, 0], 0.35), bounds(data[:, 1], 0.35), size)
    density = np.exp(log_prob(model, pairs)).reshape(size, size)
    falling = np.sort(density.ravel())[::-1]
    inside = np.cumsum(falling) / np.sum(falling)
    places = [min(int(np.searchsorted(inside, share)), falling.size - 1) for share in SHARES]
    levels = sorted({float(falling[place]) for place in places})
    points(panel, data)
    panel.contour(
        x, y, density, levels=levels, colors=[style.BLUE], linewidths=np.linspace(0.8, 1.8, len(levels)), zorder=2
    )


SHARES = (0.25, 0.5, 0.75, 0.95)


def ellipses(panel: Any, model: Any) -> None:
    """Each component of a Gaussian mixture in two entries as its ellipse at two standard deviations, with its mean."""
    pair = condition(model, query=[0, 1])
    experts: Any = pair.experts
    means, covariances = np.asarray(experts.mean), np.asarray(experts.covariance.dense_covariance())
    angle = np.linspace(0, 2 * np.pi, 120)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    for k, (mean, covariance) in enumerate(zip(means, np.broadcast_to(covariances, (len(means), 2, 2)), strict=True)):
        colour = style.COLOURS[k % len(style.COLOURS)]
        rim = mean[:, None] + 2.0 * np.linalg.cholesky(covariance) @ circle
        panel.plot(rim[0], rim[1], color=colour, linestyle=style.DASHES[k % len(style.DASHES)], zorder=3)
        panel.plot(*mean, color=style.INK, marker="x", markersize=7, markeredgewidth=2, zorder=4)


def densities(panel: Any, models: Mapping[str, Any], data: np.ndarray) -> None:
    """Densities on the line over a histogram of data [N], on the same scale."""
    panel.hist(data, bins=30, density=True, color=style.PALE, edgecolor="white", linewidth=0.5, label="data")
    x = np.linspace(*bounds(data), 400)
    for i, (name, model) in enumerate(models.items()):
        density = np.exp(log_prob(model, x))
        panel.plot(x, density, color=style.COLOURS[i % len(style.COLOURS)], linestyle=style.DASHES[i], label=name)
    style.legend(panel)


def conditional(
    panel: Any,
    model: Any,
    data: np.ndarray,
    *,
    evidence: tuple[float, float] | None = None,
    query: tuple[float, float] | None = None,
    brightest: float | None = None,
    most: int = 600,
) -> Any:
    """p(y | x) as an image, darker where larger, each column integrating to one, over data [N, 2]; returns the image.

    ``brightest``: the density drawn darkest (default: the 99.5th percentile of the image).
    """
    x, y, pairs = grid(evidence or bounds(data[:, 0]), query or bounds(data[:, 1]), 160)
    density = np.exp(log_prob(model, Data(pairs[:, 1:], pairs[:, :1]))).reshape(160, 160)
    extent = (x[0], x[-1], y[0], y[-1])
    top = brightest or float(np.percentile(density, 99.5))
    image = panel.imshow(density, origin="lower", extent=extent, aspect="auto", cmap="Blues", vmin=0, vmax=top)
    points(panel, data[:most], color=style.ORANGE, alpha=0.55, s=5)
    panel.grid(False)
    panel.set_xlim(x[0], x[-1])
    panel.set_ylim(y[0], y[-1])
    return image


def responsibilities(panel: Any, data: np.ndarray, probabilities: np.ndarray) -> None:
    """Data [N, 2] coloured by p(z | y) [N, K]: a component's colour where it is certain, a blend where it is not."""
    package = style.matplotlib()
    palette = np.array(
        [package.colors.to_rgb(style.COLOURS[k % len(style.COLOURS)]) for k in range(probabilities.shape[1])]
    )
    blend = np.clip(probabilities @ palette, 0.0, 1.0)
    panel.scatter(data[:, 0], data[:, 1], c=blend, s=14, linewidths=0, zorder=2)


def tiles(
    panel: Any, images: np.ndarray, columns: int, names: Sequence[str] = (), cmap: str = "Greys", gap: int = 0
) -> None:
    """Images [N, H, W] (with "Greys" 1 is black) or [N, H, W, 3] (in colour), 0 to 1, in rows, white lines between.

    ``names``: of as many bands of rows, written beside them; ``gap``: pixels more between the bands.
    """
    count, height, width, *colours = images.shape
    rows = -(-count // columns)
    band = rows // len(names) if names else rows  # rows of images in a band
    tops = [row * (height + 1) + row // band * gap for row in range(rows)]
    sheet = np.full((tops[-1] + height, columns * (width + 1) - 1, *colours), 1.0 if colours else np.nan)
    for i, image in enumerate(images):
        top, left = tops[i // columns], (i % columns) * (width + 1)
        sheet[top : top + height, left : left + width] = image
    panel.imshow(sheet, cmap=cmap, vmin=0, vmax=1)
    panel.grid(False)
    panel.set_xticks([])
    middles = [(tops[k * band] + tops[(k + 1) * band - 1] + height - 1) / 2 for k in range(len(names))]
    panel.set_yticks(middles, names, rotation=90, va="center")
    panel.tick_params(length=0)
    for spine in panel.spines.values():
        spine.set_visible(False)


def drives(panel: Any, world: Any, driven: Any, most: int = 60) -> None:
    """Paths in a world of ``control.worlds`` from above, and its obstacles; those that hit one in orange."""
    package, scene = style.matplotlib(), world.scene()
    for x, y, radius in scene.discs:
        panel.add_patch(package.patches.Circle((x, y), radius, color=style.GREEN, alpha=0.5, zorder=3))
    panel.set_facecolor("#F6F7F8")
    for path, hit in zip(driven.paths[:most], driven.hit[:most], strict=True):
        for x, y, radius in scene.discs if hit else ():  # the drive ends where it hits
            inside = np.hypot(path[:, 0] - x, path[:, 1] - y) < radius
            path = path[: 1 + int(np.argmax(inside))] if inside.any() else path
        colour = style.ORANGE if hit else style.BLUE
        panel.plot(path[:, 0], path[:, 1], color=colour, linewidth=0.7, alpha=0.6, zorder=2)
    panel.set_aspect("equal")
    panel.set_xlim(scene.low[0], scene.high[0])
    panel.set_ylim(scene.low[1], scene.high[1])


def outcomes(panel: Any, driven: Any) -> None:
    """How often successful drives took each of their world's ways, and where all would be equally often."""
    ways = driven.world.outcomes
    found = driven.outcome[driven.success]
    shares = np.bincount(found, minlength=ways) / max(len(found), 1)
    panel.bar(np.arange(ways), shares, color=style.BLUE, width=0.8)
    panel.axhline(1 / ways, color=style.INK, linestyle="--", linewidth=0.9)
    panel.set_xlim(-0.7, ways - 0.3)
