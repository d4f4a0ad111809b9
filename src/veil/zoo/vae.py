"""Continuous (or coded) latents with a neural likelihood: the model part of variational autoencoders."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil.distributions import Distribution
from veil.model import Datum, Guided, Startable
from veil.model.abilities import Sizes, Space, parameter
from veil.model.slips import answering
from veil.parts.experts import Linear
from veil.parts.heads import DiagonalGaussian, Head, viewed
from veil.parts.joint import seen, seen_sizes
from veil.parts.nets import MLP, Identity, flat, flat_size
from veil.parts.priors import ConditionalNormal, ResidualCodes, StandardNormal, TwoLevels, VampPrior, as_prior
from veil.posterior import Amortized, Ladder, Posterior, Quantised
from veil.zoo.emission import begun, emitted

SWITCH = 20.0  # times the usual scale of weights


class VAE(Startable, Guided):
    """p(y | x) = ∫ p(y | x, z) p(z | x) dz with p(y | x, z) = head(W [1, decoder(z, x)]). Kingma & Welling 2014.

    * ``latent``: the prior of ``veil.priors``, or a number of dimensions (standard normal)
    * ``head``: any likelihood of ``veil.heads``
    * ``decoder``: a network from latent (and evidence) to features; ``nets.Identity()`` makes a linear model; one of
      ``veil.images`` makes all the head's numbers itself, p(y | x, z) = head(w + decoder(z, x))
    * ``evidence``: whether p(y | x, z) sees the evidence; a prior that does is ``priors.ConditionalNormal``. Together
      they give the decompositions p(y|x,z) p(z|x), p(y|x,z) p(z) and p(y|z) p(z|x) of a conditional VAE.

    * ``trunk``: a network that reads the evidence first, for prior and decoder alike (of pictures and numbers
      ``joint.Readers`` of its parts)

    The integral has no closed form: ``veil.fit`` maximises the ELBO, given evidence an importance-weighted bound, with
    an amortized posterior that mirrors the decoder, and ``veil.evaluate`` reports bounds.

    >>> import jax, veil
    >>> model = VAE(latent=1, head=veil.heads.DiagonalGaussian(), decoder=veil.MLP((16,)))
    >>> result = veil.fit(model, veil.data.load("faithful"), key=jax.random.key(0), steps=50)
    >>> veil.sample(result.model, 4, key=jax.random.key(1)).query.shape
    (4, 2)
    """

    latent: Any = eqx.field(default=StandardNormal(2), converter=as_prior)  # a Prior; a number on the way in
    head: Head = DiagonalGaussian()
    decoder: Any = MLP()
    evidence: bool = eqx.field(static=True, default=True)
    trunk: Any = Identity()
    output: Linear | None = parameter()
    inputs: int | None = eqx.field(static=True, default=None)

    @property
    def sizes(self) -> Sizes:
        return Sizes(None if self.output is None else self.output.shape, self.inputs)

    @property
    def space(self) -> Space:
        return self.head

    @property
    def usual_posterior(self) -> Posterior:
        """What ``veil.fit`` trains with it unless told otherwise: a network of the decoder's sizes, reversed."""
        if isinstance(self.latent, VampPrior):
            return Amortized(self.latent.net, shared=True)
        net = self.decoder.mirrored()
        if isinstance(self.latent, ResidualCodes):
            return Quantised(net)
        return Ladder(net) if isinstance(self.latent, TwoLevels) else Amortized(net)

    def _read(self, evidence: Any) -> Any:
        """What prior and decoder see of the evidence."""
        if evidence is None or isinstance(self.trunk, Identity):
            return evidence
        return self.trunk(seen(self.trunk, evidence))

    def prior(self, evidence: Any) -> Distribution:
        return self.latent(self._read(evidence))

    def likelihood(self, latent: Array, evidence: Any) -> Distribution:
        inputs = self.latent.read(latent)
        if evidence is not None and self.evidence:
            inputs = jnp.concatenate([inputs, flat(self._read(evidence))])
        return emitted(self.output, self.decoder, inputs)

    def initialise(self, data: Datum, responsibilities: Any, key: PRNGKeyArray) -> "VAE":
        """Random networks; the likelihood's constant part starts at the data's average."""
        key_latent, *keys = jax.random.split(key, 3)
        inputs, trunk = flat_size(data.evidence, 1), Identity()
        given = inputs
        if inputs and not isinstance(self.trunk, Identity):
            sizes = seen_sizes(self.trunk, jax.tree.map(lambda leaf: leaf[0], data.evidence))
            trunk, given = self.trunk.initialise(sizes, jax.random.fold_in(key, 3)), self.trunk.outputs(sizes)
        weight = jnp.ones(len(data)) if data.weight is None else data.weight
        view = self.head.view(data.query, data.observed, weight)
        shown = jax.vmap(lambda *y: viewed(view, *y))(data.query, data.observed)
        latent = self.latent.initialise(given, jax.tree.map(lambda y: y[_in_proportion(weight)], shown), key_latent)
        numbers = latent.dimensions + (given if self.evidence else 0)
        decoder, output = begun(self.head, self.decoder, numbers, data.query, data.observed, weight, view, *keys)
        if inputs and self.evidence and isinstance(decoder, MLP) and decoder.activation == "tanh":
            decoder = _switching(decoder, latent.dimensions)
        return VAE(latent, output.head, decoder, self.evidence, trunk, output, inputs)


def _in_proportion(weight: Float[Array, " N"]) -> Int[Array, " N"]:
    """As many rows as there are, each as often as its weight says: of equal weights every row once, in order."""
    sums = jnp.cumsum(weight)
    return jnp.searchsorted(sums, (jnp.arange(len(weight)) + 0.5) / len(weight) * sums[-1])


def _switching(decoder: MLP, latents: int) -> MLP:
    """A decoder whose first units are switches in z, and smooth in the evidence behind it.

    p(y | x, z) has to jump where the choice between two y does; from units that are smooth in z a decoder takes
    thousands of steps to get there, or blurs the ways into one. Weights that are too large are soon unlearned.
    """
    assert decoder.layers is not None
    first = decoder.layers[0]
    gain = jnp.where(jnp.arange(first.weight.shape[1]) < latents, SWITCH, 1.0)
    return eqx.tree_at(lambda net: net.layers[0].weight, decoder, first.weight * gain[None])


@answering
def ConditionalVAE(latent: int = 2, head: Head | None = None, decoder: Any = None) -> VAE:
    """p(y | x) = ∫ p(y | x, z) p(z | x) dz, prior and likelihood both networks of x. Sohn et al. 2015.

    A ``VAE`` whose prior is ``priors.ConditionalNormal``; the other two decompositions are a ``VAE`` on data with
    evidence, and this one with ``evidence=False``.

    >>> ConditionalVAE(3).latent.dimensions
    3
    """
    net = decoder or MLP()
    return VAE(ConditionalNormal(latent, net), head or DiagonalGaussian(), net)
