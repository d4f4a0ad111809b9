"""Posteriors of standardised data as posteriors of the user's: the twins of the models' wrappers."""

from dataclasses import replace
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from veil.distributions import Distribution
from veil.model import Datum
from veil.model.filter import Filter
from veil.posterior.base import Continuing, Derived, Intrinsic, Online, Posterior, Proposal, Vectorial
from veil.units.coordinates import Units
from veil.units.models import StandardisedFilter, inside


class ScaledPosterior(Posterior):
    """A ``posterior`` of standardised data as one of the user's: the twin of ``Scaled``."""

    posterior: eqx.AbstractVar[Any]
    units: eqx.AbstractVar[Units]

    def __call__(self, model: Any, datum: Datum) -> Distribution:
        return self.posterior(inside(model, self.units), self.units.standard(datum))


class ScaledProposal(Proposal):
    """The same of one that proposes."""

    posterior: eqx.AbstractVar[Any]
    units: eqx.AbstractVar[Units]

    def step_proposals(self, model: Any, datum: Datum) -> Any:
        return self.posterior.step_proposals(inside(model, self.units), self.units.standard(datum))

    def step(self, model: Any, features: Any, carry: Any, datum: Datum) -> Distribution:
        return self.posterior.step(inside(model, self.units), features, carry, self.units.standard(datum))


class ScaledOnline(Online):
    """The same of one that filters."""

    posterior: eqx.AbstractVar[Any]
    units: eqx.AbstractVar[Units]

    def filter(self, model: Any) -> Filter:
        return StandardisedFilter(self.posterior.filter(inside(model, self.units)), self.units)


class StandardisedPosterior(ScaledPosterior):
    """A posterior of standardised data as one of the user's: the twin of ``Standardised``."""

    posterior: Any
    units: Units


class StandardisedVectorial(ScaledPosterior, Vectorial):
    """``StandardisedPosterior``, of one made of a vector, which can be refined."""

    posterior: Any
    units: Units

    def vector(self, model: Any, datum: Datum) -> Float[Array, " V"]:
        return self.posterior.vector(inside(model, self.units), self.units.standard(datum))

    def distribution(self, vector: Float[Array, " V"]) -> Distribution:
        return self.posterior.distribution(vector)


class StandardisedProposal(ScaledProposal, ScaledPosterior):
    """``StandardisedPosterior``, of one that proposes."""

    posterior: Any
    units: Units


class StandardisedOnline(ScaledOnline, ScaledPosterior):
    """``StandardisedPosterior``, of one that filters."""

    posterior: Any
    units: Units


class StandardisedOnlineProposal(ScaledProposal, ScaledOnline, ScaledPosterior):
    """``StandardisedPosterior``, of one that proposes and filters."""

    posterior: Any
    units: Units


class StandardisedSequential(ScaledProposal, ScaledOnline, ScaledPosterior, Continuing):
    """``StandardisedPosterior``, of one that proposes, filters and goes on from window to window."""

    posterior: Any
    units: Units

    def begin(self, model: Any) -> Any:
        return self.posterior.begin(inside(model, self.units))

    def ended(self, model: Any, datum: Datum, key: PRNGKeyArray) -> Any:
        return self.posterior.ended(inside(model, self.units), self.units.standard(datum), key)


# the richest first
_TWINS: tuple[tuple[tuple[type, ...], Any], ...] = (
    ((Proposal, Online, Continuing), StandardisedSequential),
    ((Proposal, Online), StandardisedOnlineProposal),
    ((Proposal,), StandardisedProposal),
    ((Online,), StandardisedOnline),
    ((Vectorial,), StandardisedVectorial),
    ((Posterior,), StandardisedPosterior),
)


def standardised_posterior(posterior: Posterior, units: Units) -> Posterior:
    """A posterior of standardised data as one of the user's: itself where it has nothing of its own."""
    if units.none or isinstance(posterior, Intrinsic):
        return posterior
    return next(twin for kinds, twin in _TWINS if all(isinstance(posterior, kind) for kind in kinds))(posterior, units)


def unwrapped_posterior(posterior: Any) -> tuple[Any, Units | None]:
    """The posterior of standardised data and its units; a posterior as it is, and None, if it is of the user's."""
    if isinstance(posterior, ScaledPosterior):
        return posterior.posterior, posterior.units
    if isinstance(posterior, Derived):
        base, units = unwrapped_posterior(posterior.base)
        return (posterior, None) if units is None else (replace(posterior, base=base), units)
    return posterior, None
