"""Heads of numbers of any size and sign, rewards and returns: by their symmetric logarithm, in a density or in bins."""

from dataclasses import replace
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from veil import distributions
from veil.distributions import Distribution, Support, supports
from veil.maths.symlog import symlog, symlog_grid, two_hot
from veil.parts.heads.base import Head, Seen, Shape, present
from veil.parts.heads.real import DiagonalGaussian, FullGaussian, HomoscedasticGaussian

UNSEEN = 1e-3  # the share that bins without data start with, all together


class Symlog(Head):
    """y = symexp(b) = sign(b) (exp |b| - 1) for b of a normal ``head``, whose vector this one's is.

    log p(y) = log p_head(symlog y) - Σ log(1 + |y|), nats: a log-density of y, its Jacobian included, which may be
    compared with other heads'. E[y] is known in closed form; Hafner et al. 2023, eq. 8, predict by the median
    symexp(E[b]), ``central``. A fit does not standardise y, which has its own zero.

    >>> Symlog()(jnp.zeros(2), (1,)).mean.tolist()
    [0.0]
    """

    name: ClassVar[str] = "the symlog head"
    head: Head = DiagonalGaussian()

    def __check_init__(self) -> None:
        if not isinstance(self.head, DiagonalGaussian | HomoscedasticGaussian | FullGaussian):
            raise ValueError(f"head: expected a normal one, such as DiagonalGaussian(); got {self.head!r}")

    def size(self, shape: Shape) -> int:
        return self.head.size(shape)

    def free(self, shape: Shape) -> int:
        return self.head.free(shape)

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        return distributions.Symlog(self.head(vector, shape))

    def features(self, query: Float[Array, "*event"], observed: Seen) -> Float[Array, "S *event"]:
        return self.head.features(symlog(query), observed)

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        return self.head.from_sums(sums)

    def blank(self, shape: Shape) -> "Symlog":
        return replace(self, head=self.head.blank(shape))

    def shown(self, query: Float[Array, "*event"]) -> Float[Array, "1 *event"]:
        return symlog(query)[None]


class TwoHot(Head):
    """Probabilities of ``bins`` values, symexp of equal steps from ``low`` to ``high``: logits [*event, bins].

    For rewards and returns whose size is not known before, with two sizes at once, or mostly zero. What is learned and
    reported is the expected log-probability of y rounded at random to one of its two neighbours, as ``Bernoulli(soft=
    True)`` has it of shares: the log-probability of a discrete variable whose mean is y, NOT a log-density of y. Scores
    of other bins, or of a density, are not comparable. E[y] = Σ_k p_k b_k is that of the data at the maximum. Hafner et
    al. 2023 (DreamerV3), eqs. 8-10; Bellemare et al. 2017.

    A fit does not standardise y. Values beyond the ends are refused.

    >>> TwoHot(-3.0, 3.0, 7)(jnp.zeros(7), (1,)).mean.tolist()
    [0.0]
    """

    name: ClassVar[str] = "the two-hot head"
    advice: ClassVar[str] = "widen low and high, which are of sign(y) log(1 + |y|)"
    low: float = eqx.field(static=True, default=-20.0, converter=float)
    high: float = eqx.field(static=True, default=20.0, converter=float)
    bins: int = eqx.field(static=True, default=255)

    def __check_init__(self) -> None:
        if not -np.inf < self.low < self.high < np.inf:
            raise ValueError(f"low: expected finite numbers, low < high; got {self.low} and {self.high}")
        if isinstance(self.bins, bool) or not isinstance(self.bins, int) or self.bins < 2:
            raise ValueError(f"bins: expected a whole number, 2 or more; got {self.bins!r}")

    @property
    def grid(self) -> np.ndarray:
        """The bins [bins], in the units of y."""
        return symlog_grid(self.low, self.high, self.bins)

    @property
    def support(self) -> Support:
        return supports.between(*map(float, self.grid[[0, -1]].astype(jnp.result_type(float))))

    def size(self, shape: Shape) -> int:
        return self.bins * int(np.prod(shape))

    def free(self, shape: Shape) -> int:
        return (self.bins - 1) * int(np.prod(shape))

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        return distributions.TwoHot(vector.reshape(*shape, self.bins), self.low, self.high)

    def arranged(self, numbers: Float[Array, "*event per_entry"]) -> Float[Array, " size"]:
        return numbers.ravel()

    def features(self, query: Float[Array, "*event"], observed: Seen) -> Float[Array, "B *event"]:
        shares = two_hot(query, jnp.asarray(self.grid, query.dtype))
        return present(jnp.moveaxis(shares, -1, 0), observed)

    def from_sums(self, sums: Float[Array, "B *event"]) -> Float[Array, " size"]:
        """The data's shares, and a little everywhere: the less the larger a bin, so that it moves neither moment."""
        unseen = UNSEEN / self.bins / (1.0 + np.abs(self.grid)) ** 2
        count = jnp.maximum(jnp.sum(sums, 0, keepdims=True), 1e-6)
        shares = sums / count + jnp.asarray(unseen, sums.dtype).reshape(-1, *[1] * (sums.ndim - 1))
        return jnp.moveaxis(jnp.log(shares), 0, -1).ravel()

    def shown(self, query: Float[Array, "*event"]) -> Float[Array, "1 *event"]:
        return symlog(query)[None]
