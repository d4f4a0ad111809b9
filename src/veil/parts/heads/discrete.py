"""Heads of counts, categories and grids."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from veil import distributions
from veil.distributions import Distribution, Support, supports
from veil.maths.markov import LEAST
from veil.parts.heads.base import Head, Seen, Shape, Showing, moments, present


def indicated(
    head: Any, vectors: Float[Array, "K size"], shape: Shape, query: Any, observed: Any
) -> Float[Array, " K"]:
    """log p of a head whose features say which value an entry has: a matrix product with a table of log-probabilities.

    Their zeros (log 0) are numbers in it, since zero times infinity is none.
    """
    table = jax.vmap(lambda vector: head.coefficients(vector, shape).ravel())(vectors)
    found = jnp.maximum(table, LEAST) @ head.features(query, observed).ravel()
    inside = head.support.contains(query)
    inside = inside if observed is None else inside | ~observed
    return jnp.where(jnp.all(inside) & (found > 0.5 * LEAST), found, -jnp.inf)


def logarithmic(counts: Float[Array, "*event"]) -> Float[Array, "1 *event"]:
    """log(1 + y): what an encoder is shown of counts."""
    return jnp.log1p(jnp.maximum(counts, 0.0))[None]


class Bernoulli(Head):
    """Independent coins: logits [*event]. Closed-form M-step.

    With ``soft`` data may be probabilities, too: y log p + (1 - y) log(1 - p) is then the expected log-probability of
    coins y, NOT a log-density of y. Grey images are turned into coins anew in each step by ``objective.Binarised``.
    """

    closed_form: ClassVar[bool] = True
    name: ClassVar[str] = "the Bernoulli head"
    soft: bool = eqx.field(static=True, default=False)

    @property
    def support(self) -> Support:
        return supports.SHARES if self.soft else supports.BITS

    @property
    def advice(self) -> str:  # type: ignore[override]
        if self.soft:
            return "rescale the column, or choose another head"
        return "threshold the column, use Bernoulli(soft=True) for probabilities, or choose another head"

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        logits = vector.reshape(shape)
        return distributions.Coins(logits) if self.soft else distributions.bernoulli(logits)

    def features(self, query: Float[Array, "*event"], observed: Seen) -> Float[Array, "2 *event"]:
        # both counts, not one and the total: their difference would cancel in float32
        return present(jnp.stack([query, 1.0 - query]), observed)

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        return (jnp.log(sums[0]) - jnp.log(sums[1])).ravel()

    def coefficients(self, vector: Float[Array, " size"], shape: Shape) -> Float[Array, "2 *event"]:
        logits = vector.reshape(shape)
        return jnp.stack([jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)])

    def log_probs(self, vectors: Float[Array, "K size"], shape: Shape, query: Any, observed: Any) -> Float[Array, " K"]:
        return indicated(self, vectors, shape, query, observed)

    def view(self, query: Any, observed: Any, weight: Float[Array, " M"]) -> None:
        """As they are: between zero and one."""


class Categorical(Head):
    """Independent categoricals over 0..categories-1, one an entry: logits [*event, C]. Closed-form M-step."""

    closed_form: ClassVar[bool] = True
    name: ClassVar[str] = "the categorical head"
    advice: ClassVar[str] = "set categories=, or number the categories from 0"
    categories: int = eqx.field(static=True, default=2)

    def __check_init__(self) -> None:
        if self.categories < 2:
            raise ValueError(f"categories: expected 2 or more; got {self.categories}")

    @property
    def support(self) -> Support:
        return supports.categories(self.categories)

    def size(self, shape: Shape) -> int:
        return self.categories * int(np.prod(shape))

    def free(self, shape: Shape) -> int:
        return (self.categories - 1) * int(np.prod(shape))

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        return distributions.categoricals(vector.reshape(*shape, self.categories))

    def arranged(self, numbers: Float[Array, "*event per_entry"]) -> Float[Array, " size"]:
        return numbers.ravel()

    def features(self, query: Float[Array, "*event"], observed: Seen) -> Float[Array, "C *event"]:
        return present(jax.nn.one_hot(query.astype(int), self.categories, axis=0, dtype=query.dtype), observed)

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        return jnp.moveaxis(jnp.log(sums) - jnp.log(jnp.sum(sums, 0, keepdims=True)), 0, -1).ravel()

    def coefficients(self, vector: Float[Array, " size"], shape: Shape) -> Float[Array, "C *event"]:
        return jnp.moveaxis(jax.nn.log_softmax(vector.reshape(*shape, self.categories)), -1, 0)

    def log_probs(self, vectors: Float[Array, "K size"], shape: Shape, query: Any, observed: Any) -> Float[Array, " K"]:
        return indicated(self, vectors, shape, query, observed)

    def shown(self, query: Float[Array, "*event"]) -> Float[Array, "C *event"]:
        return self.features(query, None)

    def view(self, query: Any, observed: Any, weight: Float[Array, " M"]) -> Showing:
        return Showing(self)


class OneHot(Head):
    """Categorical codes as one-hot rows, an event [L, C]: the posterior of a latent of codes (``priors.Codes``)."""

    name: ClassVar[str] = "the one-hot head"
    advice: ClassVar[str] = "encode the categories first"
    support = property(lambda self: supports.BITS)

    def free(self, shape: Shape) -> int:
        return shape[0] * (shape[1] - 1)

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        return distributions.Codes(vector.reshape(shape))

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        return jnp.log(moments(sums)[0] + 1e-6).ravel()

    def view(self, query: Any, observed: Any, weight: Float[Array, " M"]) -> None:
        """As they are."""

    def check(self, query: Any, names: tuple[str, ...]) -> None:
        Head.check(self, query, names)
        rows = np.argwhere(np.sum(query, -1) != 1)
        if len(rows):
            raise ValueError(
                f"query: {self.name} expects rows with a single one; got {query[tuple(rows[0])]}; {self.advice}"
            )


class Poisson(Head):
    """Independent Poisson counts: log-rates [*event]. Closed-form M-step."""

    closed_form: ClassVar[bool] = True
    name: ClassVar[str] = "the Poisson head"
    advice: ClassVar[str] = "choose another head for non-counts"
    support = property(lambda self: supports.COUNTS)

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        return distributions.poisson(vector.reshape(shape))

    def features(self, query: Float[Array, "*event"], observed: Seen) -> Float[Array, "2 *event"]:
        return present(jnp.stack([jnp.ones_like(query), query]), observed)

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        return (jnp.log(sums[1]) - jnp.log(sums[0])).ravel()

    def coefficients(self, vector: Float[Array, " size"], shape: Shape) -> Float[Array, "2 *event"]:
        log_rate = vector.reshape(shape)
        return jnp.stack([-jnp.exp(log_rate), log_rate])

    def shown(self, query: Float[Array, "*event"]) -> Float[Array, "1 *event"]:
        return logarithmic(query)


class DiscretisedLogistic(Head):
    """Independent discretised logistics on ``levels`` values from ``low`` to ``high``: [m, s], in widths of the grid.

    For integers and pixels: a probability for each level, tails included (Salimans et al. 2017, eq. 2).
    """

    per_entry: ClassVar[int] = 2
    name: ClassVar[str] = "the discretised logistic head"
    advice: ClassVar[str] = "set low, high and levels to the data's grid"
    low: float = eqx.field(static=True, default=0.0, converter=float)
    high: float = eqx.field(static=True, default=255.0, converter=float)
    levels: int = eqx.field(static=True, default=256)

    def __check_init__(self) -> None:
        if self.levels < 2 or not self.high > self.low:
            raise ValueError(
                f"levels: expected 2 or more between low < high; got {self.levels}, {self.low}, {self.high}"
            )

    @property
    def support(self) -> Support:
        return supports.grid(self.low, self.high, self.levels)

    def view(self, query: Any, observed: Any, weight: Float[Array, " M"]) -> Showing:
        return Showing.of(self, query, observed, weight, together=True)  # one grid: entries that hardly vary stay so

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        mean, log_scale = vector.reshape(2, *shape)
        width = self.high - self.low
        # a tenth of a level: narrower, and every probability but one is zero in float32
        scale = width * jnp.exp(log_scale) + 0.1 * width / (self.levels - 1)
        return distributions.DiscretisedLogistic(self.low + width * mean, scale, self.low, self.high, self.levels)

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        mean, scale = moments(sums)
        width = self.high - self.low
        return jnp.concatenate([((mean - self.low) / width).ravel(), jnp.log(0.55 * scale / width).ravel()])


class NegativeBinomial(Head):
    """Independent counts of mean m and variance m + α m²: [log m, log α], α the dispersion; 0 would be Poisson."""

    per_entry: ClassVar[int] = 2
    name: ClassVar[str] = "the negative binomial head"
    advice: ClassVar[str] = "choose another head for non-counts"
    support = property(lambda self: supports.COUNTS)

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        return distributions.NegativeBinomial(*vector.reshape(2, *shape))

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        count = jnp.maximum(sums[0], 1e-6)
        mean = jnp.maximum(sums[1] / count, 1e-3)
        dispersion = jnp.clip((sums[2] / count - mean**2 - mean) / mean**2, 1e-3, 1e3)
        return jnp.concatenate([jnp.log(mean).ravel(), jnp.log(dispersion).ravel()])

    def shown(self, query: Float[Array, "*event"]) -> Float[Array, "1 *event"]:
        return logarithmic(query)


class ZeroInflated(Head):
    """Counts with more zeros than ``counts``, another head, knows: [logit w, its numbers]. Lambert 1992.

    Nothing is counted with probability w, else what that head says: ``ZeroInflated(NegativeBinomial())``.
    """

    advice: ClassVar[str] = "choose another head for non-counts"
    counts: Head = eqx.field(default_factory=Poisson)

    def __check_init__(self) -> None:
        if not isinstance(self.counts, Head) or self.counts.support is not supports.COUNTS:
            raise ValueError(f"counts: expected a head of counts, Poisson() or NegativeBinomial(); got {self.counts!r}")

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{self.counts.name} with more zeros"

    @property
    def support(self) -> Support:
        return supports.COUNTS

    def size(self, shape: Shape) -> int:
        return int(np.prod(shape)) + self.counts.size(shape)

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        entries = int(np.prod(shape))
        return distributions.ZeroInflated(vector[:entries].reshape(shape), self.counts(vector[entries:], shape))

    def features(self, query: Float[Array, "*event"], observed: Seen) -> Float[Array, "S *event"]:
        ones = jnp.stack([jnp.ones_like(query), (query == 0).astype(query.dtype)])
        return jnp.concatenate([present(ones, observed), self.counts.features(query, observed)])

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        """Half of the zeros are taken for inflation, and the rest for the other head's."""
        share = jnp.clip(0.5 * sums[1] / jnp.maximum(sums[0], 1e-6), 0.02, 0.98)
        none = self.counts.features(jnp.zeros_like(share), None)
        rest = sums[2:] - none * (jnp.minimum(share * sums[0], 0.999 * sums[1]))[None]
        inner = self.counts.from_sums(jnp.maximum(rest, 1e-6))
        return jnp.concatenate([(jnp.log(share) - jnp.log1p(-share)).ravel(), inner])

    def shown(self, query: Float[Array, "*event"]) -> Float[Array, "1 *event"]:
        return self.counts.shown(query)


