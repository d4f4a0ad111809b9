"""Priors p(z | x) of an array-valued latent, as strategies: each makes the distribution and its own parameters.

A latent is one array; a network sees it as a vector of ``dimensions`` numbers.
"""

import functools
import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.maths import quantising
from veil.model.abilities import parameter
from veil.parts.flows import Flow
from veil.parts.nets import MLP, Dense, flat, positive

FLOOR = 1e-4  # the smallest scale of a latent; its prior's is about one


class Prior(eqx.Module):
    """p(z | x) of one latent, an array.

    Its whole-number fields are sizes. Raises ValueError for one that is not positive.
    """

    def __check_init__(self) -> None:
        for field in fields(self):
            if field.type is int:
                positive(field.name, vars(self)[field.name])

    @property
    @abstractmethod
    def dimensions(self) -> int:
        """How many numbers a network sees of one latent."""

    def initialise(self, inputs: int, queries: Any, key: PRNGKeyArray) -> Self:
        """With starting parameters, for ``inputs`` numbers of evidence; ``queries`` [N, ...] are standardised data."""
        return self

    def read(self, latent: Float[Array, "..."]) -> Float[Array, " dimensions"]:
        """The numbers that a network sees of one latent."""
        return latent.ravel()

    @abstractmethod
    def __call__(self, evidence: Any) -> Distribution:
        """p(z | x)."""


def _not_ready(prior: Prior) -> ValueError:
    return ValueError(f"{type(prior).__name__} has no parameters yet: call veil.fit on the model first")


class StandardNormal(Prior):
    """z ~ N(0, I) in ``dimensions``.

    >>> import jax
    >>> StandardNormal(3)(None).sample(jax.random.key(0)).shape
    (3,)
    """

    dimensions: int = eqx.field(static=True, default=2)

    def __call__(self, evidence: Any) -> Distribution:
        return distributions.normal(jnp.zeros(self.dimensions), jnp.ones(self.dimensions))


class MixtureOfNormals(Prior):
    """z ~ Σ_k w_k N(m_k, diag s_k²), all learned: weights [K], means and scales [K, dimensions]."""

    dimensions: int = eqx.field(static=True, default=2)
    components: int = eqx.field(static=True, default=10)
    logits: Float[Array, " K"] | None = parameter()
    means: Float[Array, "K L"] | None = parameter()
    log_scales: Float[Array, "K L"] | None = parameter()

    def initialise(self, inputs: int, queries: Any, key: PRNGKeyArray) -> "MixtureOfNormals":
        # spread over a standard normal: together they are about one
        means = 0.8 * jax.random.normal(key, (self.components, self.dimensions))
        scales = jnp.full_like(means, math.log(0.6))
        return MixtureOfNormals(self.dimensions, self.components, jnp.zeros(self.components), means, scales)

    def __call__(self, evidence: Any) -> Distribution:
        if self.logits is None or self.means is None or self.log_scales is None:
            raise _not_ready(self)
        return distributions.MixtureOfNormals(self.logits, self.means, jnp.exp(self.log_scales) + 1e-3)


class VampPrior(Prior):
    """z ~ 1/K Σ_k q(z | u_k): a mixture of the encoder's answers to learned pseudo-data u_k. Tomczak & Welling 2018.

    The encoder is the prior's own ``net``; give the posterior as ``Amortized(shared=True)`` (the default of a VAE with
    this prior), which uses it too.
    """

    dimensions: int = eqx.field(static=True, default=2)
    components: int = eqx.field(static=True, default=20)
    net: MLP = MLP()
    output: Dense | None = parameter()
    pseudo: Float[Array, "K D"] | None = parameter()

    def initialise(self, inputs: int, queries: Any, key: PRNGKeyArray) -> "VampPrior":
        key_net, key_output, key_pseudo = jax.random.split(key, 3)
        points = jax.vmap(flat)(queries)
        size = points.shape[1]
        net = self.net.initialise(size, key_net)
        output = Dense.initialise(net.outputs(size), 2 * self.dimensions, key_output)
        chosen = jax.random.choice(key_pseudo, len(points), (self.components,))
        return VampPrior(self.dimensions, self.components, net, output, points[chosen])

    def encode(self, query: Float[Array, " D"]) -> Float[Array, " V"]:
        """The parameters of q(z | y)."""
        if self.output is None:
            raise _not_ready(self)
        return self.output(self.net(query))

    def __call__(self, evidence: Any) -> Distribution:
        if self.pseudo is None:
            raise _not_ready(self)
        parts = jax.vmap(self.encode)(self.pseudo)
        means, log_scales = parts[:, : self.dimensions], parts[:, self.dimensions :]
        return distributions.MixtureOfNormals(jnp.zeros(self.components), means, jnp.exp(log_scales) + FLOOR)


