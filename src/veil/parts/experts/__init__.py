"""Experts: p(y | x, z) for K values of z, from features φ = [1, h] of the evidence."""

from veil.parts.experts.base import Experts, largest_precision, with_expanded_sums
from veil.parts.experts.gaussian import LinearGaussian
from veil.parts.experts.linear import Linear

__all__ = ["Experts", "Linear", "LinearGaussian", "largest_precision", "with_expanded_sums"]
