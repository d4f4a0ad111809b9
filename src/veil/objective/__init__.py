"""Objectives in nats per datum, always maximised."""

from veil.objective.base import Estimate, Objective
from veil.objective.elbo import ELBO, Binarised, ImportanceWeighted, WakeSleep
from veil.objective.em import ExpectedLogLikelihood
from veil.objective.estimators import (
    DoublyReparameterised,
    Enumerated,
    Estimator,
    GumbelSoftmax,
    LeaveOneOut,
    LocalReparameterisation,
    NoBaseline,
    Pathwise,
    RunningMean,
    ScoreFunction,
    StickingTheLanding,
    StraightThrough,
)
from veil.objective.fivo import FIVO
from veil.objective.marginal import Marginal
from veil.objective.overshooting import Overshooting
from veil.objective.quantising import PriorOnly, Quantising
from veil.objective.terms import Annealed, Balanced, Beta, FreeNats

__all__ = [
    "ELBO",
    "FIVO",
    "Annealed",
    "Balanced",
    "Beta",
    "Binarised",
    "DoublyReparameterised",
    "Enumerated",
    "Estimate",
    "Estimator",
    "ExpectedLogLikelihood",
    "FreeNats",
    "GumbelSoftmax",
    "ImportanceWeighted",
    "LeaveOneOut",
    "LocalReparameterisation",
    "Marginal",
    "NoBaseline",
    "Objective",
    "Overshooting",
    "Pathwise",
    "PriorOnly",
    "Quantising",
    "RunningMean",
    "ScoreFunction",
    "StickingTheLanding",
    "StraightThrough",
    "WakeSleep",
]
