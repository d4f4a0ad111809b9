"""Heads: from a vector of unconstrained numbers to a distribution over one event.

A head is what a linear layer, a network or a table of constants ends in, and says where a query lives.
"""

from abc import abstractmethod
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from veil import distributions
from veil.distributions import Distribution
from veil.maths.gaussian import packed_size
from veil.model.abilities import Space

Seen = Bool[Array, "*event"] | None  # which entries are there; None: all
Shape = Any  # of an array (3, 2); of a tree as ``frozen_shape`` has it


class Head(Space):
    """vector [size(shape)] -> Distribution over an event of ``shape``.

    ``features`` and ``from_sums`` give method-of-moments parameters from sums over data: the start of a gradient fit
    and, where ``closed_form``, the maximum-likelihood answer, so that EM has a closed-form M-step. There
    log p(y) = Σ features(y) · coefficients(vector) + base(y): the exponential family's form.
    """

    closed_form: ClassVar[bool] = False

    @abstractmethod
    def size(self, shape: Shape) -> int:
        """How many numbers parameterise an event of this shape."""

    def free(self, shape: Shape) -> int:
        """How many of those numbers are free: all, unless several vectors stand for one distribution."""
        return self.size(shape)

    @abstractmethod
    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        """The distribution those numbers stand for."""

    def arranged(self, numbers: Float[Array, "*event per_entry"]) -> Float[Array, " size"]:
        """The vector from the numbers that belong to each entry, size / entries of them."""
        return jnp.moveaxis(numbers, -1, 0).ravel()

    def features(self, query: Any, observed: Any) -> Any:
        """Per entry [S, *event]: one, the value, its square; zeros where the entry is missing."""
        return _present(jnp.stack([jnp.ones_like(query), query, query * query]), observed)

    @abstractmethod
    def from_sums(self, sums: Any) -> Float[Array, " size"]:
        """The vector whose distribution has these average features."""

    def blank(self, shape: Shape) -> Self:
        """This head with placeholders for whatever parameters of its own it trains (the identity for most)."""
        return self


def _present(features: Float[Array, "S *event"], observed: Seen) -> Float[Array, "S *event"]:
    return features if observed is None else jnp.where(observed[None], features, 0.0)


def _moments(sums: Float[Array, "S *event"]) -> tuple[Array, Array]:
    """Mean and standard deviation from the sums of 1, y, y²."""
    count = jnp.maximum(sums[0], 1e-6)
    mean = sums[1] / count
    return mean, jnp.sqrt(jnp.maximum(sums[2] / count - mean * mean, 1e-4))


def _refuse(bad: np.ndarray, query: np.ndarray, names: tuple[str, ...], head: str, expected: str, advice: str) -> None:
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        column = names[place[1]] if len(place) == 2 and len(names) == query.shape[1] else str(place[1:])
        raise ValueError(
            f"query: {head} expects {expected}; column {column} has {query[place]:g} in row {place[0]}; {advice}"
        )


class DiagonalGaussian(Head):
    """Independent normals: mean m and scale exp(s) + floor from a vector [m, s].

    ``floor`` is the smallest scale, as a fraction of each entry's own standard deviation: without one, repeated
    values in the data would drive the likelihood to infinity.
    """

    real: ClassVar[bool] = True
    floor: float = eqx.field(static=True, default=1e-3)

    def size(self, shape: Shape) -> int:
        return 2 * int(np.prod(shape))

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        mean, log_scale = vector.reshape(2, *shape)
        return distributions.normal(mean, jnp.exp(log_scale) + self.floor)

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        mean, scale = _moments(sums)
        return jnp.concatenate([mean.ravel(), jnp.log(scale).ravel()])


