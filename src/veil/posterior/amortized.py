"""Amortized posteriors: a network that reads the datum and answers with a distribution over its latent."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.model import Datum, Model
from veil.parts.flows import Flow
from veil.parts.heads import DiagonalGaussian, Head
from veil.parts.nets import MLP, Dense
from veil.parts.priors import FLOOR
from veil.posterior.base import Posterior
from veil.units import Units


class Reader(eqx.Module):
    """What an encoder sees of a datum: its query and evidence as one standardised vector.

    Missing entries read as the data's centre; if the training data had any (``masked``), which entries are present
    is seen, too.
    """

    masked: bool = eqx.field(static=True, default=False)
    query: Units | None = None
    evidence: Units | None = None

    @staticmethod
    def of(example: Datum) -> "Reader":
        """A reader for data like this one."""
        return Reader(example.observed is not None)

    def __call__(self, datum: Datum) -> Float[Array, " D"]:
        query = Units.applied(self.query, datum.query)
        if datum.observed is not None:
            query = jnp.where(datum.observed, query, 0.0)
        parts = [query.ravel()]
        if self.masked:
            observed = jnp.ones(query.shape) if datum.observed is None else datum.observed
            parts.append(observed.astype(query.dtype).ravel())
        if datum.evidence is not None:
            parts.append(Units.applied(self.evidence, datum.evidence).ravel())
        return jnp.concatenate(parts) if len(parts) > 1 else parts[0]

    def rescaled(self, query: Units | None, evidence: Units | None) -> "Reader":
        """The same reader of data in the user's units."""
        return Reader(self.masked, Units.composed(self.query, query), Units.composed(self.evidence, evidence))


class Amortized(Posterior):
    """q(z | y, x) = head(W [net(y, x)]): one network for all data. Kingma & Welling 2014.

    ``head``: any family over the latent's shape (default: what the model's prior suggests, a diagonal Gaussian or
    codes). ``flow``: an invertible network on top, z = T(e) with e from the head (needs ``veil[flows]``).
    ``shared``: use the encoder that the model's prior owns (a ``VampPrior``).

    Raises TypeError for a model whose latent is not one array of a fixed shape.
    """

    net: Any = MLP()
    head: Head | None = None
    flow: Flow | None = None
    shared: bool = eqx.field(static=True, default=False)
    shape: tuple[int, ...] = eqx.field(static=True, default=())
    reader: Reader = Reader()
    output: Dense | None = None

    @property
    def ready(self) -> bool:
        return self.output is not None or (self.shared and self.shape != ())

    def initialise(self, model: Model, example: Datum, count: int, key: PRNGKeyArray) -> "Amortized":
        shape = latent_shape(model, example)
        head = self.head or getattr(getattr(model, "latent", None), "head", None) or DiagonalGaussian(FLOOR)
        reader = Reader.of(example)
        if self.shared:
            return Amortized(self.net, head, None, True, shape, reader)
        inputs = jax.eval_shape(reader, example).shape[0]
        key_net, key_output, key_flow = jax.random.split(key, 3)
        net = self.net.initialise(inputs, key_net)
        output = Dense.initialise(net.outputs(inputs), head.size(shape), key_output)
        flow = None if self.flow is None else self.flow.initialise(shape[0], key_flow)
        return Amortized(net, head, flow, False, shape, reader, output)

    def rescaled(self, query: Units | None, evidence: Units | None) -> "Amortized":
        reader = self.reader.rescaled(query, evidence)
        return Amortized(self.net, self.head, self.flow, self.shared, self.shape, reader, self.output)

    def vector(self, model: Model, datum: Datum) -> Float[Array, " V"]:
        """The numbers that the head makes a distribution of."""
        seen = self.reader(datum)
        if self.shared:
            return model.latent.encode(seen)  # type: ignore[attr-defined]
        if self.output is None:
            raise ValueError("this posterior has no parameters yet: call veil.fit on the model first")
        return self.output(self.net(seen))

    def distribution(self, vector: Float[Array, " V"]) -> Distribution:
        """q from the head's numbers."""
        assert self.head is not None
        base = self.head(vector, self.shape)
        return base if self.flow is None else self.flow.pushed(base)

    def __call__(self, model: Model, datum: Datum) -> Distribution:
        return self.distribution(self.vector(model, datum))


