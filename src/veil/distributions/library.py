"""The one file that names the distribution library (numpyro): its densities and draws, with our abilities.

numpyro is imported when it is first needed, so that ``import veil`` stays quick.
"""

from abc import abstractmethod
from contextlib import AbstractContextManager
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray

from veil.distributions import supports
from veil.distributions.protocol import (
    Categories,
    Central,
    Distribution,
    Divergence,
    Entries,
    Finite,
    Gaussian,
    Marginals,
    Moments,
    Reparameterised,
)
from veil.distributions.supports import Support
from veil.maths import counts, gaussian


def _numpyro() -> Any:
    import numpyro.distributions

    return numpyro.distributions


def unchecked() -> AbstractContextManager[Any]:
    """Distributions used inside do not check their parameters: checks compute, which symbolic shapes do not allow."""
    return _numpyro().distribution.validation_enabled(False)


class _Independent(eqx.Module):
    """Independent entries, each of numpyro's distribution, with density zero outside their support."""

    @abstractmethod
    def _entry(self) -> Any:
        """numpyro's distribution of the entries, which are its batch."""

    def _density(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        """log p(y_i) of entries inside the support."""
        return self._entry().log_prob(value)

    @property
    def support(self) -> Support:
        """What an entry may be."""
        return supports.REAL

    @property
    def mean(self) -> Float[Array, "*event"]:
        return self._entry().mean

    @property
    def variance(self) -> Float[Array, "*event"]:
        return self._entry().variance

    def sample(self, key: PRNGKeyArray) -> Num[Array, "*event"]:
        return self._entry().sample(key)

    def log_prob(self, value: Num[Array, "..."]) -> Float[Array, "..."]:
        each = self.entry_log_prob(value)
        return jnp.sum(each, range(each.ndim - len(self._entry().batch_shape), each.ndim))

    def entry_log_prob(self, value: Num[Array, "..."]) -> Float[Array, "..."]:
        if self.support is supports.REAL:
            return self._density(value)
        return self.support.log_density(self._density, value.astype(jnp.result_type(float)))


class Normal(_Independent, Distribution, Moments, Entries, Gaussian, Divergence, Reparameterised):
    """Independent normals N(location, scale²) [*event]."""

    location: Float[Array, "*event"]
    scale: Float[Array, "*event"]

    def _entry(self) -> Any:
        return _numpyro().Normal(self.location, self.scale)

    def gaussian(self) -> tuple[Float[Array, " E"], Float[Array, "E E"]]:
        return self.location.ravel(), jnp.diag(self.scale.ravel())

    def kl_entries(self, other: Any) -> Float[Array, " G"] | None:
        if isinstance(other, Normal):
            return _numpyro().kl_divergence(self._entry(), other._entry()).ravel()
        return _dense_kl(self, other)


class MultivariateNormal(Distribution, Moments, Marginals, Gaussian, Divergence, Reparameterised):
    """N(location, factor factorᵀ) of a vector [D], ``factor`` lower triangular."""

    location: Float[Array, " D"]
    factor: Float[Array, "D D"]

    @property
    def mean(self) -> Float[Array, "... D"]:
        return self.location

    @property
    def variance(self) -> Float[Array, "... D"]:
        return jnp.sum(self.factor**2, -1)

    def sample(self, key: PRNGKeyArray) -> Float[Array, " D"]:
        return _dense(self).sample(key)

    def log_prob(self, value: Float[Array, "... D"]) -> Float[Array, "..."]:
        return _dense(self).log_prob(value)

    def observed_log_prob(self, value: Float[Array, " D"], observed: Bool[Array, " D"]) -> Float[Array, ""]:
        return gaussian.observed_log_density(value - self.location, self.factor, observed)

    def gaussian(self) -> tuple[Float[Array, " D"], Float[Array, "D D"]]:
        return self.location, self.factor

    def kl_entries(self, other: Any) -> Float[Array, " 1"] | None:
        return _dense_kl(self, other)


def _dense(distribution: Gaussian) -> Any:
    mean, factor = distribution.gaussian()
    return _numpyro().MultivariateNormal(mean, scale_tril=factor)


def _dense_kl(q: Gaussian, p: Any) -> Float[Array, " 1"] | None:
    """KL of any two Gaussians: a single part, the entries are coupled."""
    return _numpyro().kl_divergence(_dense(q), _dense(p))[None] if isinstance(p, Gaussian) else None


class StudentT(_Independent, Distribution, Moments, Entries, Reparameterised):
    """Independent Student-t: location + scale t, t of ``degrees`` degrees of freedom [*event]."""

    degrees: Float[Array, "*event"]
    location: Float[Array, "*event"]
    scale: Float[Array, "*event"]

    def _entry(self) -> Any:
        return _numpyro().StudentT(self.degrees, self.location, self.scale)

    def _density(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        half = 0.5 * self.degrees
        peak = counts.log_gamma_half(half) - 0.5 * jnp.log(2 * jnp.pi * half) - jnp.log(self.scale)
        away = jnp.abs(value - self.location) / self.scale / jnp.sqrt(self.degrees)
        near = jnp.log1p(jnp.minimum(away, 1e3) ** 2)
        far = 2.0 * jnp.log(jnp.maximum(away, 1e3)) + jnp.maximum(away, 1e3) ** -2.0  # whose square has no end
        return peak - (half + 0.5) * jnp.where(away < 1e3, near, far)


class Beta(_Independent, Distribution, Moments, Entries, Reparameterised):
    """Independent betas, p(y) ∝ y^(first - 1) (1 - y)^(second - 1) on (0, 1) [*event]."""

    first: Float[Array, "*event"]
    second: Float[Array, "*event"]
    support = property(lambda self: supports.FRACTIONS)

    def _entry(self) -> Any:
        return _numpyro().Beta(self.first, self.second)

    def _density(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        return counts.log_beta(self.first, self.second, value)


class LogNormal(_Independent, Distribution, Moments, Entries, Reparameterised):
    """Independent log-normals, log y ~ N(location, scale²) [*event]."""

    location: Float[Array, "*event"]
    scale: Float[Array, "*event"]
    support = property(lambda self: supports.POSITIVE)

    def _entry(self) -> Any:
        return _numpyro().LogNormal(self.location, self.scale)


class TruncatedNormal(_Independent, Distribution, Moments, Entries):
    """Independent normals N(location, scale²) given that they are from ``low`` to ``high``, which may be infinite."""

    location: Float[Array, "*event"]
    scale: Float[Array, "*event"]
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)

    @property
    def support(self) -> Support:
        return supports.between(self.low, self.high)

    def _entry(self) -> Any:
        low, high = (end if np.isfinite(end) else None for end in (self.low, self.high))
        return _numpyro().TruncatedNormal(self.location, self.scale, low=low, high=high)

    def _ends(self) -> tuple[Array | None, Array | None]:
        low, high = ((end - self.location) / self.scale if np.isfinite(end) else None for end in (self.low, self.high))
        return low, high

    def _density(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        return _numpyro().Normal(self.location, self.scale).log_prob(value) - gaussian.log_mass(*self._ends())

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*event"]:
        return jnp.clip(self._entry().sample(key), self.low, self.high)  # far out a tail has no numbers left

    def _pulls(self) -> tuple[Array, Array]:
        """(φ(a) - φ(b)) / mass and (a φ(a) - b φ(b)) / mass of the ends a, b. Johnson et al. 1994, section 13.10."""
        mass, zero = gaussian.log_mass(*self._ends()), jnp.zeros_like(self.location)
        each = [
            (jnp.exp(-0.5 * (end**2 + gaussian.LOG_2PI) - mass), end) if end is not None else (zero, zero)
            for end in self._ends()
        ]
        return each[0][0] - each[1][0], each[0][0] * each[0][1] - each[1][0] * each[1][1]

    @property
    def mean(self) -> Float[Array, "*event"]:
        return jnp.clip(self.location + self.scale * self._pulls()[0], self.low, self.high)

    @property
    def variance(self) -> Float[Array, "*event"]:
        pull, spread = self._pulls()
        return self.scale**2 * jnp.maximum(1.0 + spread - pull**2, 0.0)


class VonMises(_Independent, Distribution, Entries, Central):
    """Independent angles, p(y) = exp(κ cos(y - μ)) / 2π I₀(κ), of ``pull`` κ (cos μ, sin μ) [2, *event]."""

    pull: Float[Array, "2 *event"]
    support = property(lambda self: supports.ANGLES)

    @property
    def concentration(self) -> Float[Array, "*event"]:
        """κ; a little above zero, where its slope ends."""
        return jnp.sqrt(jnp.sum(self.pull**2, 0) + 1e-30)

    def central(self) -> Float[Array, "*event"]:
        """The mean direction μ."""
        return jnp.arctan2(self.pull[1], self.pull[0])

    def _entry(self) -> Any:
        return _numpyro().VonMises(self.central(), self.concentration)

    def _density(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        strength = self.concentration
        # κ (1 - cos(y - μ)) as half a squared distance of points, which keeps its digits where y is near μ
        across, up = self.pull[0] / strength - jnp.cos(value), self.pull[1] / strength - jnp.sin(value)
        return -0.5 * strength * (across**2 + up**2) - gaussian.LOG_2PI - jnp.log(jax.scipy.special.i0e(strength))


class Bernoulli(_Independent, Distribution, Moments, Entries):
    """Independent coins, p(1) = σ(logits) [*event]."""

    logits: Float[Array, "*event"]
    support = property(lambda self: supports.BITS)

    def _entry(self) -> Any:
        return _numpyro().BernoulliLogits(self.logits)

    def _density(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        return jax.nn.log_sigmoid(jnp.where(value == 1, self.logits, -self.logits))


class Poisson(_Independent, Distribution, Moments, Entries):
    """Independent counts, p(y) = rate^y exp(-rate) / y!, rate = exp(log_rate) [*event]."""

    log_rate: Float[Array, "*event"]
    support = property(lambda self: supports.COUNTS)

    def _entry(self) -> Any:
        return _numpyro().Poisson(jnp.exp(self.log_rate))

    def _density(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        return counts.log_poisson(value, jnp.broadcast_to(self.log_rate, value.shape))


class NegativeBinomial(_Independent, Distribution, Moments, Entries):
    """Independent counts of mean m and variance m + α m², m = exp(log_mean), α = exp(log_dispersion) [*event]."""

    log_mean: Float[Array, "*event"]
    log_dispersion: Float[Array, "*event"]
    support = property(lambda self: supports.COUNTS)

    def _entry(self) -> Any:
        return _numpyro().NegativeBinomial2(jnp.exp(self.log_mean), jnp.exp(-self.log_dispersion))

    def _density(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        return counts.log_negative_binomial(value, self.log_mean, -self.log_dispersion)


class _OfCategories(eqx.Module):
    """Independent categories, of unnormalised log-probabilities in the last axis."""

    logits: eqx.AbstractVar[Float[Array, "*event C"]]

    @property
    def probabilities(self) -> Float[Array, "*event C"]:
        return jax.nn.softmax(self.logits)

    def central(self) -> Int[Array, "*event"]:
        return jnp.argmax(self.probabilities, -1)

    def sample(self, key: PRNGKeyArray) -> Int[Array, "*event"]:
        return jax.random.categorical(key, self.logits)

    def entry_log_prob(self, value: Num[Array, "..."]) -> Float[Array, "..."]:
        logs, shape = jax.nn.log_softmax(self.logits), jnp.shape(value)
        logs = jnp.broadcast_to(logs, (*shape, logs.shape[-1]))  # of many values [..., *event] at once, too

        def chosen(category: Array) -> Array:
            return jnp.take_along_axis(logs, category.astype(int)[..., None], -1)[..., 0]

        return supports.categories(logs.shape[-1]).log_density(chosen, jnp.asarray(value))


class Categorical(_OfCategories, Distribution, Finite, Categories, Central, Divergence):
    """One category, 0..K-1, of unnormalised log-probabilities [K]."""

    logits: Float[Array, " K"]

    def log_prob(self, value: Num[Array, "..."]) -> Float[Array, "..."]:
        return self.entry_log_prob(value)

    @property
    def values(self) -> int:
        return self.logits.shape[-1]

    def enumerate_support(self) -> Int[Array, " K"]:
        return jnp.arange(self.values)

    def kl_entries(self, other: Any) -> Float[Array, " 1"] | None:
        if not isinstance(other, Categorical):
            return None
        log_q, log_p = jax.nn.log_softmax(self.logits), jax.nn.log_softmax(other.logits)
        return jnp.sum(jnp.where(log_q > -jnp.inf, jnp.exp(log_q) * (log_q - log_p), 0.0), -1)[None]


class Categoricals(_OfCategories, Distribution, Moments, Entries, Categories, Central):
    """Independent categories, one an entry: unnormalised log-probabilities [*event, C]; moments are of the numbers."""

    logits: Float[Array, "*event C"]

    def log_prob(self, value: Num[Array, "..."]) -> Float[Array, "..."]:
        each = self.entry_log_prob(value)
        return jnp.sum(each, range(each.ndim - self.logits.ndim + 1, each.ndim))

    @property
    def mean(self) -> Float[Array, "*event"]:
        probabilities = self.probabilities
        return probabilities @ jnp.arange(probabilities.shape[-1], dtype=probabilities.dtype)

    @property
    def variance(self) -> Float[Array, "*event"]:
        probabilities = self.probabilities
        return probabilities @ jnp.arange(probabilities.shape[-1], dtype=probabilities.dtype) ** 2 - self.mean**2


# what a model is written in: ``normal(mean, scale)`` makes a distribution
normal, multivariate_normal, student_t, beta = Normal, MultivariateNormal, StudentT, Beta
bernoulli, poisson, categorical, categoricals = Bernoulli, Poisson, Categorical, Categoricals
