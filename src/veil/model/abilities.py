"""What a model can do beyond the contract: types without fields, told apart by ``isinstance``.

A plain ``Model`` is intractable: what is forgotten never selects the exact way.
"""

import dataclasses
from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.maths.markov import log_total
from veil.model.contract import Model
from veil.model.datum import Datum
from veil.model.scales import Scale, Untrained


class OfSequences(Model):
    """A datum is a sequence of steps, query [T, ...], evidence [T, ...]; sizes, space and units are those of a step."""


class Tractable(Model):
    """The latent is summed or integrated out exactly."""

    @abstractmethod
    def log_marginal(self, datum: Datum) -> Float[Array, ""]:
        """log p(y | x), nats, exact."""

    @abstractmethod
    def posterior(self, datum: Datum) -> Distribution:
        """p(z | y, x), exact: log p(y, z | x) - log p(z | y, x) is log p(y | x) for every z."""


class Enumerable(Tractable):
    """The latent has a finite list of values, its prior's support: Bayes' rule over all of them."""

    def log_joints(self, datum: Datum) -> Float[Array, " K"]:
        """log p(y, z | x) of every value of the latent, in the order of the prior's support (nats, exact).

        A model may override this, and ``log_likelihoods``, with something faster that gives the same numbers.
        """
        support = distributions.support(self.prior_for(datum))
        return jax.vmap(lambda latent: self.log_joint(latent, datum))(support)

    def log_likelihoods(self, datum: Datum) -> Float[Array, " K"]:
        """log p(y | x, z) of every value of the latent, in the same order (nats)."""
        support = distributions.support(self.prior_for(datum))
        return jax.vmap(lambda latent: self.log_likelihood(latent, datum))(support)

    def log_marginal(self, datum: Datum) -> Float[Array, ""]:
        """log Σ_z p(y, z | x), nats, exact."""
        return log_total(self.log_joints(datum))

    def posterior(self, datum: Datum) -> Distribution:
        """p(z | y, x) ∝ p(y, z | x); of an empty latent its only value."""
        prior = self.prior_for(datum)
        if isinstance(prior, distributions.Empty):
            return prior
        joints, support = self.log_joints(datum), distributions.support(prior)
        # of data that cannot be nothing is learned: the prior
        before = jax.vmap(prior.log_prob)(support)
        return distributions.categorical(jnp.where(jnp.max(joints) > -jnp.inf, joints, before))


class SecondOrder(Tractable):
    """Its exact log-likelihood is smooth and best raised by steps along its curvature, over all data at once."""

    @property
    @abstractmethod
    def smooth(self) -> bool:
        """Whether that holds of it, and of all its parts; others are raised by gradients on batches."""

    @property
    @abstractmethod
    def work(self) -> int:
        """About how many numbers are worked out once for all data, whatever their number (0: none).

        A second derivative in each parameter is dear where they are many; then curvature is learned from gradients.
        """


class ClosedForm(Model):
    """Expectation maximisation has a closed-form M-step: sums over data of expected statistics, then ``maximise``.

    The sums are additive, so weights, missing entries, minibatches, streams and shards are the same code.
    """

    @property
    def closed_form(self) -> bool:
        """Whether that holds of all its parts, of a model that is made of some."""
        return True

    @abstractmethod
    def expectations(self, datum: Datum) -> tuple[Any, Float[Array, ""]]:
        """What ``statistics`` needs of the posterior, and log p(y | x), nats.

        Of a discrete latent its first array is the weights of the latent's values, [..., K].
        """

    @abstractmethod
    def statistics(self, datum: Datum, expectations: Any) -> Any:
        """Expected sufficient statistics of one datum: a tree of ``Outer`` terms."""

    @abstractmethod
    def maximise(self, sums: Any) -> Self:
        """The model that maximises the expected log-likelihood plus log-prior, from summed statistics."""

    @abstractmethod
    def log_prior(self) -> Float[Array, ""]:
        """The penalty of the penalised likelihood that EM raises (nats)."""

    def recentred(self, sums: Any, to: Self) -> Any:
        """Sums taken under this model as sums under ``to``, where they depend on it."""
        return sums


class Space(eqx.Module):
    """Where a query lives: the whole real line or not, and which values have a density."""

    real: ClassVar[bool] = False  # whether it is the real line, so that a fit may standardise the query

    @property
    def isotropic(self) -> bool:
        """Whether all entries must share one unit (one variance for all is one in one unit only)."""
        return False

    def held(self, query: Any, dtype: np.dtype) -> Any:
        """Data at the device's precision, on the host: what is inside the support stays inside."""
        return np.asarray(query, dtype)

    def check(self, query: Any, names: tuple[str, ...]) -> None:
        """Raise ValueError, naming column and value, where data [N, ...] are outside the support."""

    def at(self, name: str) -> "Space":
        """Where the leaf of this name of a query that is a tree lives: in the same space, unless each has its own."""
        return self


ANYWHERE = Space()


class RealLine(Space):
    """All real numbers; with ``shared`` all entries share one unit."""

    real: ClassVar[bool] = True
    shared: bool = eqx.field(static=True, default=False)

    @property
    def isotropic(self) -> bool:
        return self.shared


class Sizes(NamedTuple):
    """What a model with parameters is of; of sequences each of one step. None: not known, or not yet.

    ``query``: the query's shape; ``inputs``: how many numbers its evidence has, 0 for none; ``blind``: whether it
    ignores evidence on purpose; ``values``: how many values a discrete latent has, 0 for any other.
    """

    query: Any = None
    inputs: int | None = None
    blind: bool = False
    values: int = 0


