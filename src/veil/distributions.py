"""The one file that names the distribution library (numpyro), and adds what it lacks.

Everything here is for ONE event: never read ``batch_shape`` of a distribution that came out of ``vmap``.
numpyro is imported when the first distribution is made, so that ``import veil`` stays quick.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from veil.maths import gaussian as maths

LARGEST_SUPPORT = 65536  # the most values of a discrete latent that are listed


@runtime_checkable
class Distribution(Protocol):
    """What the library asks of a distribution; numpyro's satisfy it."""

    def sample(self, key: Any) -> Any: ...

    def log_prob(self, value: Any) -> Any: ...


def _numpyro() -> Any:
    import numpyro.distributions

    return numpyro.distributions


def unchecked() -> AbstractContextManager[Any]:
    """Distributions made inside do not check their parameters: checks compute, which symbolic shapes do not allow."""
    return _numpyro().distribution.validation_enabled(False)


class Empty(eqx.Module):
    """The distribution of a latent that is not there: one value, a vector of length zero, with probability one."""

    def sample(self, key: PRNGKeyArray) -> Float[Array, " 0"]:
        return jnp.zeros(0)

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


class Codes(eqx.Module):
    """Independent categorical codes as one-hot rows: logits [L, C], a value is [L, C] with a single one in each row.

    One-hot, because a relaxed value (a point inside the simplex) then goes through the same networks.
    """

    logits: Float[Array, "L C"]

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.logits.shape

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
        log_probabilities = self.log_probabilities
        return jnp.sum(value * jnp.broadcast_to(log_probabilities, value.shape), (-2, -1))

    def enumerate_support(self, expand: bool = True) -> Float[Array, "V L C"]:
        """Every value: C^L of them, for C^L up to 65536."""
        rows, categories = self.logits.shape
        if categories**rows > LARGEST_SUPPORT:
            raise NotImplementedError(f"{categories}^{rows} codes are too many to list")
        numbers = np.stack(np.unravel_index(np.arange(categories**rows), (categories,) * rows), 1)
        return jax.nn.one_hot(numbers, categories, dtype=self.logits.dtype)


class Chained(eqx.Module):
    """Two levels in one vector: the first ``size`` entries from ``first``, the rest from ``then(first's value)``."""

    first: Any
    then: Callable[[Float[Array, " A"]], Any]
    size: int = eqx.field(static=True)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.size + self.then(jnp.zeros(self.size)).event_shape[0],)

    def sample(self, key: PRNGKeyArray) -> Float[Array, " D"]:
        key_first, key_then = jax.random.split(key)
        first = self.first.sample(key_first)
        return jnp.concatenate([first, self.then(first).sample(key_then)])

    def log_prob(self, value: Float[Array, " A"]) -> Float[Array, ""]:
        first, rest = value[: self.size], value[self.size :]
        return self.first.log_prob(first) + self.then(first).log_prob(rest)


class Pushed(eqx.Module):
    """T(e) for e from ``base``, T an invertible ``flow``: log p(z) = log base(T⁻¹(z)) + log |det dT⁻¹/dz|."""

    base: Any
    flow: Any

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.base.event_shape

    def sample(self, key: PRNGKeyArray) -> Float[Array, " L"]:
        return self.flow.forward(self.base.sample(key))[0]

    def log_prob(self, value: Float[Array, " L"]) -> Float[Array, ""]:
        before, log_determinant = self.flow.inverse(value)
        return self.base.log_prob(before) + log_determinant


class MixtureOfNormals(eqx.Module):
    """Σ_k w_k N(m_k, diag s_k²) of a vector: logits [K], means and scales [K, D]."""

    logits: Float[Array, " K"]
    means: Float[Array, "K D"]
    scales: Float[Array, "K D"]

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.means.shape[1:]

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
        noise = jax.random.normal(key_noise, self.event_shape, self.means.dtype)
        return self.means[which] + self.scales[which] * noise

    def log_prob(self, value: Float[Array, " D"]) -> Float[Array, ""]:
        white = (value[None] - self.means) / self.scales
        each = -0.5 * jnp.sum(white**2, 1) - jnp.sum(jnp.log(self.scales), 1) - 0.5 * value.size * maths.LOG_2PI
        return jax.scipy.special.logsumexp(jax.nn.log_softmax(self.logits) + each)


