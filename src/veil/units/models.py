"""Models of standardised data as models of the user's: one wrapper for each kind of model."""

from dataclasses import replace
from typing import Any, Self

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from veil.distributions import Distribution
from veil.model import Datum, Guided, Model, Plate, Rescalable, Sized, Stepwise, Tractable
from veil.model.abilities import Local, Sizes, Wrapped
from veil.model.chains import length
from veil.model.filter import Belief, ExactChain, Filter
from veil.model.stepwise import Marginal, StepPosterior
from veil.posterior.choice import usual
from veil.units.coordinates import Units


def _usual(wrapper: Any) -> Any:
    """What suits the model inside, as a posterior of the user's data."""
    from veil.units.posteriors import standardised_posterior  # which knows these wrappers

    return standardised_posterior(usual(wrapper.model), wrapper.units)


class Scaled(Wrapped, Guided):
    """What the wrappers below have in common: a ``model`` of standardised data, as one of the user's."""

    model: eqx.AbstractVar[Any]
    units: eqx.AbstractVar[Units]

    @property
    def sizes(self) -> Sizes:
        return self.model.sizes if isinstance(self.model, Sized) else Sizes()

    @property
    def usual_posterior(self) -> Any:
        return _usual(self)

    def prior(self, evidence: Any) -> Distribution:
        return self.model.prior(self.units.given(evidence))

    def prior_for(self, datum: Datum) -> Any:
        return self.model.prior_for(self.units.standard(datum))

    def likelihood(self, latent: Any, evidence: Any) -> Distribution:
        return self.units.distribution(self.model.likelihood(latent, self.units.given(evidence)))

    def log_likelihood(self, latent: Any, datum: Datum) -> Float[Array, ""]:
        return self.model.log_likelihood(latent, self.units.standard(datum)) + self.units.log_jacobian(datum)

    def sample(self, key: PRNGKeyArray, evidence: Any = None) -> tuple[Any, Any]:
        latent, query = self.model.sample(key, self.units.given(evidence))
        return latent, self.units.back(query)


class ScaledExact(Tractable):
    """The same of a model whose latent is summed or integrated out."""

    model: eqx.AbstractVar[Any]
    units: eqx.AbstractVar[Units]

    def log_marginal(self, datum: Datum) -> Float[Array, ""]:
        jacobian = self.units.log_jacobian(datum, isinstance(self.model, Stepwise))
        return self.model.log_marginal(self.units.standard(datum)) + jacobian

    def posterior(self, datum: Datum) -> Distribution:
        return self.model.posterior(self.units.standard(datum))


class ScaledPlate(Plate):
    """The same of a model whose latent all data share."""

    model: eqx.AbstractVar[Any]
    units: eqx.AbstractVar[Units]

    @property
    def shared_by(self) -> float:
        return self.model.shared_by

    def shared_among(self, total: float) -> Self:
        return replace(self, model=self.model.shared_among(total))


class ScaledSteps(Stepwise, Wrapped, Guided):
    """The same of a model that runs step by step."""

    model: eqx.AbstractVar[Any]
    units: eqx.AbstractVar[Units]

    @property
    def sizes(self) -> Sizes:
        return self.model.sizes if isinstance(self.model, Sized) else Sizes()

    @property
    def usual_posterior(self) -> Any:
        return _usual(self)

    @property
    def remembers(self) -> bool:
        return self.model.remembers

    def carry(self, evidence: Any) -> Any:
        return self.model.carry(self.units.given(evidence))

    def advance(self, carry: Any, latent: Any, query: Any, evidence: Any, observed: Any) -> Any:
        return self.model.advance(carry, latent, self.units.asked(query), self.units.given(evidence), observed)

    def step_prior(self, carry: Any, evidence: Any) -> Distribution:
        return self.model.step_prior(carry, self.units.given(evidence))

    def step_likelihood(self, carry: Any, latent: Any, evidence: Any) -> Distribution:
        return self.units.distribution(self.model.step_likelihood(carry, latent, self.units.given(evidence)))

    def latent_of(self, carry: Any) -> Marginal:
        return self.model.latent_of(carry)

    def prior(self, evidence: Any, steps: int | None = None) -> Distribution:
        return self.model.prior(self.units.given(evidence), steps)

    def likelihood(self, latent: Any, evidence: Any) -> Distribution:
        return self.units.sequence(self.model.likelihood(latent, self.units.given(evidence)))

    def prior_for(self, datum: Datum) -> Any:
        return self.model.prior_for(self.units.standard(datum))

    def log_likelihood(self, latent: Any, datum: Datum) -> Float[Array, ""]:
        return self.model.log_likelihood(latent, self.units.standard(datum)) + self.units.log_jacobian(datum, True)

    def sample(self, key: PRNGKeyArray, evidence: Any = None, steps: int | None = None) -> tuple[Any, Any]:
        length(evidence, steps)
        latent, query = self.model.sample(key, self.units.given(evidence), steps)
        return latent, jax.vmap(self.units.back)(query)


