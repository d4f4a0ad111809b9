"""Posteriors of standardised data as posteriors of the user's: the twins of the models' wrappers."""

from dataclasses import replace
from itertools import product
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from veil.distributions import Distribution
from veil.model import Datum, OfSequences
from veil.model.filter import Filter
from veil.posterior.base import (
    Continuing,
    Derived,
    Expecting,
    Intrinsic,
    Online,
    Posterior,
    Proposal,
    Vectorial,
)
from veil.units.coordinates import Units
from veil.units.models import Composed, StandardisedFilter, inside


class ScaledPosterior(Posterior):
    """A ``posterior`` of standardised data as one of the user's: the twin of ``Scaled``."""

    posterior: eqx.AbstractVar[Any]
    units: eqx.AbstractVar[Units]

    def __call__(self, model: Any, datum: Datum) -> Distribution:
        return self.posterior(inside(model, self.units), self.units.standard(datum))


class ScaledOnline(ScaledPosterior, Online):
    """It filters."""

    def filter(self, model: Any) -> Filter:
        return StandardisedFilter(self.posterior.filter(inside(model, self.units)), self.units)


class ScaledProposal(ScaledPosterior, Proposal):
    """It proposes."""

    def step_proposals(self, model: Any, datum: Datum) -> Any:
        return self.posterior.step_proposals(inside(model, self.units), self.units.standard(datum))

    def step(self, model: Any, features: Any, carry: Any, datum: Datum) -> Distribution:
        return self.posterior.step(inside(model, self.units), features, carry, self.units.standard(datum))


class ScaledContinuing(ScaledPosterior, Continuing):
    """It goes on from window to window."""

    def begin(self, model: Any) -> Any:
        return self.posterior.begin(inside(model, self.units))

    def after(self, model: Any, datum: Datum, path: Any, step: Any) -> Any:
        return self.posterior.after(inside(model, self.units), self.units.standard(datum), path, step)


class ScaledVectorial(ScaledPosterior, Vectorial):
    """It is made of a vector, which can be refined."""

    def vector(self, model: Any, datum: Datum) -> Float[Array, " V"]:
        return self.posterior.vector(inside(model, self.units), self.units.standard(datum))

    def distribution(self, vector: Float[Array, " V"]) -> Distribution:
        return self.posterior.distribution(vector)


class ScaledExpecting(ScaledPosterior, Expecting):
    """It has an M-step's expectations: of the model of standardised data, as its ``statistics`` want them."""

    def expectations(self, model: Any, datum: Datum) -> tuple[Any, Float[Array, ""]]:
        found, value = self.posterior.expectations(inside(model, self.units), self.units.standard(datum))
        return found, value + self.units.log_jacobian(datum, isinstance(model, OfSequences))


_ABILITIES: tuple[tuple[type, type], ...] = (
    (Online, ScaledOnline),
    (Proposal, ScaledProposal),
    (Continuing, ScaledContinuing),
    (Vectorial, ScaledVectorial),
    (Expecting, ScaledExpecting),
)
_NAMES = {"": "Posterior", "OnlineProposalContinuing": "Sequential"}  # how they were saved before


def _name(parts: tuple[type, ...]) -> str:
    found = "".join(part.__name__.removeprefix("Scaled") for part in parts)
    return "Standardised" + _NAMES.get(found, found)


_FOUND = [tuple(part for part in each if part is not None) for each in product(*[(p, None) for _, p in _ABILITIES])]
COMPOSED = Composed(
    {_name(found): found or (ScaledPosterior,) for found in _FOUND}, {"posterior": Any, "units": Units}, __name__
)
__getattr__ = COMPOSED.__getitem__  # the twins by their names


def standardised_posterior(posterior: Posterior, units: Units) -> Posterior:
    """A posterior of standardised data as one of the user's: itself where it has nothing of its own."""
    if units.none or isinstance(posterior, Intrinsic):
        return posterior
    parts = tuple(part for kind, part in _ABILITIES if isinstance(posterior, kind))
    return COMPOSED.of(parts or (ScaledPosterior,))(posterior, units)


def unwrapped_posterior(posterior: Any) -> tuple[Any, Units | None]:
    """The posterior of standardised data and its units; a posterior as it is, and None, if it is of the user's."""
    if isinstance(posterior, ScaledPosterior):
        return posterior.posterior, posterior.units
    if isinstance(posterior, Derived):
        base, units = unwrapped_posterior(posterior.base)
        return (posterior, None) if units is None else (replace(posterior, base=base), units)
    return posterior, None
