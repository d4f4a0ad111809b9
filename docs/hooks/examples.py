"""Puts the doctests of docstrings into fences, in one place: as plain text Markdown reads `>>>` as three quotations."""

import griffe

FENCE = "```"


def fenced(text: str) -> str:
    """The text with a fence around every example: from its first prompt to the next empty line."""
    out: list[str] = []
    inside = False
    for line in text.split("\n"):
        begins = line.lstrip().startswith(">>>") and not inside
        indent = " " * (len(line) - len(line.lstrip()))
        if begins:
            out += ["", f"{indent}{FENCE}pycon"] if out and out[-1].strip() else [f"{indent}{FENCE}pycon"]
            inside, edge = True, indent
        elif inside and not line.strip():
            out.append(f"{edge}{FENCE}")
            inside = False
        out.append(line)
    return "\n".join([*out, *([f"{edge}{FENCE}"] if inside else [])])


class Examples(griffe.Extension):
    """What mkdocstrings calls for every object that it reads."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring is not None and FENCE not in obj.docstring.value:
            obj.docstring.value = fenced(obj.docstring.value)
