"""The one style of all pictures: colours, sizes, fonts, and axes that say what they show and in which unit.

The palette is Okabe and Ito's, told apart with every common kind of colour blindness; images run from white to dark
blue.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B6B6B")
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, GREY = COLOURS
INK, PALE = "#222222", "#D9DEE3"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
PANEL = (4.4, 3.3)  # inches
DPI = 144

RC: dict[str, Any] = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ECEFF2",
    "grid.linewidth": 0.8,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "text.color": INK,
    "legend.fontsize": 8.0,
    "legend.frameon": True,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "lines.linewidth": 1.6,
    "lines.markersize": 4.0,
    "image.cmap": "Blues",
    "image.interpolation": "nearest",
    "axes.unicode_minus": True,
}

Quantity = tuple[str, str]  # what an axis shows and its unit: ("waiting time", "min"); a count or share says so


def matplotlib() -> Any:
    """The matplotlib package, or an error that says how to get it."""
    try:
        import matplotlib
        import matplotlib.figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "pictures need matplotlib, which is not installed: pip install 'veil[plots]'"
        ) from error
    return matplotlib


@contextmanager
def figure(
    columns: int = 1, rows: int = 1, panel: tuple[float, float] = PANEL, **options: Any
) -> Iterator[tuple[Any, Sequence[Any]]]:
    """A figure in the style and its panels, row by row; draw them inside the ``with`` block.

    At its end every panel must have both labels, with units (``label``).

    Raises:
        ValueError: a panel is without a label.

    >>> with figure(2) as (picture, panels):
    ...     for panel in panels:
    ...         label(panel, x=("time", "s"), y=("distance", "m"))
    """
    package = matplotlib()
    with package.rc_context():
        package.rcdefaults()
        package.rcParams.update(RC)
        size = (panel[0] * columns, panel[1] * rows)
        picture = package.figure.Figure(figsize=size, dpi=DPI, layout="constrained")
        panels = list(picture.subplots(rows, columns, squeeze=False, **options).flat)
        yield picture, panels
        check(picture)
        picture.draw_without_rendering()  # the style is settled here, not where the figure is written


def pixels(picture: Any) -> Any:
    """A figure as an array of bytes [height, width, 3], for a film."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(picture)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def label(panel: Any, *, x: Quantity, y: Quantity, title: str = "") -> None:
    """Name the axes of a panel: each a quantity and its unit."""
    for side, (quantity, unit) in (("x", x), ("y", y)):
        if not quantity or not unit:
            raise ValueError(f"{side}: expected a quantity and its unit, such as ('waiting time', 'min')")
        panel.set(**{f"{side}label": f"{quantity} ({unit})"})
    if title:
        panel.set_title(title)


def check(picture: Any) -> None:
    """Raise ValueError if an axis of the figure has no label, or one without a unit in parentheses."""
    for number, panel in enumerate(picture.axes):
        for side in ("x", "y"):
            words = (panel.xaxis if side == "x" else panel.yaxis).get_label_text()
            if panel.get_label() == "<colorbar>" and side == "x":
                continue
            if not (words.endswith(")") and "(" in words):
                raise ValueError(
                    f"panel {number}: its {side} axis needs a label with a unit, 'name (unit)'; got {words!r}"
                )


def legend(panel: Any, *, room: float = 0.0, **options: Any) -> None:
    """A legend, if anything has a label, where it hides least; ``room``: the share by which the panel grows upwards."""
    if not panel.get_legend_handles_labels()[0]:
        return
    if room:
        low, high = panel.get_ylim()
        panel.set_ylim(low, high + room * (high - low))
    panel.legend(**({"loc": "upper center" if room else "best", "ncols": 3 if room else 1} | options))


def whole(panel: Any, *axes: str) -> None:
    """Ticks at whole numbers, on both axes or one, at least at one of them."""
    for axis in axes or ("x", "y"):
        panel.locator_params(axis=axis, integer=True, min_n_ticks=1)


def colour_scale(picture: Any, panel: Any, image: Any, quantity: Quantity) -> None:
    """The scale of an image's colours beside its panel, labelled."""
    scale = picture.colorbar(image, ax=panel, pad=0.02, fraction=0.05)
    scale.set_label(f"{quantity[0]} ({quantity[1]})")
    scale.outline.set_visible(False)
