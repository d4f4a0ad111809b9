"""Continuous (or coded) latents with a neural likelihood: the model part of variational autoencoders."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil.distributions import Distribution
from veil.model import Datum, Model
from veil.parts.experts import Linear
from veil.parts.heads import DiagonalGaussian, Head
from veil.parts.nets import MLP
from veil.parts.priors import StandardNormal, TwoLevels, VampPrior, as_prior
from veil.posterior import Amortized, Ladder, Posterior
from veil.units import Units
from veil.zoo.emission import begun, emitted


class VAE(Model):
    """p(y | x) = ∫ p(y | x, z) p(z | x) dz with p(y | x, z) = head(W [1, decoder(z, x)]). Kingma & Welling 2014.

    * ``latent``: the prior of ``veil.priors``, or a number of dimensions (standard normal)
    * ``head``: any likelihood of ``veil.heads``
    * ``decoder``: a network from latent (and evidence) to features; ``nets.Identity()`` makes a linear model; one of
      ``veil.images`` makes all the head's numbers itself, p(y | x, z) = head(w + decoder(z, x))
    * ``evidence``: whether p(y | x, z) sees the evidence; a prior that does is ``priors.ConditionalNormal``. Together
      they give the decompositions p(y|x,z) p(z|x), p(y|x,z) p(z) and p(y|z) p(z|x) of a conditional VAE.

    The integral has no closed form: ``veil.fit`` maximises the ELBO with an amortized posterior that mirrors the
    decoder, and ``veil.evaluate`` reports bounds.

    >>> import jax, veil
    >>> model = VAE(latent=1, head=veil.heads.DiagonalGaussian(), decoder=veil.MLP((16,)))
    >>> result = veil.fit(model, veil.data.load("faithful"), key=jax.random.key(0), steps=50)
    >>> veil.sample(result.model, 4, key=jax.random.key(1)).query.shape
    (4, 2)
    """

    tractable: ClassVar[bool] = False
    standardised: ClassVar[bool] = True
    latent: Any = eqx.field(default=StandardNormal(2), converter=as_prior)  # a Prior; a number on the way in
    head: Head = DiagonalGaussian()
    decoder: Any = MLP()
    evidence: bool = eqx.field(static=True, default=True)
    output: Linear | None = None
    units: Units | None = None
    inputs: int | None = eqx.field(static=True, default=None)

    @property
    def ready(self) -> bool:
        return self.output is not None and self.latent.ready

    @property
    def query_shape(self) -> tuple[int, ...] | None:
        """The shape of one datum's query, None before a fit."""
        return None if self.output is None else self.output.shape

    @property
    def usual_posterior(self) -> Posterior:
        """What ``veil.fit`` trains with it unless told otherwise: a network of the decoder's sizes, reversed."""
        if isinstance(self.latent, VampPrior):
            return Amortized(self.latent.net, shared=True)
        net = self.decoder.mirrored()
        return Ladder(net) if isinstance(self.latent, TwoLevels) else Amortized(net)

    def prior(self, evidence: Float[Array, "*evidence"] | None) -> Distribution:
        return self.latent(evidence)

    def likelihood(self, latent: Array, evidence: Float[Array, "*evidence"] | None) -> Distribution:
        inputs = latent.ravel()
        if evidence is not None and self.evidence:
            inputs = jnp.concatenate([inputs, Units.applied(self.units, evidence).ravel()])
        return emitted(self.output, self.decoder, inputs)

    def initialise(self, data: Datum, responsibilities: Any, key: PRNGKeyArray) -> "VAE":
        """Random networks; the likelihood's constant part starts at the data's average."""
        key_latent, *keys = jax.random.split(key, 3)
        inputs = 0 if data.evidence is None else int(np.prod(data.evidence.shape[1:]))
        latent = self.latent.initialise(inputs, data.query, key_latent)
        seen = latent.dimensions + (inputs if self.evidence else 0)
        weight = jnp.ones(len(data.query)) if data.weight is None else data.weight
        decoder, output = begun(self.head, self.decoder, seen, data.query, data.observed, weight, *keys)
        return VAE(latent, output.head, decoder, self.evidence, output, self.units, inputs)

    def rescaled(self, query: Units, evidence: Units | None) -> "VAE":
        """The same model in the user's units."""
        assert self.output is not None
        output = self.output.rescaled(query, None)
        units = Units.composed(self.units, evidence)
        latent = self.latent.rescaled(query if self.real else None, evidence)
        return VAE(latent, output.head, self.decoder, self.evidence, output, units, self.inputs)

    def parameters(self) -> int:
        """How many numbers are free: those of the prior and of the decoder (the posterior's are not the model's)."""
        assert self.output is not None
        parts = (self.latent, self.decoder)
        sizes = [leaf.size for leaf in jax.tree.leaves(eqx.filter(parts, eqx.is_inexact_array))]
        return sum(sizes) + self.output.parameters()
