"""One self-contained HTML page: pictures inside, nothing fetched, no script; light, and readable on a telephone."""

import base64
import html
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from veil.report import style


def _place(folder: str | os.PathLike[str]) -> Path:
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    return path


@dataclass(frozen=True)
class Picture:
    """A figure and its caption, plain text that also says what it shows to those who do not see it."""

    figure: Any
    caption: str
    name: str = "picture"

    def png(self) -> bytes:
        """The figure as PNG."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=style.DPI)
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png()

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``folder/name.png``."""
        path = _place(folder) / f"{self.name}.png"
        path.write_bytes(self.png())
        return path


class Pictures(dict[str, Picture]):
    """Pictures by name; a notebook shows all of them, with their captions."""

    def _repr_html_(self) -> str:
        return "".join(map(_picture, self.values()))


@dataclass(frozen=True)
class Film:
    """An animated GIF and its caption; it plays by itself, over and over."""

    gif: bytes
    caption: str
    name: str = "film"

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``folder/name.gif``."""
        path = _place(folder) / f"{self.name}.gif"
        path.write_bytes(self.gif)
        return path


@dataclass(frozen=True)
class Table:
    """A table of text; columns whose entries are all numbers stand to the right."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """One part of a page. ``text`` and ``equation`` are HTML; all else is plain text."""

    title: str
    question: str = ""
    text: Sequence[str] = ()
    equation: str = ""
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    command: str = ""
    notes: Sequence[str] = field(default_factory=tuple)
    films: Sequence[Film] = ()


CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 3rem; max-width: 62rem; background: #fff; color: #222;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .4rem 0 .6rem; }
h2 { font-size: 1.25rem; line-height: 1.25; margin: 2.4rem 0 .3rem; padding-top: 1rem; border-top: 1px solid #e3e7eb; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: #005a8e; }
nav ol { padding-left: 1.4rem; columns: 2 18rem; }
.question { font-style: italic; color: #444; }
.equation { margin: .8rem 0; padding: .6rem .9rem; background: #f4f7fa; border-left: 3px solid #0072b2; overflow-x:
auto; font-family: "STIX Two Math", "Latin Modern Math", Cambria, "DejaVu Serif", Georgia, serif; font-size: 1.05rem; }
.note { color: #7a4a00; }
figure { margin: 1rem 0; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { font-size: .88rem; color: #555; max-width: 46rem; margin-top: .3rem; }
.wide { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: #555; font-size: .88rem; padding-bottom: .3rem; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; border-bottom: 1px solid #eceff2; vertical-align: top; }
th { border-bottom: 2px solid #c9d0d6; font-weight: 600; }
td.number, th.number { text-align: right; white-space: nowrap; }
pre { margin: .6rem 0; padding: .6rem .9rem; background: #f4f4f2; border: 1px solid #e4e4e0; border-radius: 4px;
  overflow-x: auto; font: .88rem/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; user-select: all; }
.label { font-size: .8rem; color: #666; margin: .9rem 0 -.3rem; }
footer { margin-top: 3rem; padding-top: .8rem; border-top: 1px solid #e3e7eb; font-size: .85rem; color: #666; }
@media (max-width: 40rem) { body { font-size: 15px; padding: .8rem .8rem 2rem; } h1 { font-size: 1.4rem; }
  th, td { padding-right: .55rem; } figure img { max-width: none; } }
"""


def page(
    title: str, lead: Sequence[str], sections: Sequence[Section], footer: str = "", label: str = "The command:"
) -> str:
    """The page as one string of HTML. ``lead``: paragraphs of HTML; ``label``: what stands before a command."""
    links = "".join(f'<li><a href="#part{i}">{html.escape(part.title)}</a></li>' for i, part in enumerate(sections))
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title><style>{CSS}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
        *(f"<p>{paragraph}</p>" for paragraph in lead),
        f"<nav><ol>{links}</ol></nav>" if len(sections) > 4 else "",
        *(_section(part, i, label) for i, part in enumerate(sections)),
        f"<footer>{html.escape(footer)}</footer>" if footer else "",
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _section(part: Section, number: int, label: str) -> str:
    out = [f'<section id="part{number}"><h2>{html.escape(part.title)}</h2>']
    if part.question:
        out.append(f'<p class="question">{html.escape(part.question)}</p>')
    if part.equation:
        out.append(f'<div class="equation">{part.equation}</div>')
    out += [f"<p>{paragraph}</p>" for paragraph in part.text]
    out += [_picture(picture) for picture in part.pictures]
    out += [_film(film) for film in part.films]
    out += [_table(table) for table in part.tables]
    out += [f'<p class="note">{html.escape(note)}</p>' for note in part.notes]
    if part.command:
        out.append(f'<p class="label">{html.escape(label)} (one click selects it)</p>')
        out.append(f"<pre><code>{html.escape(part.command)}</code></pre>")
    return "\n".join([*out, "</section>"])


def _picture(picture: Picture) -> str:
    style.check(picture.figure)
    return _image("png", picture.png(), picture.caption, f' width="{round(96 * picture.figure.get_figwidth())}"')


def _film(film: Film) -> str:
    return _image("gif", film.gif, film.caption)


def _image(kind: str, content: bytes, caption: str, width: str = "") -> str:
    data = base64.b64encode(content).decode()
    image = f'<img alt="{html.escape(caption, quote=True)}"{width} src="data:image/{kind};base64,{data}">'
    return f'<figure><div class="wide">{image}</div><figcaption>{html.escape(caption)}</figcaption></figure>'


def _number(text: str) -> bool:
    try:
        float(text.replace("−", "-").replace("%", "").replace(",", "").split("±")[0].strip() or "0")
    except ValueError:
        return False
    return True


def _table(table: Table) -> str:
    numeric = [all(_number(row[i]) for row in table.rows) for i in range(len(table.head))]
    kind = [' class="number"' if flag else "" for flag in numeric]
    head = "".join(f"<th{k}>{html.escape(cell)}</th>" for k, cell in zip(kind, table.head, strict=True))
    rows = [
        "<tr>" + "".join(f"<td{k}>{html.escape(cell)}</td>" for k, cell in zip(kind, row, strict=True)) + "</tr>"
        for row in table.rows
    ]
    caption = f"<caption>{html.escape(table.caption)}</caption>" if table.caption else ""
    return (
        f'<div class="wide"><table>{caption}<thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )
