"""Learning-based control: each use is a choice of roles and a little glue."""

from veil.control.actors import Noise
from veil.control.adaptors import Playing, Predicting
from veil.control.agent.behaviour import Behaviour
from veil.control.agent.dreaming import Dreaming, Guided
from veil.control.agent.model_based import ModelBased
from veil.control.agent.models import world_model
from veil.control.agent.planning import Planning
from veil.control.agent.playing import play
from veil.control.agent.replay import Recent, Uniform
from veil.control.agent.skill import ImaginingSkill
from veil.control.continuous.adversarial import Adversarial
from veil.control.continuous.agent import SoftActorCritic
from veil.control.continuous.max_info import FixedGainWeight, LearnedGainWeight, MaxInfoActorCritic
from veil.control.continuous.objectives import InverseSoftQ, SoftBellman
from veil.control.continuous.skill import Skill
from veil.control.continuous.temperatures import FixedTemperature, LearnedTemperature
from veil.control.diagnosis.diagnosing import diagnose
from veil.control.imagination.actions import OneOf, Within
from veil.control.imagination.agent import ImaginedActorCritic
from veil.control.imagination.gradients import Pathwise, Reinforce
from veil.control.imagined import Imagined, Outcome, Outcomes, Predicted, Rewarded, Several
from veil.control.imitation import Imitation, dagger
from veil.control.kinds import kinds_apart
from veil.control.linear_quadratic import LinearPolicy, LinearQuadratic, solve_linear_quadratic
from veil.control.optimality import Fixed, Hoped, Solution, solve
from veil.control.planning import (
    CrossEntropy,
    GradientPlanner,
    PathIntegral,
    Plan,
    Planner,
    PlanningActor,
    Quadratic,
    Shooting,
)
from veil.control.preparing import prepared
from veil.control.success import WentWell, successes
from veil.parts.decisions import MDP, DenseTransitions, SparseTransitions
from veil.parts.rewards import KnownReward, LinearReward, NeuralReward, TableReward

__all__ = [
    "MDP",
    "Adversarial",
    "Behaviour",
    "CrossEntropy",
    "DenseTransitions",
    "Dreaming",
    "Fixed",
    "FixedGainWeight",
    "FixedTemperature",
    "GradientPlanner",
    "Guided",
    "Hoped",
    "Imagined",
    "ImaginedActorCritic",
    "ImaginingSkill",
    "Imitation",
    "InverseSoftQ",
    "KnownReward",
    "LearnedGainWeight",
    "LearnedTemperature",
    "LinearPolicy",
    "LinearQuadratic",
    "LinearReward",
    "MaxInfoActorCritic",
    "ModelBased",
    "NeuralReward",
    "Noise",
    "OneOf",
    "Outcome",
    "Outcomes",
    "PathIntegral",
    "Pathwise",
    "Plan",
    "Planner",
    "Planning",
    "PlanningActor",
    "Playing",
    "Predicted",
    "Predicting",
    "Quadratic",
    "Recent",
    "Reinforce",
    "Rewarded",
    "Several",
    "Shooting",
    "Skill",
    "SoftActorCritic",
    "SoftBellman",
    "Solution",
    "SparseTransitions",
    "TableReward",
    "Uniform",
    "WentWell",
    "Within",
    "dagger",
    "diagnose",
    "kinds_apart",
    "play",
    "prepared",
    "solve",
    "solve_linear_quadratic",
    "successes",
    "world_model",
]
