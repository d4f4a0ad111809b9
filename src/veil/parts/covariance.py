"""Covariance structures of K Gaussian experts, as strategies: each knows its parameters, density and M-step.

All share one prior, improper and nearly flat: exp(-½ floor tr Σ⁻¹) for each covariance, in standardised units. It is
what keeps a component that sits on one point, or on identical ones, at a finite density, and it is part of the
penalised likelihood that EM raises. It protects from what arithmetic cannot tell apart, not from narrow groups: of n
data it keeps a standard deviation of 1e-6 / √n of their column's, where float64 has ten digits left. Scatter matrices
are Σ_n r_nk (y - W φ)(y - W φ)ᵀ: [K, D, D] where ``dense``, else their diagonals [K, D].
"""

from abc import abstractmethod
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from veil import distributions
from veil.distributions import Distribution
from veil.maths import gaussian

Latent = Int[Array, ""] | int


class Covariance(eqx.Module):
    """What the Gaussian experts ask of their covariances."""

    dense: ClassVar[bool]
    isotropic: ClassVar[bool] = False  # the same variance in every direction: only one common unit keeps it so

    @abstractmethod
    def blank(self, components: int, size: int) -> Self:
        """Unit covariances."""

    @abstractmethod
    def maximise(self, scatter: Float[Array, "..."], counts: Float[Array, " K"]) -> Self:
        """The covariances that maximise the expected log-likelihood plus the log-prior."""

    @abstractmethod
    def log_density(self, residual: Float[Array, "K D"], observed: Bool[Array, " D"] | None) -> Float[Array, " K"]:
        """log N(r_k; 0, Σ_k) in nats, exact; over the observed entries only."""

    @abstractmethod
    def fill(
        self, residual: Float[Array, "K D"], observed: Bool[Array, " D"]
    ) -> tuple[Float[Array, "K D"], Float[Array, "..."]]:
        """E[r | r_o] and the scatter's share of the missing entries, Cov[r | r_o] (or its diagonal)."""

    @abstractmethod
    def distribution(self, mean: Float[Array, " D"], latent: Latent) -> Distribution:
        """N(mean, Σ_latent)."""

    @abstractmethod
    def precision(self) -> Float[Array, "..."]:
        """Σ⁻¹ [K, D, D], or its diagonal [K, D]."""

    @abstractmethod
    def log_normaliser(self) -> Float[Array, " K"]:
        """-½ log|2π Σ_k| (nats)."""

    @abstractmethod
    def dense_covariance(self) -> Float[Array, "K D D"]:
        """Σ_k as full matrices, whatever the structure."""

    @abstractmethod
    def log_prior(self) -> Float[Array, ""]:
        """-½ floor Σ_k tr Σ_k⁻¹ (nats): the penalty."""

    @abstractmethod
    def smallest(self) -> Float[Array, " K"]:
        """The smallest standard deviation of each covariance along any direction (a bound from below is enough)."""

    @abstractmethod
    def rescaled(self, scale: np.ndarray, least: np.ndarray | float = 0.0) -> Self:
        """The same covariances of y * scale, with standard deviations of at least ``least`` ([K, D])."""

    @abstractmethod
    def parameters(self, components: int, size: int) -> int:
        """How many numbers are free."""


def _unfitted() -> ValueError:
    return ValueError("this model has no parameters yet: call veil.fit on it first")


def _refuse_zeros(name: str, part: Any) -> None:
    """A covariance that is singular has no density: what would come of it is NaN."""
    if isinstance(part, jax.core.Tracer) or not isinstance(part, jax.Array | np.ndarray):
        return
    deviations = np.diagonal(part, axis1=-2, axis2=-1) if name == "factor" else np.asarray(part)
    if np.any(deviations == 0):
        raise ValueError(
            f"{name}: expected a covariance that is not singular; got a deviation of zero: without noise there is no "
            "density; give it a small one"
        )