class Ladder(Posterior):
    """q(z_2 | y) q(z_1 | y, z_2) for a ``TwoLevels`` prior: the message of a network meets p(z_1 | z_2).

    q(z_1 | y, z_2) ∝ N(z_1; m(y), s(y)²) p(z_1 | z_2), precisions add. Sønderby et al. 2016, eqs. 11-13.
    """

    net: Any = MLP()
    top: int = eqx.field(static=True, default=0)
    reader: Reader = Reader()
    output: Dense | None = None

    @property
    def ready(self) -> bool:
        return self.output is not None

    def initialise(self, model: Model, example: Datum, count: int, key: PRNGKeyArray) -> "Ladder":
        top, bottom = model.latent.top, model.latent.bottom  # type: ignore[attr-defined]
        reader = Reader.of(example)
        inputs = jax.eval_shape(reader, example).shape[0]
        key_net, key_output = jax.random.split(key)
        net = self.net.initialise(inputs, key_net)
        return Ladder(net, top, reader, Dense.initialise(net.outputs(inputs), 2 * (top + bottom), key_output))

    def rescaled(self, query: Units | None, evidence: Units | None) -> "Ladder":
        return Ladder(self.net, self.top, self.reader.rescaled(query, evidence), self.output)

    def __call__(self, model: Model, datum: Datum) -> Distribution:
        if self.output is None:
            raise ValueError("this posterior has no parameters yet: call veil.fit on the model first")
        means, log_scales = self.output(self.net(self.reader(datum))).reshape(2, -1)
        scales = jnp.exp(log_scales) + FLOOR
        first = distributions.normal(means[: self.top], scales[: self.top])
        mean, scale = means[self.top :], scales[self.top :]

        def then(top: Float[Array, " A"]) -> Distribution:
            below, spread = model.latent.below(top)  # type: ignore[attr-defined]
            precision = scale**-2 + spread**-2
            return distributions.normal((mean * scale**-2 + below * spread**-2) / precision, precision**-0.5)

        return distributions.Chained(first, then, self.top)


class Shared(Posterior):
    """One q(z) for all data: the variational posterior of a latent that all data share (weights of a network)."""

    head: Head = DiagonalGaussian(floor=1e-6)
    scale: float = eqx.field(static=True, default=0.05)
    shape: tuple[int, ...] = eqx.field(static=True, default=())
    parameters: Float[Array, " V"] | None = None

    @property
    def ready(self) -> bool:
        return self.parameters is not None

    def initialise(self, model: Model, example: Datum, count: int, key: PRNGKeyArray) -> "Shared":
        shape = latent_shape(model, example)
        # narrow at first: with the prior's width the data's signal drowns in the weights' noise
        draw = model.prior(example.evidence).sample(key)
        sums = jnp.stack([jnp.ones(shape), draw, draw**2 + self.scale**2])
        return Shared(self.head, self.scale, shape, self.head.from_sums(sums))

    def __call__(self, model: Model, datum: Datum) -> Distribution:
        if self.parameters is None:
            raise ValueError("this posterior has no parameters yet: call veil.fit on the model first")
        return self.head(self.parameters, self.shape)


def latent_shape(model: Model, example: Datum) -> tuple[int, ...]:
    """The shape of one latent, from the model's prior."""
    shape: list[tuple[int, ...]] = []

    def ask() -> None:
        shape.append(distributions.event_shape(model.prior(example.evidence)))

    jax.eval_shape(ask)
    if shape[0] in ((), (0,)):
        raise TypeError(
            f"posterior: {type(model).__name__} has a latent that is a single choice or empty; its posterior is exact: "
            f"use veil.Exact()"
        )
    return shape[0]
