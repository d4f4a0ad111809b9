"""Our own simple distributions: of a latent that is not there, codes, soft coins, mixtures, grids, special counts."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num, PRNGKeyArray

from veil.distributions import supports
from veil.distributions.chained import ChainedCodes
from veil.distributions.protocol import Central, Composed, Distribution, Divergence, Entries, Finite, Marginals, Moments
from veil.distributions.supports import Support
from veil.maths import counts
from veil.maths.gaussian import LOG_2PI
from veil.maths.markov import LEAST


def _zero() -> Float[Array, ""]:
    return jnp.zeros(())


class Empty(Distribution, Finite, Central, Divergence):
    """The distribution of a latent that is not there: one value, a vector of length zero, with probability one."""

    def sample(self, key: PRNGKeyArray) -> Float[Array, " 0"]:
        return jnp.zeros(0)

    def log_prob(self, value: Float[Array, "... 0"]) -> Float[Array, "..."]:
        return jnp.zeros(value.shape[:-1])

    @property
    def values(self) -> int:
        return 1

    def enumerate_support(self) -> Float[Array, "1 0"]:
        return jnp.zeros((1, 0))

    def central(self) -> Float[Array, " 0"]:
        return jnp.zeros(0)

    def kl_entries(self, other: Any) -> Float[Array, " 1"] | None:
        return jnp.zeros(1) if isinstance(other, Empty) else None


class Point(Distribution, Moments, Finite, Central, Divergence):
    """One value, with probability one: log p(y) is ``log_density()`` there, to rounding, and -inf anywhere else.

    ``log_density`` is zero of a discrete value; of the image y = T(z) of a latent it is -log |det dT/dz|, so that
    log p(z) + log p(y | z) is the density of y (nats). A function, because it may be costly and nobody asks.

    >>> from veil import distributions
    >>> at = distributions.Point(jnp.array([1.0, 2.0]))
    >>> float(at.log_prob(jnp.array([1.0, 2.0]))), float(at.log_prob(jnp.zeros(2)))
    (0.0, -inf)
    """

    value: Float[Array, "*event"]
    log_density: Callable[[], Float[Array, ""]] = jax.tree_util.Partial(_zero)

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*event"]:
        return self.value

    def log_prob(self, value: Float[Array, "*event"]) -> Float[Array, ""]:
        near = jnp.sqrt(jnp.finfo(value.dtype).eps) * (1.0 + jnp.abs(self.value))
        return jnp.where(jnp.all(jnp.abs(value - self.value) <= near), self.log_density(), -jnp.inf)

    @property
    def mean(self) -> Float[Array, "*event"]:
        return self.value

    @property
    def variance(self) -> Float[Array, "*event"]:
        return jnp.zeros_like(self.value)

    @property
    def values(self) -> int:
        return 1

    def enumerate_support(self) -> Float[Array, "1 *event"]:
        return self.value[None]

    def central(self) -> Float[Array, "*event"]:
        return self.value

    def kl_entries(self, other: Any) -> Float[Array, " G"] | None:
        """-log p(value) of another that is discrete; of codes one after the other by codes."""
        if isinstance(other, ChainedCodes):
            return -other.level_log_probs(self.value)
        if isinstance(other, Codes):
            return -jnp.sum(jnp.where(self.value > 0, self.value * other.log_probabilities, 0.0), -1)
        discrete = isinstance(other, Distribution) and isinstance(other, Finite)
        return -other.log_prob(self.value)[None] if discrete else None


class Codes(Distribution, Moments, Finite, Central, Divergence):
    """Independent categorical codes as one-hot rows: logits [L, C], a value is [L, C] with a single one in each row.

    One-hot, because a relaxed value (a point inside the simplex) then goes through the same networks.
    """

    logits: Float[Array, "L C"]

    @property
    def log_probabilities(self) -> Float[Array, "L C"]:
        return jax.nn.log_softmax(self.logits)

    @property
    def mean(self) -> Float[Array, "L C"]:
        return jax.nn.softmax(self.logits)

    @property
    def variance(self) -> Float[Array, "L C"]:
        return self.mean * (1.0 - self.mean)

    def sample(self, key: PRNGKeyArray) -> Float[Array, "L C"]:
        drawn = jax.random.categorical(key, self.logits)
        return jax.nn.one_hot(drawn, self.logits.shape[1], dtype=self.logits.dtype)

    def relaxed(self, key: PRNGKeyArray, temperature: float) -> Float[Array, "L C"]:
        """A Gumbel-softmax draw: softmax((logits + Gumbel noise) / temperature). Jang et al. 2017, eq. 2."""
        noise = jax.random.gumbel(key, self.logits.shape, self.logits.dtype)
        return jax.nn.softmax((self.logits + noise) / temperature)

    def log_prob(self, value: Float[Array, "... L C"]) -> Float[Array, "..."]:
        log_probabilities = jnp.broadcast_to(self.log_probabilities, value.shape)
        each = jnp.where(value > 0, value * log_probabilities, 0.0)
        inside = jnp.all(value >= 0, -1) & (jnp.abs(jnp.sum(value, -1) - 1.0) < 1e-3)
        return jnp.sum(jnp.where(inside, jnp.sum(each, -1), -jnp.inf), -1)

    @property
    def values(self) -> int:
        """C^L."""
        rows, categories = self.logits.shape
        return categories**rows

    def enumerate_support(self) -> Float[Array, "V L C"]:
        rows, categories = self.logits.shape
        numbers = np.stack(np.unravel_index(np.arange(self.values), (categories,) * rows), 1)
        return jax.nn.one_hot(numbers, categories, dtype=self.logits.dtype)

    def central(self) -> Float[Array, "L C"]:
        """The most probable code."""
        return jax.nn.one_hot(jnp.argmax(self.mean, -1), self.logits.shape[1])

    def kl_entries(self, other: Any) -> Float[Array, " L"] | None:
        if not isinstance(other, Codes):
            return None
        ratio = self.log_probabilities - other.log_probabilities
        return jnp.sum(jnp.where(self.mean > 0, self.mean * ratio, 0.0), -1)


class Coins(Distribution, Moments, Entries):
    """Independent coins from logits [*event], that score probabilities, too: y log p + (1 - y) log(1 - p).

    For y of 0 and 1 that is the log-probability, in between its expectation over coins y.
    """

    logits: Float[Array, "*event"]

    @property
    def mean(self) -> Float[Array, "*event"]:
        return jax.nn.sigmoid(self.logits)

    @property
    def variance(self) -> Float[Array, "*event"]:
        return self.mean * (1.0 - self.mean)

    def entry_log_prob(self, value: Float[Array, "*event"]) -> Float[Array, "*event"]:
        def score(value: Array) -> Array:
            heads, tails = jax.nn.log_sigmoid(self.logits), jax.nn.log_sigmoid(-self.logits)
            return jnp.where(value > 0, value * heads, 0.0) + jnp.where(value < 1, (1.0 - value) * tails, 0.0)

        return supports.SHARES.log_density(score, value)

    def log_prob(self, value: Float[Array, "*event"]) -> Float[Array, ""]:
        return jnp.sum(self.entry_log_prob(value))

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*event"]:
        chance = jax.random.uniform(key, self.logits.shape, self.logits.dtype)
        return (chance < self.mean).astype(self.logits.dtype)


class MixtureOfNormals(Distribution, Moments, Central):
    """Σ_k w_k N(m_k, diag s_k²) of a vector: logits [K], means and scales [K, D]."""

    logits: Float[Array, " K"]
    means: Float[Array, "K D"]
    scales: Float[Array, "K D"]

    @property
    def mean(self) -> Float[Array, " D"]:
        return jax.nn.softmax(self.logits) @ self.means

    @property
    def variance(self) -> Float[Array, " D"]:
        away = self.means - self.mean[None]
        return jax.nn.softmax(self.logits) @ (self.scales**2 + away**2)

    def sample(self, key: PRNGKeyArray) -> Float[Array, " D"]:
        key_which, key_noise = jax.random.split(key)
        which = jax.random.categorical(key_which, self.logits)
        noise = jax.random.normal(key_noise, self.means.shape[1:], self.means.dtype)
        return self.means[which] + self.scales[which] * noise

    def log_prob(self, value: Float[Array, " D"]) -> Float[Array, ""]:
        white = (value[None] - self.means) / self.scales
        each = -0.5 * jnp.sum(white**2, 1) - jnp.sum(jnp.log(self.scales), 1) - 0.5 * value.size * LOG_2PI
        return jax.scipy.special.logsumexp(jax.nn.log_softmax(self.logits) + each)

    def central(self) -> Float[Array, " D"]:
        """The mean of the most probable component."""
        return self.means[jnp.argmax(self.logits)]


class DiscretisedLogistic(Distribution, Moments, Entries):
    """Independent logistics of location m and scale s, rounded to the points of a grid of ``levels`` values.

    p(y) = σ((y + h - m)/s) - σ((y - h - m)/s), h half the grid's spacing; the outermost levels take the tails, so the
    probabilities of the levels sum to one. Salimans et al. 2017 (PixelCNN++), eq. 2. Shapes: mean and scale [*event].
    """

    location: Float[Array, "*event"]
    scale: Float[Array, "*event"]
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)
    levels: int = eqx.field(static=True)

    @property
    def spacing(self) -> float:
        return (self.high - self.low) / (self.levels - 1)

    @property
    def support(self) -> Support:
        """What an entry may be."""
        return supports.grid(self.low, self.high, self.levels)

    def entry_log_prob(self, value: Float[Array, "*event"]) -> Float[Array, "*event"]:
        return self.support.log_density(self._density, value)

    def _density(self, value: Float[Array, "*event"]) -> Float[Array, "*event"]:
        half = 0.5 * self.spacing
        above = (value - self.location + half) / self.scale
        below = (value - self.location - half) / self.scale
        # log(σ(a) - σ(b)) = log σ(a) + log σ(-b) + log(1 - exp(b - a)), every term of which is finite
        inside = jnp.log(-jnp.expm1(-self.spacing / self.scale))
        inside = inside + jax.nn.log_sigmoid(above) + jax.nn.log_sigmoid(-below)
        lowest, highest = value <= self.low + 0.5 * half, value >= self.high - 0.5 * half
        return jnp.where(lowest, jax.nn.log_sigmoid(above), jnp.where(highest, jax.nn.log_sigmoid(-below), inside))

    def log_prob(self, value: Float[Array, "*event"]) -> Float[Array, ""]:
        return jnp.sum(self.entry_log_prob(value))

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*event"]:
        draws = self.location + self.scale * jax.random.logistic(key, self.location.shape)
        steps = jnp.clip(jnp.round((draws - self.low) / self.spacing), 0, self.levels - 1)
        return self.low + self.spacing * steps

    def _moment(self, power: int, about: Float[Array, "*event"] | float = 0.0) -> Float[Array, "*event"]:
        grid = self.low + self.spacing * jnp.arange(self.levels)
        probabilities = jnp.exp(jax.vmap(lambda v: self.entry_log_prob(jnp.full(self.location.shape, v)))(grid))
        away = (
            grid.reshape(-1, *[1] * self.location.ndim)
            - jnp.broadcast_to(jnp.asarray(about), self.location.shape)[None]
        )
        return jnp.sum(away**power * probabilities, 0)

    @property
    def mean(self) -> Float[Array, "*event"]:
        """E[y]: the sum over the grid of level times probability."""
        return self._moment(1)

    @property
    def variance(self) -> Float[Array, "*event"]:
        """Var[y] of each entry."""
        return self._moment(2, self._moment(1))


class ZeroInflated(Distribution, Moments, Entries, Composed):
    """Nothing to count with probability w = σ(logits), else ``base``'s count: p(y) = w [y = 0] + (1 - w) base(y).

    Lambert 1992, eq. 1. Independent entries, logits [*event], ``base`` any distribution of counts with ``Entries``.
    """

    logits: Float[Array, "*event"]
    base: Any

    def made_of(self) -> tuple[Any]:
        return (self.base,)

    @property
    def mean(self) -> Float[Array, "*event"]:
        return jax.nn.sigmoid(-self.logits) * self.base.mean

    @property
    def variance(self) -> Float[Array, "*event"]:
        share = jax.nn.sigmoid(-self.logits)
        return share * (self.base.variance + jax.nn.sigmoid(self.logits) * self.base.mean**2)

    def entry_log_prob(self, value: Float[Array, "*event"]) -> Float[Array, "*event"]:
        counted = jax.nn.log_sigmoid(-self.logits) + self.base.entry_log_prob(value)
        either = jnp.logaddexp(jax.nn.log_sigmoid(self.logits), jnp.where(value == 0, counted, 0.0))
        return jnp.where(value == 0, either, counted)

    def log_prob(self, value: Float[Array, "*event"]) -> Float[Array, ""]:
        return jnp.sum(self.entry_log_prob(value))

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*event"]:
        key_zero, key_count = jax.random.split(key)
        none = jax.random.uniform(key_zero, self.logits.shape, self.logits.dtype) < jax.nn.sigmoid(self.logits)
        return jnp.where(none, 0.0, self.base.sample(key_count).astype(self.logits.dtype))


class Multinomial(Distribution, Moments, Marginals):
    """``total`` draws of C categories, counted: values [C] add up to it; unnormalised log-probabilities [C]."""

    logits: Float[Array, " C"]
    total: int = eqx.field(static=True)

    @property
    def mean(self) -> Float[Array, " C"]:
        return self.total * jax.nn.softmax(self.logits)

    @property
    def variance(self) -> Float[Array, " C"]:
        return self.mean * (1.0 - jax.nn.softmax(self.logits))

    def sample(self, key: PRNGKeyArray) -> Float[Array, " C"]:
        chances = jax.nn.softmax(self.logits)
        return jax.random.multinomial(key, jnp.asarray(self.total, chances.dtype), chances)

    def log_prob(self, value: Num[Array, " C"]) -> Float[Array, ""]:
        return self.observed_log_prob(value, jnp.ones(value.shape, bool))

    def observed_log_prob(self, value: Num[Array, " C"], observed: Bool[Array, " C"]) -> Float[Array, ""]:
        """log p of the counts present: the missing ones are one category more, which has the rest.

        Poissons of these means, given that they add up: Σ log Poisson(y_c; n p_c) - log Poisson(n; n).
        """
        counted = jnp.where(observed, value, 0.0)
        rest = self.total - jnp.sum(counted)
        fits = jnp.all(supports.COUNTS.contains(counted)) & (rest >= 0) & (jnp.any(~observed) | (rest == 0))
        logs = jax.nn.log_softmax(self.logits) + math.log(self.total)
        log_rest = jax.scipy.special.logsumexp(jnp.where(observed, LEAST, jnp.maximum(logs, LEAST)))
        whole = jnp.asarray(float(self.total), logs.dtype)
        each = counts.log_poisson(jnp.where(fits, counted, 0.0), logs)
        left = counts.log_poisson(jnp.where(fits, rest, 0.0), log_rest)
        found = jnp.sum(jnp.where(observed, each, 0.0)) + left - counts.log_poisson(whole, jnp.log(whole))
        return jnp.where(fits, found, -jnp.inf)
