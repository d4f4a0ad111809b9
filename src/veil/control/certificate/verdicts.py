"""What numbers say of a policy, in words. Every threshold is here."""

import numpy as np

from veil.control.certificate.driven import Driven
from veil.control.certificate.result import Acts, Verdict

FEW = 0.01  # of observations where demonstrations have several modes: with fewer, there is nothing to certify
OFF = 0.10  # of draws
BETWEEN = 0.20
COVERED = 0.75
SEVERAL = 0.25
EXPLAINED = 0.05
CENTRE = 0.75
OUTCOMES = 0.5  # of the demonstrators' entropy
SWITCHING = 0.05  # of drives, more than demonstrators


def said(
    multimodal: float, acts: Acts | None, explained: float, centre: float, driven: Driven | None
) -> tuple[Verdict, ...]:
    """All that can be said."""
    found = []
    if acts is not None:
        found.append(_above("off the demonstrations", acts.off, OFF, "of draws are near no demonstrated action"))
        words = f"of observations have demonstrations of several modes; {FEW:.0%} or more are called for"
        many = bool(multimodal >= FEW and np.isfinite(acts.coverage))
        found.insert(
            0, Verdict("demonstrations have several modes", many, multimodal, FEW, _words(multimodal, words), False)
        )
        if many:
            found += _modes(acts)
    if np.isfinite(explained):
        words = f"of the variance of actions is explained by z; below {EXPLAINED:.0%} it is ignored"
        ignored = explained < EXPLAINED
        found.append(
            Verdict("z is ignored", ignored, explained, EXPLAINED, _words(explained, words), multimodal >= FEW)
        )
    if np.isfinite(centre):
        words = f"{centre:.2f} of the way from the draws of the prior to those with its central z; limit {CENTRE:.2f}"
        found.append(Verdict("acts by z = 0", centre > CENTRE, centre, CENTRE, words))
    if driven is not None and driven.demonstrators is not None:
        found += _driven(driven, driven.demonstrators)
    return tuple(found)


def _words(value: float, words: str) -> str:
    return f"{value:.1%} {words}"


def _above(name: str, value: float, threshold: float, words: str) -> Verdict:
    return Verdict(name, value > threshold, value, threshold, _words(value, f"{words}; limit {threshold:.0%}"))


def _modes(acts: Acts) -> list[Verdict]:
    many, cover = acts.several, acts.coverage
    several = f"of observations with several modes see draws in several; {SEVERAL:.0%} are called for, and few between"
    covered = f"of the demonstrations' modes are visited; {COVERED:.0%} are called for"
    return [
        Verdict("multimodal", many >= SEVERAL and acts.between <= BETWEEN, many, SEVERAL, _words(many, several), False),
        _above("acts between modes", acts.between, BETWEEN, "of draws are between two modes"),
        Verdict("one mode only (mode collapse)", cover < COVERED, cover, COVERED, _words(cover, covered)),
    ]


def _driven(driven: Driven, theirs: Driven) -> list[Verdict]:
    found = []
    least = OUTCOMES * theirs.entropy[0]
    if least > 0:
        mine = driven.entropy[0]
        words = f"entropy of outcomes {mine:.2f}, of demonstrators {theirs.entropy[0]:.2f}; at least {least:.2f}"
        found.append(Verdict("few of the ways to succeed", mine < least, mine, least, words))
    limit = theirs.switching[0] + SWITCHING
    found.append(_above("changes its mind", driven.switching[0], limit, "of drives go back on an outcome"))
    return found