class HomoscedasticGaussian(Head):
    """Independent normals whose mean is the vector and whose scale is one trained number an entry: least squares.

    With ``shared`` one number for all entries (the noise of probabilistic PCA).
    Its maximum-likelihood mean is the least-squares fit and its scale the root mean squared residual.
    """

    real: ClassVar[bool] = True
    log_scale: Float[Array, "*event"] | float = 0.0
    shared: bool = eqx.field(static=True, default=False)

    @property
    def isotropic(self) -> bool:
        """Whether all entries of the query must share one unit: one scale for all is one in one unit only."""
        return self.shared

    def size(self, shape: Shape) -> int:
        return int(np.prod(shape))

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        mean = vector.reshape(shape)
        scale = jnp.exp(jnp.broadcast_to(jnp.asarray(self.log_scale, mean.dtype), shape))
        return distributions.normal(mean, scale)

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        return _moments(sums)[0].ravel()

    def blank(self, shape: Shape) -> "HomoscedasticGaussian":
        """One scale for each entry, or one for all."""
        return HomoscedasticGaussian(jnp.zeros(() if self.shared else shape), shared=self.shared)


class FullGaussian(Head):
    """A multivariate normal over a vector event: mean, log-diagonal and lower triangle of its Cholesky factor."""

    real: ClassVar[bool] = True
    floor: float = eqx.field(static=True, default=1e-3)

    def size(self, shape: Shape) -> int:
        (n,) = shape
        return n + packed_size(n)

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        (n,) = shape
        if vector.size != self.size(shape):  # before an [n, n] array is made of a wrong n
            raise ValueError(f"vector: expected {self.size(shape)} numbers for an event {shape}; got {vector.size}")
        mean, log_diagonal, lower = jnp.split(vector, [n, 2 * n])
        factor = jnp.diag(jnp.exp(log_diagonal) + self.floor).at[np.tril_indices(n, -1)].set(lower)
        return distributions.multivariate_normal(mean, factor)

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        mean, scale = _moments(sums)
        return jnp.concatenate([mean, jnp.log(scale), jnp.zeros(packed_size(mean.size) - mean.size, mean.dtype)])


class StudentT(Head):
    """Independent Student-t: degrees 1 + exp(d), mean m, scale exp(s) + floor from a vector [d, m, s]."""

    real: ClassVar[bool] = True
    floor: float = eqx.field(static=True, default=1e-3)

    def size(self, shape: Shape) -> int:
        return 3 * int(np.prod(shape))

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        log_degrees, mean, log_scale = vector.reshape(3, *shape)
        return distributions.student_t(1.0 + jnp.exp(log_degrees), mean, jnp.exp(log_scale) + self.floor)

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        mean, scale = _moments(sums)
        return jnp.concatenate([jnp.full(mean.size, jnp.log(4.0)), mean.ravel(), jnp.log(0.77 * scale).ravel()])


class DiscretisedLogistic(Head):
    """Independent discretised logistics on ``levels`` values from ``low`` to ``high``: [m, s], in widths of the grid.

    For integers and pixels: a probability for each level, tails included (Salimans et al. 2017, eq. 2).
    """

    low: float = eqx.field(static=True, default=0.0)
    high: float = eqx.field(static=True, default=255.0)
    levels: int = eqx.field(static=True, default=256)

    def __check_init__(self) -> None:
        if self.levels < 2 or not self.high > self.low:
            raise ValueError(
                f"levels: expected 2 or more between low < high; got {self.levels}, {self.low}, {self.high}"
            )

    def size(self, shape: Shape) -> int:
        return 2 * int(np.prod(shape))

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        mean, log_scale = vector.reshape(2, *shape)
        width = self.high - self.low
        # a tenth of a level: narrower, and every probability but one is zero in float32
        scale = width * jnp.exp(log_scale) + 0.1 * width / (self.levels - 1)
        return distributions.DiscretisedLogistic(self.low + width * mean, scale, self.low, self.high, self.levels)

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        mean, scale = _moments(sums)
        width = self.high - self.low
        return jnp.concatenate([((mean - self.low) / width).ravel(), jnp.log(0.55 * scale / width).ravel()])

    def check(self, query: np.ndarray, names: tuple[str, ...]) -> None:
        steps = (query - self.low) / (self.high - self.low) * (self.levels - 1)
        bad = (np.abs(steps - np.round(steps)) > 1e-3) | (query < self.low) | (query > self.high)
        grid = f"one of {self.levels} levels from {self.low:g} to {self.high:g}"
        _refuse(bad, query, names, "the discretised logistic head", grid, "set low, high and levels to the data's grid")