class Sized(Model):
    """It knows what data it is of, so that others are refused."""

    @property
    @abstractmethod
    def sizes(self) -> Sizes:
        """See ``Sizes``."""


class Wrapped(Sized):
    """Another ``model``, seen from outside: in other units."""

    model: eqx.AbstractVar[Any]


def name_of(model: Any) -> str:
    """What the user calls a model: its class, that of the one inside where it is wrapped."""
    return name_of(model.model) if isinstance(model, Wrapped) else type(model).__name__


class Startable(Sized):
    """Its parameters' sizes come from data: it may be made without any, and ``veil.fit`` starts it.

    A fit works in standardised coordinates where ``space`` allows. Parameters are fields made by ``parameter()``.
    """

    @property
    @abstractmethod
    def space(self) -> Space:
        """Where its query lives; a head is one."""

    @abstractmethod
    def initialise(self, data: Datum, responsibilities: Any, key: PRNGKeyArray) -> Self:
        """This model with starting parameters, from (a sample of) the standardised data, batched.

        Some of its rows may have weight zero: they fill it up to one of few sizes, each a compilation.
        """

    def responsibilities(self, points: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> Any:
        """Host-side preparation of ``initialise``, from standardised points [N, ·] (None: nothing)."""
        return None


def space_of(model: Any) -> Space:
    """Where the query of a model lives, in whatever units; anywhere if it does not say."""
    if isinstance(model, Wrapped):
        return space_of(model.model)
    return model.space if isinstance(model, Startable) else ANYWHERE


class Rescalable(Startable):
    """Its parameters have meaning in the user's units, and it can be written in them."""

    @abstractmethod
    def rescaled(self, query: Scale, evidence: Scale | None) -> Self | None:
        """The same model of data in the user's units, from that of standardised data; None if it is of none."""


class Plate(Model):
    """All data share one latent (weights, a reward), whose prior does not depend on a datum.

    With N data the ELBO of all of them is Σ_n E_q[log p(y_n | x_n, z)] - KL(q(z) || p(z)): each datum carries 1/N of
    the KL, and all data of a training step see the same draws.
    """

    @property
    @abstractmethod
    def shared_by(self) -> float:
        """The weight of all the data that share the latent, N."""

    @abstractmethod
    def shared_among(self, total: float) -> Self:
        """This model of data of this total weight."""


class Local(Plate):
    """A latent that data share, whose noise can be put elsewhere: local reparameterisation."""

    @abstractmethod
    def local(self, q: Any, evidence: Any, key: PRNGKeyArray) -> Distribution:
        """p(y | x, z) at a draw z ~ q that is made inside, each datum with noise of its own."""


class Guided(Model):
    """It says which posterior suits it, where that is not the exact one."""

    @property
    @abstractmethod
    def usual_posterior(self) -> Any:
        """What ``veil.fit`` trains with it, and verbs use, unless told otherwise."""


class Redundant(eqx.Module):
    """A model, or a part of one, some of whose numbers are not free (a softmax's, a rotation's)."""

    @abstractmethod
    def parameters(self) -> int:
        """How many of its numbers are free."""


def free_parameters(tree: Any) -> int:
    """How many numbers of a model are free (for BIC and AIC)."""
    redundant = lambda node: isinstance(node, Redundant)  # noqa: E731
    fixed = lambda node: redundant(node) or isinstance(node, Untrained)  # noqa: E731
    nodes = jax.tree.leaves(tree, is_leaf=fixed)
    return sum(
        node.parameters() if redundant(node) else node.size
        for node in nodes
        if redundant(node) or eqx.is_inexact_array(node)
    )


def parameter(**options: Any) -> Any:
    """A field that is None until ``initialise`` (or the user) gives it a value: a parameter, or a size of some."""
    return eqx.field(default=None, metadata={"parameter": True}, **options)


def started(tree: Any) -> bool:
    """Whether every ``parameter()`` in a model, a posterior or a part of them has a value."""
    if isinstance(tree, eqx.Module):
        fields = dataclasses.fields(tree)
        values = [(vars(tree)[field.name], field) for field in fields if field.name in vars(tree)]
        return not any(value is None and field.metadata.get("parameter") for value, field in values) and all(
            started(value) for value, _ in values
        )
    if isinstance(tree, tuple | list):
        return all(started(value) for value in tree)
    return all(started(value) for value in tree.values()) if isinstance(tree, dict) else True


def states(model: Any) -> int:
    """How many values a discrete latent has. Raises TypeError for a model that does not say."""
    if not isinstance(model, Sized):
        raise TypeError(
            f"model: {type(model).__name__} has a discrete latent and does not say how many values it has; let it be a "
            "veil.model.Sized, too, with sizes = veil.model.abilities.Sizes(values=...)"
        )
    return model.sizes.values


def values(model: Any) -> int:
    """How many values the latent of a model has, 0 if it is not discrete."""
    return model.sizes.values if isinstance(model, Sized) else 0


__all__ = [
    "ClosedForm",
    "Enumerable",
    "Guided",
    "Local",
    "OfSequences",
    "Plate",
    "RealLine",
    "Redundant",
    "Rescalable",
    "SecondOrder",
    "Sized",
    "Sizes",
    "Space",
    "Startable",
    "Tractable",
    "Wrapped",
    "free_parameters",
    "name_of",
    "parameter",
    "started",
    "states",
    "values",
]
