"""Objectives, always maximised: in nats per datum, unless they say what else they count."""

from veil.objective.bagging import Bagging
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
from veil.objective.matching import AtNoise, BetaTimes, Denoising, FlowMatching, Uniform
from veil.objective.overshooting import Overshooting
from veil.objective.quantising import PriorOnly, Quantising
from veil.objective.terms import Annealed, Balanced, Beta, FreeNats

__all__ = [
    "ELBO",
    "FIVO",
    "Annealed",
    "AtNoise",
    "Bagging",
    "Balanced",
    "Beta",
    "BetaTimes",
    "Binarised",
    "Denoising",
    "DoublyReparameterised",
    "Enumerated",
    "Estimate",
    "Estimator",
    "ExpectedLogLikelihood",
    "FlowMatching",
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
    "Uniform",
    "WakeSleep",
]
