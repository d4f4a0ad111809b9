"""A `Sheet` as text: .csv and .tsv as various programs write them, perhaps packed, perhaps damaged."""

import csv
import gzip
import io
from pathlib import Path

import numpy as np

import veil
from whole_way.files import Input, arguments, chance, damaged, from_file, pick, readers
from whole_way.mutations import make
from whole_way.sheets import Column, Sheet, Truth, refused, truth

MISSING = ("", "na", "n/a", "nan", "null")


def cell_text(cell, rng) -> str:
    if cell is None:
        return pick(rng, "", "", "", "NA", "nan", "NaN", "null", "N/A", "n/a", "NULL", "Null")
    if isinstance(cell, bool):
        return pick(rng, str(cell), str(cell).lower(), str(cell).upper())
    return repr(cell) if isinstance(cell, float) else str(cell)


def in_text(rng, folder: Path) -> Input:
    """A .csv or .tsv, perhaps packed, as various programs write them."""
    sheet = make(rng)
    return as_text(sheet, rng, folder, ".csv" if chance(rng, 0.7) else ".tsv")


def as_text(sheet: Sheet, rng, folder: Path, ending: str) -> Input:
    told, delimiter = [], "," if ending == ".csv" else "\t"
    for column in sheet.columns:
        column.cells = [float(c) if isinstance(c, np.floating) else c for c in column.cells]
    rows = [[column.name for column in sheet.columns]]
    rows += [[cell_text(column.cells[i], rng) for column in sheet.columns] for i in range(len(sheet))]

    def mutate(name: str, p: float = 0.06) -> bool:
        told.extend([name] if (found := chance(rng, p)) else [])
        return found

    sure = True  # that the text is the sheet's, and the sheet's rules are all that there is
    if mutate("a separator at the end of all rows"):
        rows = [[*row, ""] for row in rows]
        if not sheet.named:
            sheet.columns.append(Column("", [None] * len(sheet), "index"))
    if mutate("a cell more or less", 0.04):
        row = rng.integers(len(rows))
        rows[row] = [*rows[row], "1"] if chance(rng, 0.5) else rows[row][:-1]
        sure = False
    if mutate("spaces"):
        rows = [[f" {cell} " if chance(rng, 0.3) else cell for cell in row] for row in rows]
    if mutate("no header", 0.04):
        rows, sure = rows[1:], False
    if mutate("numbers as names", 0.04) and rows:
        rows[0], sure = [str(i) for i in range(len(rows[0]))], False
    out = io.StringIO()
    eol = "\r\n" if mutate("CRLF", 0.1) else "\r" if mutate("CR", 0.03) else "\n"
    quoting = csv.QUOTE_ALL if mutate("quotes") else csv.QUOTE_MINIMAL
    writer = csv.writer(
        out, delimiter=";" if mutate("semicolons", 0.02) else delimiter, lineterminator=eol, quoting=quoting
    )
    writer.writerows(rows)
    text = out.getvalue()
    sure = sure and "semicolons" not in told
    if mutate("comment", 0.03):
        text, sure = f"# made by a logger{eol}{text}", False
    if mutate("blank lines"):
        lines = text.split(eol) if not any("\n" in cell for row in rows for cell in row) else [text]
        text = eol.join(part for line in lines for part in ([line, ""] if chance(rng, 0.2) else [line]))
    if mutate("no last line break", 0.1):
        text = text.removesuffix(eol)
    content = ("\ufeff" if mutate("byte order mark") else "").encode() + text.encode("utf-8")
    if mutate("empty", 0.01):
        content, sure = b"", False
    packed, hurt = mutate("packed", 0.1), mutate("damaged", 0.08)
    path = folder / f"table{ending}{'.gz' if packed else ''}"
    if not packed and hurt and content:
        (content, how), sure = damaged(rng, content), False
        told.append(how)
    for column in sheet.columns:
        column.name = column.name.strip()  # as a header's cells are
    for place, column in enumerate(sheet.columns):
        column.name = column.name or f"column{place}"
    stored = gzip.compress(content) if packed else content
    path.write_bytes(stored)
    if packed and hurt:
        stored, how = damaged(rng, stored)
        path.write_bytes(stored)
        try:
            same = gzip.decompress(stored) == content  # bits that say nothing of the content
        except Exception:
            same = False
        if not same:
            return Input(
                sheet.family, lambda: veil.data.read(path, **arguments(sheet)), None, how, told=(*sheet.told, how)
            )
    given = arguments(sheet)
    hard = sure and all(_kind(name) == "text" for name in rows[0]) and eol != "\r"
    if hard and all(_steady(column) for column in sheet.columns):
        # a single name with another separator in it looks like a file of that kind
        return from_file(sheet, path, told, len(rows[0]) == 1 and any(mark in rows[0][0] for mark in ",;\t"))
    # Names that are numbers, rows that differ, damage: read by Python's own module, and by the documented rules.
    why, found = "", None
    try:
        found = _read_plainly(content, delimiter, given, sheet.family)
    except Unreadable as error:
        why = str(error)
    may = sheet.may or not sure or eol == "\r"
    read, stream = readers(path, given)
    return Input(sheet.family, read, found, why, may, (*sheet.told, *told), stream)


