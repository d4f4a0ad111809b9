"""Heads of numbers between bounds: actions have limits, and a density beyond them is lost."""

from dataclasses import replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from veil import distributions
from veil.distributions import Distribution, Support, supports
from veil.parts.heads.base import Head, Seen, Shape, moments
from veil.parts.heads.real import DiagonalGaussian

AT_ENDS = (
    "set low and high beyond the data, or margin=0.001, which takes values at the ends for that share of the width "
    "inside, or, if many are there, a second column that says so"
)


class Between(Head):
    """Its entries are strictly between ``low`` and ``high``.

    Data at the ends themselves have no density here, and are refused. With a ``margin`` they, and what is nearer to an
    end than this share of high - low, are taken for values that far inside: the data that are learned and scored
    are these. Values beyond the ends are refused in any case.
    """

    advice: ClassVar[str] = AT_ENDS
    low: eqx.AbstractVar[float]
    high: eqx.AbstractVar[float]
    margin: eqx.AbstractVar[float]

    def __check_init__(self) -> None:
        if not -np.inf < self.low < self.high < np.inf:
            raise ValueError(f"low: expected finite bounds, low < high; got {self.low} and {self.high}")
        if not 0 <= self.margin < 0.5:
            raise ValueError(f"margin: expected a share of the width from 0 to below 0.5; got {self.margin}")

    @property
    def support(self) -> Support:
        return supports.strictly(self.low, self.high)

    def held(self, query: Any, dtype: np.dtype) -> Any:
        if self.margin:
            values, inset = np.asarray(query, np.float64), self.margin * (self.high - self.low)
            nudged = np.clip(values, self.low + inset, self.high - inset)
            query = np.where((values >= self.low) & (values <= self.high), nudged, values)
        return self.support.held(query, dtype)

    def shown(self, query: Float[Array, "*event"]) -> Float[Array, "1 *event"]:
        """The logit of the place between the ends."""
        inside = jnp.where(self.support.contains(query), query, 0.5 * (self.low + self.high))
        return (jnp.log(inside - self.low) - jnp.log(self.high - inside))[None]


class Squashed(Between):
    """y = low + (high - low) σ(b) for b of another ``head`` on the real line, whose vector this one's is.

    log p(y) = log p_head(b) - Σ log |dy/db|, b = log (y - low) / (high - y): of a normal head a logit-normal
    (Atchison & Shen 1980), up to the scale of b the squashing by tanh of Haarnoja et al. 2018, appendix C. ``low`` and
    ``high`` are of all entries. Missing entries, and which heads allow them, are as those of the head inside.

    >>> Squashed(low=-1.0, high=1.0)(jnp.zeros(2), (1,)).central().tolist()
    [0.0]
    """

    name: ClassVar[str] = "the squashed head"
    head: Head = DiagonalGaussian()
    low: float = eqx.field(static=True, default=-1.0, converter=float)
    high: float = eqx.field(static=True, default=1.0, converter=float)
    margin: float = eqx.field(static=True, default=0.0, converter=float)

    def __check_init__(self) -> None:
        if not isinstance(self.head, Head) or not self.head.real:
            raise ValueError(f"head: expected one on the real line, such as DiagonalGaussian(); got {self.head!r}")

    def size(self, shape: Shape) -> int:
        return self.head.size(shape)

    def free(self, shape: Shape) -> int:
        return self.head.free(shape)

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        return distributions.Squashed(self.head(vector, shape), self.low, self.high)

    def features(self, query: Float[Array, "*event"], observed: Seen) -> Float[Array, "S *event"]:
        return self.head.features(self.shown(query)[0], observed)

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        return self.head.from_sums(sums)

    def blank(self, shape: Shape) -> "Squashed":
        return replace(self, head=self.head.blank(shape))


class Beta(Between):
    """Independent betas between ``low`` and ``high``: mean low + (high - low) σ(m), concentration exp(c), from [m, c].

    A concentration below two heaps density at the ends, which a logit-normal (``Squashed``) has none of.
    """

    per_entry: ClassVar[int] = 2
    name: ClassVar[str] = "the beta head"
    low: float = eqx.field(static=True, default=0.0, converter=float)
    high: float = eqx.field(static=True, default=1.0, converter=float)
    margin: float = eqx.field(static=True, default=0.0, converter=float)

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        logit, log_concentration = vector.reshape(2, *shape)
        concentration = jnp.exp(log_concentration)
        unit = distributions.beta(concentration * jax.nn.sigmoid(logit), concentration * jax.nn.sigmoid(-logit))
        if (self.low, self.high) == (0.0, 1.0):
            return unit
        low, width = (jnp.full(shape, number) for number in (self.low, self.high - self.low))
        return distributions.Affine(unit, low, width)

    def features(self, query: Float[Array, "*event"], observed: Seen) -> Float[Array, "3 *event"]:
        return Head.features(self, (query - self.low) / (self.high - self.low), observed)

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        mean, scale = moments(sums)
        mean = jnp.clip(mean, 1e-3, 1 - 1e-3)
        concentration = jnp.clip(mean * (1 - mean) / scale**2 - 1, 0.5, 1e4)
        return jnp.concatenate([jnp.log(mean / (1 - mean)).ravel(), jnp.log(concentration).ravel()])


class TruncatedNormal(Head):
    """Independent normals given that they are from ``low`` to ``high``, one of which may be infinite.

    Scale exp(s) + floor and location base + m exp(s) from a vector [m, s], base the finite end: numbers of any unit.
    ``floor`` is in the data's units. Nothing is heaped at the ends: that would be a censored normal.
    """

    per_entry: ClassVar[int] = 2
    name: ClassVar[str] = "the truncated normal head"
    advice: ClassVar[str] = "set low and high to the data's bounds"
    low: float = eqx.field(static=True, default=0.0, converter=float)
    high: float = eqx.field(static=True, default=float("inf"), converter=float)
    floor: float = eqx.field(static=True, default=1e-6)

    def __check_init__(self) -> None:
        if not self.low < self.high or np.isinf([self.low, self.high]).all():
            raise ValueError(f"low: expected low < high, one of them finite; got {self.low} and {self.high}")

    @property
    def support(self) -> Support:
        return supports.between(self.low, self.high)

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        place, log_scale = vector.reshape(2, *shape)
        scale = jnp.exp(log_scale)
        location = self.support.inside + place * scale
        return distributions.TruncatedNormal(location, scale + self.floor, self.low, self.high)

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        count = jnp.maximum(sums[0], 1e-6)
        mean = sums[1] / count
        scale = jnp.sqrt(jnp.maximum(sums[2] / count - mean**2, 1e-8 * mean**2 + 1e-30))
        return jnp.concatenate([((mean - self.support.inside) / scale).ravel(), jnp.log(scale).ravel()])
