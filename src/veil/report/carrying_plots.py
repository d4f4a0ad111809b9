"""How a flow carries noise to data, of a query of one number: values and densities on the way, pictures and a film."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from veil.host.films import gif
from veil.model.scales import Scale
from veil.parts import transport
from veil.report import style
from veil.units import unwrapped

REACH = 4.5  # standard deviations of noise that are followed
QUANTILES, TIMES = 601, 101
ARROWS = (11, 15)  # in time, across


@dataclass(frozen=True)
class Carried:
    """Quantiles of noise, followed: ``values`` [T, N] in the user's units at ``times`` [T] from 1 (noise) to 0 (data).

    ``densities`` [T, N]: p_t at the values. ``noise`` [N]: where each began, in standard deviations. The field with
    what it has read of the evidence, and the scale of its numbers, say where any value goes.
    """

    times: np.ndarray
    noise: np.ndarray
    values: np.ndarray
    densities: np.ndarray
    field: Any
    given: Any
    scale: Scale

    def at(self, noise: np.ndarray) -> np.ndarray:
        """The ways [T, K] of others: in one dimension none overtakes another, so they lie between their neighbours'."""
        return np.stack([np.interp(noise, self.noise, row) for row in self.values])

    def density(self, place: np.ndarray) -> np.ndarray:
        """p_t at places [P] in the user's units, for all times: [T, P]."""
        pairs = zip(self.values, self.densities, strict=True)
        return np.stack([np.interp(place, value, density, left=0.0, right=0.0) for value, density in pairs])

    def velocity(self, place: np.ndarray, time: np.ndarray) -> np.ndarray:
        """dy / dt of the flow, at places and times [K]."""
        standard = (place - np.asarray(self.scale.shift)) / np.asarray(self.scale.scale)
        return (
            np.asarray(
                _velocities(self.field, self.given, jnp.asarray(standard[:, None], float), jnp.asarray(time, float))
            )[:, 0]
            * self.scale.scale
        )


@eqx.filter_jit
def _velocities(field: Any, given: Any, value: Float[Array, "K 1"], time: Float[Array, " K"]) -> Float[Array, "K 1"]:
    return jax.vmap(lambda one, when: field.velocity(one, when, given))(value, time)


@eqx.filter_jit
def _ways(field: Any, given: Any, noise: Float[Array, "N 1"], times: Float[Array, " T"], tolerance: float) -> Any:
    return jax.vmap(lambda one: transport.on_the_way(field, one, given, times, tolerance))(noise)


def carried(model: Any, evidence: Any = None, times: int = TIMES) -> Carried:
    """How a fitted ``ContinuousFlow`` of one number carries noise to p(y | x), for one x.

    log p_t(z_t) = log N(z_1; 0, 1) - log |dz_t / dz_1|, solved together with z_t.
    """
    inner, units = unwrapped(model)
    given = inner.field.read(evidence if units is None else units.given(evidence))
    scale = Scale(np.zeros(1), np.ones(1)) if units is None or units.query is None else units.query
    shift, width = np.asarray(scale.shift).reshape(1), np.asarray(scale.scale).reshape(1)
    noise, when = np.linspace(-REACH, REACH, QUANTILES), np.linspace(1.0, 0.0, times)
    found = _ways(inner.field, given, jnp.asarray(noise[:, None], float), jnp.asarray(when, float), inner.tolerance)
    values, stretched = (np.asarray(part) for part in found)
    density = np.exp(-0.5 * noise[:, None] ** 2 - 0.5 * np.log(2 * np.pi) - stretched) / width
    return Carried(when, noise, shift + width * values[..., 0].T, density.T, inner.field, given, Scale(shift, width))


def on_the_way(panel: Any, found: Carried, places: tuple[float, float], *, brightest: float | None = None) -> Any:
    """p_t as an image, from noise (left) to data (right); returns the image."""
    place = np.linspace(*places, 240)
    density = found.density(place).T
    top = brightest or float(density[:, -1].max())
    extent = (1.0, 0.0, *places)
    image = panel.imshow(density, origin="lower", extent=extent, aspect="auto", cmap="Blues", vmin=0, vmax=top)
    panel.grid(False)
    panel.set_xlim(1.0, 0.0)
    panel.set_ylim(*places)
    return image


def ways(panel: Any, found: Carried, parting: float, count: int = 24) -> None:
    """The ways of ``count`` values of noise, equally likely: orange where they end below ``parting``, else black."""
    paths = found.at(_quantiles(count))
    for path in paths.T:
        panel.plot(found.times, path, color=_side(path[-1], parting), linewidth=0.9, alpha=0.9)


def arrows(panel: Any, found: Carried, places: tuple[float, float]) -> None:
    """Where the field sends a value in a part of the time: an arrow's end is where it would be."""
    spacing = 1.0 / ARROWS[0]
    times = 1.0 - spacing * (np.arange(ARROWS[0]) + 0.25)
    time, place = (axis.ravel() for axis in np.meshgrid(times, np.linspace(*places, ARROWS[1] + 2)[1:-1]))
    step = 0.7 * spacing
    panel.quiver(
        time,
        place,
        np.full_like(time, -step),
        -step * found.velocity(place, time),
        angles="xy",
        scale_units="xy",
        scale=1.0,
        width=0.0045,
        headwidth=4.5,
        headlength=5,
        headaxislength=4.5,
        color=style.INK,
    )


def film(found: Carried, places: tuple[float, float], parting: float, name: str, frames: int = 45) -> bytes:
    """p_t over the places, with grains of noise that go their ways below it, as a GIF that ends with the data."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    grains = _quantiles(72)
    shuffled = np.random.default_rng(0).permutation(len(grains))
    paths, place = found.at(grains), np.linspace(*places, 400)
    density = found.density(place)
    top = 1.12 * float(density.max())
    height = top * (0.04 + 0.3 * shuffled / len(grains)) - 0.4 * top
    colours = [_side(end, parting) for end in paths[-1]]
    shown: list[np.ndarray] = []
    with style.figure(panel=(5.2, 3.2)) as (picture, (panel,)):
        (line,) = panel.plot(place, density[0], color=style.BLUE)
        dots = panel.scatter(paths[0], height, c=colours, s=14, linewidths=0)
        panel.set_xlim(*places)
        panel.set_ylim(-0.4 * top, top)
        panel.set_yticks([tick for tick in panel.get_yticks() if 0 <= tick <= top])
        style.label(panel, x=(name, "no unit"), y=("density", "no unit"), title="t = 1.00: noise")
        canvas = FigureCanvasAgg(picture)
        canvas.draw()
        picture.set_layout_engine("none")  # nothing moves but what is shown
        for k in np.unique(np.linspace(0, len(found.times) - 1, frames).round().astype(int)):
            line.set_ydata(density[k])
            dots.set_offsets(np.stack([paths[k], height], -1))
            word = {0: ": noise", len(found.times) - 1: ": data"}.get(int(k), "")
            panel.set_title(f"t = {found.times[k]:.2f}{word}")
            canvas.draw()
            shown.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return gif(shown, rate=12, hold=2.0)


def _quantiles(count: int) -> np.ndarray:
    """So many standard normal values, each as likely as any other."""
    from scipy.special import ndtri

    return np.asarray(ndtri((np.arange(count) + 0.5) / count))


def _side(end: float, parting: float) -> str:
    return style.ORANGE if end < parting else style.INK