class Unreadable(Exception):
    """And why."""


def _kind(cell: str) -> str:
    text = cell.strip().lower()
    if text in MISSING:
        return ""
    try:
        float(text if text.isascii() and "_" not in text else "no number")
    except ValueError:
        return "truth" if text in ("true", "false") else "text"
    return "number"


def _steady(column: Column) -> bool:
    """Whether all its cells are of one kind, so that it does not matter which one is the first."""
    return (
        len({"number" if type(cell) in (int, float) else type(cell) for cell in column.cells if cell is not None}) < 2
    )


def _number(cell: str, kind: str) -> float | None:
    found = _kind(cell)
    if found == "":
        return np.nan
    text = cell.strip().lower()
    if kind == "truth":
        return {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}.get(text)
    return float(text) if found == "number" else None


def _exactly(cell: str):
    text = cell.strip()
    if _kind(cell) == "number":
        return int(text) if text.lstrip("-").isdecimal() else float(text)
    return None if _kind(cell) == "" else text


def _read_plainly(content: bytes, delimiter: str, given: dict, family: str) -> Truth:
    """A text by Python's csv module and the rules of the documentation."""
    try:
        # what is no UTF-8 is text, which does no harm in a column that is not used
        text = content.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
        records = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row]
    except csv.Error as error:
        raise Unreadable(str(error)) from None
    if not records:
        raise Unreadable("empty")
    if any("\ud800" <= letter <= "\udfff" for cell in records[0] for letter in cell):
        raise Unreadable("names that are no text")
    kinds = {_kind(cell) for cell in records[0]}
    header = bool(kinds & {"text", "truth"})
    cells, counting = [cell.strip() for cell in records[0]], [str(i) for i in range(len(records[0]))]
    if (len(cells) > 2 and cells == counting) or (len(cells) > 1 and cells == ["", *counting[:-1]]):
        raise Unreadable("column numbers, or data")
    if header and "number" in kinds:
        raise Unreadable("names and numbers in the first row")
    names = [cell.strip() or f"column{i}" for i, cell in enumerate(records[0])]
    names = names if header else [f"column{i}" for i in range(len(names))]
    rows = records[1:] if header else records
    if not rows or any(len(row) != len(names) for row in rows):
        raise Unreadable("rows of other lengths, or none")
    columns = []
    for i, name in enumerate(names):
        kind = next((_kind(row[i]) for row in rows if _kind(row[i])), "")
        cells = [row[i] if kind == "text" else _number(row[i], kind) for row in rows]
        index = header and ((i == 0 and not records[0][0].strip()) or (not records[0][i].strip() and not kind))
        role = "other" if given else "index" if index or name.startswith(("Unnamed: 0", "__index_level_0")) else "query"
        role = next(
            (role for role, wanted in given.items() if name in ([wanted] if isinstance(wanted, str) else wanted)), role
        )
        if role in ("episode", "time"):  # of which every digit counts
            cells = [_exactly(row[i]) for row in rows]
        if None in cells and role != "other":
            raise Unreadable("text in a column of numbers")
        columns.append(Column(name, [None if cell != cell else cell for cell in cells], role))
    sheet = Sheet(family, columns, named=bool(given))
    if any(len({isinstance(cell, str) for cell in column.cells}) > 1 for column in sheet.of("time")):
        raise Unreadable("times that cannot be compared")
    wanted = [name for each in given.values() for name in ([each] if isinstance(each, str) else each)]
    why = refused(sheet) or next((f"no column {name}" for name in wanted if name not in names), "")
    if why:
        raise Unreadable(why)
    return truth(sheet)
