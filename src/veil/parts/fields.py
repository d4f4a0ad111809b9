"""Fields: networks that say, of a value on its way from noise to data, in which direction it goes."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil.model import Model
from veil.model.abilities import parameter
from veil.parts.images import SMALL
from veil.parts.joint import seen, seen_sizes
from veil.parts.nets import Dense, Identity, Residual, flat_size, he_normal
from veil.parts.paths import Path, Straight, Time

FREQUENCIES = 2.0 * np.pi * np.array([0.25, 0.5, 1.0, 2.0, 4.0, 8.0])


class Field(eqx.Module):
    """v(z_t, t, x): the direction in which a value on a ``path`` goes, shaped as y.

    One of your own needs ``path``, ``shape`` and ``inputs`` (how many numbers the evidence has; 0: none) and
    ``__call__``. The best is the mean direction, E[v | z_t, x].
    """

    path: eqx.AbstractVar[Path]
    shape: eqx.AbstractVar[tuple[int, ...] | None]
    inputs: eqx.AbstractVar[int | None]

    def initialise(self, query: Any, evidence: Any, key: PRNGKeyArray) -> Any:
        """With starting parameters, for one datum like these."""
        return self

    def read(self, evidence: Any) -> Any:
        """What the field sees of the evidence: the same at every time, so it is made once."""
        return evidence

    @abstractmethod
    def __call__(self, value: Float[Array, "*event"], time: Time, given: Any) -> Float[Array, "*event"]:
        """v at z_t = ``value`` and the time; ``given``: what ``read`` made of the evidence."""

    def velocity(self, value: Float[Array, "*event"], time: Time, given: Any) -> Float[Array, "*event"]:
        """u = s v: dz / dt of the probability flow."""
        return self.path.speed(time) * self(value, time, given)

    def clean(
        self, value: Float[Array, "*event"], time: Time, given: Any
    ) -> tuple[Float[Array, "*event"], Float[Array, "*event"]]:
        """The data ŷ and the noise ε̂ that a value is taken to be made of."""
        return self.path.split(value, self(value, time, given), time)


class Separable(eqx.Module):
    """A field that tells what needs time and evidence alone from what needs the value on its way, too.

    A draw makes the first part for all of its steps at once (``transport.along``): weights in it are then read once and
    not at every step, which is what the time of a single draw goes into.
    """

    @abstractmethod
    def ahead(self, time: Time, given: Any) -> Any:
        """What it makes of the time and of ``given``: arrays."""

    @abstractmethod
    def after(self, value: Float[Array, "*event"], ahead: Any) -> Float[Array, "*event"]:
        """v at z_t = ``value``, given what was made ``ahead``: with it the same as the field's call."""


class NeuralField(Field, Separable):
    """v(z_t, t, x) = W net([z_t, time features, encoder(x)]).

    ``net``: a network of one vector (a ``Residual`` is conditional on time and evidence in every block); ``encoder``:
    one that reads the evidence first, of a dictionary ``joint.Readers`` of its parts. The time is seen as t and the
    sine and cosine of six frequencies. Without parameters until ``initialise``.
    """

    net: Any = Residual(128, 3)
    encoder: Any = Identity()
    path: Path = Straight()
    output: Dense | None = parameter()
    shape: tuple[int, ...] | None = parameter(static=True)
    inputs: int | None = eqx.field(static=True, default=None)

    def initialise(self, query: Any, evidence: Any, key: PRNGKeyArray) -> "NeuralField":
        """With random weights, for one datum like these; its directions start near zero."""
        if isinstance(query, dict):
            raise TypeError(
                "query: flows and diffusions carry one array from noise to data, and this query is a dictionary; put "
                "its parts side by side in one array, or choose a mixture or a VAE with a heads.Joint"
            )
        key_net, key_encoder, key_output = jax.random.split(key, 3)
        shape, given = tuple(query.shape), flat_size(evidence)
        inputs, condition, encoder = int(np.prod(shape)), 1 + 2 * len(FREQUENCIES), Identity()
        if given:
            sizes = seen_sizes(self.encoder, evidence)
            encoder, read = self.encoder.initialise(sizes, key_encoder), self.encoder.outputs(sizes)
            inputs, condition = inputs + read, condition + read
        if isinstance(self.net, Residual):
            net = self.net.initialise(inputs, key_net, condition)
        else:
            inputs += 1 + 2 * len(FREQUENCIES)
            net = self.net.initialise(inputs, key_net)
        output = he_normal(net.outputs(inputs), int(np.prod(shape)), key_output, SMALL)
        return NeuralField(net=net, encoder=encoder, path=self.path, output=output, shape=shape, inputs=given)

    def read(self, evidence: Any) -> Float[Array, " C"] | None:
        return self.encoder(seen(self.encoder, evidence)) if self.inputs and evidence is not None else None

    def __call__(self, value: Float[Array, "*event"], time: Time, given: Any) -> Float[Array, "*event"]:
        return self.after(value, self.ahead(time, given))

    def ahead(self, time: Time, given: Any) -> Any:
        """What goes into the network beside the value, and what its blocks make of their condition."""
        if self.inputs and given is None:
            raise ValueError("evidence: this model is p(y | x), and there is none")
        time = jnp.asarray(time, float)
        phases = jnp.asarray(FREQUENCIES, time.dtype) * time
        what = [] if given is None else [given]
        seen = jnp.concatenate([time[None], jnp.sin(phases), jnp.cos(phases), *what])
        if isinstance(self.net, Residual):
            return what, self.net.read(seen)
        return [seen], ()

    def after(self, value: Float[Array, "*event"], ahead: Any) -> Float[Array, "*event"]:
        if self.output is None:
            raise ValueError("this model has no parameters yet: call veil.fit on it first")
        beside, read = ahead
        x = jnp.concatenate([value.ravel(), *beside])
        features = self.net.after(x, read) if isinstance(self.net, Residual) else self.net(x)
        return self.output(features).reshape(value.shape)


def as_field(found: Any, path: Path) -> Field:
    """A field as it is; a network becomes one on this path."""
    return found if isinstance(found, Field) else NeuralField(net=found, path=path)


class Transporting(Model):
    """A model whose values come from noise along a ``field``: what objectives of fields train."""

    field: eqx.AbstractVar[Field]


class Chaining(Transporting):
    """It does so by a chain of so many ``steps`` (None: continuous time, of which a draw takes ``draws``)."""

    steps: eqx.AbstractVar[int | None]
    draws: eqx.AbstractVar[int]
