"""Flows: the latent is noise of the query's size, and y = T(z, x) an invertible function of it."""

from abc import abstractmethod
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.model import Datum, Model, Startable, Tractable
from veil.model.abilities import RealLine, Sizes, Space, name_of, parameter
from veil.parts import transport
from veil.parts.fields import NeuralField, Transporting, as_field
from veil.parts.flows import Flow
from veil.parts.joint import seen, seen_sizes
from veil.parts.nets import MLP, Identity, flat_size, positive
from veil.parts.paths import Straight


class Flowing(Tractable, Startable):
    """y = T(z, x) for z ~ N(0, I) of the query's shape, T invertible: log p(y | x) = log N(z; 0, I) - log |det dT/dz|.

    The posterior is a point, T⁻¹(y, x). Entries that are missing cannot be integrated out: TypeError.
    """

    @property
    def space(self) -> Space:
        return RealLine()

    @abstractmethod
    def forward(self, latent: Float[Array, "*event"], evidence: Any) -> tuple[Float[Array, "*event"], Any]:
        """T(z, x), and a function without arguments that gives log |det dT/dz| (nats)."""

    @abstractmethod
    def inverse(self, query: Float[Array, "*event"], evidence: Any) -> tuple[Float[Array, "*event"], Any]:
        """T⁻¹(y, x) and log |det dT⁻¹/dy| (nats)."""

    def prior(self, evidence: Any) -> Distribution:
        shape = self.sizes.query
        if shape is None:
            raise ValueError("this model has no parameters yet: call veil.fit on it first")
        return distributions.normal(jnp.zeros(shape), jnp.ones(shape))

    def likelihood(self, latent: Float[Array, "*event"], evidence: Any) -> Distribution:
        value, determinant = self.forward(latent, evidence)
        return distributions.Point(value, jax.tree_util.Partial(_minus, determinant))

    def log_marginal(self, datum: Datum) -> Float[Array, ""]:
        latent, log_determinant = self.inverse(_whole(self, datum), datum.evidence)
        return distributions.log_prob(self.prior(datum.evidence), latent) + log_determinant

    def posterior(self, datum: Datum) -> Distribution:
        return distributions.Point(self.inverse(_whole(self, datum), datum.evidence)[0])


def _minus(determinant: Any) -> Float[Array, ""]:
    return -determinant()


def _whole(model: Model, datum: Datum) -> Float[Array, "*event"]:
    if datum.observed is not None:
        raise TypeError(
            f"observed: {name_of(model)} cannot integrate missing entries out; drop the rows that have some (of chunks "
            "the padded ones, or let the last action be repeated), or score them by its objective"
        )
    return datum.query


class NormalisingFlow(Flowing):
    """y = T(z, x) with T coupling layers that see h(x), exact both ways. Dinh et al. 2017; Durkan et al. 2019.

    ``flow``: the layers; splines (``knots``) make several modes. ``trunk``: the network h that reads the evidence.
    Trained by maximum likelihood. Needs ``pip install 'veil[flows]'``.

    >>> import jax, veil
    >>> model = NormalisingFlow(veil.flows.Flow(layers=2, width=16))
    >>> fit = veil.fit(model, veil.data.load("faithful"), key=jax.random.key(0), steps=20)
    >>> veil.log_prob(fit, veil.data.load("faithful")).shape
    (272,)
    """

    flow: Flow = Flow(4, 64, knots=16)
    trunk: Any = MLP((64, 64), "silu")
    shape: tuple[int, ...] | None = parameter(static=True)
    inputs: int | None = eqx.field(static=True, default=None)

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.shape, self.inputs)

    def initialise(self, data: Datum, responsibilities: Any, key: PRNGKeyArray) -> "NormalisingFlow":
        key_flow, key_trunk = jax.random.split(key)
        inputs, shape = flat_size(data.evidence, 1), tuple(data.query.shape[1:])
        trunk, given = Identity(), 0
        if inputs:
            sizes = seen_sizes(self.trunk, jax.tree.map(lambda leaf: leaf[0], data.evidence))
            trunk, given = self.trunk.initialise(sizes, key_trunk), self.trunk.outputs(sizes)
        flow = self.flow.initialise(flat_size(data.query, 1), key_flow, given)
        return NormalisingFlow(flow, trunk, shape, inputs)

    def _given(self, evidence: Any) -> Float[Array, " C"] | None:
        return self.trunk(seen(self.trunk, evidence)) if self.inputs else None

    def forward(self, latent: Float[Array, "*event"], evidence: Any) -> tuple[Float[Array, "*event"], Any]:
        value, log_determinant = self.flow.forward(latent.ravel(), self._given(evidence))
        return value.reshape(latent.shape), jax.tree_util.Partial(_known, log_determinant)

    def inverse(self, query: Float[Array, "*event"], evidence: Any) -> tuple[Float[Array, "*event"], Any]:
        latent, log_determinant = self.flow.inverse(query.ravel(), self._given(evidence))
        return latent.reshape(query.shape), log_determinant


def _known(value: Float[Array, ""]) -> Float[Array, ""]:
    return value


class ContinuousFlow(Flowing, Transporting):
    """Noise carried to data by dz/dt = u(z, t, x), a network: from z_1 ~ N(0, I) at t = 1 to y at t = 0.

    Chen et al. 2018; trained without simulation by ``objective.FlowMatching`` (Lipman et al. 2023), which is what
    ``veil.fit`` uses, or by ``Marginal()`` through the solver. ``field``: u's network, or a ``fields.Field`` with its
    path. ``steps``: how many draws take from noise to data (of a straight path Euler's, of others DDIM's); None: the
    adaptive solver. log p(y | x) is that of the exact solution, its trace exact, to ``tolerance``: for large events see
    ``veil.evaluation.transport.log_density``, which estimates it. Densities need ``pip install 'veil[flows]'``.

    >>> import jax, veil
    >>> data = veil.data.load("faithful")
    >>> fit = veil.fit(ContinuousFlow(veil.MLP((32,))), data, key=jax.random.key(0), steps=20)
    >>> veil.sample(fit, 3, key=jax.random.key(1)).query.shape
    (3, 2)
    """

    field: Any = eqx.field(default=NeuralField(), converter=lambda found: as_field(found, Straight()))
    steps: int | None = eqx.field(static=True, default=16)
    tolerance: float = eqx.field(static=True, default=1e-5)

    def __check_init__(self) -> None:
        if self.steps is not None:
            positive("steps", self.steps)

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.field.shape, self.field.inputs)

    def initialise(self, data: Datum, responsibilities: Any, key: PRNGKeyArray) -> "ContinuousFlow":
        one = jax.tree.map(lambda leaf: leaf[0], (data.query, data.evidence))
        return replace(self, field=self.field.initialise(*one, key))

    def forward(self, latent: Float[Array, "*event"], evidence: Any) -> tuple[Float[Array, "*event"], Any]:
        given = self.field.read(evidence)
        if self.steps is None:
            value = transport.solved(self.field, latent, given, self.tolerance, to_noise=False)[0]
        else:
            value = transport.carried(self.field, latent, given, self.steps)
        return value, jax.tree_util.Partial(_determinant, self, value, evidence)

    def inverse(self, query: Float[Array, "*event"], evidence: Any) -> tuple[Float[Array, "*event"], Any]:
        return transport.solved(self.field, query, self.field.read(evidence), self.tolerance, to_noise=True)


def _determinant(model: ContinuousFlow, value: Float[Array, "*event"], evidence: Any) -> Float[Array, ""]:
    return -model.inverse(value, evidence)[1]
