"""How a flow carries noise: its values and densities on the way are those of exact answers."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import veil
from veil.host import films
from veil.model.scales import Scale
from veil.parts.fields import Field
from veil.parts.paths import Path, Straight
from veil.report import carrying_plots as carrying
from veil.units import Units, standardised

CENTRE, WIDTH = 0.5, 0.3


class ExactField(Field):
    """The mean direction of a straight path to y ~ N(CENTRE, WIDTH²): E[ε - y | z_t] / √2, all jointly normal."""

    path: Path = Straight()
    shape: tuple[int, ...] | None = (1,)
    inputs: int | None = 0

    def __call__(self, value, time, given):
        kept = 1.0 - time
        variance = kept**2 * WIDTH**2 + time**2
        away = value - kept * CENTRE
        noise, data = time * away / variance, CENTRE + kept * WIDTH**2 * away / variance
        return (noise - data) / jnp.sqrt(2.0)


@pytest.fixture(scope="module")
def found():
    return carrying.carried(veil.ContinuousFlow(ExactField()), times=5)


def test_densities_on_the_way_are_normal(found):
    """p_t = N((1 - t) m, (1 - t)² s² + t²) at every time, and each value keeps its quantile."""
    for time, values, densities in zip(found.times, found.values, found.densities, strict=True):
        centre, width = (1 - time) * CENTRE, np.hypot((1 - time) * WIDTH, time)
        np.testing.assert_allclose(values, centre + width * found.noise, atol=2e-4)
        np.testing.assert_allclose(densities, norm.pdf(values, centre, width), rtol=3e-3, atol=1e-6)


def test_between_quantiles_and_places(found):
    ends = found.at(np.array([-1.234, 0.0]))[-1]
    np.testing.assert_allclose(ends, CENTRE + WIDTH * np.array([-1.234, 0.0]), atol=1e-3)
    place = np.array([-50.0, 0.2])
    np.testing.assert_allclose(found.density(place)[-1], [0.0, norm.pdf(0.2, CENTRE, WIDTH)], rtol=3e-3)
    step = (found.values[3, 300] - found.values[2, 300]) / (found.times[3] - found.times[2])
    middle = found.velocity(found.values[[2, 3], 300], found.times[[2, 3]])
    assert min(middle) - 0.05 < step < max(middle) + 0.05


def test_in_the_units_of_the_data(found):
    """A flow of standardised numbers in the user's: places are moved and stretched, densities the other way."""
    units = Units(Scale(np.array([100.0], np.float32), np.array([5.0], np.float32)))
    model = standardised(veil.ContinuousFlow(ExactField()), units)
    there = carrying.carried(model, times=5)
    np.testing.assert_allclose(there.values, 100 + 5 * found.values, rtol=1e-6)
    np.testing.assert_allclose(there.densities, found.densities / 5, rtol=1e-6)
    exact = norm.pdf(there.values[-1, 300], 100 + 5 * CENTRE, 5 * WIDTH)
    assert there.densities[-1, 300] == pytest.approx(exact, rel=1e-3)
    times, places = there.times[[1, 3]], there.values[[1, 3], 250]
    np.testing.assert_allclose(there.velocity(places, times), 5 * found.velocity((places - 100) / 5, times), rtol=1e-4)


def test_film_ends_with_the_data(found):
    pytest.importorskip("PIL")
    from io import BytesIO

    from PIL import Image

    shown = carrying.film(found, (-3.0, 3.0), 0.0, "y", frames=3)
    with Image.open(BytesIO(shown)) as opened:
        assert opened.n_frames == 3
        opened.seek(2)
        assert opened.info["duration"] > 2000


def test_gif_keeps_frames_and_pace():
    pytest.importorskip("PIL")
    from io import BytesIO

    from PIL import Image

    frames = [np.full((4, 6, 3), value, np.uint8) for value in (0, 120, 255)]
    with Image.open(BytesIO(films.gif(frames, rate=5))) as opened:
        assert (opened.n_frames, opened.size, opened.info["duration"]) == (3, (6, 4), 200)
