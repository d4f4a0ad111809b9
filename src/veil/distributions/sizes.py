"""Distributions of numbers of any size and sign, by their symmetric logarithm: a density, and bins."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.distributions import supports
from veil.distributions.asking import log_prob, moments
from veil.distributions.protocol import Central, Composed, Distribution, Entries, Marginals, Moments, Reparameterised
from veil.distributions.supports import Support
from veil.maths.symlog import symexp, symexp_moments, symlog, symlog_grid, two_hot


class Symlog(Distribution, Moments, Marginals, Central, Reparameterised, Composed):
    """y = symexp(b) for b from ``base``, a normal: log p(y) = log p_base(symlog y) - Σ log(1 + |y|), nats.

    A density of y itself, its Jacobian included. ``base``: ``Normal`` or ``MultivariateNormal``, whose entries' means
    and variances give E[y] and Var[y] in closed form; the central value is the median symexp(E[b]).

    >>> from veil import distributions
    >>> y = Symlog(distributions.normal(jnp.zeros(1), jnp.ones(1)))
    >>> round(float(y.log_prob(jnp.zeros(1))), 4), y.mean.tolist()
    (-0.9189, [0.0])
    """

    base: Any

    def made_of(self) -> tuple[Any]:
        return (self.base,)

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*event"]:
        return symexp(self.base.sample(key))

    def log_prob(self, value: Float[Array, "*event"]) -> Float[Array, ""]:
        return self.observed_log_prob(value, None)

    def observed_log_prob(self, value: Float[Array, "*event"], observed: Any) -> Float[Array, ""]:
        slopes = jnp.log1p(jnp.abs(value))
        slopes = slopes if observed is None else jnp.where(observed, slopes, 0.0)
        return log_prob(self.base, symlog(value), observed) - jnp.sum(slopes)

    @property
    def mean(self) -> Float[Array, "*event"]:
        return self._moments()[0]

    @property
    def variance(self) -> Float[Array, "*event"]:
        return self._moments()[1]

    def _moments(self) -> tuple[Array, Array]:
        mean, variance = moments(self.base)
        return symexp_moments(mean, jnp.sqrt(variance))

    def central(self) -> Float[Array, "*event"]:
        """The median of each entry."""
        return symexp(moments(self.base)[0])


class TwoHot(Distribution, Moments, Entries):
    """Bins b_k = symexp of equal steps from ``low`` to ``high``, with probabilities from logits [*event, B].

    A draw is a bin. Of a value between two bins log p(y) = w log p_k + (1 - w) log p_k+1, w its shares of both
    (``maths.symlog.two_hot``): the expected log-probability of y rounded at random to one of them, without bias. It is
    NOT a log-density of y, and is not to be compared with one. Where it is largest on average the mean Σ_k p_k b_k is
    that of the data. Hafner et al. 2023, eqs. 8-10, shares and mean in y's own units, so that neither is biased.
    """

    logits: Float[Array, "*event B"]
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)

    @property
    def grid(self) -> Float[Array, " B"]:
        """The bins, in the units of y."""
        return jnp.asarray(symlog_grid(self.low, self.high, self.logits.shape[-1]), self.logits.dtype)

    @property
    def support(self) -> Support:
        """What an entry may be."""
        return supports.between(*map(float, symlog_grid(self.low, self.high, 2).astype(self.logits.dtype)))

    @property
    def probabilities(self) -> Float[Array, "*event B"]:
        """Of each bin."""
        return jax.nn.softmax(self.logits)

    @property
    def mean(self) -> Float[Array, "*event"]:
        chances = self.probabilities
        if self.low == -self.high:  # of both signs together: bins far out are so large that rounding would show
            return 0.5 * (chances - chances[..., ::-1]) @ self.grid
        return chances @ self.grid

    @property
    def variance(self) -> Float[Array, "*event"]:
        grid = self.grid.reshape(*[1] * (self.logits.ndim - 1), -1)
        return jnp.sum(self.probabilities * (grid - self.mean[..., None]) ** 2, -1)

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*event"]:
        return self.grid[jax.random.categorical(key, self.logits)]

    def entry_log_prob(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        logs = jax.nn.log_softmax(self.logits)
        logs = jnp.broadcast_to(logs, (*value.shape, logs.shape[-1]))

        def score(value: Array) -> Array:
            shares = two_hot(value, self.grid)
            return jnp.sum(jnp.where(shares > 0, shares * logs, 0.0), -1)

        return self.support.log_density(score, value)

    def log_prob(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        each = self.entry_log_prob(value)
        return jnp.sum(each, range(each.ndim - self.logits.ndim + 1, each.ndim))