class FlowPrior(Prior):
    """z = T(e), e ~ N(0, I), T a normalising flow of coupling layers (needs ``pip install 'veil[flows]'``)."""

    dimensions: int = eqx.field(static=True, default=2)
    flow: Flow = Flow()

    def initialise(self, inputs: int, queries: Any, key: PRNGKeyArray) -> "FlowPrior":
        return FlowPrior(self.dimensions, self.flow.initialise(self.dimensions, key))

    def __call__(self, evidence: Any) -> Distribution:
        base = distributions.normal(jnp.zeros(self.dimensions), jnp.ones(self.dimensions))
        return self.flow.pushed(base)


class Codes(Prior):
    """``count`` independent categorical codes of ``categories`` values, as one-hot rows [count, categories].

    Uniform, or with ``learned`` each with its own probabilities. Discrete: train with ``ELBO(GumbelSoftmax())``,
    ``StraightThrough()``, ``ScoreFunction()`` or, if there are few values in all, ``Enumerated()``.
    """

    count: int = eqx.field(static=True)
    categories: int = eqx.field(static=True)
    learned: bool = eqx.field(static=True)
    logits: Float[Array, "L C"] | None

    def __init__(
        self,
        count: int = 10,
        categories: int = 10,
        learned: bool = False,
        logits: Float[Array, "L C"] | None = None,
    ) -> None:
        self.count, self.categories, self.learned = count, categories, learned
        known = logits is not None or not learned or not (isinstance(count, int) and isinstance(categories, int))
        self.logits = logits if known else jnp.zeros((count, categories))

    @property
    def dimensions(self) -> int:
        return self.count * self.categories

    def __call__(self, evidence: Any) -> Distribution:
        return distributions.Codes(jnp.zeros((self.count, self.categories)) if self.logits is None else self.logits)


class ResidualCodes(Prior):
    """p(z | x) = Π_l p(z_l | z_<l, x): residual codes, each given those before it, one-hot rows [levels, codes].

    Networks see e = Σ_l C_l[z_l] [D], a sum of rows of codebooks: the likelihood is p(y | x, z) = head(decoder(e, x)).
    The codebooks [levels, codes, D] start at k-means of the data, the next of what the ones before have left, and
    ``axes`` [D, Q], which make a query's numbers a point among codes, at the data's principal axes, or as they are if
    the query has no more than ``width`` numbers. ``net`` sees [x, z_<l]; without evidence it is p(z).

    The posterior is ``posterior.Quantised`` and the objective ``objective.Quantising``, a fit's defaults. Zeghidour et
    al. 2021 (codes); Lee et al. 2024, VQ-BeT (a policy of them).

    >>> ResidualCodes(levels=2, codes=16, width=8).dimensions
    8
    """

    levels: int = eqx.field(static=True, default=2)
    codes: int = eqx.field(static=True, default=16)
    width: int = eqx.field(static=True, default=32)
    net: Any = MLP()
    output: Dense | None = parameter()
    codebooks: Float[Array, "L C D"] | None = parameter()
    axes: Float[Array, "D Q"] | None = parameter()

    @property
    def dimensions(self) -> int:
        return self.width if self.codebooks is None else self.codebooks.shape[-1]

    def initialise(self, inputs: int, queries: Any, key: PRNGKeyArray) -> "ResidualCodes":
        key_net, key_output, key_codes = jax.random.split(key, 3)
        points = jax.vmap(flat)(queries)
        axes = jnp.eye(points.shape[1])
        if points.shape[1] > self.width:
            away = points - jnp.mean(points, 0)[None]
            axes = jnp.linalg.eigh(away.T @ away)[1][:, ::-1][:, : self.width].T
        inputs += self.levels * self.codes
        net = self.net.initialise(inputs, key_net)
        output = Dense.initialise(net.outputs(inputs), self.levels * self.codes, key_output)
        codebooks = quantising.residual_kmeans(points @ axes.T, self.levels, self.codes, key_codes)
        return replace(self, net=net, output=output, codebooks=codebooks, axes=axes)

    def known(self) -> tuple[Float[Array, "L C D"], Float[Array, "D Q"]]:
        """Codebooks and axes. Raises ValueError before a fit."""
        if self.codebooks is None or self.axes is None:
            raise _not_ready(self)
        return self.codebooks, self.axes

    def read(self, latent: Float[Array, "L C"]) -> Float[Array, " D"]:
        return jnp.einsum("lc,lcd->d", latent, self.known()[0])

    def moved(self, by: Float[Array, " D"]) -> "ResidualCodes":
        """The same codes, every sum of them moved, and no gradient to the codebooks."""
        codebooks, _ = self.known()
        return replace(self, codebooks=jax.lax.stop_gradient(codebooks).at[0].add(by[None]))

    def __call__(self, evidence: Any) -> Distribution:
        if self.output is None:
            raise _not_ready(self)
        output = self.output
        seen = jnp.zeros(0) if evidence is None else flat(evidence)

        def logits(known: Float[Array, "L C"], level: Any) -> Float[Array, " C"]:
            made = output(self.net(jnp.concatenate([seen, known.ravel().astype(seen.dtype)])))
            return made.reshape(self.levels, self.codes)[level]

        return distributions.ChainedCodes(logits, self.levels, self.codes)


