"""Factorised posteriors of models with several latents, found by coordinate ascent."""

from abc import abstractmethod
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from veil.distributions import Distribution
from veil.model import Datum
from veil.model.abilities import name_of
from veil.model.filter import Filter
from veil.model.stepwise import StepPosterior
from veil.parts.nets import positive
from veil.posterior.base import Expecting, Intrinsic, Online, Proposal
from veil.posterior.proposals import Optimal


class Fields(NamedTuple):
    """A mean-field posterior q(s) q(z) of regimes s and places z, and its ELBO, nats.

    ``seen`` [T, K] E_q(z)[log p(z_t, y_t | z_t-1, s_t)], from which q(s) is made; ``regimes`` q(s_t) [T, K], ``pairs``
    q(s_t-1, s_t) [T, K, K]; ``path`` [T] the most likely one under q(s); ``mean``, ``covariance``, ``lagged`` of q(z).
    """

    seen: Float[Array, "T K"]
    regimes: Float[Array, "T K"]
    pairs: Float[Array, "T K K"]
    mean: Float[Array, "T L"]
    covariance: Float[Array, "T L L"]
    lagged: Float[Array, "T L L"]
    path: Int[Array, " T"]
    elbo: Float[Array, ""]


class Factorised(StepPosterior):
    """A model of regimes and places that knows its mean-field posterior (``veil.SwitchingLDS``)."""

    @abstractmethod
    def fields(self, datum: Datum, sweeps: int) -> Fields:
        """q(s) q(z) after so many rounds of coordinate ascent."""

    @abstractmethod
    def regime_chain(self, datum: Datum, fields: Fields) -> Distribution:
        """q(s) as a chain."""


class MeanField(Intrinsic, Expecting, Proposal, Online):
    """q(s) q(z) of a model that knows its own (``mean_field``: ``veil.SwitchingLDS``), after ``sweeps`` rounds.

    Each round sets q(z) to the best one given q(s), then q(s) given q(z), exactly, so that the ELBO rises; q starts
    anew for each datum and each value of the parameters. As a distribution it is q(s), a chain; as a proposal of
    particle filters the model's ``step_posterior``. Ghahramani & Hinton 2000.
    """

    sweeps: int = eqx.field(static=True, default=10)

    def __check_init__(self) -> None:
        positive("sweeps", self.sweeps)

    def fields(self, model: Any, datum: Datum) -> Fields:
        """q(s) q(z). Raises TypeError for a model that does not know it."""
        if not isinstance(model, Factorised):
            raise TypeError(f"posterior: {name_of(model)} has no mean-field posterior; use another posterior")
        return model.fields(datum, self.sweeps)

    def __call__(self, model: Any, datum: Datum) -> Distribution:
        fields = self.fields(model, datum)
        return model.regime_chain(datum, fields)

    def expectations(self, model: Any, datum: Datum) -> tuple[Any, Float[Array, ""]]:
        """What the M-step needs, and the ELBO."""
        found = self.fields(model, datum)
        regimes = jnp.where(datum.there[:, None], found.regimes, 0.0)
        return (regimes, found.pairs, found.mean, found.covariance, found.lagged), found.elbo

    def filter(self, model: Any) -> Filter:
        """Coordinate ascent needs the whole sequence; a particle filter with the model's own proposals does not."""
        return Optimal().filter(model)

    def step_proposals(self, model: Any, datum: Datum) -> None:
        """Nothing is computed before."""
        return None

    def step(self, model: Any, features: Any, carry: Any, datum: Datum) -> Distribution:
        """The model's ``step_posterior``, as ``Optimal`` has it."""
        return model.step_posterior(carry, datum)
