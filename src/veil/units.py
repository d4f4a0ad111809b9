"""Standardised coordinates, whole: the one place that knows that fits work in them.

A model of standardised data becomes a model of the user's data by a wrapper that is itself a ``Model`` (and its twin
that is a ``Posterior``): it scales evidence and query on the way in and distributions on the way out, with the Jacobian
in the log-density. What is inside, also parts that users write, sees standardised numbers in training and ever after.
"""

from dataclasses import replace
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.data import Data
from veil.data.core.episodes import steps
from veil.distributions import Distribution
from veil.model import Datum, Model, Plate, Rescalable, Sized, Startable, Stepwise, Tractable
from veil.model.abilities import Local, RealLine, Sizes, Space
from veil.model.chains import length
from veil.model.filter import Belief, ExactChain, Filter
from veil.model.scales import Scale, table_scale
from veil.model.stepwise import Marginal, StepPosterior
from veil.posterior.base import Continuing, Derived, Intrinsic, Online, Posterior, Proposal, Vectorial


class Units(eqx.Module):
    """The affine maps between the user's units and standardised ones: trees like query and evidence.

    A leaf is a ``Scale``, or None where numbers stay as they are (counts, categories, pixels).
    """

    query: Any = None
    evidence: Any = None

    @staticmethod
    def of(data: Data, model: Model | None = None) -> "Units":
        """Robust units of (a sample of) data: medians, and half the distances between 16th and 84th percentiles.

        Of the query where the model says it is on the real line (of no model: everywhere), and of the evidence.
        """
        rows = steps(data) if isinstance(model, Stepwise) else data
        weights = np.ones(len(rows)) if rows.weight is None else np.asarray(rows.weight, np.float64)
        space = model.space if isinstance(model, Startable) else RealLine() if model is None else Space()
        query = _measured(space, rows.query, weights, rows.observed)
        evidence = None if rows.evidence is None else _measured(RealLine(), rows.evidence, weights, None)
        return Units(query, evidence)

    @property
    def none(self) -> bool:
        """Whether everything stays as it is."""
        return not jax.tree.leaves((self.query, self.evidence))

    def inverse(self) -> "Units":
        """The maps back."""
        back = lambda scale: None if scale is None else scale.inverse()  # noqa: E731
        return Units(_each(back, self.query), _each(back, self.evidence))

    def given(self, evidence: Any) -> Any:
        """Standardised evidence."""
        return None if evidence is None else _each(_standard, self.evidence, evidence)

    def asked(self, query: Any) -> Any:
        """A standardised query; None stays None."""
        return None if query is None else _each(_standard, self.query, query)

    def back(self, query: Any) -> Any:
        """A query in the user's units."""
        return _each(lambda scale, value: value if scale is None else scale.back(value), self.query, query)

    def standard(self, datum: Datum) -> Datum:
        """A datum in standardised coordinates."""
        return replace(datum, query=self.asked(datum.query), evidence=self.given(datum.evidence))

    def distribution(self, base: Distribution) -> Distribution:
        """The distribution of y from that of standardised y."""
        return _distribution(self.query, base)

    def sequence(self, base: Distribution) -> Distribution:
        """The distribution of y_1..T, whose steps all have these units, from that of the standardised steps."""
        if not jax.tree.leaves(self.query):
            return base

        steps = jax.eval_shape(base.sample, jax.random.key(0))

        def wide(which: int) -> Any:
            """Shift (0) or scale (1) of every entry; where there is no scale just that number."""

            def one(scale: Scale | None, leaf: jax.ShapeDtypeStruct) -> Array:
                return jnp.broadcast_to(float(which) if scale is None else scale.held()[which], leaf.shape)

            return _each(one, self.query, steps)

        return distributions.Affine(base, wide(0), wide(1))

    def log_jacobian(self, datum: Datum, sequence: bool = False) -> Float[Array, ""]:
        """log |d standard / d y| = -Σ log scale over the entries of y that are present (and the steps), nats."""
        there = datum.there if sequence else None

        def one(scale: Scale | None, query: Array, observed: Array | None) -> Float[Array, ""]:
            if scale is None:
                return jnp.zeros(())
            logs = -jnp.broadcast_to(jnp.log(scale.held()[1]), query.shape)
            logs = logs if observed is None else jnp.where(observed, logs, 0.0)
            if there is not None:
                logs = jnp.where(there.reshape(-1, *[1] * (logs.ndim - 1)), logs, 0.0)
            return jnp.sum(logs)

        observed = datum.observed
        if observed is None:
            observed = jax.tree.map(lambda _: None, datum.query)
        parts = _each(one, self.query, datum.query, observed)
        return sum(jax.tree.leaves(parts), jnp.zeros(()))


def _each(function: Any, scales: Any, *trees: Any) -> Any:
    """``function(scale, *leaves)`` of every leaf of a tree of scales; where that is None as a whole, of whole trees."""
    if isinstance(scales, dict):
        return {name: _each(function, scales[name], *(tree[name] for tree in trees)) for name in scales}
    return function(scales, *trees)


def _standard(scale: Scale | None, value: Any) -> Any:
    return value if scale is None else scale.standard(value)


def _measured(space: Space, values: Any, weights: np.ndarray, observed: Any) -> Any:
    if isinstance(values, dict):
        seen = {} if observed is None else observed
        return {name: _measured(space.at(name), values[name], weights, seen.get(name)) for name in values}
    return table_scale(values, weights, observed, space.isotropic) if space.real else None


def _distribution(scales: Any, base: Any) -> Any:
    if isinstance(scales, dict):
        return distributions.Joint({name: _distribution(scales[name], base.parts[name]) for name in scales})
    return base if scales is None else distributions.Affine(base, *scales.held())


# -- the wrapper -------------------------------------------------------------------------------------------------------


class Scaled(Sized):
    """What the wrappers below have in common: a ``model`` of standardised data, as one of the user's."""

    model: eqx.AbstractVar[Any]
    units: eqx.AbstractVar[Units]

    @property
    def sizes(self) -> Sizes:
        return self.model.sizes if isinstance(self.model, Sized) else Sizes()

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


class ScaledSteps(Stepwise, Sized):
    """The same of a model that runs step by step."""

    model: eqx.AbstractVar[Any]
    units: eqx.AbstractVar[Units]

    @property
    def sizes(self) -> Sizes:
        return self.model.sizes if isinstance(self.model, Sized) else Sizes()

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
    if units.none:
        return model
    if isinstance(model, Rescalable) and not isinstance(units.query, dict) and not isinstance(units.evidence, dict):
        found = model.rescaled(units.query, units.evidence)
        if found is not None:
            return found
    return standardised(model, units)


def unwrapped(model: Any) -> tuple[Any, Units | None]:
    """The model of standardised data and its units; a model as it is, and None, if it is of the user's."""
    return (model.model, model.units) if isinstance(model, WRAPPED) else (model, None)


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