class SoftplusGaussian(Head):
    """Independent normals: mean m and scale log(1 + exp s) + floor from a vector [m, s]: for latents, not for data.

    The scale grows no faster than what it is made of, so that a recursion whose steps feed on their own draws does not
    explode as it may with an exponential. Hafner et al. 2019, appendix A.
    """

    floor: float = eqx.field(static=True, default=0.1)

    def size(self, shape: Shape) -> int:
        return 2 * int(np.prod(shape))

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        mean, scale = vector.reshape(2, *shape)
        return distributions.normal(mean, jax.nn.softplus(scale) + self.floor)

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        mean, scale = _moments(sums)
        return jnp.concatenate([mean.ravel(), jnp.log(jnp.expm1(jnp.maximum(scale - self.floor, 1e-3))).ravel()])


class Beta(Head):
    """Independent beta distributions on (0, 1): mean σ(m) and concentration exp(c) from a vector [m, c]."""

    def size(self, shape: Shape) -> int:
        return 2 * int(np.prod(shape))

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        logit, log_concentration = vector.reshape(2, *shape)
        concentration = jnp.exp(log_concentration)
        return distributions.beta(concentration * jax.nn.sigmoid(logit), concentration * jax.nn.sigmoid(-logit))

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        mean, scale = _moments(sums)
        mean = jnp.clip(mean, 1e-3, 1 - 1e-3)
        concentration = jnp.clip(mean * (1 - mean) / scale**2 - 1, 0.5, 1e4)
        return jnp.concatenate([jnp.log(mean / (1 - mean)).ravel(), jnp.log(concentration).ravel()])

    def check(self, query: np.ndarray, names: tuple[str, ...]) -> None:
        advice = "rescale the column into the open interval, or choose another head"
        _refuse((query <= 0) | (query >= 1), query, names, "the beta head", "values strictly between 0 and 1", advice)


class Bernoulli(Head):
    """Independent coins: logits [*event]. Closed-form M-step.

    With ``soft`` data may be probabilities, too: y log p + (1 - y) log(1 - p) is then the expected log-probability of
    coins y, NOT a log-density of y. Grey images are turned into coins anew in each step by ``objective.Binarised``.
    """

    closed_form: ClassVar[bool] = True
    soft: bool = eqx.field(static=True, default=False)

    def size(self, shape: Shape) -> int:
        return int(np.prod(shape))

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        logits = vector.reshape(shape)
        return distributions.Coins(logits) if self.soft else distributions.bernoulli(logits)

    def features(self, query: Float[Array, "*event"], observed: Seen) -> Float[Array, "2 *event"]:
        # both counts, not one and the total: their difference would cancel in float32
        return _present(jnp.stack([query, 1.0 - query]), observed)

    def pseudo(self, shape: Shape) -> Float[Array, "2 *event"]:
        """Features of the prior's pseudo-data, one unit of it."""
        return jnp.ones((2, *shape))

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        return (jnp.log(sums[0]) - jnp.log(sums[1])).ravel()

    def coefficients(self, vector: Float[Array, " size"], shape: Shape) -> Float[Array, "2 *event"]:
        logits = vector.reshape(shape)
        return jnp.stack([jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)])

    def base(self, query: Float[Array, "*event"], observed: Seen) -> Float[Array, ""]:
        return jnp.zeros(())

    def check(self, query: np.ndarray, names: tuple[str, ...]) -> None:
        if self.soft:
            advice = "rescale the column, or choose another head"
            _refuse((query < 0) | (query > 1), query, names, "the soft Bernoulli head", "values from 0 to 1", advice)
            return
        advice = "threshold the column, use Bernoulli(soft=True) for probabilities, or choose another head"
        _refuse((query != 0) & (query != 1), query, names, "the Bernoulli head", "values 0 or 1", advice)


