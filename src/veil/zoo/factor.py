"""Factor analysis and probabilistic PCA: the linear-Gaussian latent variable models, where everything is exact."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.maths import gaussian
from veil.model import ClosedForm, Datum, Rescalable, Tractable
from veil.model.abilities import RealLine, Redundant, Sizes, Space, parameter
from veil.model.scales import Scale, rescale_features
from veil.model.slips import answering
from veil.parts.covariance import Diagonal, Spherical
from veil.parts.nets import each_with_one, positive, with_one
from veil.parts.statistics import Outer

Vector = Float[Array, " D"]


class FactorAnalysis(Tractable, ClosedForm, Rescalable, Redundant):
    """y = W z + B [1, x] + noise, z ~ N(0, I), noise ~ N(0, Ψ): a Gaussian whose covariance is W Wᵀ + Ψ.

    ``noise`` is ``Diagonal()`` (factor analysis, Bishop 2006, section 12.2.4) or ``Spherical()`` (probabilistic PCA,
    Tipping & Bishop 1999). Likelihood, posterior and the M-step of EM are exact, with missing entries too. Without
    evidence B is the mean. With ``Spherical`` noise and complete data the start is already the maximum likelihood.
    Loadings W [D, latent], offset B [D, P].

    >>> import jax, veil
    >>> iris = veil.data.load("iris")
    >>> result = veil.fit(PPCA(2), iris, key=jax.random.key(0))
    >>> round(float(veil.evaluate(result.model, iris).log_likelihood), 1)
    -405.0
    """

    latent: int = eqx.field(static=True, default=2)
    noise: Any = Diagonal()
    loadings: Float[Array, "D L"] | None = parameter()
    offset: Float[Array, "D P"] | None = parameter()

    def __check_init__(self) -> None:
        positive("latent", self.latent)
        if not isinstance(self.noise, Diagonal | Spherical):
            raise TypeError(f"noise: expected veil.Diagonal() or veil.Spherical(); got {self.noise!r}")

    @property
    def sizes(self) -> Sizes:
        if self.loadings is None or self.offset is None:
            return Sizes()
        return Sizes((self.loadings.shape[0],), self.offset.shape[1] - 1)

    @property
    def space(self) -> Space:
        return RealLine(self.noise.isotropic)

    def _parts(self) -> tuple[Float[Array, "D L"], Float[Array, "D P"], Vector]:
        """W, B and the noise's variances."""
        if self.loadings is None or self.offset is None:
            raise ValueError("this model has no parameters yet: call veil.fit on it first")
        return self.loadings, self.offset, 1.0 / jnp.broadcast_to(self.noise.precision(), (1, len(self.offset)))[0]

    def prior(self, evidence: Any) -> Distribution:
        return distributions.normal(jnp.zeros(self.latent), jnp.ones(self.latent))

    def likelihood(self, latent: Array, evidence: Any) -> Distribution:
        loadings, offset, variance = self._parts()
        mean = offset @ with_one(evidence) + loadings @ latent
        return distributions.normal(mean, jnp.sqrt(variance))

    def _infer(self, datum: Datum) -> tuple[Float[Array, " L"], Float[Array, "L L"], Float[Array, ""]]:
        """E[z] and Cov[z] of p(z | y, x), and log p(y | x) over the entries that are observed.

        All three hang on one factorisation, and every solve on the one before: see ``linear.after``.
        """
        loadings, offset, variance = self._parts()
        residual = datum.query - offset @ with_one(datum.evidence)
        precision = 1.0 / variance
        if datum.observed is not None:
            residual = jnp.where(datum.observed, residual, 0.0)
            precision = jnp.where(datum.observed, precision, 0.0)
        # without missing entries these two do not depend on the datum: under vmap they are made once
        factor = jnp.linalg.cholesky(jnp.eye(self.latent) + loadings.T @ (precision[:, None] * loadings))
        covariance = jax.scipy.linalg.cho_solve((factor, True), jnp.eye(self.latent))
        mean = covariance @ (loadings.T @ (precision * residual))
        # r' C^-1 r = (r - W m)' Ψ^-1 (r - W m) + m' m: a sum of squares, which does not cancel
        left = residual - loadings @ mean
        square = jnp.sum(precision * left**2) + mean @ mean
        present = precision > 0
        log_precision = jnp.sum(jnp.where(present, jnp.log(jnp.where(present, precision, 1.0)), 0.0))
        log_determinant = 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor))) - log_precision
        return mean, covariance, -0.5 * (square + log_determinant + jnp.sum(present) * gaussian.LOG_2PI)

    def posterior(self, datum: Datum) -> Distribution:
        """p(z | y, x) = N(M⁻¹ Wᵀ Ψ⁻¹ r, M⁻¹), M = I + Wᵀ Ψ⁻¹ W, exact. Bishop 2006, eqs. 12.66-12.68."""
        mean, covariance, _ = self._infer(datum)
        return distributions.multivariate_normal(mean, gaussian.safe_cholesky(covariance))

    def log_marginal(self, datum: Datum) -> Float[Array, ""]:
        """log N(y; B [1, x], W Wᵀ + Ψ) over the observed entries, by the matrix inversion lemma (nats, exact)."""
        return self._infer(datum)[-1]

    def expectations(self, datum: Datum) -> tuple[Any, Float[Array, ""]]:
        """(E[z], Cov[z]) of the exact posterior, and log p(y | x)."""
        mean, covariance, log_marginal = self._infer(datum)
        return (mean, covariance), log_marginal

    def statistics(self, datum: Datum, expectations: tuple[Float[Array, " L"], Float[Array, "L L"]]) -> Any:
        """Expected sums of u uᵀ, e uᵀ and e², with u = [1, x, z] and e = y - C u what this model leaves, C = [B, W].

        Residuals, not raw moments: their sums do not cancel where the noise is small beside the data. A missing entry
        leaves its noise, which knows nothing of u.
        """
        mean, covariance = expectations
        loadings, offset, variance = self._parts()
        features = with_one(datum.evidence)
        coefficients, u = jnp.concatenate([offset, loadings], 1), jnp.concatenate([features, mean])
        spread = jnp.zeros((u.size, u.size)).at[features.size :, features.size :].set(covariance)
        residual, one = datum.query - coefficients @ u, jnp.ones(1)
        if datum.observed is None:
            return Outer(one, u, u), Outer(one, spread.ravel()), Outer(one, residual, u), Outer(one, residual**2)
        residual = jnp.where(datum.observed, residual, 0.0)
        shared = jnp.where(datum.observed[:, None], coefficients @ spread, 0.0)
        square = residual**2 + jnp.where(datum.observed, jnp.sum(shared * coefficients, 1), variance)
        moments = Outer(one, u, u), Outer(one, spread.ravel()), Outer(one, residual, u), Outer(one, square)
        return *moments, Outer(one, shared.ravel())

    def _sums(self, sums: Any) -> tuple[Array, Array, Array]:
        """E Σ u uᵀ, E Σ e uᵀ and E Σ e² from what ``statistics`` sums to."""
        outer, spread, cross, square, *shared = (part[0] for part in sums)
        spread = spread.reshape(outer.shape)
        coefficients = jnp.concatenate(self._parts()[1::-1], 1)
        if shared:
            return outer + spread, cross - shared[0].reshape(cross.shape), square
        both = coefficients @ spread
        return outer + spread, cross - both, square + jnp.sum(both * coefficients, 1)

    def recentred(self, sums: Any, to: "FactorAnalysis") -> Any:
        """Sums of what this model leaves as sums of what ``to`` leaves."""
        moment, cross, square = self._sums(sums)
        change = jnp.concatenate(to._parts()[1::-1], 1) - jnp.concatenate(self._parts()[1::-1], 1)
        square = square + jnp.sum((change @ moment - 2.0 * cross) * change, 1)
        rest = [jnp.zeros_like(part) for part in sums[4:]]
        return moment[None], jnp.zeros_like(sums[1]), (cross - change @ moment)[None], square[None], *rest

    def maximise(self, sums: Any) -> "FactorAnalysis":
        """Least squares of y on u in expectation, then the residual variances. Bishop 2006, eq. 12.84.

        E |e - δ u|² = E e² - 2 δ E[u e] + δ E[u uᵀ] δᵀ, of coefficients C + δ.
        """
        loadings, offset, _ = self._parts()
        moment, cross, square = self._sums(sums)
        # a ridge of rounding's size: a latent that explains nothing has almost no weight, not an infinite one
        ridge = 8.0 * jnp.finfo(moment.dtype).eps * jnp.diag(jnp.diagonal(moment) + 1e-30 * moment[0, 0])
        change = jnp.linalg.solve(moment + ridge, cross.T).T
        scatter = jnp.maximum(square + jnp.sum((change @ moment - 2.0 * cross) * change, 1), 0.0)
        coefficients = jnp.concatenate([offset, loadings], 1) + change
        if not self.noise.isotropic:  # one column without noise hides from rounding what the others say of z
            explained = jnp.sum((coefficients @ moment) * coefficients, 1)
            scatter = jnp.maximum(scatter, 16.0 * jnp.finfo(moment.dtype).eps * explained)
        inputs = offset.shape[1]
        noise = self.noise.maximise(scatter[None], moment[:1, 0])
        return FactorAnalysis(self.latent, noise, coefficients[:, inputs:], coefficients[:, :inputs])

    def log_prior(self) -> Float[Array, ""]:
        """The penalty of the penalised likelihood that EM raises (nats): the noise's floor."""
        return self.noise.log_prior()

    def initialise(self, data: Datum, responsibilities: Any, key: PRNGKeyArray) -> "FactorAnalysis":
        """Probabilistic PCA in closed form, of (a sample of) the data. Tipping & Bishop 1999, eqs. 7-8."""
        if data.query.ndim != 2:
            raise ValueError(f"query: factor analysis takes vectors, data [N, D]; got {data.query.shape}")
        size = data.query.shape[1]
        if self.latent >= size and isinstance(self.noise, Spherical):
            raise ValueError(f"latent: expected fewer than the query's {size} dimensions; got {self.latent}")
        weight = jnp.ones(len(data)) if data.weight is None else data.weight
        features = each_with_one(data.evidence, len(data))
        gram = (features * weight[:, None]).T @ features + 1e-9 * jnp.sum(weight) * jnp.eye(features.shape[1])
        offset = jnp.linalg.solve(gram, (features * weight[:, None]).T @ data.query).T
        residual = data.query - features @ offset.T
        if data.observed is not None:
            residual = jnp.where(data.observed, residual, 0.0)
        # the sample covariance R' R by its largest eigenvalues, or those of R R': linear in the columns of few rows
        count, isotropic = jnp.sum(weight), self.noise.isotropic
        root = residual * jnp.sqrt(weight / count)[:, None]
        kept, wide, diagonal = min(self.latent, *root.shape), len(data) < size, jnp.sum(root**2, 0)
        values, vectors = jnp.linalg.eigh(root @ root.T if wide else root.T @ root)
        values, vectors = values[::-1][:kept], vectors[:, ::-1][:, :kept]
        # what is left to the noise, and its floor: where the penalised likelihood is largest, if all columns share it
        left = jnp.maximum(jnp.sum(diagonal) - jnp.sum(values), 0.0) + size * self.noise.floor / count
        rest = left / (size - kept) if kept < size else values[-1]
        rest = jnp.maximum(rest, (1e-14 if isotropic else 1e-6) * jnp.maximum(values[0], 1e-30))
        loadings = vectors * jnp.sqrt(jnp.maximum(values - rest, 1e-6 * rest))[None]
        if wide:
            loadings = root.T @ loadings / jnp.sqrt(jnp.maximum(values, rest))[None]
        loadings = jnp.pad(loadings, ((0, 0), (0, self.latent - kept)))
        level = jnp.full(size, jnp.maximum(rest - self.noise.floor / count, 0.0))
        if not isotropic:
            level = jnp.maximum(diagonal - jnp.sum(loadings**2, 1), 0.1 * rest)
        noise = self.noise.maximise((level * count)[None], count[None])
        return FactorAnalysis(self.latent, noise, loadings, offset)

    def rescaled(self, query: Scale, evidence: Scale | None) -> "FactorAnalysis | None":
        """The same model in the user's units; None where variances in them are no numbers."""
        if not query.square_held:
            return None
        loadings, offset, _ = self._parts()
        scale = jnp.asarray(query.scale, loadings.dtype)
        offset = scale[:, None] * rescale_features(offset, evidence)
        offset = offset.at[:, 0].add(jnp.asarray(query.shift, offset.dtype))
        noise = self.noise.rescaled(np.asarray(query.scale, np.float64))
        return FactorAnalysis(self.latent, noise, scale[:, None] * loadings, offset)

    def parameters(self) -> int:
        """Free numbers: B, and of W and Ψ no more than a covariance has.

        Rotations of the latent change nothing, so L (L - 1) / 2 numbers of the loadings are not free.
        """
        _, offset, _ = self._parts()
        return offset.size + min(self._covariance_parameters(), gaussian.packed_size(len(offset)))

    def _covariance_parameters(self) -> int:
        size, latent = self._parts()[0].shape
        latent = min(size, latent)
        return size * latent - latent * (latent - 1) // 2 + self.noise.parameters(1, size)

    @property
    def determined(self) -> bool:
        """Whether W and Ψ follow from the covariance, up to rotations of the latent: Ledermann's bound (1937)."""
        return self._covariance_parameters() <= gaussian.packed_size(len(self._parts()[1]))


@answering
def PPCA(latent: int) -> FactorAnalysis:
    """Probabilistic principal component analysis: factor analysis with one noise variance for all entries."""
    return FactorAnalysis(latent, Spherical())
