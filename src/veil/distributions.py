"""The one file that names the distribution library (numpyro), and adds what it lacks.

Everything here is for ONE event: never read ``batch_shape`` of a distribution that came out of ``vmap``.
numpyro is imported when the first distribution is made, so that ``import veil`` stays quick.
"""

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from veil.maths import gaussian as maths


@runtime_checkable
class Distribution(Protocol):
    """What the library asks of a distribution; numpyro's satisfy it."""

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any: ...

    def log_prob(self, value: Any) -> Any: ...


def _numpyro() -> Any:
    import numpyro.distributions

    return numpyro.distributions


class Empty(eqx.Module):
    """The distribution of a latent that is not there: one value, a vector of length zero, with probability one."""

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        return jnp.zeros((*sample_shape, 0))

    def log_prob(self, value: Float[Array, "... 0"]) -> Float[Array, "..."]:
        return jnp.zeros(value.shape[:-1])

    def enumerate_support(self, expand: bool = True) -> Float[Array, "1 0"]:
        return jnp.zeros((1, 0))

    def entropy(self) -> Float[Array, ""]:
        return jnp.zeros(())

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (0,)


def categorical(logits: Float[Array, " K"]) -> Distribution:
    """Categorical over 0..K-1 from unnormalised log-probabilities."""
    return _numpyro().Categorical(logits=logits)


def normal(mean: Float[Array, "*event"], scale: Float[Array, "*event"]) -> Distribution:
    """Independent normals; one event."""
    return _numpyro().Normal(mean, scale).to_event(mean.ndim)


def multivariate_normal(mean: Float[Array, " D"], factor: Float[Array, "D D"]) -> Distribution:
    """N(mean, L Lᵀ) from the lower Cholesky factor L."""
    return _numpyro().MultivariateNormal(mean, scale_tril=factor)


def bernoulli(logits: Float[Array, "*event"]) -> Distribution:
    return _numpyro().BernoulliLogits(logits).to_event(logits.ndim)


def categoricals(logits: Float[Array, "*event C"]) -> Distribution:
    """Independent categoricals, one per entry of the event."""
    return _numpyro().CategoricalLogits(logits).to_event(logits.ndim - 1)


def poisson(log_rate: Float[Array, "*event"]) -> Distribution:
    return _numpyro().Poisson(jnp.exp(log_rate)).to_event(log_rate.ndim)


def beta(first: Float[Array, "*event"], second: Float[Array, "*event"]) -> Distribution:
    return _numpyro().Beta(first, second).to_event(first.ndim)


def student_t(
    degrees: Float[Array, "*event"], mean: Float[Array, "*event"], scale: Float[Array, "*event"]
) -> Distribution:
    return _numpyro().StudentT(degrees, mean, scale).to_event(mean.ndim)


class DiscretisedLogistic(eqx.Module):
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
    def event_shape(self) -> tuple[int, ...]:
        return self.location.shape

    @property
    def spacing(self) -> float:
        return (self.high - self.low) / (self.levels - 1)

    def entry_log_prob(self, value: Float[Array, "*event"]) -> Float[Array, "*event"]:
        half = 0.5 * self.spacing
        above = (value + half - self.location) / self.scale
        below = (value - half - self.location) / self.scale
        # log(σ(a) - σ(b)) = log σ(a) + log σ(-b) + log(1 - exp(b - a)), every term of which is finite
        inside = jax.nn.log_sigmoid(above) + jax.nn.log_sigmoid(-below) + jnp.log(-jnp.expm1(below - above))
        lowest, highest = value <= self.low + 0.5 * half, value >= self.high - 0.5 * half
        return jnp.where(lowest, jax.nn.log_sigmoid(above), jnp.where(highest, jax.nn.log_sigmoid(-below), inside))

    def log_prob(self, value: Float[Array, "*event"]) -> Float[Array, ""]:
        return jnp.sum(self.entry_log_prob(value))

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        noise = jax.random.logistic(key, (*sample_shape, *self.location.shape))
        draws = jnp.broadcast_to(self.location, noise.shape) + jnp.broadcast_to(self.scale, noise.shape) * noise
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


def log_prob(distribution: Any, value: Array, observed: Bool[Array, "*event"] | None = None) -> Float[Array, ""]:
    """log p(value) in nats, summed over the event; with ``observed``, of the entries that are present (exact).

    Independent entries drop out of the sum; a multivariate normal is marginalised in closed form. Any other
    distribution with a missing entry raises TypeError: its marginal is not known here.
    """
    library = _numpyro()
    if isinstance(getattr(distribution, "base_dist", None), library.CategoricalLogits):
        value = value.astype(int)  # data are floats, and the library indexes with categories
    if observed is None:
        return distribution.log_prob(value)
    if isinstance(distribution, DiscretisedLogistic):
        return jnp.sum(jnp.where(observed, distribution.entry_log_prob(value), 0.0))
    if isinstance(distribution, library.MultivariateNormal):
        return maths.observed_log_density(value - distribution.loc, distribution.scale_tril, observed)
    if isinstance(distribution, library.Independent) and distribution.base_dist.event_shape == ():
        if isinstance(
            distribution.base_dist, library.Beta
        ):  # what stands in for a missing entry has no logarithm there
            value = jnp.where(observed, value, 0.5)
        return jnp.sum(jnp.where(observed, distribution.base_dist.log_prob(value), 0.0))
    raise TypeError(
        f"observed: missing entries need a distribution whose marginals are known (independent entries or a "
        f"multivariate normal), and this one is {type(distribution).__name__}; drop the rows with missing entries, "
        f"or choose a head with independent entries"
    )


def moments(distribution: Any) -> tuple[Array, Array]:
    """Mean and variance of each entry of the event; of categories, those of their numbers."""
    base = getattr(distribution, "base_dist", None)
    if not isinstance(base, _numpyro().CategoricalLogits):
        return distribution.mean, distribution.variance
    probabilities = jax.nn.softmax(base.logits)
    numbers = jnp.arange(probabilities.shape[-1], dtype=probabilities.dtype)
    mean = probabilities @ numbers
    return mean, probabilities @ numbers**2 - mean**2


def support(distribution: Any) -> Array:
    """Every value of a finite discrete distribution, stacked along the first axis."""
    try:
        return distribution.enumerate_support(expand=True)
    except (AttributeError, NotImplementedError) as error:
        raise TypeError(
            f"the latent's distribution {type(distribution).__name__} has no finite list of values to sum over: "
            f"an exact posterior or a marginal likelihood needs a discrete latent; use another posterior or objective"
        ) from error
