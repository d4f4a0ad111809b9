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
from veil.parts.nets import flat, positive
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

    def _features(self, evidence: Any) -> Float[Array, " P"]:
        one = jnp.ones(1)
        return one if evidence is None else jnp.concatenate([one, flat(evidence)])

    def prior(self, evidence: Any) -> Distribution:
        return distributions.normal(jnp.zeros(self.latent), jnp.ones(self.latent))

    def likelihood(self, latent: Array, evidence: Any) -> Distribution:
        loadings, offset, variance = self._parts()
        mean = offset @ self._features(evidence) + loadings @ latent
        return distributions.normal(mean, jnp.sqrt(variance))

    def _infer(self, datum: Datum) -> tuple[Float[Array, " L"], Float[Array, "L L"], Float[Array, ""]]:
        """E[z] and Cov[z] of p(z | y, x), and log p(y | x) over the entries that are observed.

        All three hang on one factorisation, and every solve on the one before: see ``linear.after``.
        """
        loadings, offset, variance = self._parts()
        residual = datum.query - offset @ self._features(datum.evidence)
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
        """Expected sums of u uᵀ, y uᵀ and y², with u = [1, x, z]; missing entries of y take their own expectations."""
        mean, covariance = expectations
        loadings, offset, variance = self._parts()
        features = self._features(datum.evidence)
        u = jnp.concatenate([features, mean])
        spread = jnp.zeros((u.size, u.size)).at[features.size :, features.size :].set(covariance)
        one = jnp.ones(1)
        if datum.observed is None:
            extra: tuple[Outer, ...] = ()
            square = datum.query**2
            query = datum.query
        else:
            coefficients = jnp.concatenate([offset, loadings], 1)
            query = jnp.where(datum.observed, datum.query, coefficients @ u)
            missing = jnp.where(datum.observed, 0.0, 1.0)
            shift = (missing[:, None] * coefficients) @ spread
            extra = (Outer(one, shift.ravel()),)
            square = query**2 + missing * (variance + jnp.sum((coefficients @ spread) * coefficients, 1))
        return Outer(one, u, u), Outer(one, spread.ravel()), Outer(one, query, u), Outer(one, square), *extra

    def maximise(self, sums: Any) -> "FactorAnalysis":
        """Least squares of y on u = [1, x, z] in expectation, then the residual variances. Bishop 2006, eq. 12.84."""
        outer, spread, cross, square, *extra = sums
        size = outer.shape[-1]
        moment = outer[0] + spread[0].reshape(size, size)
        product = cross[0] + (extra[0][0].reshape(-1, size) if extra else 0.0)
        count = moment[0, 0]
        # a ridge of rounding's size: a latent that explains nothing has almost no weight, not an infinite one
        ridge = 8.0 * jnp.finfo(moment.dtype).eps * jnp.diag(jnp.diagonal(moment) + 1e-30 * count)
        coefficients = jnp.linalg.solve(moment + ridge, product.T).T
        # E|y - C u|² = E y² - 2 C E[u y] + C E[u uᵀ] Cᵀ
        scatter = square[0] - 2.0 * jnp.sum(coefficients * product, 1)
        scatter = scatter + jnp.sum((coefficients @ moment) * coefficients, 1)
        scatter = jnp.maximum(scatter, 16.0 * jnp.finfo(moment.dtype).eps * square[0])
        noise = self.noise.maximise(scatter[None], count[None])
        inputs = size - self.latent
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
        features = jax.vmap(self._features, 0 if data.evidence is not None else None, axis_size=len(data))(
            data.evidence
        )
        gram = (features * weight[:, None]).T @ features + 1e-9 * jnp.sum(weight) * jnp.eye(features.shape[1])
        offset = jnp.linalg.solve(gram, (features * weight[:, None]).T @ data.query).T
        residual = data.query - features @ offset.T
        if data.observed is not None:
            residual = jnp.where(data.observed, residual, 0.0)
        covariance = (residual * weight[:, None]).T @ residual / jnp.sum(weight)
        values, vectors = jnp.linalg.eigh(covariance)
        kept = min(self.latent, size)
        rest = jnp.mean(values[: size - kept]) if kept < size else values[0]
        rest = jnp.maximum(rest, 1e-6 * jnp.maximum(values[-1], 1e-30))
        loadings = vectors[:, ::-1][:, :kept] * jnp.sqrt(jnp.maximum(values[::-1][:kept] - rest, 1e-6 * rest))[None]
        loadings = jnp.pad(loadings, ((0, 0), (0, self.latent - kept)))
        count = jnp.sum(weight)[None]
        diagonal = jnp.maximum(jnp.diagonal(covariance) - jnp.sum(loadings**2, 1), 0.1 * rest)
        level = jnp.full(size, rest) if isinstance(self.noise, Spherical) else diagonal
        return FactorAnalysis(self.latent, self.noise.maximise((level * count)[None], count), loadings, offset)

    def rescaled(self, query: Scale, evidence: Scale | None) -> "FactorAnalysis":
        """The same model in the user's units."""
        loadings, offset, _ = self._parts()
        scale = jnp.asarray(query.scale, loadings.dtype)
        offset = scale[:, None] * rescale_features(offset, evidence)
        offset = offset.at[:, 0].add(jnp.asarray(query.shift, offset.dtype))
        noise = self.noise.rescaled(np.asarray(query.scale, np.float64))
        return FactorAnalysis(self.latent, noise, scale[:, None] * loadings, offset)

    def parameters(self) -> int:
        """Free numbers: rotations of the latent change nothing, so L(L-1)/2 of the loadings are not free."""
        loadings, offset, _ = self._parts()
        size, latent = loadings.shape
        return size * latent - latent * (latent - 1) // 2 + offset.size + self.noise.parameters(1, size)


@answering
def PPCA(latent: int) -> FactorAnalysis:
    """Probabilistic principal component analysis: factor analysis with one noise variance for all entries."""
    return FactorAnalysis(latent, Spherical())
