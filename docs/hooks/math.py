"""Turns the equations of a page into MathML when the site is built, so that it needs no script and no network.

`pymdownx.arithmatex` marks the equations; one that does not parse is a warning, hence an error under `--strict`.
"""

import html
import logging
import re

from math_core import LatexError, LatexToMathML

log = logging.getLogger("mkdocs.hooks.math")
EQUATION = re.compile(r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<latex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL)
CONVERTER = LatexToMathML(macros={"KL": r"\operatorname{KL}", "E": r"\mathbb{E}"}, fancy_error=False)


def on_page_content(content, page, config, files):
    def mathml(match):
        latex, display = html.unescape(match["latex"]).strip(), match["tag"] == "div"
        try:
            return CONVERTER.convert_with_local_state(latex, displaystyle=display)
        except LatexError as error:
            log.warning("%s: equation %r does not parse: %s", page.file.src_uri, latex, error)
            return match[0]

    return EQUATION.sub(mathml, content)
