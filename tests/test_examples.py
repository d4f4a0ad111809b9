"""The ```python blocks of README.md and docs/ run: those with prompts as doctests, the others as they stand.

The blocks of a page share their names, from top to bottom. A block that is not meant to run is ```text.
"""

import doctest
import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^(?P<indent>[ ]*)```python[^\n]*\n(?P<code>.*?)^(?P=indent)```[ ]*$", re.MULTILINE | re.DOTALL)
PAGES = [p for p in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if BLOCK.search(p.read_text("utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text("utf-8")
    names = {"__name__": "__main__"}
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner, report = doctest.DocTestRunner(verbose=False, optionflags=flags), []
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start("code"))
        code = textwrap.dedent(block["code"])
        if ">>>" in code:
            example = doctest.DocTestParser().get_doctest(code, names, page.name, str(page), line)
            runner.run(example, out=report.append, clear_globs=False)
            names = example.globs
            assert not report, "".join(report)
        else:
            exec(compile("\n" * line + code, str(page), "exec"), names)
