"""Piano rolls of MusicXML scores: a small one by hand, note for note, and how files are found."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

import veil
from veil.data.bundled.chorales import NAMES, piano_roll

CONTAINER = '<container><rootfiles><rootfile full-path="s.xml"/></rootfiles></container>'


def note(pitch: str | None, duration: int, more: str = "") -> str:
    if pitch is None:
        return f"<note><rest/><duration>{duration}</duration></note>"
    step, alter, octave = pitch[0], {"#": 1, "b": -1}.get(pitch[1:-1], 0), pitch[-1]
    return (
        f"<note>{more}<pitch><step>{step}</step><alter>{alter}</alter><octave>{octave}</octave></pitch>"
        f"<duration>{duration}</duration></note>"
    )


def score(*parts: list[str]) -> bytes:
    """Each part is a list of measures; divisions are 2 to the quarter, in the first measure."""
    text = ""
    for measures in parts:
        inside = [
            f"<measure>{'' if i else '<attributes><divisions>2</divisions></attributes>'}{each}</measure>"
            for i, each in enumerate(measures)
        ]
        text += f"<part>{''.join(inside)}</part>"
    return f'<?xml version="1.0" encoding="UTF-8"?><score-partwise>{text}</score-partwise>'.encode()


def small() -> bytes:
    soprano = [note("C5", 1) + note("D5", 1), note("E5", 3) + note("F5", 1) + note("G5", 4)]
    alto = [note("C#4", 2), note(None, 4) + note("Bb4", 2) + note("A4", 2, "<chord/>") + note("A0", 2)]
    tenor = [note("C4", 2), note("E4", 8) + "<backup><duration>4</duration></backup>" + note("G4", 4)]
    bass = [note("C3", 2), "<forward><duration>6</duration></forward>" + note("C8", 2)]
    return score(soprano, alto, tenor, bass)


def sounding(roll: np.ndarray) -> list[set[str]]:
    return [{NAMES[key] for key in np.flatnonzero(step)} for step in roll]


def test_a_score_note_for_note() -> None:
    assert sounding(piano_roll(small())) == [
        {"C5", "C#4", "C4", "C3"},
        {"E5", "E4"},
        {"E5", "E4"},
        {"G5", "A#4", "A4", "E4", "G4"},
        {"G5", "A0", "E4", "G4", "C8"},
    ]
    assert sounding(piano_roll(small(), 2))[:5] == [
        {"C5", "C#4", "C4", "C3"},
        {"D5", "C#4", "C4", "C3"},
        {"E5", "E4"},
        {"E5", "E4"},
        {"E5", "E4"},
    ]


def test_an_upbeat_of_half_a_step_is_left_out_and_silence_at_the_end() -> None:
    parts = [[note("C4", 1), note("D4", 4) + note(None, 4)]] * 4
    assert sounding(piano_roll(score(*parts))) == [{"D4"}, {"D4"}]


def test_what_is_no_chorale() -> None:
    assert piano_roll(score(*[[note("C4", 2)]] * 3)) is None
    assert piano_roll(score(*[[note(None, 2)]] * 4)) is None
    with pytest.raises(ValueError, match="no MusicXML"):
        piano_roll(b"<score-partwise>")
    bomb = b'<!DOCTYPE s [<!ENTITY a "aaaaaaaa">]><score-partwise>&a;</score-partwise>'
    with pytest.raises(ValueError, match="without entities"):
        piano_roll(bomb)


def packed() -> bytes:
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("s.xml", small())
    return buffer.getvalue()


def test_a_wheel_or_a_folder_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "music21-1.0-py3-none-any.whl", "w") as wheel:
        for name in ("bwv1.mxl", "bwv2.mxl"):
            wheel.writestr(f"music21/corpus/bach/{name}", packed())
        wheel.writestr("music21/corpus/mozart/k1.mxl", packed())
    data = veil.data.load("chorales", folder=tmp_path)
    assert data.query.shape == (2, 5, 88)
    assert data.query_names == NAMES
    kept = tmp_path / "music21-1.0-py3-none-any-chorales-1.npz"
    assert kept.exists()
    monkeypatch.setattr("veil.data.bundled.chorales.piano_roll", lambda *_: pytest.fail("it is kept"))
    np.testing.assert_array_equal(veil.data.load("chorales", folder=tmp_path).query, data.query)
    monkeypatch.undo()
    kept.write_bytes(b"damaged")
    np.testing.assert_array_equal(veil.data.load("chorales", folder=tmp_path).query, data.query)
    (tmp_path / "here" / "chorales").mkdir(parents=True)
    (tmp_path / "here" / "chorales" / "bwv1.mxl").write_bytes(packed())
    monkeypatch.setenv("VEIL_DATA", str(tmp_path / "here"))
    assert veil.data.load("chorales-eighths").query.shape == (1, 10, 88)
    with pytest.raises(ValueError, match="holds sequences, which have no columns"):
        veil.data.load("chorales", "C4")


def test_what_brings_them_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VEIL_DATA", raising=False)
    monkeypatch.setattr("veil.data.bundled.chorales.find_spec", lambda _: None)
    with pytest.raises(FileNotFoundError, match="pip download --no-deps"):
        veil.data.load("chorales", folder=tmp_path)
