"""Posteriors q(z | y, x), exact or approximate."""

from veil.posterior.amortized import Amortized, Ladder, Shared
from veil.posterior.assumed import Extended, ParticleFilter, Unscented
from veil.posterior.base import (
    Continuing,
    Expecting,
    Intrinsic,
    Learned,
    Online,
    PerDatum,
    Posterior,
    Proposal,
    Vectorial,
)
from veil.posterior.episodes import EpisodeEncoder
from veil.posterior.exact import Exact
from veil.posterior.mean_field import MeanField
from veil.posterior.messages import MessagePassing
from veil.posterior.noising import Noising
from veil.posterior.proposals import Bootstrap, Optimal
from veil.posterior.quantised import Quantised
from veil.posterior.refined import Refined
from veil.posterior.resampled import Resampled
from veil.posterior.sequential import Sequential
from veil.posterior.summaries import Both, Future, Now, Past
from veil.posterior.table import Table
from veil.posterior.undecided import Undecided

__all__ = [
    "Amortized",
    "Bootstrap",
    "Both",
    "Continuing",
    "EpisodeEncoder",
    "Exact",
    "Expecting",
    "Extended",
    "Future",
    "Intrinsic",
    "Ladder",
    "Learned",
    "MeanField",
    "MessagePassing",
    "Noising",
    "Now",
    "Online",
    "Optimal",
    "ParticleFilter",
    "Past",
    "PerDatum",
    "Posterior",
    "Proposal",
    "Quantised",
    "Refined",
    "Resampled",
    "Sequential",
    "Shared",
    "Table",
    "Undecided",
    "Unscented",
    "Vectorial",
]
