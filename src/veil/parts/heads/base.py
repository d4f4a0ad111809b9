"""What a head is, and how an encoder is shown the values that it scores."""

from abc import abstractmethod
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from veil import distributions
from veil.distributions import Distribution, Support, supports
from veil.model.abilities import Space
from veil.model.scales import Scale

Seen = Bool[Array, "*event"] | None  # which entries are there; None: all
Shape = Any  # of an array (3, 2); of a tree as ``frozen_shape`` has it


class Head(Space):
    """vector [size(shape)] -> Distribution over an event of ``shape``.

    ``features`` and ``from_sums`` give method-of-moments parameters from sums over data: the start of a gradient fit
    and, where ``closed_form``, the maximum-likelihood answer, so that EM has a closed-form M-step. There
    log p(y) = Σ features(y) · coefficients(vector) + what does not depend on the vector: the exponential family's form.
    """

    closed_form: ClassVar[bool] = False
    per_entry: ClassVar[int] = 1  # how many numbers parameterise an entry
    name: ClassVar[str] = "this head"  # in messages
    advice: ClassVar[str] = "choose another head"

    @property
    def support(self) -> Support:
        """What an entry of the query may be."""
        return supports.REAL

    def size(self, shape: Shape) -> int:
        """How many numbers parameterise an event of this shape."""
        return self.per_entry * int(np.prod(shape))

    def free(self, shape: Shape) -> int:
        """How many of those numbers are free: all, unless several vectors stand for one distribution."""
        return self.size(shape)

    @abstractmethod
    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        """The distribution those numbers stand for."""

    def log_probs(self, vectors: Float[Array, "K size"], shape: Shape, query: Any, observed: Any) -> Float[Array, " K"]:
        """log p(query) of each vector's distribution, nats."""
        return jax.vmap(lambda vector: distributions.log_prob(self(vector, shape), query, observed))(vectors)

    def arranged(self, numbers: Float[Array, "*event per_entry"]) -> Float[Array, " size"]:
        """The vector from the numbers that belong to each entry, size / entries of them."""
        return jnp.moveaxis(numbers, -1, 0).ravel()

    def features(self, query: Any, observed: Any) -> Any:
        """Per entry [S, *event]: one, the value, its square; zeros where the entry is missing."""
        return present(jnp.stack([jnp.ones_like(query), query, query * query]), observed)

    def pseudo(self, shape: Shape) -> Any:
        """Features of the prior's pseudo-data, one unit of it."""
        return jnp.ones_like(self.features(jnp.zeros(shape), None))

    def backed(self, sums: Any, shape: Shape, units: float) -> Any:
        """Sums of features and so many units of the prior's pseudo-data, where the M-step is closed-form."""
        return sums + units * self.pseudo(shape) if self.closed_form else sums

    @abstractmethod
    def from_sums(self, sums: Any) -> Float[Array, " size"]:
        """The vector whose distribution has these average features."""

    def blank(self, shape: Shape) -> Self:
        """This head with placeholders for whatever parameters of its own it trains (the identity for most)."""
        return self

    def held(self, query: Any, dtype: np.dtype) -> Any:
        return self.support.held(query, dtype)

    def check(self, query: Any, names: tuple[str, ...]) -> None:
        bad = ~np.asarray(self.support.contains(self.held(query, np.dtype(jnp.result_type(float)))))
        if bad.any():
            place = tuple(int(i) for i in np.argwhere(bad)[0])
            column = names[place[1]] if len(place) == 2 and len(names) == query.shape[1] else str(place[1:])
            raise ValueError(
                f"query: {self.name} expects {self.support.words}; column {column} has {query[place]:g} in row "
                f"{place[0]}; {self.advice}"
            )

    def shown(self, query: Float[Array, "*event"]) -> Float[Array, "S *event"]:
        """What an encoder is shown of each entry, where the query is not standardised: see ``view``."""
        return query[None]

    def view(self, query: Any, observed: Any, weight: Float[Array, " M"]) -> Any:
        """How an encoder is shown data like these [M, ...]: ``shown``, standardised; None: as they are."""
        return None if self.real else Showing.of(self, query, observed, weight)


class Showing(eqx.Module):
    """What an encoder is shown of a query: what its ``head`` says, in units in which these data vary by one.

    Counts of a million, or ten, are all the same to a network then. ``scale``: [S, *event]; None: as it is.
    """

    head: Head
    scale: Scale | None = None

    @staticmethod
    def of(head: Head, query: Array, observed: Any, weight: Float[Array, " M"], together: bool = False) -> "Showing":
        """Of data [M, *event]: each entry's own mean and deviation; ``together``: one of each for all entries."""
        shown = jax.vmap(head.shown)(query)
        there = jnp.ones(query.shape, shown.dtype) if observed is None else observed.astype(shown.dtype)
        there = (there * weight.reshape(-1, *[1] * (query.ndim - 1)))[:, None]
        axes = tuple(range(there.ndim)) if together else 0
        total = lambda values: jnp.sum(jnp.broadcast_to(there, values.shape) * values, axes, keepdims=True)  # noqa: E731
        count = jnp.maximum(total(jnp.ones_like(shown)), 1e-6)
        mean = total(shown) / count
        spread = jnp.sqrt(total((shown - mean) ** 2) / count)
        size = jnp.sqrt(jnp.mean(mean**2 + spread**2, 1, keepdims=True))  # of an entry's numbers: both of an angle's
        spread = jnp.where(spread > 1e-5 * size, spread, 1.0)
        wide = lambda part: jnp.broadcast_to(part[0], shown.shape[1:])  # noqa: E731
        return Showing(head, Scale(wide(mean), wide(spread)))

    def __call__(self, query: Float[Array, "*event"], observed: Seen) -> Float[Array, "S *event"]:
        shown = self.head.shown(query)
        return present(shown if self.scale is None else self.scale.standard(shown), observed)


def viewed(view: Any, query: Any, observed: Any) -> Any:
    """A query as an encoder is shown it, by a ``Showing``, a tree of them or None; zeros where entries are missing."""
    if isinstance(view, dict):
        return {name: viewed(view[name], query[name], None if observed is None else observed[name]) for name in query}
    if view is not None:
        return view(query, observed)
    return query if observed is None else jax.tree.map(lambda y, seen: jnp.where(seen, y, 0.0), query, observed)


def present(features: Float[Array, "S *event"], observed: Seen) -> Float[Array, "S *event"]:
    """Features, zeros where an entry is missing."""
    return features if observed is None else jnp.where(observed[None], features, 0.0)


def moments(sums: Float[Array, "S *event"]) -> tuple[Array, Array]:
    """Mean and standard deviation from the sums of 1, y, y²."""
    count = jnp.maximum(sums[0], 1e-6)
    mean = sums[1] / count
    return mean, jnp.sqrt(jnp.maximum(sums[2] / count - mean * mean, 1e-4))
