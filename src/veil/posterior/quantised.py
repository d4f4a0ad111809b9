"""The posterior of residual codes: an encoder's output, and the codes nearest to it."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.maths import quantising
from veil.model import Datum
from veil.model.abilities import parameter
from veil.parts.heads import viewed
from veil.parts.nets import MLP, Dense, flat
from veil.parts.priors import ResidualCodes
from veil.posterior.amortized import Reader, part
from veil.posterior.base import Learned


class Quantised(Learned):
    """q(z | y, x): all probability at the codes nearest to e(y, x) = A y + W net(y, x), level by level.

    For a model whose latent is ``priors.ResidualCodes``, which has the axes A and the codebooks; W starts at zero, so
    that the first codes are those of k-means. Its entropy is zero: the ELBO is log p(z | x) + log p(y | x, z) at these
    codes. van den Oord et al. 2017, eqs. 1-2; Zeghidour et al. 2021, algorithm 1.
    """

    net: Any = MLP()
    reader: Reader = Reader()
    output: Dense | None = parameter()

    def initialise(self, model: Any, example: Datum, count: int, key: PRNGKeyArray) -> "Quantised":
        codebooks, _ = part(model, ResidualCodes).known()
        reader = Reader.of(model, example, self.net)
        inputs = reader.sizes(example)
        net = self.net.initialise(inputs, key)
        width = codebooks.shape[-1]
        return Quantised(net, reader, Dense(jnp.zeros((width, net.outputs(inputs))), jnp.zeros(width)))

    def encoded(self, model: Any, datum: Datum) -> Float[Array, " D"]:
        """e(y, x), a point among the sums of codes."""
        if self.output is None:
            raise ValueError("this posterior has no parameters yet: call veil.fit on the model first")
        _, axes = part(model, ResidualCodes).known()
        seen = flat(viewed(self.reader.view, datum.query, datum.observed))
        return axes @ seen.astype(axes.dtype) + self.output(self.net(self.reader(datum)))

    def __call__(self, model: Any, datum: Datum) -> Distribution:
        codebooks, _ = part(model, ResidualCodes).known()
        return distributions.Point(quantising.residual_codes(self.encoded(model, datum), codebooks)[0])
