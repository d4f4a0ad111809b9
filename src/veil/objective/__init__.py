"""Objectives in nats per datum, always maximised: the third contract."""

from veil.objective.base import Estimate, Objective
from veil.objective.em import ExpectedLogLikelihood
from veil.objective.marginal import Marginal

__all__ = ["Estimate", "ExpectedLogLikelihood", "Marginal", "Objective"]
