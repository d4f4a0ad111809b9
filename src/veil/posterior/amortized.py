"""Amortized posteriors: a network that reads the datum and answers with a distribution over its latent."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.model import Datum, Model, PerEpisode
from veil.model.abilities import name_of, parameter
from veil.parts.experts import Linear
from veil.parts.flows import Flow
from veil.parts.heads import DiagonalGaussian, Head, OneHot, viewed
from veil.parts.joint import Readers
from veil.parts.nets import MLP, Dense, Identity, flat
from veil.parts.priors import FLOOR, TwoLevels, VampPrior
from veil.posterior.base import Learned, Vectorial

EVIDENCE = "evidence/"  # no part of a query can be called so


class Reader(eqx.Module):
    """What an encoder sees of a datum: its query and evidence as one vector.

    Queries that are not standardised are shown as the model's head says (``heads.Showing``). Missing entries
    read as zero, the centre of standardised data; if the training data had any (``masked``), which entries are present
    is seen, too.
    """

    masked: bool = eqx.field(static=True, default=False)
    apart: bool = eqx.field(static=True, default=False)
    view: Any = None

    @staticmethod
    def of(model: Any, example: Datum, net: Any) -> "Reader":
        """A reader for a model and data like this one, and a network: one of ``Readers`` reads a tree's parts apart."""
        known = lambda node: isinstance(node, Linear)  # noqa: E731
        views = [node.view for node in jax.tree.leaves(model, is_leaf=known) if known(node)]
        return Reader(example.observed is not None, isinstance(net, Readers), views[0] if views else None)

    def sizes(self, example: Datum) -> Any:
        """How many numbers the network gets of a datum; of ``Readers`` by name."""
        shapes = jax.eval_shape(self, example)
        return {name: leaf.shape[0] for name, leaf in shapes.items()} if self.apart else shapes.shape[0]

    def __call__(self, datum: Datum) -> Any:
        if self.apart:
            return self._apart(datum)
        parts = [viewed(self.view, datum.query, datum.observed)]
        if self.masked:
            given = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), datum.query)
            parts.append(given if datum.observed is None else datum.observed)
        leaves = jax.tree.leaves((*parts, datum.evidence))
        numbers = [leaf.astype(leaves[0].dtype).ravel() for leaf in leaves]
        return jnp.concatenate(numbers) if len(numbers) > 1 else numbers[0]

    def _apart(self, datum: Datum) -> dict[str, Float[Array, " D"]]:
        """The vector of each part of the query by its name, and of the evidence."""
        found = {}
        for name, query in datum.query.items():
            observed = None if datum.observed is None else datum.observed[name]
            view = None if self.view is None else self.view[name]
            found[name] = Reader(self.masked, view=view)(Datum(query, observed=observed))
        return found if datum.evidence is None else found | {EVIDENCE: flat(datum.evidence)}


class Amortized(Learned, Vectorial):
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
    shape: tuple[int, ...] | None = parameter(static=True)
    reader: Reader = Reader()
    output: Dense | None = None

    def initialise(self, model: Any, example: Datum, count: int, key: PRNGKeyArray) -> "Amortized":
        _of_rows(model)
        shape = latent_shape(model, example)
        head = self.head or family(model, example)
        reader = Reader.of(model, example, self.net)
        if self.shared:
            return Amortized(Identity(), head, None, True, shape, reader)
        inputs = reader.sizes(example)
        key_net, key_output, key_flow = jax.random.split(key, 3)
        net = self.net.initialise(inputs, key_net)
        output = Dense.initialise(net.outputs(inputs), head.size(shape), key_output)
        flow = None if self.flow is None else self.flow.initialise(shape[0], key_flow)
        return Amortized(net, head, flow, False, shape, reader, output)

    def vector(self, model: Any, datum: Datum) -> Float[Array, " V"]:
        """The numbers that the head makes a distribution of."""
        seen = self.reader(datum)
        if self.shared:
            return part(model, VampPrior).encode(seen)
        if self.output is None:
            raise ValueError("this posterior has no parameters yet: call veil.fit on the model first")
        return self.output(self.net(seen))

    def distribution(self, vector: Float[Array, " V"]) -> Distribution:
        """q from the head's numbers."""
        assert self.head is not None
        assert self.shape is not None
        base = self.head(vector, self.shape)
        return base if self.flow is None else self.flow.pushed(base)

    def __call__(self, model: Any, datum: Datum) -> Distribution:
        return self.distribution(self.vector(model, datum))


