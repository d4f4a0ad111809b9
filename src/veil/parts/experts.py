"""Experts: p(y | x, z) for K values of z, from features φ = [1, h] of the evidence."""

from abc import abstractmethod
from dataclasses import replace
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.maths import linear
from veil.maths.gaussian import evaluate, pack_outer, pack_quadratic, packed_size, unpack_symmetric
from veil.model.abilities import RealLine, Redundant, Space, free_parameters, parameter
from veil.model.scales import Scale, rescale_features
from veil.parts.covariance import Covariance, Full
from veil.parts.heads import Head
from veil.parts.statistics import Outer

Latent = Int[Array, ""] | int
Observed = Any  # bool, a tree like the query; None: all entries are present


class Experts(Redundant):
    """K conditional densities over the same query."""

    @property
    @abstractmethod
    def sees(self) -> bool:
        """Whether they look at evidence, where there is some."""

    @property
    @abstractmethod
    def inputs(self) -> int:
        """How many numbers of evidence they have weights for."""

    @property
    @abstractmethod
    def closed_form(self) -> bool:
        """Whether ``statistics`` and ``maximise`` give the exact M-step."""

    @property
    @abstractmethod
    def space(self) -> Space:
        """Where the query lives."""

    @property
    @abstractmethod
    def query_shape(self) -> Any:
        """The shape of one datum's query, of experts with parameters."""

    @abstractmethod
    def blank(self, components: int, features: int, shape: Any) -> Self:
        """Experts with placeholder parameters of the right shapes."""

    @abstractmethod
    def distribution(self, latent: Latent, features: Float[Array, " P"]) -> Distribution:
        """p(y | φ, z)."""

    @abstractmethod
    def log_probs(self, query: Any, features: Float[Array, " P"], observed: Observed) -> Float[Array, " K"]:
        """log p(y | φ, z) of every z (nats, exact)."""

    @abstractmethod
    def statistics(
        self,
        query: Any,
        features: Float[Array, " P"],
        observed: Observed,
        weights: Float[Array, " K"],
    ) -> Any:
        """One datum's expected sufficient statistics under posterior weights r [K]."""

    @abstractmethod
    def maximise(self, sums: Any) -> Self:
        """The experts that maximise the expected log-likelihood plus log-prior."""

    @abstractmethod
    def log_prior(self) -> Float[Array, ""]:
        """The penalty that ``maximise`` includes (nats)."""

    @abstractmethod
    def rescaled(self, query: Scale | None, evidence: Scale | None) -> Self | None:
        """The same experts in the user's units; None if they cannot be written in them."""

    def recentred(self, sums: Any, to: Self) -> Any:
        """Sums that were taken under these experts as sums under ``to``, for running averages."""
        return sums

    def scattered(self, key: PRNGKeyArray) -> Self:
        """The same experts with whatever randomness a gradient fit should start from."""
        return self

    def largest_precision(self) -> Float[Array, ""] | float:
        """The largest precision along any direction."""
        return 0.0

    def with_expanded_sums(self, expanded: bool) -> Self:
        """The same experts, their sums computed the fast way or the careful one, where they know two."""
        return self


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
        if self.covariance.dense:
            return pack_outer(jnp.concatenate([features, query]))
        return jnp.concatenate([pack_outer(features), jnp.outer(features, query).ravel(), query * query])

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