class ConditionalNormal(Prior):
    """z ~ N(m(x), diag s(x)²): a prior that sees the evidence through a network. Sohn et al. 2015, eq. 4."""

    dimensions: int = eqx.field(static=True, default=2)
    net: Any = MLP()
    output: Dense | None = parameter()

    def initialise(self, inputs: int, queries: Any, key: PRNGKeyArray) -> "ConditionalNormal":
        if not inputs:
            raise ValueError("ConditionalNormal: this prior sees the evidence, and the data have none")
        key_net, key_output = jax.random.split(key)
        net = self.net.initialise(inputs, key_net)
        return ConditionalNormal(
            self.dimensions, net, Dense.initialise(net.outputs(inputs), 2 * self.dimensions, key_output)
        )

    def __call__(self, evidence: Any) -> Distribution:
        if self.output is None:
            raise _not_ready(self)
        if evidence is None:
            raise ValueError("evidence: this model's prior is p(z | x), and there is none")
        mean, log_scale = self.output(self.net(flat(evidence))).reshape(2, -1)
        return distributions.normal(mean, jnp.exp(log_scale) + FLOOR)


class TwoLevels(Prior):
    """z = [z_2, z_1] with z_2 ~ N(0, I) [top] and z_1 ~ N(m(z_2), diag s(z_2)²) [bottom]: a hierarchy.

    Its default posterior is the ladder (Sønderby et al. 2016): q(z_1 | y, z_2) is the precision-weighted product of a
    message from y and p(z_1 | z_2).
    """

    top: int = eqx.field(static=True, default=2)
    bottom: int = eqx.field(static=True, default=10)
    net: MLP = MLP()
    output: Dense | None = parameter()

    @property
    def dimensions(self) -> int:
        return self.top + self.bottom

    def initialise(self, inputs: int, queries: Any, key: PRNGKeyArray) -> "TwoLevels":
        key_net, key_output = jax.random.split(key)
        net = self.net.initialise(self.top, key_net)
        output = Dense.initialise(net.outputs(self.top), 2 * self.bottom, key_output)
        return TwoLevels(self.top, self.bottom, net, output)

    def below(self, top: Float[Array, " A"]) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
        """Mean and scale of p(z_1 | z_2)."""
        if self.output is None:
            raise _not_ready(self)
        mean, log_scale = self.output(self.net(top)).reshape(2, -1)
        return mean, jnp.exp(log_scale) + FLOOR

    def __call__(self, evidence: Any) -> Distribution:
        first = distributions.normal(jnp.zeros(self.top), jnp.ones(self.top))
        then: Callable[[Any], Distribution] = lambda top: distributions.normal(*self.below(top))  # noqa: E731
        return distributions.Chained(first, jax.tree_util.Partial(then), self.top)


@functools.singledispatch
def as_prior(latent: Any) -> Prior:
    """A prior as it is; a number of dimensions becomes a standard normal."""
    raise TypeError(f"latent: expected a prior, such as StandardNormal(10), or its dimensions; got {latent!r}")


@as_prior.register
def _(latent: Prior) -> Prior:
    return latent


@as_prior.register
def _(latent: int) -> Prior:
    return StandardNormal(latent)
