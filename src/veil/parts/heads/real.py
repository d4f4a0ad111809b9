"""Heads of real numbers: anywhere, above zero, on the circle."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from veil import distributions
from veil.distributions import Distribution, supports
from veil.maths.gaussian import packed_size
from veil.parts.heads.base import Head, Seen, Shape, moments, present


class DiagonalGaussian(Head):
    """Independent normals: mean m and scale exp(s) + floor from a vector [m, s].

    ``floor`` is the smallest scale, as a fraction of each entry's own standard deviation: without one, repeated
    values in the data would drive the likelihood to infinity.
    """

    real: ClassVar[bool] = True
    per_entry: ClassVar[int] = 2
    floor: float = eqx.field(static=True, default=1e-3)

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        mean, log_scale = vector.reshape(2, *shape)
        return distributions.normal(mean, jnp.exp(log_scale) + self.floor)

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        mean, scale = moments(sums)
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

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        mean = vector.reshape(shape)
        scale = jnp.exp(jnp.broadcast_to(jnp.asarray(self.log_scale, mean.dtype), shape))
        return distributions.normal(mean, scale)

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        return moments(sums)[0].ravel()

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
        mean, scale = moments(sums)
        return jnp.concatenate([mean, jnp.log(scale), jnp.zeros(packed_size(mean.size) - mean.size, mean.dtype)])


class StudentT(Head):
    """Independent Student-t: degrees 1 + exp(d), mean m, scale exp(s) + floor from a vector [d, m, s]."""

    real: ClassVar[bool] = True
    per_entry: ClassVar[int] = 3
    floor: float = eqx.field(static=True, default=1e-3)

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        log_degrees, mean, log_scale = vector.reshape(3, *shape)
        return distributions.student_t(1.0 + jnp.exp(log_degrees), mean, jnp.exp(log_scale) + self.floor)

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        mean, scale = moments(sums)
        return jnp.concatenate([jnp.full(mean.size, jnp.log(4.0)), mean.ravel(), jnp.log(0.77 * scale).ravel()])


class SoftplusGaussian(Head):
    """Independent normals: mean m and scale log(1 + exp s) + floor from a vector [m, s]: for latents, not for data.

    The scale grows no faster than what it is made of, so that a recursion whose steps feed on their own draws does not
    explode as it may with an exponential. Hafner et al. 2019, appendix A.
    """

    per_entry: ClassVar[int] = 2
    floor: float = eqx.field(static=True, default=0.1)

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        mean, scale = vector.reshape(2, *shape)
        return distributions.normal(mean, jax.nn.softplus(scale) + self.floor)

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        mean, scale = moments(sums)
        return jnp.concatenate([mean.ravel(), jnp.log(jnp.expm1(jnp.maximum(scale - self.floor, 1e-3))).ravel()])


class BoundedGaussian(Head):
    """Independent normals from a vector [m, s]: mean m, and a deviation that stays between ``low`` and ``high``.

    log σ = b + softplus(t - b), t = a - softplus(a - s), with a = log high, b = log low: what a network says far from
    its data is bounded. Chua et al. 2018, appendix A.1, where the bounds are learned.
    """

    real: ClassVar[bool] = True
    per_entry: ClassVar[int] = 2
    low: float = eqx.field(static=True, default=0.01)
    high: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise ValueError(f"low: expected deviations, 0 < low < high; got {self.low!r} and {self.high!r}")

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        mean, number = vector.reshape(2, *shape)
        low, high = np.log(self.low), np.log(self.high)
        below = high - jax.nn.softplus(high - number)
        return distributions.normal(mean, self.low * jnp.exp(jax.nn.softplus(below - low)))

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        """Not at the bounds, where its slope is small: a fit starts there."""
        mean, scale = moments(sums)
        low, high = np.log(self.low), np.log(self.high)
        away = min(0.5, (high - low) / 4)
        below = low + jnp.log(jnp.expm1(jnp.clip(jnp.log(scale), low + away, high - away) - low))
        return jnp.concatenate([mean.ravel(), (high - jnp.log(jnp.expm1(high - below))).ravel()])


class LogNormal(Head):
    """Independent log-normals: mean m and scale exp(s) + floor of log y from a vector [m, s]. For positive numbers."""

    per_entry: ClassVar[int] = 2
    name: ClassVar[str] = "the log-normal head"
    advice: ClassVar[str] = "choose another head, or for amounts with zeros two columns: whether, and how much"
    support = property(lambda self: supports.POSITIVE)
    floor: float = eqx.field(static=True, default=1e-3)

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        mean, log_scale = vector.reshape(2, *shape)
        return distributions.LogNormal(mean, jnp.exp(log_scale) + self.floor)

    def features(self, query: Float[Array, "*event"], observed: Seen) -> Float[Array, "3 *event"]:
        logs = self.shown(query)[0]
        return present(jnp.stack([jnp.ones_like(logs), logs, logs * logs]), observed)

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        mean, scale = moments(sums)
        return jnp.concatenate([mean.ravel(), jnp.log(scale).ravel()])

    def shown(self, query: Float[Array, "*event"]) -> Float[Array, "1 *event"]:
        return jnp.log(jnp.maximum(query, jnp.finfo(query.dtype).tiny))[None]


class VonMises(Head):
    """Independent angles in radians, from -π to π, which meet: the vector is κ (cos μ, sin μ). Mardia & Jupp 2000."""

    per_entry: ClassVar[int] = 2
    name: ClassVar[str] = "the von Mises head"
    advice: ClassVar[str] = "of other angles take (angle + π) % 2π - π, of degrees np.deg2rad first"
    support = property(lambda self: supports.ANGLES)

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        return distributions.VonMises(vector.reshape(2, *shape))

    def features(self, query: Float[Array, "*event"], observed: Seen) -> Float[Array, "3 *event"]:
        return present(jnp.stack([jnp.ones_like(query), jnp.cos(query), jnp.sin(query)]), observed)

    def from_sums(self, sums: Float[Array, "S *event"]) -> Float[Array, " size"]:
        """κ of the mean resultant length R: R (2 - R²) / (1 - R²), nearly. Banerjee et al. 2005, eq. 4.4."""
        mean = sums[1:] / jnp.maximum(sums[0], 1e-6)[None]
        square = jnp.minimum(jnp.sum(mean**2, 0), 1.0 - 1e-4)
        return (mean * ((2.0 - square) / (1.0 - square))[None]).ravel()

    def shown(self, query: Float[Array, "*event"]) -> Float[Array, "2 *event"]:
        return jnp.stack([jnp.cos(query), jnp.sin(query)])
