"""Learning-based control: each use is a choice of roles and a little glue."""

from veil.control.adaptors import Playing, Predicting
from veil.control.continuous.adversarial import Adversarial
from veil.control.continuous.agent import SoftActorCritic
from veil.control.continuous.objectives import InverseSoftQ, SoftBellman
from veil.control.continuous.skill import Skill
from veil.control.continuous.temperatures import FixedTemperature, LearnedTemperature
from veil.control.imagination.actions import OneOf, Within
from veil.control.imagination.agent import ImaginedActorCritic
from veil.control.imagination.gradients import Pathwise, Reinforce
from veil.control.imagined import Imagined, Predicted, Rewarded
from veil.control.imitation import Imitation, dagger
from veil.control.kinds import kinds_apart
from veil.control.linear_quadratic import LinearPolicy, LinearQuadratic, solve_linear_quadratic
from veil.control.optimality import Fixed, Hoped, Solution, solve
from veil.control.planning import PathIntegral, PlanningActor
from veil.control.success import WentWell, successes
from veil.parts.decisions import MDP, DenseTransitions, SparseTransitions
from veil.parts.rewards import KnownReward, LinearReward, NeuralReward, TableReward

__all__ = [
    "MDP",
    "Adversarial",
    "DenseTransitions",
    "Fixed",
    "FixedTemperature",
    "Hoped",
    "Imagined",
    "ImaginedActorCritic",
    "Imitation",
    "InverseSoftQ",
    "KnownReward",
    "LearnedTemperature",
    "LinearPolicy",
    "LinearQuadratic",
    "LinearReward",
    "NeuralReward",
    "OneOf",
    "PathIntegral",
    "Pathwise",
    "PlanningActor",
    "Playing",
    "Predicted",
    "Predicting",
    "Reinforce",
    "Rewarded",
    "Skill",
    "SoftActorCritic",
    "SoftBellman",
    "Solution",
    "SparseTransitions",
    "TableReward",
    "WentWell",
    "Within",
    "dagger",
    "kinds_apart",
    "solve",
    "solve_linear_quadratic",
    "successes",
]
