"""The second contract: a posterior over the latent of one datum."""

from abc import abstractmethod

import equinox as eqx

from veil.distributions import Distribution
from veil.model import Datum, Model


class Posterior(eqx.Module):
    """q(z | y, x) of one datum, exact or approximate."""

    @abstractmethod
    def __call__(self, model: Model, datum: Datum) -> Distribution:
        """The distribution of the latent given the datum."""