class Categorical(Head):
    """Independent categoricals over 0..categories-1, one an entry: logits [*event, C]. Closed-form M-step."""

    closed_form: ClassVar[bool] = True
    categories: int = eqx.field(static=True, default=2)

    def __check_init__(self) -> None:
        if self.categories < 2:
            raise ValueError(f"categories: expected 2 or more; got {self.categories}")

    def size(self, shape: Shape) -> int:
        return self.categories * int(np.prod(shape))

    def free(self, shape: Shape) -> int:
        return (self.categories - 1) * int(np.prod(shape))

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        return distributions.categoricals(vector.reshape(*shape, self.categories))

    def arranged(self, numbers: Float[Array, "*event per_entry"]) -> Float[Array, " size"]:
        return numbers.ravel()

    def features(self, query: Float[Array, "*event"], observed: Seen) -> Float[Array, "C *event"]:
        return _present(jax.nn.one_hot(query.astype(int), self.categories, axis=0, dtype=query.dtype), observed)

    def pseudo(self, shape: Shape) -> Float[Array, "C *event"]:
        """Features of the prior's pseudo-data, one unit of it."""
        return jnp.ones((self.categories, *shape))

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        return jnp.moveaxis(jnp.log(sums) - jnp.log(jnp.sum(sums, 0, keepdims=True)), 0, -1).ravel()

    def coefficients(self, vector: Float[Array, " size"], shape: Shape) -> Float[Array, "C *event"]:
        return jnp.moveaxis(jax.nn.log_softmax(vector.reshape(*shape, self.categories)), -1, 0)

    def base(self, query: Float[Array, "*event"], observed: Seen) -> Float[Array, ""]:
        return jnp.zeros(())

    def check(self, query: np.ndarray, names: tuple[str, ...]) -> None:
        bad = (query != np.round(query)) | (query < 0) | (query >= self.categories)
        expected = f"whole numbers from 0 to {self.categories - 1}"
        _refuse(bad, query, names, "the categorical head", expected, "set categories=, or number the categories from 0")


class OneHot(Head):
    """Categorical codes as one-hot rows, an event [L, C]: the posterior of a latent of codes (``priors.Codes``)."""

    def size(self, shape: Shape) -> int:
        return int(np.prod(shape))

    def free(self, shape: Shape) -> int:
        return shape[0] * (shape[1] - 1)

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        return distributions.Codes(vector.reshape(shape))

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        return jnp.log(_moments(sums)[0] + 1e-6).ravel()

    def check(self, query: np.ndarray, names: tuple[str, ...]) -> None:
        bad = (query != 0) & (query != 1)
        _refuse(bad, query, names, "the one-hot head", "rows with a single one", "encode the categories first")


class Poisson(Head):
    """Independent Poisson counts: log-rates [*event]. Closed-form M-step."""

    closed_form: ClassVar[bool] = True

    def size(self, shape: Shape) -> int:
        return int(np.prod(shape))

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        return distributions.poisson(vector.reshape(shape))

    def features(self, query: Float[Array, "*event"], observed: Seen) -> Float[Array, "2 *event"]:
        return _present(jnp.stack([jnp.ones_like(query), query]), observed)

    def pseudo(self, shape: Shape) -> Float[Array, "2 *event"]:
        """Features of the prior's pseudo-data, one unit of it."""
        return jnp.ones((2, *shape))

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        return (jnp.log(sums[1]) - jnp.log(sums[0])).ravel()

    def coefficients(self, vector: Float[Array, " size"], shape: Shape) -> Float[Array, "2 *event"]:
        log_rate = vector.reshape(shape)
        return jnp.stack([-jnp.exp(log_rate), log_rate])

    def base(self, query: Float[Array, "*event"], observed: Seen) -> Float[Array, ""]:
        return jnp.sum(_present(-jax.scipy.special.gammaln(query + 1.0)[None], observed))

    def check(self, query: np.ndarray, names: tuple[str, ...]) -> None:
        bad = (query < 0) | (query != np.round(query))
        _refuse(bad, query, names, "the Poisson head", "counts 0, 1, 2, ...", "choose another head for non-counts")
