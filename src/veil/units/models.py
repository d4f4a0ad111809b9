"""Models of standardised data as models of the user's: one wrapper, with what the model inside can do."""

from dataclasses import replace
from itertools import product
from typing import Any, Self

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from veil.distributions import Distribution
from veil.maths import assumed
from veil.model import Datum, Guided, Model, OfSequences, PerEpisode, Plate, Rescalable, Sized, Stepwise, Tractable
from veil.model.abilities import Local, Sizes, Wrapped
from veil.model.chains import length
from veil.model.filter import Belief, ExactChain, Filter
from veil.model.stepwise import Marginal, StepPosterior
from veil.posterior.assumed import KnownDynamics
from veil.posterior.choice import usual
from veil.units.coordinates import Units


class Scaled(Wrapped, Guided):
    """A ``model`` of standardised data as one of the user's: log p(y) = log p(standard y) - Σ log scale.

    ``units``: between them and the user's. The classes below add what models can do beyond that.
    """

    model: eqx.AbstractVar[Any]
    units: eqx.AbstractVar[Units]

    @property
    def sizes(self) -> Sizes:
        return self.model.sizes if isinstance(self.model, Sized) else Sizes()

    @property
    def usual_posterior(self) -> Any:
        """What suits the model inside, as a posterior of the user's data."""
        from veil.units.posteriors import standardised_posterior  # which knows these wrappers

        return standardised_posterior(usual(self.model), self.units)

    def prior(self, evidence: Any) -> Distribution:
        return self.model.prior(self.units.given(evidence))

    def prior_for(self, datum: Datum) -> Any:
        return self.model.prior_for(self.units.standard(datum))

    def likelihood(self, latent: Any, evidence: Any) -> Distribution:
        return self.units.distribution(self.model.likelihood(latent, self.units.given(evidence)))

    def log_likelihood(self, latent: Any, datum: Datum) -> Float[Array, ""]:
        return self.model.log_likelihood(latent, self.units.standard(datum)) + self.log_jacobian(datum)

    def log_jacobian(self, datum: Datum) -> Float[Array, ""]:
        """log |d standard / d y| of a datum, nats."""
        return self.units.log_jacobian(datum, isinstance(self.model, OfSequences))

    def sample(self, key: PRNGKeyArray, evidence: Any = None) -> tuple[Any, Any]:
        latent, query = self.model.sample(key, self.units.given(evidence))
        return latent, self.units.back(query)


class ScaledExact(Scaled, Tractable):
    """The latent is summed or integrated out."""

    def log_marginal(self, datum: Datum) -> Float[Array, ""]:
        return self.model.log_marginal(self.units.standard(datum)) + self.log_jacobian(datum)

    def posterior(self, datum: Datum) -> Distribution:
        return self.model.posterior(self.units.standard(datum))


class ScaledPlate(Scaled, Plate):
    """All data share the latent."""

    @property
    def shared_by(self) -> float:
        return self.model.shared_by

    def shared_among(self, total: float) -> Self:
        return replace(self, model=self.model.shared_among(total))


class ScaledLocal(ScaledPlate, Local):
    """Its noise can be put elsewhere."""

    def local(self, q: Any, evidence: Any, key: PRNGKeyArray) -> Distribution:
        return self.units.distribution(self.model.local(q, self.units.given(evidence), key))


class ScaledSteps(Scaled, Stepwise):
    """It runs step by step."""

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

    def likelihood_after(self, carry: Any, latent: Any, evidence: Any, after: Any) -> Distribution:
        return self.units.distribution(self.model.likelihood_after(carry, latent, self.units.given(evidence), after))

    def latent_of(self, carry: Any) -> Marginal:
        return self.model.latent_of(carry)

    def prior(self, evidence: Any, steps: int | None = None) -> Distribution:
        return self.model.prior(self.units.given(evidence), steps)

    def likelihood(self, latent: Any, evidence: Any) -> Distribution:
        return self.units.sequence(self.model.likelihood(latent, self.units.given(evidence)))

    def sample(self, key: PRNGKeyArray, evidence: Any = None, steps: int | None = None) -> tuple[Any, Any]:
        length(evidence, steps)
        latent, query = self.model.sample(key, self.units.given(evidence), steps)
        return latent, jax.vmap(self.units.back)(query)


