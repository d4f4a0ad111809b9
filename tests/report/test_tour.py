"""The tour in its quick version: it runs, its page needs nothing else, every axis has a label with a unit."""

import re

import pytest

from report.pages import check_self_contained
from veil.report import style
from veil.report.station import Visit, stations, visit
from veil.report.tour import choose, tour, write

pytest.importorskip("matplotlib")
VISITS: dict[str, Visit] = {}


@pytest.fixture(scope="module", autouse=True)
def small_pictures():
    """Every picture is drawn and written, in few pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "DPI", 24)
        yield


def visited(station):
    if station.name not in VISITS:
        VISITS[station.name] = visit(station, True, lambda words: None)
    return VISITS[station.name]


@pytest.mark.parametrize("station", stations(), ids=lambda station: station.name)
def test_station(station):
    done = visited(station)
    if done.findings is None:
        pytest.skip(f"needs {station.missing()}")
    assert done.findings.rows
    assert done.findings.pictures
    for picture in done.findings.pictures:
        panels = picture.figure.axes
        assert panels
        for panel in panels:
            scale = panel.get_label() == "<colorbar>"
            assert re.fullmatch(r".+ \(.+\)", panel.get_ylabel())
            assert scale or re.fullmatch(r".+ \(.+\)", panel.get_xlabel())
            assert scale or panel.has_data() or panel.patches, "an empty panel"
        style.check(picture.figure)
        assert picture.caption
    section = done.section()
    assert section.title
    assert section.question
    assert section.equation
    assert station.name in section.command
    text = write([done], 1.0, True)
    reader = check_self_contained(text)
    assert len(reader.images) == len(done.findings.pictures) + len(done.findings.films)
    for film in done.findings.films:
        assert film.gif.startswith(b"GIF")
        assert film.caption


def test_exact_numbers_are_met():
    """Where a station has both a value and the exact maximum, they agree."""
    found = visited(choose(["faithful"])[0]).findings
    assert found is not None
    for row in found.rows:
        if row.reference:
            assert float(row.value) == pytest.approx(float(row.reference), abs=2e-3)


def test_tour_writes_its_page(tmp_path, capsys):
    path = tour(tmp_path / "out", quick=True, only=["conditioning"])
    assert path == tmp_path / "out" / "index.html"
    check_self_contained(path.read_text("utf-8"))
    assert (tmp_path / "out" / "plots" / "conditioning.png").read_bytes().startswith(b"\x89PNG")
    assert "What the tour found" in capsys.readouterr().out


def test_quiet_tour_prints_nothing(tmp_path, capsys):
    tour(tmp_path, progress=False, quick=True, only=["conditioning"])
    assert capsys.readouterr().out == ""


def test_unknown_station():
    with pytest.raises(ValueError, match="no station 'nowhere'; there are faithful"):
        choose(["nowhere"])


def test_names_and_order_are_unique():
    everything = stations()
    assert len({station.name for station in everything}) == len(everything)
    assert len({station.order for station in everything}) == len(everything)


def test_a_station_without_its_packages_is_left_out():
    from dataclasses import replace

    station = replace(stations()[0], packages=("no_such_package",))
    done = visit(station, True, lambda words: None)
    assert done.findings is None
    assert "needs no_such_package" in write([done], 1.0, True)