class Full(Covariance):
    """A covariance matrix of its own for each component: Cholesky factors [K, D, D]."""

    dense: ClassVar[bool] = True
    floor: float = eqx.field(static=True, default=1e-12)
    factor: Float[Array, "K D D"] | None = None

    def __check_init__(self) -> None:
        _refuse_zeros("factor", self.factor)

    def _factor(self) -> Float[Array, "K D D"]:
        if self.factor is None:
            raise _unfitted()
        return self.factor

    def blank(self, components: int, size: int) -> "Full":
        return Full(self.floor, jnp.broadcast_to(jnp.eye(size), (components, size, size)))

    def maximise(self, scatter: Float[Array, "K D D"], counts: Float[Array, " K"]) -> "Full":
        identity = jnp.eye(scatter.shape[-1], dtype=scatter.dtype)
        return Full(self.floor, gaussian.safe_cholesky((scatter + self.floor * identity[None]) / counts[:, None, None]))

    def log_density(self, residual: Float[Array, "K D"], observed: Bool[Array, " D"] | None) -> Float[Array, " K"]:
        if observed is None:
            # the whitening matrix does not depend on the datum: under vmap it is made once for all of them
            white = jnp.einsum(
                "kde,ke->kd",
                jnp.broadcast_to(gaussian.whitener(self._factor()), (*residual.shape, residual.shape[-1])),
                residual,
            )
            return -0.5 * jnp.sum(white * white, -1) + self.log_normaliser()
        factor = jnp.broadcast_to(self._factor(), (*residual.shape, residual.shape[-1]))
        return jax.vmap(gaussian.observed_log_density, (0, 0, None))(residual, factor, observed)

    def fill(
        self, residual: Float[Array, "K D"], observed: Bool[Array, " D"]
    ) -> tuple[Float[Array, "K D"], Float[Array, "K D D"]]:
        factor = jnp.broadcast_to(self._factor(), (*residual.shape, residual.shape[-1]))
        return jax.vmap(gaussian.fill_missing, (0, 0, None))(residual, factor, observed)

    def distribution(self, mean: Float[Array, " D"], latent: Latent) -> Distribution:
        return distributions.multivariate_normal(mean, self._factor()[latent])

    def precision(self) -> Float[Array, "K D D"]:
        whitener = gaussian.whitener(self._factor())
        return jnp.einsum("kde,kdf->kef", whitener, whitener)

    def log_normaliser(self) -> Float[Array, " K"]:
        return gaussian.log_normaliser(self._factor())

    def dense_covariance(self) -> Float[Array, "K D D"]:
        factor = self._factor()
        return jnp.einsum("kde,kfe->kdf", factor, factor)

    def log_prior(self) -> Float[Array, ""]:
        return -0.5 * self.floor * jnp.sum(gaussian.whitener(self._factor()) ** 2)

    def smallest(self) -> Float[Array, " K"]:
        return jnp.sum(gaussian.whitener(self._factor()) ** 2, (-2, -1)) ** -0.5

    def rescaled(self, scale: np.ndarray, least: np.ndarray | float = 0.0) -> "Full":
        factor = np.asarray(self._factor(), np.float64) * scale[:, None]
        i = np.arange(factor.shape[-1])
        factor[:, i, i] = np.maximum(np.abs(factor[:, i, i]), least)
        return Full(self.floor, _as_default(factor))

    def parameters(self, components: int, size: int) -> int:
        return components * gaussian.packed_size(size)


class Diagonal(Covariance):
    """Independent entries: standard deviations [K, D]."""

    dense: ClassVar[bool] = False
    floor: float = eqx.field(static=True, default=1e-12)
    scale: Float[Array, "K D"] | None = None

    def __check_init__(self) -> None:
        _refuse_zeros("scale", self.scale)

    def _scale(self) -> Float[Array, "K D"]:
        if self.scale is None:
            raise _unfitted()
        return self.scale

    def blank(self, components: int, size: int) -> "Diagonal":
        return Diagonal(self.floor, jnp.ones((components, size)))

    def maximise(self, scatter: Float[Array, "K D"], counts: Float[Array, " K"]) -> "Diagonal":
        # never zero, also where the floor is and all data are the same: then no density would be finite
        return Diagonal(self.floor, jnp.sqrt((jnp.maximum(scatter, 1e-30) + self.floor) / counts[:, None]))

    def log_density(self, residual: Float[Array, "K D"], observed: Bool[Array, " D"] | None) -> Float[Array, " K"]:
        return _diagonal_log_density(residual, self._scale(), observed)

    def fill(
        self, residual: Float[Array, "K D"], observed: Bool[Array, " D"]
    ) -> tuple[Float[Array, "K D"], Float[Array, "#K D"]]:
        return jnp.where(observed[None], residual, 0.0), jnp.where(observed[None], 0.0, self._scale() ** 2)

    def distribution(self, mean: Float[Array, " D"], latent: Latent) -> Distribution:
        return distributions.normal(mean, self._scale()[latent])

    def precision(self) -> Float[Array, "K D"]:
        return self._scale() ** -2

    def log_normaliser(self) -> Float[Array, " K"]:
        return jnp.sum(-jnp.log(jnp.abs(self._scale())) - 0.5 * gaussian.LOG_2PI, -1)

    def dense_covariance(self) -> Float[Array, "K D D"]:
        return jax.vmap(jnp.diag)(self._scale() ** 2)

    def log_prior(self) -> Float[Array, ""]:
        return -0.5 * self.floor * jnp.sum(self._scale() ** -2)

    def smallest(self) -> Float[Array, " K"]:
        return jnp.min(jnp.abs(self._scale()), -1)

    def rescaled(self, scale: np.ndarray, least: np.ndarray | float = 0.0) -> "Diagonal":
        return Diagonal(self.floor, _as_default(np.maximum(np.abs(self._scale()) * scale, least)))

    def parameters(self, components: int, size: int) -> int:
        return components * size


