"""Bootstrapped Q-networks with priors of their own: deep exploration by following one guess at a time."""

from veil.control.bootstrapped.agent import BootstrappedQ, BootstrappedState, Experience, optimistic
from veil.control.bootstrapped.learning import SLOW, BootstrappedActor, bootstrapped
from veil.control.bootstrapped.seeing import Eyes, numbered, pictured, valued

__all__ = [
    "SLOW",
    "BootstrappedActor",
    "BootstrappedQ",
    "BootstrappedState",
    "Experience",
    "Eyes",
    "bootstrapped",
    "numbered",
    "optimistic",
    "pictured",
    "valued",
]
