"""Bayesian neural networks: the weights are a latent that all data share."""

import math
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.model import Datum, Guided, Startable
from veil.model.abilities import Local, Sizes, Space, parameter
from veil.parts.heads import Head, HomoscedasticGaussian
from veil.parts.joint import event_shape
from veil.parts.nets import Activation, activated, flat, flat_size, known_activation, positive
from veil.posterior import Posterior, Shared


class BayesianNetwork(Startable, Guided, Local):
    """p(y | x, w) = head(network_w(x)), w ~ N(0, prior scale): one w for all data, its posterior is learned.

    The prior is N(0, ``prior_scale``² / fan-in) for weights and N(0, ``prior_scale``²) for biases. With N data the ELBO
    of all of them is Σ_n E_q[log p(y_n | x_n, w)] - KL(q(w) || p(w)); ``veil.fit`` maximises its N-th part, batch by
    batch, with a mean-field q and the local reparameterisation (``objective.LocalReparameterisation``): noise on
    the units' sums instead of the weights, so that each datum has its own (Kingma et al. 2015).
    """

    widths: tuple[int, ...] = eqx.field(static=True, default=(50,), converter=tuple)
    activation: Activation = eqx.field(static=True, default="tanh")
    head: Head = HomoscedasticGaussian()
    prior_scale: float = eqx.field(static=True, default=1.0)
    layers: tuple[int, ...] | None = parameter(static=True)
    shape: Any = eqx.field(static=True, default=None)
    count: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        known_activation(self.activation)
        for width in self.widths:
            positive("widths", width)
        if not self.prior_scale > 0:
            raise ValueError(f"prior_scale: expected a positive number; got {self.prior_scale!r}")

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.shape, None if self.layers is None else self.layers[0])

    @property
    def space(self) -> Space:
        return self.head

    @property
    def shared_by(self) -> float:
        return self.count

    @property
    def usual_posterior(self) -> Posterior:
        """Mean field over all weights."""
        return Shared()

    def shared_among(self, total: float) -> "BayesianNetwork":
        return replace(self, count=float(max(1, round(total))))

    def _layers(self) -> list[tuple[int, int]]:
        if self.layers is None:
            raise ValueError("this model has no parameters yet: call veil.fit on it first")
        return list(zip(self.layers[:-1], self.layers[1:], strict=True))

    def prior(self, evidence: Any) -> Distribution:
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

    def _seen(self, evidence: Any) -> Float[Array, " in"]:
        if evidence is None:
            raise ValueError("evidence: this model is p(y | x), and there is none")
        return flat(evidence)

    def likelihood(self, latent: Float[Array, " V"], evidence: Any) -> Distribution:
        value = self._seen(evidence)
        layers = self._split(latent)
        for i, (matrix, bias) in enumerate(layers):
            value = matrix @ value + bias
            if i < len(layers) - 1:
                value = activated(self.activation, value)
        return self.head(value, self.shape)

    def local(self, q: Any, evidence: Any, key: PRNGKeyArray) -> Distribution:
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
                value = activated(self.activation, value)
        return self.head(value, self.shape)

    def initialise(self, data: Datum, responsibilities: Any, key: PRNGKeyArray) -> "BayesianNetwork":
        if data.evidence is None:
            raise ValueError("evidence: a Bayesian network is p(y | x), and the data have none")
        shape = event_shape(data.query)
        layers = (flat_size(data.evidence, 1), *self.widths, self.head.size(shape))
        return replace(self, layers=layers, shape=shape, head=self.head.blank(shape), count=float(len(data)))
