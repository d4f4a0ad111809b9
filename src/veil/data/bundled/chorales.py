"""Bach's chorales as piano rolls, from the MusicXML files of the music21 corpus."""

import io
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from veil.data.core.arrays import Data, labels
from veil.data.core.episodes import ragged
from veil.data.formats.writing import whole

LOWEST, KEYS = 21, 88  # of a piano, as MIDI numbers
LARGEST = 1 << 24  # bytes of one score
PARTS = 4
NOTES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
OCTAVE = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
NAMES = tuple(f"{OCTAVE[key % 12]}{key // 12 - 1}" for key in range(LOWEST, LOWEST + KEYS))
INSIDE = "music21/corpus/bach/"
Note = tuple[Fraction, Fraction, int]  # onset and end in quarter notes, and the MIDI number


def places(folders: Sequence[Path]) -> Path | None:
    """Where the scores are: a wheel of music21 or a folder of .mxl files in one of the folders, or music21 itself."""
    for folder in folders:
        wheels = sorted(folder.glob("music21-*.whl")) if folder.is_dir() else []
        if wheels:
            return wheels[-1]
        for inside in (folder, folder / "bach"):
            if inside.is_dir() and next(inside.glob("bwv*.mxl"), None) is not None:
                return inside
    found = find_spec("music21")
    place = None if found is None or found.origin is None else Path(found.origin).parent / "corpus" / "bach"
    return place if place is not None and place.is_dir() else None


def read_chorales(place: Path, steps: int = 1, name: str = "chorales") -> Data:
    """The four-part pieces as sequences [T, 88] of keys that sound (1) or not (0), ``steps`` a quarter note.

    What is made is kept as an .npz beside the wheel or the folder, where that can be written.
    """
    kept = place.with_name(f"{place.stem}-chorales-{steps}.npz")
    try:
        with np.load(kept, allow_pickle=False) as archive:
            rolls, lengths = archive["query"], archive["lengths"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pieces = [roll for score in _scores(place) if (roll := piano_roll(score, steps)) is not None]
        if not pieces:
            raise ValueError(f"{place}: it has no four-part scores") from None
        rolls, lengths = np.concatenate(pieces), np.array([len(piece) for piece in pieces])
        with suppress(OSError), whole(kept) as file:  # where nothing can be written they are made anew each time
            np.savez_compressed(file, query=rolls, lengths=lengths)
    rows = Data(rolls, query_names=NAMES, name=name)
    return ragged(lengths, rows.query, names=labels(rows))


def piano_roll(score: bytes, steps: int = 1) -> np.ndarray | None:
    """[T, 88] of a MusicXML score: which keys sound at the beginning of each step; None if it has not four parts.

    A step begins on every beat (or its parts), counted from the bar lines: of an upbeat that is no whole number of
    steps the beginning is left out. Repeats are not played.
    """
    if len(score) > LARGEST or b"<!ENTITY" in score or score[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError("a score must be UTF-8 text of moderate size without entities")
    try:
        root = ElementTree.fromstring(score)
    except ElementTree.ParseError as error:
        raise ValueError(f"no MusicXML: {error}") from None
    parts = root.findall("part")
    if root.tag != "score-partwise" or len(parts) != PARTS:
        return None
    read = [_notes(part) for part in parts]
    upbeat, end = read[0][1], max(length for _, _, length in read)
    each = Fraction(1, steps)
    first = upbeat % each
    count = max(0, -(-(end - first) // each))
    roll = np.zeros((int(count), KEYS), np.uint8)
    for notes, _, _ in read:
        for begin, stop, key in notes:
            low, high = -(-(begin - first) // each), -(-(stop - first) // each)
            if 0 <= key - LOWEST < KEYS:
                roll[max(0, int(low)) : int(high), key - LOWEST] = 1
    sounding = np.flatnonzero(roll.any(1))
    return roll[: sounding[-1] + 1] if len(sounding) else None  # without the silence that fills the last bar


def _notes(part: ElementTree.Element) -> tuple[list[Note], Fraction, Fraction]:
    """The notes of a part, the length of its first bar, and its length, in quarter notes."""
    notes: list[Note] = []
    bar, divisions, first = Fraction(0), 1, None
    for measure in part.findall("measure"):
        now = longest = before = Fraction(0)
        for each in measure:
            if each.tag == "attributes":
                divisions = int(each.findtext("divisions") or divisions)
            length = Fraction(each.findtext("duration") or 0) / divisions
            if each.tag == "backup":
                now -= length
            elif each.tag == "forward":
                now += length
            elif each.tag == "note" and each.find("grace") is None:
                begin = before if each.find("chord") is not None else now
                pitch = each.find("pitch")
                if pitch is not None:
                    step, octave = (pitch.findtext("step") or "").strip(), int(pitch.findtext("octave") or 4)
                    key = 12 * (octave + 1) + NOTES[step] + round(float(pitch.findtext("alter") or 0))
                    notes.append((bar + begin, bar + begin + length, key))
                before, now = begin, begin + length
            longest = max(longest, now)
        bar += longest
        first = longest if first is None else first
    return notes, first or Fraction(0), bar


def _scores(place: Path) -> Iterator[bytes]:
    """The scores in order of their names; .mxl files are archives with the score in them."""
    folder: Any = place if place.is_dir() else zipfile.Path(place, INSIDE)
    for file in sorted(folder.iterdir(), key=lambda each: each.name):
        if not file.name.endswith(".mxl"):
            continue
        with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as archive:
            container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
            root = container.find(".//{*}rootfile")
            inside = archive.getinfo("" if root is None else root.get("full-path", ""))
            if inside.file_size <= LARGEST:
                yield archive.read(inside)
