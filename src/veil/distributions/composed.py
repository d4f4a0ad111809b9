"""Distributions made of others: two levels, a flow, parts by name, other units. They can what their parts can."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil.distributions import supports
from veil.distributions.asking import central, kl_entries, log_prob, moments
from veil.distributions.protocol import (
    Central,
    Composed,
    Distribution,
    Divergence,
    Finite,
    Marginals,
    Moments,
    Reparameterised,
)
from veil.distributions.supports import Support


class Chained(Distribution, Central, Reparameterised, Composed):
    """Two levels in one vector: the first ``size`` entries from ``first``, the rest from ``then(first's value)``."""

    first: Any
    then: Callable[[Float[Array, " A"]], Any]
    size: int = eqx.field(static=True)

    def sample(self, key: PRNGKeyArray) -> Float[Array, " D"]:
        key_first, key_then = jax.random.split(key)
        first = self.first.sample(key_first)
        return jnp.concatenate([first, self.then(first).sample(key_then)])

    def log_prob(self, value: Float[Array, " A"]) -> Float[Array, ""]:
        first, rest = value[: self.size], value[self.size :]
        return self.first.log_prob(first) + self.then(first).log_prob(rest)

    def made_of(self) -> tuple[Any, Any]:
        return self.first, eqx.filter_eval_shape(lambda: self.then(jnp.zeros(self.size)))

    def central(self) -> Float[Array, " D"]:
        first = central(self.first)
        return jnp.concatenate([first, central(self.then(first))])


class Pushed(Distribution, Central, Reparameterised, Composed):
    """T(e) for e from ``base``, T an invertible ``flow``: log p(z) = log base(T⁻¹(z)) + log |det dT⁻¹/dz|."""

    base: Any
    flow: Any

    def sample(self, key: PRNGKeyArray) -> Float[Array, " L"]:
        return self.flow.forward(self.base.sample(key))[0]

    def log_prob(self, value: Float[Array, " L"]) -> Float[Array, ""]:
        before, log_determinant = self.flow.inverse(value)
        return self.base.log_prob(before) + log_determinant

    def made_of(self) -> tuple[Any]:
        return (self.base,)

    def central(self) -> Float[Array, " L"]:
        return self.flow.forward(central(self.base))[0]


class Joint(Distribution, Moments, Marginals, Central, Composed):
    """Independent parts by name: a value is a dictionary. log p(y) = Σ_name log p(y[name]), nats.

    >>> from veil import distributions
    >>> both = Joint({"a": distributions.normal(jnp.zeros(2), jnp.ones(2)), "b": distributions.bernoulli(jnp.zeros(1))})
    >>> round(float(both.log_prob({"a": jnp.zeros(2), "b": jnp.ones(1)})), 4)
    -2.531
    """

    parts: dict[str, Any]

    @property
    def mean(self) -> dict[str, Any]:
        return {name: moments(part)[0] for name, part in self.parts.items()}

    @property
    def variance(self) -> dict[str, Any]:
        return {name: moments(part)[1] for name, part in self.parts.items()}

    def central(self) -> dict[str, Any]:
        return {name: central(part) for name, part in self.parts.items()}

    def sample(self, key: PRNGKeyArray) -> dict[str, Any]:
        keys = zip(sorted(self.parts), jax.random.split(key, len(self.parts)), strict=True)
        draws = {name: self.parts[name].sample(key) for name, key in keys}
        return jax.tree.map(lambda draw: draw.astype(jnp.result_type(float)), draws)

    def made_of(self) -> tuple[Any, ...]:
        return tuple(self.parts.values())

    def log_prob(self, value: dict[str, Any]) -> Float[Array, ""]:
        return self.observed_log_prob(value, None)

    def observed_log_prob(self, value: dict[str, Any], observed: dict[str, Any] | None) -> Float[Array, ""]:
        """The sum of the parts' log-probabilities, of the entries that are present."""
        present = {} if observed is None else observed
        scores = [log_prob(part, value[name], present.get(name)) for name, part in self.parts.items()]
        return jnp.sum(jnp.stack(scores))


class Affine(Distribution, Moments, Marginals, Finite, Central, Divergence, Reparameterised, Composed):
    """y = shift + scale ⊙ b for b from ``base``: log p(y) = log p_base((y - shift) / scale) - Σ log |scale| (nats).

    ``shift`` and ``scale`` (not zero) are shaped as the event: an array, or a tree of arrays as the base's event is. Of
    missing entries neither the base's marginal nor the Jacobian has a share. Moments, support, KL, ... are the base's,
    moved; TypeError, which names the base, where it does not know them.

    >>> from veil import distributions
    >>> unit = distributions.normal(jnp.zeros(2), jnp.ones(2))
    >>> moved = Affine(unit, shift=jnp.array([10.0, 0.0]), scale=jnp.array([2.0, 1.0]))
    >>> moved.mean.tolist(), moved.variance.tolist()
    ([10.0, 0.0], [4.0, 1.0])
    >>> round(float(moved.log_prob(jnp.array([10.0, 0.0])) - unit.log_prob(jnp.zeros(2))), 4)
    -0.6931
    """

    base: Any
    shift: Any
    scale: Any

    def _moved(self, value: Any) -> Any:
        return jax.tree.map(lambda b, shift, scale: shift + scale * b, value, self.shift, self.scale)

    def _before(self, value: Any) -> Any:
        return jax.tree.map(lambda y, shift, scale: (y - shift) / scale, value, self.shift, self.scale)

    def made_of(self) -> tuple[Any]:
        return (self.base,)

    def sample(self, key: PRNGKeyArray) -> Any:
        return self._moved(self.base.sample(key))

    def log_prob(self, value: Any) -> Float[Array, ""]:
        return self.observed_log_prob(value, None)

    def observed_log_prob(self, value: Any, observed: Any) -> Float[Array, ""]:
        logs = jax.tree.map(lambda scale: jnp.log(jnp.abs(scale)), self.scale)
        if observed is not None:
            logs = jax.tree.map(lambda log, seen: jnp.where(seen, log, 0.0), logs, observed)
        return log_prob(self.base, self._before(value), observed) - sum(map(jnp.sum, jax.tree.leaves(logs)))

    @property
    def mean(self) -> Any:
        return self._moved(moments(self.base)[0])

    @property
    def variance(self) -> Any:
        return jax.tree.map(lambda variance, scale: scale**2 * variance, moments(self.base)[1], self.scale)

    def central(self) -> Any:
        return self._moved(central(self.base))

    @property
    def values(self) -> int:
        return self.base.values

    def enumerate_support(self) -> Any:
        return jax.vmap(self._moved)(self.base.enumerate_support())

    def kl_entries(self, other: Any) -> Float[Array, " G"] | None:
        """The bases' KL, which no change of units changes, where shift and scale are the same; else None.

        They are the same if they are the same arrays, or known (not traced) and equal.
        """
        if not isinstance(other, Affine):
            return None
        here, there = ((each.shift, each.scale) for each in (self, other))
        same = jax.tree.all(jax.tree.map(_same, here, there))
        return kl_entries(self.base, other.base) if same else None


class Squashed(Distribution, Marginals, Central, Reparameterised, Composed):
    """y = low + (high - low) σ(b) for b from ``base``: log p(y) = log p_base(b) - Σ log |dy/db|, nats, strictly inside.

    dy/db = (y - low) (high - y) / (high - low); both distances to the ends are kept, so that neither cancels. A draw
    that rounds to an end is the nearest number inside.

    >>> from veil import distributions
    >>> y = Squashed(distributions.normal(jnp.zeros(1), jnp.ones(1)), -1.0, 1.0)
    >>> round(float(y.log_prob(jnp.zeros(1))), 4), float(y.log_prob(jnp.ones(1)))
    (-0.2258, -inf)
    """

    base: Any
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)

    @property
    def support(self) -> Support:
        return supports.strictly(self.low, self.high)

    def made_of(self) -> tuple[Any]:
        return (self.base,)

    def _squashed(self, value: Float[Array, "*event"]) -> Float[Array, "*event"]:
        made = self.low + (self.high - self.low) * jax.nn.sigmoid(value)
        least = np.finfo(made.dtype).eps * (self.high - self.low)
        low, high = (max(least, float(np.spacing(made.dtype.type(abs(end))))) for end in (self.low, self.high))
        return jnp.clip(made, self.low + low, self.high - high)

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*event"]:
        return self._squashed(self.base.sample(key))

    def central(self) -> Float[Array, "*event"]:
        """Where the base's central value goes: of independent symmetric entries their medians."""
        return self._squashed(central(self.base))

    def log_prob(self, value: Float[Array, "*event"]) -> Float[Array, ""]:
        return self.observed_log_prob(value, None)

    def observed_log_prob(self, value: Float[Array, "*event"], observed: Any) -> Float[Array, ""]:
        inside = self.support.contains(value)
        safe = jnp.where(inside, value, jnp.asarray(self.support.inside, value.dtype))
        below, above = jnp.log(safe - self.low), jnp.log(self.high - safe)
        slopes = below + above - jnp.log(self.high - self.low)
        seen = jnp.ones(value.shape, bool) if observed is None else observed
        found = log_prob(self.base, below - above, observed) - jnp.sum(jnp.where(seen, slopes, 0.0))
        return jnp.where(jnp.all(inside | ~seen), found, -jnp.inf)


def _same(a: Any, b: Any) -> bool:
    traced = isinstance(a, jax.core.Tracer) or isinstance(b, jax.core.Tracer)
    return a is b or (not traced and np.array_equal(a, b))
