"""The one file that names the distribution library (numpyro): its densities and draws, with our abilities.

numpyro is imported when it is first needed, so that ``import veil`` stays quick.
"""

from abc import abstractmethod
from contextlib import AbstractContextManager
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray

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
from veil.maths import gaussian


def _numpyro() -> Any:
    import numpyro.distributions

    return numpyro.distributions


def unchecked() -> AbstractContextManager[Any]:
    """Distributions used inside do not check their parameters: checks compute, which symbolic shapes do not allow."""
    return _numpyro().distribution.validation_enabled(False)


class _Independent(eqx.Module):
    """Independent entries, each of numpyro's distribution."""

    @abstractmethod
    def _entry(self) -> Any:
        """numpyro's distribution of the entries, which are its batch."""

    def _event(self) -> Any:
        entry = self._entry()
        return entry.to_event(len(entry.batch_shape))

    @property
    def mean(self) -> Float[Array, "*event"]:
        return self._entry().mean

    @property
    def variance(self) -> Float[Array, "*event"]:
        return self._entry().variance

    def sample(self, key: PRNGKeyArray) -> Num[Array, "*event"]:
        return self._event().sample(key)

    def log_prob(self, value: Num[Array, "..."]) -> Float[Array, "..."]:
        return self._event().log_prob(value)

    def entry_log_prob(self, value: Num[Array, "..."]) -> Float[Array, "..."]:
        return self._entry().log_prob(value)


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


class Beta(_Independent, Distribution, Moments, Marginals, Reparameterised):
    """Independent betas, p(y) ∝ y^(first - 1) (1 - y)^(second - 1) on (0, 1) [*event]."""

    first: Float[Array, "*event"]
    second: Float[Array, "*event"]

    def _entry(self) -> Any:
        return _numpyro().Beta(self.first, self.second)

    def observed_log_prob(self, value: Float[Array, "*event"], observed: Bool[Array, "*event"]) -> Float[Array, ""]:
        inside = jnp.where(observed, value, 0.5)  # what stands for a missing entry has no logarithm there
        return jnp.sum(jnp.where(observed, self.entry_log_prob(inside), 0.0))


class Bernoulli(_Independent, Distribution, Moments, Entries):
    """Independent coins, p(1) = σ(logits) [*event]."""

    logits: Float[Array, "*event"]

    def _entry(self) -> Any:
        return _numpyro().BernoulliLogits(self.logits)


class Poisson(_Independent, Distribution, Moments, Entries):
    """Independent counts, p(y) = rate^y exp(-rate) / y!, rate = exp(log_rate) [*event]."""

    log_rate: Float[Array, "*event"]

    def _entry(self) -> Any:
        return _numpyro().Poisson(jnp.exp(self.log_rate))


class _OfCategories(eqx.Module):
    """Independent categories, of unnormalised log-probabilities in the last axis."""

    logits: eqx.AbstractVar[Float[Array, "*event C"]]

    def _entry(self) -> Any:
        return _numpyro().CategoricalLogits(self.logits)

    @property
    def probabilities(self) -> Float[Array, "*event C"]:
        return jax.nn.softmax(self.logits)

    def central(self) -> Int[Array, "*event"]:
        return jnp.argmax(self.probabilities, -1)

    def sample(self, key: PRNGKeyArray) -> Int[Array, "*event"]:
        return self._entry().sample(key)

    def entry_log_prob(self, value: Num[Array, "..."]) -> Float[Array, "..."]:
        return self._entry().log_prob(value.astype(int))  # data are floats, and the library indexes with categories


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
        entry = self._entry()
        return entry.to_event(len(entry.batch_shape)).log_prob(value.astype(int))

    @property
    def mean(self) -> Float[Array, "*event"]:
        probabilities = self.probabilities
        return probabilities @ jnp.arange(probabilities.shape[-1], dtype=probabilities.dtype)

    @property
    def variance(self) -> Float[Array, "*event"]:
        probabilities = self.probabilities
        return probabilities @ jnp.arange(probabilities.shape[-1], dtype=probabilities.dtype) ** 2 - self.mean**2


def normal(mean: Float[Array, "*event"], scale: Float[Array, "*event"]) -> Normal:
    """Independent normals; one event.

    >>> round(float(normal(jnp.zeros(2), jnp.ones(2)).log_prob(jnp.zeros(2))), 4)
    -1.8379
    """
    return Normal(mean, scale)


def multivariate_normal(mean: Float[Array, " D"], factor: Float[Array, "D D"]) -> MultivariateNormal:
    """N(mean, L Lᵀ) from the lower Cholesky factor L."""
    return MultivariateNormal(mean, factor)


def student_t(degrees: Float[Array, "*event"], mean: Float[Array, "*event"], scale: Float[Array, "*event"]) -> StudentT:
    """Independent Student-t; one event. The mean is NaN for one degree of freedom and fewer."""
    return StudentT(degrees, mean, scale)


def beta(first: Float[Array, "*event"], second: Float[Array, "*event"]) -> Beta:
    """Independent betas; one event."""
    return Beta(first, second)


def bernoulli(logits: Float[Array, "*event"]) -> Bernoulli:
    """Independent coins; one event."""
    return Bernoulli(logits)


def poisson(log_rate: Float[Array, "*event"]) -> Poisson:
    """Independent counts; one event."""
    return Poisson(log_rate)


def categorical(logits: Float[Array, " K"]) -> Categorical:
    """One category, 0..K-1, from unnormalised log-probabilities."""
    return Categorical(logits)


def categoricals(logits: Float[Array, "*event C"]) -> Categoricals:
    """Independent categories, one per entry of the event."""
    return Categoricals(logits)
