"""Posteriors q(z | y, x), exact or approximate."""

from veil.posterior.amortized import Amortized, Ladder, Shared
from veil.posterior.base import Posterior
from veil.posterior.exact import Exact
from veil.posterior.paths import Both, Future, MessagePassing, Now, Past, Sequential
from veil.posterior.refined import Refined
from veil.posterior.resampled import Resampled
from veil.posterior.sequential import Bootstrap, Optimal
from veil.posterior.table import Table

__all__ = [
    "Amortized",
    "Bootstrap",
    "Both",
    "Exact",
    "Future",
    "Ladder",
    "MessagePassing",
    "Now",
    "Optimal",
    "Past",
    "Posterior",
    "Refined",
    "Resampled",
    "Sequential",
    "Shared",
    "Table",
]
