"""Posteriors q(z | y, x), exact or approximate: the second contract."""

from veil.posterior.base import Posterior
from veil.posterior.exact import Exact

__all__ = ["Exact", "Posterior"]
