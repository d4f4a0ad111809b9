"""Bayesian neural networks: the weights are a latent that all data share."""

import math
from dataclasses import replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.model import Datum, Model
from veil.parts.heads import Head, HomoscedasticGaussian
from veil.parts.nets import Activation, known_activation, positive
from veil.posterior import Posterior, Shared
from veil.units import Units


class BayesianNetwork(Model):
    """p(y | x, w) = head(network_w(x)), w ~ N(0, prior scale): one w for all data, its posterior is learned.

    The prior is N(0, ``prior_scale``² / fan-in) for weights and N(0, ``prior_scale``²) for biases. With N data the ELBO
    of all of them is Σ_n E_q[log p(y_n | x_n, w)] - KL(q(w) || p(w)); ``veil.fit`` maximises its N-th part, batch by
    batch, with a mean-field q and the local reparameterisation (``objective.LocalReparameterisation``): noise on
    the units' sums instead of the weights, so that each datum has its own (Kingma et al. 2015).
    """

    tractable: ClassVar[bool] = False
    standardised: ClassVar[bool] = True
    widths: tuple[int, ...] = eqx.field(static=True, default=(50,), converter=tuple)
    activation: Activation = eqx.field(static=True, default="tanh")
    head: Head = HomoscedasticGaussian()
    prior_scale: float = eqx.field(static=True, default=1.0)
    sizes: tuple[int, ...] = eqx.field(static=True, default=())
    shape: tuple[int, ...] = eqx.field(static=True, default=())
    count: int = eqx.field(static=True, default=1)
    units: Units | None = None

    def __check_init__(self) -> None:
        known_activation(self.activation)
        for width in self.widths:
            positive("widths", width)
        if not self.prior_scale > 0:
            raise ValueError(f"prior_scale: expected a positive number; got {self.prior_scale!r}")

    @property
    def ready(self) -> bool:
        return self.sizes != ()

    @property
    def shared_by(self) -> int:
        return self.count

    @property
    def query_shape(self) -> tuple[int, ...] | None:
        """The shape of one datum's query, None before a fit."""
        return self.shape or None

    @property
    def inputs(self) -> int | None:
        """How many evidence columns the fitted model takes."""
        return self.sizes[0] if self.sizes else None

    @property
    def usual_posterior(self) -> Posterior:
        """Mean field over all weights."""
        return Shared()

    def counted(self, total: float) -> "BayesianNetwork":
        """This model of ``total`` data, which decides how much of the KL each datum carries."""
        return replace(self, count=max(1, round(total)))

    def _layers(self) -> list[tuple[int, int]]:
        if not self.sizes:
            raise ValueError("this model has no parameters yet: call veil.fit on it first")
        return list(zip(self.sizes[:-1], self.sizes[1:], strict=True))

    def prior(self, evidence: Float[Array, "*evidence"] | None) -> Distribution:
        scale = jnp.concatenate(
            [
                jnp.full(count, value)
                for a, b in self._layers()
                for count, value in ((a * b, self.prior_scale / math.sqrt(a)), (b, self.prior_scale))
            ]
        )
        return distributions.normal(jnp.zeros_like(scale), scale)

    def _split(self, weights: Float[Array, " V"]) -> list[tuple[Float[Array, "out in"], Float[Array, " out"]]]:
        found, place = [], 0
        for a, b in self._layers():
            matrix = weights[place : place + a * b].reshape(b, a)
            found.append((matrix, weights[place + a * b : place + a * b + b]))
            place += a * b + b
        return found

    def _seen(self, evidence: Float[Array, "*evidence"] | None) -> Float[Array, " in"]:
        if evidence is None:
            raise ValueError("evidence: this model is p(y | x), and there is none")
        return Units.applied(self.units, evidence).ravel()

    def likelihood(self, latent: Float[Array, " V"], evidence: Float[Array, "*evidence"] | None) -> Distribution:
        value = self._seen(evidence)
        layers = self._split(latent)
        for i, (matrix, bias) in enumerate(layers):
            value = matrix @ value + bias
            if i < len(layers) - 1:
                value = getattr(jax.nn, self.activation)(value)
        return self.head(value, self.shape)

    def local(self, q: Any, evidence: Float[Array, "*evidence"] | None, key: PRNGKeyArray) -> Distribution:
        """p(y | x, w), w ~ q independent normals, drawn as the sums that the units see: N(M h + b, S² h² + s²)."""
        value = self._seen(evidence)
        if not isinstance(q, distributions.Normal):
            raise TypeError(f"posterior: local noise needs independent normals of the weights; got {type(q).__name__}")
        means, variances = self._split(q.mean), self._split(q.variance)
        keys = jax.random.split(key, len(means))
        for i, ((matrix, bias), (spread, spread_bias)) in enumerate(zip(means, variances, strict=True)):
            scale = jnp.sqrt(spread @ value**2 + spread_bias)
            value = matrix @ value + bias + scale * jax.random.normal(keys[i], bias.shape, bias.dtype)
            if i < len(means) - 1:
                value = getattr(jax.nn, self.activation)(value)
        return self.head(value, self.shape)

    def initialise(self, data: Datum, responsibilities: Any, key: PRNGKeyArray) -> "BayesianNetwork":
        if data.evidence is None:
            raise ValueError("evidence: a Bayesian network is p(y | x), and the data have none")
        shape = data.query.shape[1:]
        sizes = (int(np.prod(data.evidence.shape[1:])), *self.widths, self.head.size(shape))
        return replace(self, sizes=sizes, shape=shape, head=self.head.blank(shape), count=len(data.query))

    def rescaled(self, query: Units, evidence: Units | None) -> "BayesianNetwork":
        """The same model in the user's units."""
        head = self.head.rescaled(query) if self.real else self.head
        return replace(self, head=head, units=Units.composed(self.units, evidence))

    def parameters(self) -> int:
        """How many numbers are free: the head's own. The weights are latent, and integrated over."""
        return self.head.parameters()
