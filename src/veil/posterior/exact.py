"""The exact posterior, of models that know theirs."""

from typing import Any

from veil.distributions import Distribution
from veil.model import Datum, PerEpisode
from veil.model.abilities import name_of, states
from veil.model.filter import ExactChain, Filter
from veil.model.per_episode import EpisodeFilter
from veil.posterior.base import Expecting, Intrinsic, Online, Proposal


class Exact(Intrinsic, Expecting, Proposal, Online):
    """p(z | y, x) of a ``Tractable`` model: over every value of a discrete latent, or in closed form.

    Then log p(y, z | x) - log q(z) = log p(y | x) for every z.
    """

    def __call__(self, model: Any, datum: Datum) -> Distribution:
        return model.posterior(datum)

    def expectations(self, model: Any, datum: Datum) -> Any:
        """The model's own."""
        return model.expectations(datum)

    def step_proposals(self, model: Any, datum: Datum) -> Any:
        """p(z_1..T | y, x) as a chain, whose steps have seen all of y."""
        return model.posterior(datum)

    def step(self, model: Any, features: Any, carry: Any, datum: Datum) -> Distribution:
        """p(z_t | z_t-1, y, x): unless it resamples, a particle filter's Ẑ is then p(y | x), whatever is drawn."""
        return features.given(carry.latent)

    def filter(self, model: Any) -> Filter:
        """The model's own. Raises TypeError for a model of single rows, which have no past."""
        if isinstance(model, PerEpisode):
            return EpisodeFilter(model, states(model))
        if not isinstance(model, ExactChain):
            raise TypeError(f"posterior: {name_of(model)} has no exact filter; use veil.posterior.Bootstrap()")
        return model.filter()
