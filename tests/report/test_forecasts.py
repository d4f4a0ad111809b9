"""Pictures of forecasts: what is drawn, and films frame by frame."""

from pathlib import Path

import numpy as np
import pytest

from veil.report import forecasts, style
from veil.verbs.forecasting import Forecast


def numbers() -> Forecast:
    paths = np.random.default_rng(0).normal(size=(2, 50, 4, 2)).astype(np.float32)
    return Forecast(paths, paths.mean(1), paths.std(1), paths[:, 0])


def test_a_fan_holds_the_paths(tmp_path: Path) -> None:
    past = [np.arange(10.0).reshape(5, 2), np.ones((3, 2))]
    with style.figure() as (_, (panel,)):
        forecasts.fan(panel, past[0][:, 1], numbers(), 1)
    lines = {line.get_label(): line for line in panel.lines if not line.get_label().startswith("_")}
    np.testing.assert_array_equal(lines["seen"].get_ydata(), past[0][:, 1])
    np.testing.assert_array_equal(lines["median"].get_xdata(), [5, 6, 7, 8])
    np.testing.assert_allclose(lines["median"].get_ydata(), np.median(numbers().paths[0, :, :, 1], 0))
    np.testing.assert_array_equal(lines["truth"].get_ydata(), numbers().truth[0, :, 1])
    forecasts.chart(tmp_path / "f.svg", past, numbers(), ("a", "b"))
    assert "sequence 1" not in (tmp_path / "f.svg").name
    assert (tmp_path / "f.svg").read_text().count("<svg") == 1


@pytest.mark.parametrize("colours", [(), (1,), (3,)])
def test_a_film_shows_the_truth_beside_the_forecast(tmp_path: Path, colours: tuple[int, ...]) -> None:
    image = pytest.importorskip("PIL.Image")
    paths = np.linspace(0, 1, 3 * 2).reshape(1, 3, 2, *[1] * (2 + len(colours))) * np.ones((1, 3, 2, 4, 6, *colours))
    found = Forecast(paths, paths.mean(1), paths.std(1), paths[:, 2])
    past = np.full((3, 4, 6, *colours), 0.5)
    forecasts.film(tmp_path / "f.gif", past, found, size=12)
    with image.open(tmp_path / "f.gif") as film:
        # frames that are the same as the one before are shown longer, not again
        total = 0
        frames = []
        for number in range(film.n_frames):
            film.seek(number)
            total += film.info["duration"]
            frames.append(np.asarray(film.convert("RGB")))
    assert total == 5 * 100
    wide = (6 * 2 + 4, 4 * (6 * 2 + 4))
    assert frames[0].shape[1] == wide[1]
    last = frames[-1].astype(float)
    middles = [last[8, 8 + 16 * i].mean() / 255 for i in range(4)]
    np.testing.assert_allclose(
        middles, [paths[0, 2, 1].mean(), paths[0, :, 1].mean(), *paths[0, :2, 1, 0, 0].reshape(2, -1)[:, 0]], atol=0.02
    )
    np.testing.assert_array_equal(last[0, 0], [0, 114, 178])


def test_what_cannot_be_filmed(tmp_path: Path, monkeypatch) -> None:
    import sys

    with pytest.raises(ValueError, match="a film is of images"):
        forecasts.film(tmp_path / "f.gif", np.ones((3, 2)), numbers())
    paths = np.ones((1, 1, 2, 4, 4))
    found = Forecast(paths, paths[:, 0], paths[:, 0])
    with pytest.raises(ValueError, match=r"must end in \.gif or \.mp4"):
        forecasts.film(tmp_path / "f.avi", np.ones((3, 4, 4)), found)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ModuleNotFoundError, match="pip install imageio-ffmpeg"):
        forecasts.film(tmp_path / "f.mp4", np.ones((3, 4, 4)), found)
