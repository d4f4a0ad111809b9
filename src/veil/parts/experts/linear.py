"""Any head, linear in the features."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.distributions import Distribution
from veil.maths.rows import product
from veil.model.abilities import Space, free_parameters, parameter
from veil.model.scales import Scale, rescale_features
from veil.parts.experts.base import Experts, Latent, Observed
from veil.parts.heads import Head
from veil.parts.statistics import Outer


class Linear(Experts):
    """y | x, z ~ head(W_z [1, h(x)]): any head, linear in the features of a trunk; without evidence K constant vectors.

    EM is closed-form for constant vectors of heads that are (Bernoulli, categorical, Poisson), with ``pseudo`` units of
    pseudo-data for each expert as the prior that keeps every probability and rate above zero; all else is trained
    by gradients. Weight [K, size, P]. ``view``: how an encoder is shown the query, if there is one (``heads.Showing``).
    """

    head: Head
    evidence: bool = eqx.field(static=True, default=True)
    pseudo: float = eqx.field(static=True, default=1e-3)
    shape: Any = eqx.field(static=True, default=())
    weight: Float[Array, "K S P"] | None = parameter()
    view: Any = None

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
        rows = weight.reshape(-1, weight.shape[-1])
        return product(features[: rows.shape[1]], rows).reshape(weight.shape[:2])

    def distribution(self, latent: Latent, features: Float[Array, " P"]) -> Distribution:
        return self.head(self._vectors(features)[latent], self.shape)

    def moved_by(self, numbers: Float[Array, " M"]) -> Distribution:
        """p(y) of the one constant vector plus numbers for each entry in turn, flat: [*shape, per entry]."""
        return self.plus(self.head.arranged(numbers.reshape(*self.shape, -1)))

    def plus(self, vector: Float[Array, " S"]) -> Distribution:
        """p(y) of the one constant vector plus another."""
        return self.head(self.constant() + vector, self.shape)

    def constant(self) -> Float[Array, " S"]:
        """The one constant vector."""
        return self._weight()[0, :, 0]

    def log_probs(self, query: Any, features: Float[Array, " P"], observed: Observed) -> Float[Array, " K"]:
        return self.head.log_probs(self._vectors(features), self.shape, query, observed)

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
        constant = jax.vmap(lambda sums: head.from_sums(head.backed(sums, self.shape, self.pseudo)))(shaped)
        if not self.pseudo:  # one without data keeps what it had
            constant = jnp.where(jnp.isnan(constant), self._weight()[..., 0], constant)
        return replace(self, weight=self._weight().at[..., 0].set(constant))

    def log_prior(self) -> Float[Array, ""]:
        if not self.closed_form:
            return jnp.zeros(())
        head: Any = self.head
        if not self.pseudo:
            return jnp.zeros(())
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
