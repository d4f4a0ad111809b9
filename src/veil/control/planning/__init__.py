"""Planners: actions to come inside a problem of control, by draws, gradients or quadratic models; one interface."""

from veil.control.planning.actor import Planned, PlanningActor
from veil.control.planning.base import Plan, Planner, shifted
from veil.control.planning.cross_entropy import CrossEntropy
from veil.control.planning.gradient import GradientPlanner
from veil.control.planning.path_integral import PathIntegral
from veil.control.planning.quadratic import Quadratic
from veil.control.planning.shooting import Shooting

__all__ = [
    "CrossEntropy",
    "GradientPlanner",
    "PathIntegral",
    "Plan",
    "Planned",
    "Planner",
    "PlanningActor",
    "Quadratic",
    "Shooting",
    "shifted",
]