class Multinomial(Head):
    """A vector [C] of counts that add up to ``total``: logits [C]. Closed-form M-step, of rows without gaps."""

    closed_form: ClassVar[bool] = True
    name: ClassVar[str] = "the multinomial head"
    advice: ClassVar[str] = "set total= to what each row adds up to, or choose a head of separate counts"
    total: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        if isinstance(self.total, bool) or not isinstance(self.total, int) or self.total < 1:
            raise ValueError(f"total: expected a positive whole number, what each row adds up to; got {self.total!r}")

    @property
    def support(self) -> Support:
        return supports.parts_of(self.total)

    def free(self, shape: Shape) -> int:
        return self.size(shape) - 1

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        return distributions.Multinomial(vector, self.total)

    def features(self, query: Float[Array, "*event"], observed: Seen) -> Float[Array, "1 *event"]:
        if observed is not None:
            raise ValueError(f"query: {self.name} learns from rows without missing entries; drop the others")
        return query[None]

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        return jnp.log(sums[0]) - jnp.log(jnp.sum(sums[0]))

    def coefficients(self, vector: Float[Array, " size"], shape: Shape) -> Float[Array, "1 *event"]:
        return jax.nn.log_softmax(vector)[None]

    def check(self, query: Any, names: tuple[str, ...]) -> None:
        Head.check(self, query, names)
        if query.ndim != 2:
            raise ValueError(f"query: {self.name} expects rows [N, C] of counts; got an array of shape {query.shape}")
        totals = np.sum(query, 1)
        if np.any(totals != self.total):
            row = int(np.argmax(totals != self.total))
            raise ValueError(
                f"query: {self.name} expects {self.support.words}; row {row} adds up to {totals[row]:g}; {self.advice}"
            )

    def shown(self, query: Float[Array, "*event"]) -> Float[Array, "1 *event"]:
        return logarithmic(query)
