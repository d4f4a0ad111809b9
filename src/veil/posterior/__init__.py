"""Posteriors q(z | y, x), exact or approximate."""

from veil.posterior.amortized import Amortized, Ladder, Shared
from veil.posterior.assumed import Extended, ParticleFilter, Unscented
from veil.posterior.base import Posterior
from veil.posterior.exact import Exact
from veil.posterior.mean_field import MeanField
from veil.posterior.proposals import Bootstrap, Optimal
from veil.posterior.refined import Refined
from veil.posterior.resampled import Resampled
from veil.posterior.sequential import Both, Future, MessagePassing, Now, Past, Sequential
from veil.posterior.table import Table

__all__ = [
    "Amortized",
    "Bootstrap",
    "Both",
    "Exact",
    "Extended",
    "Future",
    "Ladder",
    "MeanField",
    "MessagePassing",
    "Now",
    "Optimal",
    "ParticleFilter",
    "Past",
    "Posterior",
    "Refined",
    "Resampled",
    "Sequential",
    "Shared",
    "Table",
    "Unscented",
]