class Spherical(Covariance):
    """One variance for all entries of a component: standard deviations [K, D], equal along D."""

    dense: ClassVar[bool] = False
    isotropic: ClassVar[bool] = True
    floor: float = eqx.field(static=True, default=1e-12)
    diagonal: Diagonal | None = None

    def _diagonal(self) -> Diagonal:
        if self.diagonal is None:
            raise _unfitted()
        # equal along D also after a gradient step, which moves every entry on its own
        scale = self.diagonal._scale()
        common = jnp.sqrt(jnp.mean(scale * scale, -1, keepdims=True))
        return Diagonal(self.floor, jnp.broadcast_to(common, scale.shape))

    def blank(self, components: int, size: int) -> "Spherical":
        return Spherical(self.floor, Diagonal(self.floor).blank(components, size))

    def maximise(self, scatter: Float[Array, "K D"], counts: Float[Array, " K"]) -> "Spherical":
        average = jnp.broadcast_to(jnp.mean(scatter, -1, keepdims=True), scatter.shape)
        return Spherical(self.floor, Diagonal(self.floor).maximise(average, counts))

    def log_density(self, residual: Float[Array, "K D"], observed: Bool[Array, " D"] | None) -> Float[Array, " K"]:
        return self._diagonal().log_density(residual, observed)

    def fill(
        self, residual: Float[Array, "K D"], observed: Bool[Array, " D"]
    ) -> tuple[Float[Array, "K D"], Float[Array, "#K D"]]:
        return self._diagonal().fill(residual, observed)

    def distribution(self, mean: Float[Array, " D"], latent: Latent) -> Distribution:
        return self._diagonal().distribution(mean, latent)

    def precision(self) -> Float[Array, "K D"]:
        return self._diagonal().precision()

    def log_normaliser(self) -> Float[Array, " K"]:
        return self._diagonal().log_normaliser()

    def dense_covariance(self) -> Float[Array, "K D D"]:
        return self._diagonal().dense_covariance()

    def log_prior(self) -> Float[Array, ""]:
        return self._diagonal().log_prior()

    def smallest(self) -> Float[Array, " K"]:
        return self._diagonal().smallest()

    def rescaled(self, scale: np.ndarray, least: np.ndarray | float = 0.0) -> "Spherical":
        return Spherical(self.floor, self._diagonal().rescaled(scale, np.max(np.atleast_2d(least), -1, keepdims=True)))

    def parameters(self, components: int, size: int) -> int:
        return components


class Tied(Covariance):
    """One covariance, of any structure, shared by all components."""

    shared: Covariance = Full()

    @property
    def floor(self) -> float:
        """The shared covariance's."""
        return self.shared.floor  # type: ignore[attr-defined]

    @property
    def dense(self) -> bool:  # type: ignore[override]
        return self.shared.dense

    @property
    def isotropic(self) -> bool:  # type: ignore[override]
        return self.shared.isotropic

    def blank(self, components: int, size: int) -> "Tied":
        return Tied(self.shared.blank(1, size))

    def maximise(self, scatter: Float[Array, "..."], counts: Float[Array, " K"]) -> "Tied":
        return Tied(self.shared.maximise(jnp.sum(scatter, 0, keepdims=True), jnp.sum(counts, keepdims=True)))

    def log_density(self, residual: Float[Array, "K D"], observed: Bool[Array, " D"] | None) -> Float[Array, " K"]:
        return self.shared.log_density(residual, observed)

    def fill(
        self, residual: Float[Array, "K D"], observed: Bool[Array, " D"]
    ) -> tuple[Float[Array, "K D"], Float[Array, "..."]]:
        filled, conditional = self.shared.fill(residual, observed)
        return filled, jnp.broadcast_to(conditional, (residual.shape[0], *conditional.shape[1:]))

    def distribution(self, mean: Float[Array, " D"], latent: Latent) -> Distribution:
        return self.shared.distribution(mean, 0)

    def precision(self) -> Float[Array, "..."]:
        return self.shared.precision()

    def log_normaliser(self) -> Float[Array, " K"]:
        return self.shared.log_normaliser()

    def dense_covariance(self) -> Float[Array, "K D D"]:
        return self.shared.dense_covariance()

    def log_prior(self) -> Float[Array, ""]:
        return self.shared.log_prior()

    def smallest(self) -> Float[Array, " K"]:
        return self.shared.smallest()

    def rescaled(self, scale: np.ndarray, least: np.ndarray | float = 0.0) -> "Tied":
        return Tied(self.shared.rescaled(scale, np.max(np.atleast_2d(least), 0, keepdims=True)))

    def parameters(self, components: int, size: int) -> int:
        return self.shared.parameters(1, size)


def _diagonal_log_density(
    residual: Float[Array, "K D"], scale: Float[Array, "#K D"], observed: Bool[Array, " D"] | None
) -> Float[Array, " K"]:
    terms = -0.5 * (residual / scale) ** 2 - jnp.log(jnp.abs(scale)) - 0.5 * gaussian.LOG_2PI
    return jnp.sum(terms if observed is None else jnp.where(observed[None], terms, 0.0), -1)


def _as_default(array: np.ndarray) -> Array:
    return jax.device_put(np.asarray(array, jnp.result_type(float)))  # compiles nothing, unlike jnp.asarray