class Ladder(Learned):
    """q(z_2 | y) q(z_1 | y, z_2) for a ``TwoLevels`` prior: the message of a network meets p(z_1 | z_2).

    q(z_1 | y, z_2) ∝ N(z_1; m(y), s(y)²) p(z_1 | z_2), precisions add. Sønderby et al. 2016, eqs. 11-13.
    """

    net: Any = MLP()
    top: int = eqx.field(static=True, default=0)
    reader: Reader = Reader()
    output: Dense | None = parameter()

    def initialise(self, model: Any, example: Datum, count: int, key: PRNGKeyArray) -> "Ladder":
        _of_rows(model)
        top, bottom = part(model, TwoLevels).top, part(model, TwoLevels).bottom
        reader = Reader.of(model, example, self.net)
        inputs = reader.sizes(example)
        key_net, key_output = jax.random.split(key)
        net = self.net.initialise(inputs, key_net)
        return Ladder(net, top, reader, Dense.initialise(net.outputs(inputs), 2 * (top + bottom), key_output))

    def __call__(self, model: Any, datum: Datum) -> Distribution:
        if self.output is None:
            raise ValueError("this posterior has no parameters yet: call veil.fit on the model first")
        means, log_scales = self.output(self.net(self.reader(datum))).reshape(2, -1)
        scales = jnp.exp(log_scales) + FLOOR
        first = distributions.normal(means[: self.top], scales[: self.top])
        mean, scale = means[self.top :], scales[self.top :]

        def then(top: Float[Array, " A"]) -> Distribution:
            below, spread = part(model, TwoLevels).below(top)
            precision = scale**-2 + spread**-2
            return distributions.normal((mean * scale**-2 + below * spread**-2) / precision, precision**-0.5)

        return distributions.Chained(first, then, self.top)


class Shared(Learned):
    """One q(z) for all data: the variational posterior of a latent that all data share (weights of a network)."""

    head: Head = DiagonalGaussian(floor=1e-6)
    scale: float = eqx.field(static=True, default=0.05)
    shape: tuple[int, ...] = eqx.field(static=True, default=())
    parameters: Float[Array, " V"] | None = parameter()

    def initialise(self, model: Any, example: Datum, count: int, key: PRNGKeyArray) -> "Shared":
        shape = latent_shape(model, example)
        # narrow at first: with the prior's width the data's signal drowns in the weights' noise
        draw = model.prior(example.evidence).sample(key)
        sums = jnp.stack([jnp.ones(shape), draw, draw**2 + self.scale**2])
        return Shared(self.head, self.scale, shape, self.head.from_sums(sums))

    def __call__(self, model: Any, datum: Datum) -> Distribution:
        if self.parameters is None:
            raise ValueError("this posterior has no parameters yet: call veil.fit on the model first")
        return self.head(self.parameters, self.shape)


def part(model: Any, kind: type) -> Any:
    """The part of this type that a model has. Raises TypeError if there is none."""
    known = lambda node: isinstance(node, kind)  # noqa: E731
    found = [node for node in jax.tree.leaves(model, is_leaf=known) if known(node)]
    if not found:
        raise TypeError(f"posterior: this one is for models with a {kind.__name__}; got {name_of(model)}")
    return found[0]


def _of_rows(model: Any) -> None:
    """Raise TypeError for a model of whole episodes, whose padding a network of one vector would read."""
    if isinstance(model, PerEpisode):
        raise TypeError(
            f"posterior: {name_of(model)} is of whole episodes; use veil.EpisodeEncoder(), which reads those"
        )


def latent_prior(model: Model, example: Datum) -> Any:
    """p(z | x) of one datum, for its family and shape only: nothing is computed."""
    found: list[Any] = []
    jax.eval_shape(lambda: found.append(model.prior(example.evidence)))
    return found[0]


def family(model: Model, example: Datum) -> Head:
    """The family that a network's approximation takes by default: of codes codes, else independent normals."""
    coded = isinstance(latent_prior(model, example), distributions.Codes | distributions.ChainedCodes)
    return OneHot() if coded else DiagonalGaussian(FLOOR)


def latent_shape(model: Model, example: Datum) -> tuple[int, ...]:
    """The shape of one latent, from the model's prior."""
    shape = tuple(latent_prior(model, example).event_shape)
    if shape in ((), (0,)):
        raise TypeError(
            f"posterior: {name_of(model)} has a latent that is a single choice or empty; its posterior is exact: "
            f"use veil.Exact()"
        )
    return shape