class Coins(eqx.Module):
    """Independent coins from logits [*event], that score probabilities, too: y log p + (1 - y) log(1 - p).

    For y of 0 and 1 that is the log-probability, in between its expectation over coins y.
    """

    logits: Float[Array, "*event"]

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.logits.shape

    @property
    def mean(self) -> Float[Array, "*event"]:
        return jax.nn.sigmoid(self.logits)

    @property
    def variance(self) -> Float[Array, "*event"]:
        return self.mean * (1.0 - self.mean)

    def entry_log_prob(self, value: Float[Array, "*event"]) -> Float[Array, "*event"]:
        return value * jax.nn.log_sigmoid(self.logits) + (1.0 - value) * jax.nn.log_sigmoid(-self.logits)

    def log_prob(self, value: Float[Array, "*event"]) -> Float[Array, ""]:
        return jnp.sum(self.entry_log_prob(value))

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*event"]:
        chance = jax.random.uniform(key, self.logits.shape, self.logits.dtype)
        return (chance < self.mean).astype(self.logits.dtype)


class Joint(eqx.Module):
    """Independent parts of one flat event [D], each with a distribution over a shape of its own."""

    parts: tuple[Any, ...]
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (sum(self._sizes),)

    @property
    def _sizes(self) -> list[int]:
        return [int(np.prod(shape)) for shape in self.shapes]

    def _cut(self, value: Array) -> list[Array]:
        pieces = jnp.split(value, np.cumsum(self._sizes)[:-1])
        return [piece.reshape(shape) for piece, shape in zip(pieces, self.shapes, strict=True)]

    @property
    def mean(self) -> Float[Array, " D"]:
        return jnp.concatenate([moments(part)[0].ravel() for part in self.parts])

    @property
    def variance(self) -> Float[Array, " D"]:
        return jnp.concatenate([moments(part)[1].ravel() for part in self.parts])

    def sample(self, key: PRNGKeyArray) -> Float[Array, " D"]:
        keys = jax.random.split(key, len(self.parts))
        draws = [part.sample(key).ravel() for part, key in zip(self.parts, keys, strict=True)]
        return jnp.concatenate([draw.astype(jnp.result_type(float)) for draw in draws])

    def log_prob(self, value: Float[Array, " D"]) -> Float[Array, ""]:
        return self.observed_log_prob(value, None)

    def observed_log_prob(self, value: Float[Array, " D"], observed: Bool[Array, " D"] | None) -> Float[Array, ""]:
        """The sum of the parts' log-probabilities, of the entries that are present."""
        present = [None] * len(self.parts) if observed is None else self._cut(observed)
        scores = [log_prob(*each) for each in zip(self.parts, self._cut(value), present, strict=True)]
        return jnp.sum(jnp.stack(scores))


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


def log_prob(distribution: Any, value: Any, observed: Bool[Array, "*event"] | None = None) -> Float[Array, ""]:
    """log p(value) in nats, summed over the event; with ``observed``, of the entries that are present (exact).

    Independent entries drop out of the sum; a multivariate normal is marginalised in closed form. Any other
    distribution with a missing entry raises TypeError: its marginal is not known here.
    """
    library = _numpyro()
    if isinstance(getattr(distribution, "base_dist", None), library.CategoricalLogits):
        value = value.astype(int)  # data are floats, and the library indexes with categories
    if observed is None:
        return distribution.log_prob(value)
    if isinstance(distribution, Joint):
        return distribution.observed_log_prob(value, observed)
    if isinstance(distribution, DiscretisedLogistic | Coins):
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


def probabilities(distribution: Any) -> Array | None:
    """Of each entry of the event the probability of every category [*event, C]; None where there are no categories."""
    for each in (distribution, getattr(distribution, "base_dist", None)):
        if isinstance(each, _numpyro().CategoricalLogits):
            return jax.nn.softmax(each.logits)
    return None


def central(distribution: Any) -> Array:
    """One value that stands for the distribution: of categories and codes the most probable, else the mean.

    Of a mixture of normals the mean of its most probable component; of two levels and of flows the value that the
    base's mean leads to. Raises TypeError where none is known.

    >>> central(Codes(jnp.log(jnp.array([[0.2, 0.7, 0.1]])))).tolist()
    [[0.0, 1.0, 0.0]]
    """
    chances = distribution.mean if isinstance(distribution, Codes) else probabilities(distribution)
    if chances is not None:
        best = jnp.argmax(chances, -1)
        return jax.nn.one_hot(best, chances.shape[-1]) if isinstance(distribution, Codes) else best
    if isinstance(distribution, Empty):
        return jnp.zeros(0)
    if isinstance(distribution, MixtureOfNormals):
        return distribution.means[jnp.argmax(distribution.logits)]
    if isinstance(distribution, Chained):
        first = central(distribution.first)
        return jnp.concatenate([first, central(distribution.then(first))])
    if isinstance(distribution, Pushed):
        return distribution.flow.forward(central(distribution.base))[0]
    try:
        return distribution.mean
    except (AttributeError, NotImplementedError) as error:
        raise TypeError(f"the mean of a {type(distribution).__name__} is not known in closed form") from error


