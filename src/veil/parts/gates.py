"""Gates: p(z | x) over K components, from features φ = [1, h] of the evidence."""

from abc import abstractmethod
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from veil import distributions
from veil.distributions import Distribution
from veil.maths import logistic
from veil.maths.gaussian import pack_outer, unpack_symmetric
from veil.model.abilities import Redundant, parameter
from veil.model.scales import Scale, rescale_features
from veil.parts.covariance import Full
from veil.parts.statistics import Outer


class Gate(Redundant):
    """log p(z | x) for all z at once; with ``closed_form``, its M-step as well."""

    closed_form: ClassVar[bool] = False

    @property
    def sees(self) -> bool:
        """Whether it looks at evidence, where there is some."""
        return False

    @property
    def inputs(self) -> int:
        """How many numbers of evidence it has weights for."""
        return 0

    @abstractmethod
    def logits(self, features: Float[Array, " P"]) -> Float[Array, " K"]:
        """log p(z | x), normalised (nats)."""

    def distribution(self, features: Float[Array, " P"]) -> Distribution:
        """p(z | x)."""
        return distributions.categorical(self.logits(features))

    def expert(self, latent: Array) -> Array | int:
        """Which expert a value of the latent stands for."""
        return latent

    def blank(self, components: int, features: int) -> Self:
        """A gate with placeholder parameters of the right shapes."""
        return self

    @abstractmethod
    def rescaled(self, evidence: Scale | None) -> Self:
        """The same gate of evidence in the user's units."""


class Single(Gate):
    """No choice: one expert, and a latent that is empty. It turns a mixture into a plain (conditional) density."""

    closed_form: ClassVar[bool] = True

    def logits(self, features: Float[Array, " P"]) -> Float[Array, " 1"]:
        return jnp.zeros(1)

    def distribution(self, features: Float[Array, " P"]) -> Distribution:
        return distributions.Empty()

    def expert(self, latent: Array) -> int:
        return 0

    def statistics(self, features: Float[Array, " P"], weights: Float[Array, " K"]) -> tuple[()]:
        return ()

    def maximise(self, sums: tuple[()]) -> "Single":
        return self

    def log_prior(self) -> Float[Array, ""]:
        return jnp.zeros(())

    def rescaled(self, evidence: Scale | None) -> "Single":
        return self

    def parameters(self) -> int:
        return 0


class Softmax(Gate):
    """p(z | x) ∝ exp(w_z · [1, h(x)]); with ``evidence=False``, or none in the data, p(z): mixture weights.

    The M-step of mixture weights is the weighted count. With evidence it is one step on Böhning's bound of the softmax
    (``maths.logistic``): additive and monotone, and EM with it is a generalised EM. ``ridge`` is the precision of a
    normal prior on the slopes, in standardised units. Weight [K, P], or [K, 1]; an HMM has one more axis.
    """

    closed_form: ClassVar[bool] = True
    evidence: bool = eqx.field(static=True, default=True)
    ridge: float = eqx.field(static=True, default=1e-3)
    weight: Float[Array, "*before K P"] | None = parameter()

    @property
    def sees(self) -> bool:
        return self.evidence

    @property
    def inputs(self) -> int:
        return 0 if self.weight is None else self.weight.shape[-1] - 1

    def blank(self, components: int, features: int) -> "Softmax":
        return Softmax(self.evidence, self.ridge, jnp.zeros((components, features if self.evidence else 1)))

    def _weight(self) -> Float[Array, "K P"]:
        if self.weight is None:
            raise ValueError("this gate has no parameters yet: call veil.fit on the model first")
        return self.weight

    def logits(self, features: Float[Array, " P"]) -> Float[Array, " K"]:
        weight = self._weight()
        return jax.nn.log_softmax(weight @ features[: weight.shape[1]])

    def statistics(self, features: Float[Array, " P"], weights: Float[Array, " K"]) -> Any:
        """One datum's share: counts for mixture weights, (r - p) ⊗ φ and φ φᵀ with evidence."""
        used = features[: self._weight().shape[1]]
        if used.size == 1:
            return (Outer(weights, used),)
        return Outer(weights - jnp.exp(self.logits(features)), used), Outer(jnp.ones(1), pack_outer(used))

    def maximise(self, sums: Any) -> "Softmax":
        """The weights that maximise the expected log-prior's bound plus the log-prior of the weights."""
        weight = self._weight()
        if weight.shape[1] == 1:
            # a component without data keeps a weight that is tiny, but not so tiny that chains lose it (maths.scaled)
            counts = jnp.maximum(sums[0], jnp.maximum(1e-24 * jnp.sum(sums[0]), 1e-30))
            return Softmax(self.evidence, self.ridge, jnp.log(counts) - jnp.log(jnp.sum(counts)))
        gradient, moment = sums
        slopes = jnp.ones(weight.shape[1]).at[0].set(1e-6)
        second = unpack_symmetric(moment[0], weight.shape[1])
        step = logistic.bound_step(gradient - self.ridge * slopes[None] * weight, second, self.ridge * jnp.diag(slopes))
        return Softmax(self.evidence, self.ridge, weight + step)

    def log_prior(self) -> Float[Array, ""]:
        weight = self._weight()
        if weight.shape[1] == 1:
            return jnp.zeros(())
        slopes = jnp.ones(weight.shape[1]).at[0].set(1e-6)
        return -0.5 * self.ridge * jnp.sum(slopes[None] * weight**2)

    def rescaled(self, evidence: Scale | None) -> "Softmax":
        return Softmax(self.evidence, self.ridge, rescale_features(self._weight(), evidence))

    def parameters(self) -> int:
        if self.weight is None:
            raise ValueError("this gate has no parameters yet: call veil.fit on the model first")
        *before, components, features = self.weight.shape
        return int(np.prod(before)) * (components - 1) * features


class Discriminant(Gate):
    """p(z | x) ∝ π_z N(x; m_z, S_z): what the gate of a joint Gaussian mixture becomes when it is conditioned on x."""

    log_weight: Float[Array, " K"]
    mean: Float[Array, "K P"]
    covariance: Full

    @property
    def sees(self) -> bool:
        return True

    @property
    def inputs(self) -> int:
        return self.mean.shape[1]

    def logits(self, features: Float[Array, " P"]) -> Float[Array, " K"]:
        return jax.nn.log_softmax(self.log_weight + self.covariance.log_density(features[None, 1:] - self.mean, None))

    def rescaled(self, evidence: Scale | None) -> "Discriminant":
        if evidence is None:
            return self
        scale = np.asarray(evidence.scale)
        return Discriminant(self.log_weight, evidence.shift + scale * self.mean, self.covariance.rescaled(scale))

    def parameters(self) -> int:
        components, size = self.mean.shape
        return components - 1 + components * size + self.covariance.parameters(components, size)