class ScaledStepPosterior(StepPosterior):
    """The same of a model that knows the best proposal of a step."""

    model: eqx.AbstractVar[Any]
    units: eqx.AbstractVar[Units]

    def step_posterior(self, carry: Any, datum: Datum) -> Distribution:
        return self.model.step_posterior(carry, self.units.standard(datum))


class Standardised(Scaled):
    """A model of standardised data as one of the user's data: log p(y) = log p(standard y) - Σ log scale.

    ``model``: of standardised data; ``units``: between them and the user's.
    """

    model: Any
    units: Units


class StandardisedExact(ScaledExact, Scaled):
    """``Standardised``, of a ``Tractable`` model."""

    model: Any
    units: Units


class StandardisedPlate(ScaledPlate, Scaled):
    """``Standardised``, of a model whose latent all data share."""

    model: Any
    units: Units


class StandardisedLocal(ScaledPlate, Scaled, Local):
    """``Standardised``, of a model whose latent all data share, with noise that can be put elsewhere."""

    model: Any
    units: Units

    def local(self, q: Any, evidence: Any, key: PRNGKeyArray) -> Distribution:
        return self.units.distribution(self.model.local(q, self.units.given(evidence), key))


class StandardisedSteps(ScaledSteps):
    """``Standardised``, of a model that runs step by step."""

    model: Any
    units: Units


class StandardisedStepPosterior(ScaledStepPosterior, ScaledSteps):
    """``Standardised``, of a model that runs step by step and knows its best proposals."""

    model: Any
    units: Units


class StandardisedExactSteps(ScaledExact, ScaledSteps):
    """``Standardised``, of a ``Tractable`` model that runs step by step."""

    model: Any
    units: Units


class StandardisedChain(ScaledExact, ScaledStepPosterior, ScaledSteps, ExactChain):
    """``Standardised``, of a model of sequences where everything is exact."""

    model: Any
    units: Units

    def filter(self) -> Filter:
        return StandardisedFilter(self.model.filter(), self.units)

    def marginals(self, datum: Datum) -> Marginal:
        return self.model.marginals(self.units.standard(datum))


# the richest first
_WRAPPERS: tuple[tuple[tuple[type, ...], Any], ...] = (
    ((ExactChain,), StandardisedChain),
    ((Tractable, Stepwise), StandardisedExactSteps),
    ((Tractable,), StandardisedExact),
    ((StepPosterior,), StandardisedStepPosterior),
    ((Stepwise,), StandardisedSteps),
    ((Local,), StandardisedLocal),
    ((Plate,), StandardisedPlate),
    ((Model,), Standardised),
)
WRAPPED: tuple[Any, ...] = tuple(wrapper for _, wrapper in _WRAPPERS)


def standardised(model: Model, units: Units) -> Any:
    """A model of standardised data as one of the user's: itself where nothing is scaled."""
    if units.none:
        return model
    return next(wrapper for kinds, wrapper in _WRAPPERS if all(isinstance(model, kind) for kind in kinds))(model, units)


def in_user_units(model: Model, units: Units) -> Any:
    """The same, its parameters written in the user's units where they have meaning there (``Rescalable``)."""
    found = rescaled(model, units)
    return standardised(model, units) if found is None else found


def rescaled(model: Model, units: Units) -> Any:
    """A model of standardised data, its parameters written in the user's units; None where they have no meaning there.

    From the user's units to standardised ones with ``units.inverse()``.
    """
    if units.none:
        return model
    trees = isinstance(units.query, dict) or isinstance(units.evidence, dict)
    return model.rescaled(units.query, units.evidence) if isinstance(model, Rescalable) and not trees else None


def unwrapped(model: Any) -> tuple[Any, Units | None]:
    """The model of standardised data and its units; a model as it is, and None, if it is of the user's."""
    return (model.model, model.units) if isinstance(model, WRAPPED) else (model, None)


class StandardisedFilter(Filter):
    """A filter of standardised data as one of the user's; its states are the model's own in both."""

    inner: Any
    units: Units

    def init(self) -> Belief:
        return self.inner.init()

    def update(self, belief: Belief, datum: Datum, key: PRNGKeyArray) -> Belief:
        after = self.inner.update(belief, self.units.standard(datum), key)
        there = 1.0 if datum.mask is None else datum.mask
        value = after.log_likelihood + there * self.units.log_jacobian(datum)
        return replace(after, log_likelihood=value)

    def draw(self, belief: Belief, key: PRNGKeyArray) -> Any:
        return self.inner.draw(belief, key)

    def marginal(self, belief: Belief) -> Marginal:
        return self.inner.marginal(belief)


def inside(model: Any, units: Units) -> Any:
    """The model of standardised data that a model of the user's data is."""
    inner, own = unwrapped(model)
    return inner if own is not None else standardised(model, units.inverse())