class ScaledEpisodes(Scaled, PerEpisode):
    """Its latent is drawn once an episode."""

    def prior_at(self, evidence: Any) -> Distribution:
        return self.model.prior_at(self.units.given(evidence))

    def likelihood_at(self, latent: Any, evidence: Any) -> Distribution:
        return self.units.distribution(self.model.likelihood_at(latent, self.units.given(evidence)))

    def prior(self, evidence: Any, steps: int | None = None) -> Distribution:
        return self.model.prior(self.units.given(evidence), steps)

    def likelihood(self, latent: Any, evidence: Any, steps: int | None = None) -> Distribution:
        return PerEpisode.likelihood(self, latent, evidence, steps)

    def sample(self, key: PRNGKeyArray, evidence: Any = None, steps: int | None = None) -> tuple[Any, Any]:
        latent, query = self.model.sample(key, self.units.given(evidence), steps)
        return latent, jax.vmap(self.units.back)(query)


class ScaledStepPosterior(ScaledSteps, StepPosterior):
    """It knows the best proposal of a step."""

    def step_posterior(self, carry: Any, datum: Datum) -> Distribution:
        return self.model.step_posterior(carry, self.units.standard(datum))


class ScaledDynamics(ScaledStepPosterior, KnownDynamics):
    """Its dynamics are known."""

    def system(self) -> assumed.System:
        inside, units = self.model.system(), self.units
        noise = inside.noise
        if units.query is not None:
            wide = jax.numpy.broadcast_to(units.query.held()[1], noise.shape[:1])
            noise = wide[:, None] * noise * wide[None]
        return inside._replace(
            transition=lambda z, x: inside.transition(z, units.given(x)),
            emission=lambda z, x: units.back(inside.emission(z, units.given(x))),
            noise=noise,
        )


class ScaledChain(ScaledExact, ScaledStepPosterior, ExactChain):
    """Everything of its sequences is exact."""

    def filter(self) -> Filter:
        return StandardisedFilter(self.model.filter(), self.units)

    def marginals(self, datum: Datum) -> Marginal:
        return self.model.marginals(self.units.standard(datum))


class Composed:
    """Final classes of abstract ``parts``, by name: each is made when it is first asked for, as they are many.

    A class's name is how it is saved.
    """

    def __init__(self, parts: dict[str, tuple[type, ...]], fields: dict[str, Any], module: str) -> None:
        self._parts, self._fields, self._module = parts, fields, module
        self._names = {found: name for name, found in parts.items()}
        self._made: dict[str, Any] = {}

    def of(self, parts: tuple[type, ...]) -> Any:
        """The class of these parts."""
        return self[self._names[parts]]

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def __getitem__(self, name: str) -> Any:
        if name not in self._parts:
            raise AttributeError(f"module {self._module!r} has no attribute {name!r}")
        if name not in self._made:
            own = {"__module__": self._module, "__qualname__": name, "__annotations__": self._fields}
            make: Any = type(eqx.Module)
            self._made[name] = make(name, self._parts[name], own)
        return self._made[name]


# Of each of these the first that a model is, and its wrapper's part: all that it can do.
_ABILITIES: tuple[tuple[tuple[type, type], ...], ...] = (
    ((ExactChain, ScaledChain), (Tractable, ScaledExact)),
    (
        (KnownDynamics, ScaledDynamics),
        (StepPosterior, ScaledStepPosterior),
        (Stepwise, ScaledSteps),
        (PerEpisode, ScaledEpisodes),
    ),
    ((Local, ScaledLocal), (Plate, ScaledPlate)),
)


def _parts(chosen: Any) -> tuple[type, ...]:
    """Without those that others are made of."""
    given = [part for part in chosen if part is not None]
    return tuple(p for p in given if not any(p is not other and issubclass(other, p) for other in given))


_FOUND = map(_parts, product(*[(*(part for _, part in each), None) for each in _ABILITIES]))
COMPOSED = Composed(
    {
        "Standardised" + "".join(part.__name__.removeprefix("Scaled") for part in found): found or (Scaled,)
        for found in _FOUND
    },
    {"model": Any, "units": Units},
    __name__,
)
__getattr__ = COMPOSED.__getitem__  # the wrappers by their names


def standardised(model: Model, units: Units) -> Any:
    """A model of standardised data as one of the user's: itself where nothing is scaled."""
    if units.none:
        return model
    chosen = (next((part for kind, part in each if isinstance(model, kind)), None) for each in _ABILITIES)
    return COMPOSED.of(_parts(chosen) or (Scaled,))(model, units)


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
    return (model.model, model.units) if isinstance(model, Scaled) else (model, None)


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
