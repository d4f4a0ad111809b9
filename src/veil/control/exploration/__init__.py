"""Exploration: what is worth seeing, as a functional of a model and of a step, in nats or from counts."""

from veil.control.exploration.belief import BeliefGain
from veil.control.exploration.believing import Beliefs, KLearning, PosteriorSampling, SoftQ
from veil.control.exploration.bins import Bins
from veil.control.exploration.bonus import Bonus, Chosen, Episodic, Remembered, Transition, arrived, left
from veil.control.exploration.context_tree import ContextTree
from veil.control.exploration.counts import Counted, Counter, Tally
from veil.control.exploration.curiosity import Continuous, Curiosity, Discrete, PredictionError
from veil.control.exploration.densities import Density, Incremental, PredictionGain, PseudoCounts, ScaledPseudoCounts
from veil.control.exploration.distillation import RandomNetworkDistillation
from veil.control.exploration.ensemble import Disagreement, done
from veil.control.exploration.episodic import Rarely
from veil.control.exploration.fitted import StepwiseEM
from veil.control.exploration.hashes import Hashed
from veil.control.exploration.linear import Affine, LinearGain
from veil.control.exploration.measures import (
    GainBound,
    InformationAbove,
    InformationBelow,
    JensenRenyi,
    Measure,
    VarianceOfMeans,
    mutual_information,
)
from veil.control.exploration.network import NetworkGain
from veil.control.exploration.playing import Player
from veil.control.exploration.scales import ReturnScale, Scaling, Unscaled
from veil.control.exploration.searching import Search, counting, search
from veil.control.exploration.standards import Given, Running, Standard
from veil.control.exploration.steps import SecondOrder, Variational
from veil.control.exploration.tables import DirichletCategorical, Factored
from veil.control.exploration.tabular import QLearning
from veil.control.exploration.trained import Trained
from veil.control.exploration.votes import Votes
from veil.control.exploration.wrapping import curious

__all__ = [
    "Affine",
    "BeliefGain",
    "Beliefs",
    "Bins",
    "Bonus",
    "Chosen",
    "ContextTree",
    "Continuous",
    "Counted",
    "Counter",
    "Curiosity",
    "Density",
    "DirichletCategorical",
    "Disagreement",
    "Discrete",
    "Episodic",
    "Factored",
    "GainBound",
    "Given",
    "Hashed",
    "Incremental",
    "InformationAbove",
    "InformationBelow",
    "JensenRenyi",
    "KLearning",
    "LinearGain",
    "Measure",
    "NetworkGain",
    "Player",
    "PosteriorSampling",
    "PredictionError",
    "PredictionGain",
    "PseudoCounts",
    "QLearning",
    "RandomNetworkDistillation",
    "Rarely",
    "Remembered",
    "ReturnScale",
    "Running",
    "ScaledPseudoCounts",
    "Scaling",
    "Search",
    "SecondOrder",
    "SoftQ",
    "Standard",
    "StepwiseEM",
    "Tally",
    "Trained",
    "Transition",
    "Unscaled",
    "VarianceOfMeans",
    "Variational",
    "Votes",
    "arrived",
    "counting",
    "curious",
    "done",
    "left",
    "mutual_information",
    "search",
]
