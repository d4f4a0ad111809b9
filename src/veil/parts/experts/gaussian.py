"""Linear-Gaussian experts."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from veil.distributions import Distribution
from veil.maths import linear
from veil.maths.gaussian import evaluate, pack_outer, pack_quadratic, packed_size, products, unpack_symmetric
from veil.model.abilities import RealLine, Space, parameter
from veil.model.scales import Scale, rescale_features
from veil.parts.covariance import Covariance, Full
from veil.parts.experts.base import Experts, Latent, Observed
from veil.parts.statistics import Outer


class LinearGaussian(Experts):
    """y | x, z ~ N(W_z [1, x], Σ_z); without evidence a plain Gaussian, N(μ_z, Σ_z) with μ_z = W_z.

    Closed-form M-step: weighted least squares and the weighted residual scatter (Bishop 2006, eqs. 3.15-3.21,
    9.24-9.26). Missing entries of the query are integrated out exactly, in the likelihood and in EM.

    ``expanded`` chooses the arithmetic: sums of raw second moments, one matrix product a block and the fastest, but
    they cancel when a variance is tiny beside the data's range; otherwise sums about each expert's own mean.
    ``veil.fit`` switches. ``ridge`` is the precision of a normal prior on the slopes (in units of Σ, standardised).
    Weight [K, D, P].
    """

    covariance: Covariance = Full()
    evidence: bool = eqx.field(static=True, default=True)
    ridge: float = eqx.field(static=True, default=1e-6)
    expanded: bool = eqx.field(static=True, default=False)
    weight: Float[Array, "K D P"] | None = parameter()

    @property
    def closed_form(self) -> bool:
        return True

    @property
    def space(self) -> Space:
        return RealLine(self.covariance.isotropic)

    @property
    def sees(self) -> bool:
        return self.evidence

    @property
    def inputs(self) -> int:
        return 0 if self.weight is None else self.weight.shape[-1] - 1

    @property
    def query_shape(self) -> Any:
        return self._weight().shape[1:2]

    def largest_precision(self) -> Float[Array, ""]:
        return jnp.max(self.covariance.smallest() ** -2)

    @property
    def mean(self) -> Float[Array, "K D"]:
        """W [1, 0]: the means of plain Gaussians."""
        return self._weight()[..., 0]

    def _weight(self) -> Float[Array, "K D P"]:
        if self.weight is None:
            raise ValueError("these experts have no parameters yet: call veil.fit on the model first")
        return self.weight

    def with_expanded_sums(self, expanded: bool) -> "LinearGaussian":
        """The same experts, summing the other way."""
        return replace(self, expanded=expanded)

    def blank(self, components: int, features: int, shape: Any) -> "LinearGaussian":
        if len(shape) != 1 or isinstance(shape[0], tuple):
            raise ValueError(f"query: Gaussian experts expect one vector a datum, shape [D]; got {shape}: flatten it")
        weight = jnp.zeros((components, shape[0], features if self.evidence else 1))
        return replace(self, weight=weight, covariance=self.covariance.blank(components, shape[0]))

    def _used(self, features: Float[Array, " P"]) -> Float[Array, " Q"]:
        return features[: self._weight().shape[-1]]

    def distribution(self, latent: Latent, features: Float[Array, " P"]) -> Distribution:
        return self.covariance.distribution(self._weight()[latent] @ self._used(features), latent)

    def _residual(self, query: Float[Array, " D"], features: Float[Array, " P"]) -> Float[Array, "K D"]:
        return query[None] - self._weight() @ self._used(features)

    def _monomials(self, query: Float[Array, " D"], features: Float[Array, " P"]) -> Float[Array, " F"]:
        """All products of [φ, y] that the sums need: with diagonal covariances, of y's only the squares."""
        both = jnp.concatenate([features, query])
        if self.covariance.dense:
            return pack_outer(both)
        used, square = np.arange(features.size), features.size + np.arange(query.size)
        left, right = np.triu_indices(used.size)
        rows = np.concatenate([left, np.repeat(used, square.size), square])
        return products(both, rows, np.concatenate([right, np.tile(square, used.size), square]))

    def _coefficients(self) -> Float[Array, "K F"]:
        """c with c_k · monomials = log N(y; W_k φ, Σ_k): the quadratic form multiplied out, φ_0 = 1."""
        weight, precision = self._weight(), self.covariance.precision()
        components = weight.shape[0]
        if self.covariance.dense:
            scaled = jnp.einsum("kde,kep->kdp", jnp.broadcast_to(precision, (components, *precision.shape[1:])), weight)
        else:
            scaled = precision[:, :, None] * weight
        inner = jnp.einsum("kdp,kdq->kpq", weight, scaled)
        if self.covariance.dense:
            full = jnp.broadcast_to(precision, (components, *precision.shape[1:]))
            top = jnp.concatenate([inner, -jnp.swapaxes(scaled, 1, 2)], 2)
            joint = jnp.concatenate([top, jnp.concatenate([-scaled, full], 2)], 1)
            coefficients = pack_quadratic(-0.5 * joint)
        else:
            squares = jnp.broadcast_to(-0.5 * precision, (components, precision.shape[1]))
            cross = jnp.swapaxes(scaled, 1, 2).reshape(components, -1)
            coefficients = jnp.concatenate([pack_quadratic(-0.5 * inner), cross, squares], 1)
        return coefficients.at[:, 0].add(self.covariance.log_normaliser())

    def log_probs(
        self, query: Float[Array, " D"], features: Float[Array, " P"], observed: Observed
    ) -> Float[Array, " K"]:
        if self.expanded and observed is None:
            return evaluate(self._coefficients(), self._monomials(query, self._used(features)))
        return self.covariance.log_density(self._residual(query, features), observed)

    def statistics(
        self, query: Float[Array, " D"], features: Float[Array, " P"], observed: Observed, weights: Float[Array, " K"]
    ) -> Any:
        used = self._used(features)
        if self.expanded and observed is None:
            return (Outer(weights, self._monomials(query, used)),)
        residual = self._residual(query, features)
        terms = []
        if observed is not None:
            observed = linear.after(observed, weights)  # the E-step's factorisations first
            residual, conditional = self.covariance.fill(residual, observed)
            terms.append(Outer(weights, conditional))
        if self.covariance.dense:
            scatter = Outer(weights, residual, residual)
        else:
            scatter = Outer(weights, residual * residual)
        return (Outer(weights, pack_outer(used)), Outer(weights, used, residual), scatter, *terms)

    def maximise(self, sums: Any) -> "LinearGaussian":
        _, size, inputs = self._weight().shape
        if len(sums) == 1:  # raw moments: residuals about zero
            reference = jnp.zeros_like(self._weight())
            moment, cross, scatter = self._split(sums[0], size, inputs)
        else:
            reference = self._weight()
            moment, cross, scatter = unpack_symmetric(sums[0], inputs), sums[1], sums[2]
            if len(sums) == 4:
                scatter = scatter + sums[3]
        counts = moment[:, 0, 0]
        alive = counts > 1e-6
        counts = jnp.where(alive, counts, 1.0)
        slopes = self.ridge * jnp.ones(inputs).at[0].set(0.0)
        regular = moment + jnp.diag(slopes)[None]
        regular = jnp.where(alive[:, None, None], regular, jnp.eye(inputs)[None])
        right = cross - slopes[None, :, None] * jnp.swapaxes(reference, 1, 2)
        # one feature is a division: a solver would double the time to compile a plain mixture
        change = jnp.swapaxes(right / regular if inputs == 1 else jnp.linalg.solve(regular, right), 1, 2)
        weight = reference + change
        raw = scatter
        # Σ r (r - δφ)(r - δφ)ᵀ + W E Wᵀ, expanded about the reference
        if self.covariance.dense:
            product = change @ cross
            scatter = scatter - product - jnp.swapaxes(product, 1, 2) + change @ moment @ jnp.swapaxes(change, 1, 2)
            scatter = scatter + (slopes[None, None] * weight) @ jnp.swapaxes(weight, 1, 2)
        else:
            scatter = scatter - 2.0 * jnp.einsum("kdp,kpd->kd", change, cross)
            scatter = scatter + jnp.einsum("kdp,kpq,kdq->kd", change, moment, change)
            scatter = scatter + jnp.sum(slopes[None, None] * weight**2, -1)
        scatter = _above_rounding(scatter, raw)
        weight = jnp.where(alive[:, None, None], weight, self._weight())
        scatter = jnp.where(alive.reshape(-1, *[1] * (scatter.ndim - 1)), scatter, 0.0)
        covariance = self.covariance.maximise(
            scatter, jnp.where(alive, counts, 1e-20)
        )  # the dead add nothing to a shared one
        return replace(self, weight=weight, covariance=_keep(covariance, self.covariance, alive))

    def _split(self, sums: Float[Array, "K F"], size: int, inputs: int) -> tuple[Array, Array, Array]:
        if self.covariance.dense:
            joint = unpack_symmetric(sums, inputs + size)
            return joint[:, :inputs, :inputs], joint[:, :inputs, inputs:], joint[:, inputs:, inputs:]
        first, second = packed_size(inputs), packed_size(inputs) + inputs * size
        cross = sums[:, first:second].reshape(-1, inputs, size)
        return unpack_symmetric(sums[:, :first], inputs), cross, sums[:, second:]

    def recentred(self, sums: Any, to: "LinearGaussian") -> Any:
        """Sums about these experts' means as sums about those of ``to``: running sums must follow the model."""
        if len(sums) == 1:
            return sums
        inputs = self._weight().shape[-1]
        change = to._weight() - self._weight()
        moment = unpack_symmetric(sums[0], inputs)
        cross, scatter, rest = sums[1], sums[2], sums[3:]
        shift = moment @ jnp.swapaxes(change, 1, 2)  # Σ φ (δφ)ᵀ
        if self.covariance.dense:
            product = change @ cross
            scatter = scatter - product - jnp.swapaxes(product, 1, 2) + change @ shift
        else:
            scatter = scatter + jnp.einsum("kdp,kpd->kd", change, shift - 2.0 * cross)
        return (sums[0], cross - shift, scatter, *rest)

    def log_prior(self) -> Float[Array, ""]:
        prior = self.covariance.log_prior()
        slopes = self._weight()[..., 1:]
        if slopes.shape[-1] == 0:
            return prior
        precision = self.covariance.precision()
        if self.covariance.dense:
            precision = jnp.broadcast_to(precision, (slopes.shape[0], *precision.shape[1:]))
            return prior - 0.5 * self.ridge * jnp.einsum("kdp,kde,kep->", slopes, precision, slopes)
        return prior - 0.5 * self.ridge * jnp.sum(precision[:, :, None] * slopes**2)

    def rescaled(self, query: Scale | None, evidence: Scale | None) -> "LinearGaussian":
        if query is None:
            return replace(self, weight=rescale_features(self._weight(), evidence))
        weight = np.asarray(rescale_features(self._weight(), evidence), np.float64)
        scale = np.asarray(query.scale, np.float64)
        weight = weight * scale[:, None]
        weight[..., 0] += np.asarray(query.shift, np.float64)
        # a density narrower than the spacing of numbers at its mean could not be found again by any datum
        least = np.finfo(jnp.result_type(float)).eps * np.abs(weight[..., 0])
        covariance = self.covariance.rescaled(scale, least)
        return replace(self, weight=jax.device_put(weight.astype(jnp.result_type(float))), covariance=covariance)

    def parameters(self) -> int:
        components, size, inputs = self._weight().shape
        return components * size * inputs + self.covariance.parameters(components, size)


def _above_rounding(scatter: Float[Array, "K ..."], raw: Float[Array, "K ..."]) -> Float[Array, "K ..."]:
    """Variances that are differences of ``raw`` sums, no smaller than those sums' rounding (and so never negative).

    Few enough digits that a variance held here is too sharp for fast sums, so that a fit goes on with careful ones.
    """
    least = 16.0 * jnp.finfo(raw.dtype).eps
    if scatter.ndim == 2:
        return jnp.maximum(scatter, least * raw)
    i = np.arange(scatter.shape[-1])
    return scatter.at[:, i, i].max(least * raw[:, i, i])


def _keep(new: Covariance, old: Covariance, alive: Bool[Array, " K"]) -> Covariance:
    """The new covariances, but an expert without data keeps what it had (a shared one always has data)."""

    def choose(after: Array, before: Array) -> Array:
        shared = after.shape[0] != alive.shape[0]
        return after if shared else jnp.where(alive.reshape(-1, *[1] * (after.ndim - 1)), after, before)

    return jax.tree.map(choose, new, old)