class Linear(Experts):
    """y | x, z ~ head(W_z [1, h(x)]): any head, linear in the features of a trunk; without evidence K constant vectors.

    EM is closed-form for constant vectors of heads that are (Bernoulli, categorical, Poisson), with ``pseudo`` units of
    pseudo-data for each expert as the prior that keeps every probability and rate above zero; all else is trained
    by gradients. Weight [K, size, P].
    """

    head: Head
    evidence: bool = eqx.field(static=True, default=True)
    pseudo: float = eqx.field(static=True, default=1e-3)
    shape: Any = eqx.field(static=True, default=())
    weight: Float[Array, "K S P"] | None = parameter()

    @property
    def closed_form(self) -> bool:
        constant = not self.evidence or (self.weight is not None and self.weight.shape[-1] == 1)
        return self.head.closed_form and constant

    @property
    def space(self) -> Space:
        return self.head

    @property
    def sees(self) -> bool:
        return self.evidence

    @property
    def inputs(self) -> int:
        return 0 if self.weight is None else self.weight.shape[-1] - 1

    @property
    def query_shape(self) -> Any:
        return self.shape

    def _weight(self) -> Float[Array, "K S P"]:
        if self.weight is None:
            raise ValueError("these experts have no parameters yet: call veil.fit on the model first")
        return self.weight

    def blank(self, components: int, features: int, shape: Any) -> "Linear":
        inputs = features if self.evidence else 1
        weight = jnp.zeros((components, self.head.size(shape), inputs))
        return replace(self, weight=weight, head=self.head.blank(shape), shape=shape)

    def scattered(self, key: PRNGKeyArray) -> "Linear":
        """The same experts with small random slopes (Glorot's scale), where a gradient fit starts."""
        weight = self._weight()
        _, outputs, inputs = weight.shape
        limit = (6.0 / (inputs + outputs)) ** 0.5
        slopes = jax.random.uniform(key, weight.shape, weight.dtype, -limit, limit)
        return replace(self, weight=jnp.concatenate([weight[..., :1], slopes[..., 1:]], -1))

    def _vectors(self, features: Float[Array, " P"]) -> Float[Array, "K S"]:
        weight = self._weight()
        return weight @ features[: weight.shape[-1]]

    def distribution(self, latent: Latent, features: Float[Array, " P"]) -> Distribution:
        return self.head(self._vectors(features)[latent], self.shape)

    def moved_by(self, numbers: Float[Array, " M"]) -> Distribution:
        """p(y) of the one constant vector plus numbers for each entry in turn, flat: [*shape, per entry]."""
        return self.plus(self.head.arranged(numbers.reshape(*self.shape, -1)))

    def plus(self, vector: Float[Array, " S"]) -> Distribution:
        """p(y) of the one constant vector plus another."""
        return self.head(self._weight()[0, :, 0] + vector, self.shape)

    def log_probs(self, query: Any, features: Float[Array, " P"], observed: Observed) -> Float[Array, " K"]:
        if self.closed_form:  # one matrix product with the exponential family's coefficients
            head: Any = self.head
            coefficients = jax.vmap(lambda vector: head.coefficients(vector, self.shape).ravel())(
                self._weight()[..., 0]
            )
            return coefficients @ head.features(query, observed).ravel() + head.base(query, observed)
        vectors = self._vectors(features)
        return jax.vmap(lambda vector: distributions.log_prob(self.head(vector, self.shape), query, observed))(vectors)

    def statistics(
        self,
        query: Any,
        features: Float[Array, " P"],
        observed: Observed,
        weights: Float[Array, " K"],
    ) -> Any:
        return (jax.tree.map(lambda leaf: Outer(weights, leaf.ravel()), self.head.features(query, observed)),)

    def maximise(self, sums: Any) -> "Linear":
        """Constant vectors with the data's average features: maximum likelihood where closed-form, else a start."""
        head: Any = self.head
        shaped = _shaped(sums[0], self.shape)
        if head.closed_form:
            shaped = shaped + self.pseudo * head.pseudo(self.shape)[None]
        constant = jax.vmap(head.from_sums)(shaped)
        return replace(self, weight=self._weight().at[..., 0].set(constant))

    def log_prior(self) -> Float[Array, ""]:
        if not self.closed_form:
            return jnp.zeros(())
        head: Any = self.head
        coefficients = jax.vmap(lambda vector: head.coefficients(vector, self.shape))(self._weight()[..., 0])
        return self.pseudo * jnp.sum(coefficients * head.pseudo(self.shape)[None])

    def rescaled(self, query: Scale | None, evidence: Scale | None) -> "Linear | None":
        """Heads know no units: None where the query has some."""
        return None if query is not None else replace(self, weight=rescale_features(self._weight(), evidence))

    def parameters(self) -> int:
        free = self._weight().size * self.head.free(self.shape) // self.head.size(self.shape)
        return free + free_parameters(self.head)


def _shaped(sums: Any, shape: Any) -> Any:
    """Sums of features [K, S · entries] as [K, S, *shape], leaf by leaf."""
    if isinstance(sums, dict):
        shapes = dict(shape)
        return {name: _shaped(sums[name], shapes[name]) for name in sums}
    return sums.reshape(sums.shape[0], -1, *shape)


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


def with_expanded_sums(tree: Any, expanded: bool) -> Any:
    """The same model, the closed-form sums of its experts computed the fast way or the careful one."""
    known = lambda node: isinstance(node, Experts)  # noqa: E731
    return jax.tree.map(lambda node: node.with_expanded_sums(expanded) if known(node) else node, tree, is_leaf=known)


def largest_precision(tree: Any) -> Float[Array, ""]:
    """The largest precision of any expert of a model along any direction: how small a distance it resolves."""
    known = lambda node: isinstance(node, Experts)  # noqa: E731
    found = [node.largest_precision() for node in jax.tree.leaves(tree, is_leaf=known) if known(node)]
    return jnp.max(jnp.stack([jnp.asarray(each) for each in found])) if found else jnp.zeros(())
