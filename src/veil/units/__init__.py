"""Standardised coordinates, whole: the one place that knows that fits work in them.

A model of standardised data becomes a model of the user's data by a wrapper that is itself a ``Model`` (and its twin
that is a ``Posterior``): it scales evidence and query on the way in and distributions on the way out, with the Jacobian
in the log-density. What is inside, also parts that users write, sees standardised numbers in training and ever after.
"""

from veil.units.coordinates import Units
from veil.units.models import Standardised, in_user_units, inside, rescaled, standardised, unwrapped
from veil.units.normalisations import AlongSteps, Deviation, Normalisation, Quantiles, Range, Robust
from veil.units.posteriors import StandardisedPosterior, standardised_posterior, unwrapped_posterior

__all__ = [
    "AlongSteps",
    "Deviation",
    "Normalisation",
    "Quantiles",
    "Range",
    "Robust",
    "Standardised",
    "StandardisedPosterior",
    "Units",
    "in_user_units",
    "inside",
    "rescaled",
    "standardised",
    "standardised_posterior",
    "unwrapped",
    "unwrapped_posterior",
]
