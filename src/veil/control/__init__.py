"""Learning-based control: each use is a choice of roles and a little glue."""

from veil.control.adaptors import Playing, Predicting
from veil.control.imitation import Imitation, dagger
from veil.control.optimality import Fixed, Hoped, Solution, solve
from veil.parts import rewards
from veil.parts.decisions import MDP, Dense, Sparse

__all__ = [
    "MDP",
    "Dense",
    "Fixed",
    "Hoped",
    "Imitation",
    "Playing",
    "Predicting",
    "Solution",
    "Sparse",
    "dagger",
    "rewards",
    "solve",
]
