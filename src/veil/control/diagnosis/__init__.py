"""A diagnosis of an agent that learns a world model: named faults in what it does, and how well it predicts."""

from veil.control.diagnosis.diagnosing import diagnose
from veil.control.diagnosis.film import film
from veil.control.diagnosis.findings import Finding
from veil.control.diagnosis.result import Diagnosis

__all__ = ["Diagnosis", "Finding", "diagnose", "film"]
