"""Posteriors q(z | y, x), exact or approximate."""

from veil.posterior.amortized import Amortized, Ladder, Shared
from veil.posterior.base import Posterior
from veil.posterior.exact import Exact
from veil.posterior.refined import Refined
from veil.posterior.resampled import Resampled
from veil.posterior.sequential import Both, Future, MessagePassing, Now, Past, Sequential
from veil.posterior.table import Table

__all__ = [
    "Amortized",
    "Both",
    "Exact",
    "Future",
    "Ladder",
    "MessagePassing",
    "Now",
    "Past",
    "Posterior",
    "Refined",
    "Resampled",
    "Sequential",
    "Shared",
    "Table",
]