def balanced(kl: Callable[[Any, Any], Any], q: Any, p: Any, balance: float | None) -> Any:
    """kl(q, p), its gradient ``balance`` of it as if q were fixed and the rest as if p were (None: as it is)."""
    if balance is None or kl(q, p) is None:
        return kl(q, p)
    fixed = lambda part: jax.tree.map(  # noqa: E731
        lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf, part
    )
    return balance * kl(fixed(q), p) + (1.0 - balance) * kl(q, fixed(p))


def drawn(distribution: Any, key: PRNGKeyArray, draw: Callable[[Any, PRNGKeyArray], Any]) -> Any:
    """``draw(distribution, key)``; of a chain, such a draw at every step."""
    along = getattr(distribution, "drawn", None)
    return draw(distribution, key) if along is None else along(key, draw)


def kl_along(q: Any, p: Any, value: Any, balance: float | None = None) -> Float[Array, " G"] | None:
    """KL(q || p) by parts, nats, in closed form where known. Of chains the parts are steps, given the path ``value``:

    their mean over paths of q is the KL's. ``balance``: see ``objective.Balanced``.
    """
    along = getattr(q, "kl_along", None)
    return balanced(kl_entries, q, p, balance) if along is None else along(p, value, balance)


def log_ratio(q: Any, p: Any, value: Any) -> Float[Array, " G"]:
    """log q(value) - log p(value) by parts, nats: of chains the steps, else one."""
    if not hasattr(q, "kl_along"):
        return (log_prob(q, value) - log_prob(p, value))[None]
    steps = (chain.conditionals(value).log_prob(value) for chain in (q, p))
    return jnp.where(p.there, next(steps) - next(steps), 0.0)


def kl_entries(q: Any, p: Any) -> Float[Array, " G"] | None:
    """KL(q || p) in nats in closed form, one number for each independent part of the event; None where none is known.

    Independent normals have a part an entry, codes one a code; anything else known is a single part. The total is the
    sum.
    """
    if isinstance(q, Empty) and isinstance(p, Empty):
        return jnp.zeros(1)
    if isinstance(q, Codes) and isinstance(p, Codes):
        return jnp.sum(q.mean * (q.log_probabilities - p.log_probabilities), -1)
    library = _numpyro()
    if isinstance(q, library.CategoricalLogits) and isinstance(p, library.CategoricalLogits):
        log_q, log_p = jax.nn.log_softmax(q.logits), jax.nn.log_softmax(p.logits)
        return jnp.sum(jnp.where(log_q > -jnp.inf, jnp.exp(log_q) * (log_q - log_p), 0.0), -1)[None]
    factors = [getattr(each, "base_dist", None) for each in (q, p)]
    if all(isinstance(factor, library.Normal) for factor in factors):
        return library.kl_divergence(*factors).ravel()
    dense = [_as_multivariate_normal(each) for each in (q, p)]
    if None not in dense:
        return library.kl_divergence(*dense)[None]
    return None


def _as_multivariate_normal(distribution: Any) -> Any:
    library = _numpyro()
    if isinstance(distribution, library.MultivariateNormal):
        return distribution
    base = getattr(distribution, "base_dist", None)
    if isinstance(base, library.Normal) and len(distribution.event_shape) == 1:
        factor = jnp.diag(jnp.broadcast_to(base.scale, distribution.event_shape))
        return library.MultivariateNormal(jnp.broadcast_to(base.loc, distribution.event_shape), scale_tril=factor)
    return None


def enumerable(distribution: Any) -> bool:
    """Whether ``support`` gives every value."""
    if isinstance(distribution, Codes):
        rows, categories = distribution.logits.shape
        return categories**rows <= LARGEST_SUPPORT
    return isinstance(distribution, Empty) or bool(getattr(distribution, "has_enumerate_support", False))


def reparameterised(distribution: Any) -> bool:
    """Whether a draw is a differentiable function of the parameters and noise; of a chain, at every step."""
    if hasattr(distribution, "reparameterised"):
        return bool(distribution.reparameterised)
    if isinstance(distribution, Chained):
        inner = jax.eval_shape(lambda: distribution.then(jnp.zeros(distribution.size)))
        return reparameterised(distribution.first) and reparameterised(inner)
    if isinstance(distribution, _numpyro().Distribution):
        return bool(distribution.has_rsample)
    return not isinstance(distribution, Empty | Codes | Coins | Joint | DiscretisedLogistic | MixtureOfNormals)


def support(distribution: Any) -> Array:
    """Every value of a finite discrete distribution, stacked along the first axis."""
    try:
        return distribution.enumerate_support(expand=True)
    except (AttributeError, NotImplementedError) as error:
        raise TypeError(
            f"the latent's distribution {type(distribution).__name__} has no finite list of values to sum over: "
            f"an exact posterior or a marginal likelihood needs a discrete latent; use another posterior or objective"
        ) from error
