"""Learning-based control: each use is a choice of roles and a little glue."""

from veil.control.adaptors import Playing, Predicting
from veil.control.imitation import Imitation, dagger

__all__ = ["Imitation", "Playing", "Predicting", "dagger"]
