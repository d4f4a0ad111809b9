"""Proximal policy optimisation: the agent that everybody knows, with a second value for what is new."""

from veil.control.proximal.agent import ProximalPolicy
from veil.control.proximal.learning import Proximal, ProximalActor, proximal

__all__ = ["Proximal", "ProximalActor", "ProximalPolicy", "proximal"]
