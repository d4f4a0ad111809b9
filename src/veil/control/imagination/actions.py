"""What the actions of a policy are, vectors within bounds or one of several: π(a | s) from a network's numbers."""

import math
from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil.distributions import Distribution
from veil.maths.gaussian import LOG_2PI
from veil.saved.registry import register

REACH = 5.0  # of a mean before it is squashed: 1 - σ(5) is 0.7 %, and draws keep their digits


class Decision(Distribution):
    """π(a | s). Draws are differentiable in its numbers, straight through where an action is one of several."""

    @abstractmethod
    def central(self) -> Float[Array, " U"]:
        """The action that stands for all: the median of each number, the likeliest of several."""

    @abstractmethod
    def entropy(self, key: PRNGKeyArray) -> Float[Array, ""]:
        """H[π], nats, of vectors scaled to -1..1; exact, or an unbiased estimate whose gradient is, too."""


class Actions(eqx.Module):
    """A strategy: of what kind actions are."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many numbers an action has."""

    @property
    @abstractmethod
    def numbers(self) -> int:
        """How many numbers of a network say π."""

    @property
    @abstractmethod
    def free(self) -> int:
        """How many times a temperature's target of entropy counts: once for each number that is chosen freely."""

    @property
    @abstractmethod
    def continuous(self) -> bool:
        """Whether a small change of an action is an action."""

    @abstractmethod
    def decision(self, vector: Float[Array, " P"]) -> Decision:
        """π(a | s)."""


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in np.ravel(np.asarray(values)))


@register(name="veil.control.Within")
class Within(Actions):
    """Vectors between ``low`` and ``high`` [U], the problem's own: normals squashed by a sigmoid, each on its own.

    a = low + (high - low) σ(b), b ~ N(5 tanh(m / 5), (log(1 + exp(s + 0.54)) + least)²) from [m, s]: of a scale about
    one at first. Hafner et al. 2020, section 3; Haarnoja et al. 2018, appendix C.

    >>> Within([-2.0], [2.0]).decision(jnp.zeros(2)).central().tolist()
    [0.0]
    """

    low: tuple[float, ...] = eqx.field(static=True, converter=_floats)
    high: tuple[float, ...] = eqx.field(static=True, converter=_floats)
    least: float = eqx.field(static=True, default=0.05)

    def __check_init__(self) -> None:
        ends = list(zip(self.low, self.high, strict=False))
        if len(self.low) != len(self.high) or not ends or not all(-np.inf < a < b < np.inf for a, b in ends):
            raise ValueError(
                f"low, high: expected two vectors of finite numbers, low < high; got {self.low} and {self.high}"
            )
        if not self.least > 0:
            raise ValueError(f"least: expected a positive scale; got {self.least!r}")

    @property
    def size(self) -> int:
        return len(self.low)

    @property
    def numbers(self) -> int:
        return 2 * len(self.low)

    @property
    def free(self) -> int:
        return len(self.low)

    @property
    def continuous(self) -> bool:
        return True

    def decision(self, vector: Float[Array, " P"]) -> "SquashedNormal":
        place, spread = jnp.split(vector, 2)
        scale = jax.nn.softplus(spread + math.log(math.e - 1.0)) + self.least
        low, high = (jnp.asarray(end, vector.dtype) for end in (self.low, self.high))
        return SquashedNormal(REACH * jnp.tanh(place / REACH), scale, low, high)


class SquashedNormal(Decision):
    """a = low + (high - low) σ(b), b ~ N(location, scale²), all [U]."""

    location: Float[Array, " U"]
    scale: Float[Array, " U"]
    low: Float[Array, " U"]
    high: Float[Array, " U"]

    def sample(self, key: PRNGKeyArray) -> Float[Array, " U"]:
        return self._squashed(self.location + self.scale * jax.random.normal(key, self.scale.shape, self.scale.dtype))

    def central(self) -> Float[Array, " U"]:
        return self._squashed(self.location)

    def _squashed(self, inside: Float[Array, " U"]) -> Float[Array, " U"]:
        return self.low + (self.high - self.low) * jax.nn.sigmoid(inside)

    def log_prob(self, value: Float[Array, " U"]) -> Float[Array, ""]:
        """Of an action in its own units; of one that rounds to an end, of the nearest number that does not."""
        width, tiny = self.high - self.low, jnp.finfo(value.dtype).eps
        share = jnp.clip((value - self.low) / width, tiny, 1.0 - tiny)
        inside = jnp.log(share) - jnp.log1p(-share)
        white = (inside - self.location) / self.scale
        each = -0.5 * (white**2 + LOG_2PI) - jnp.log(self.scale) - _log_slope(inside) + jnp.log(2.0 / width)
        return jnp.sum(each)

    def entropy(self, key: PRNGKeyArray) -> Float[Array, ""]:
        """Σ ½ log(2π e s²) + E[log |dy/db|], the last by a draw and its mirror image."""
        away = self.scale * jax.random.normal(key, self.scale.shape, self.scale.dtype)
        slopes = 0.5 * (_log_slope(self.location + away) + _log_slope(self.location - away))
        return jnp.sum(0.5 * (1.0 + LOG_2PI) + jnp.log(self.scale) + slopes)


def _log_slope(inside: Float[Array, " U"]) -> Float[Array, " U"]:
    """log |dy/db| of y = 2 σ(b) - 1."""
    return math.log(2.0) + jax.nn.log_sigmoid(inside) + jax.nn.log_sigmoid(-inside)


@register(name="veil.control.OneOf")
class OneOf(Actions):
    """One of ``count`` actions, a one-hot row [count]: logits, of whose probabilities ``even`` is shared by all alike.

    So no action is ever given up, and no log π is infinite. Hafner et al. 2023, section "Actor learning" (1 %).

    >>> OneOf(4, even=0.0).decision(jnp.array([0.0, 3.0, 0.0, 0.0])).central().tolist()
    [0.0, 1.0, 0.0, 0.0]
    """

    count: int = eqx.field(static=True)
    even: float = eqx.field(static=True, default=0.01)

    def __check_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 2:
            raise ValueError(f"count: expected a whole number of actions, 2 or more; got {self.count!r}")
        if not 0 <= self.even < 1:
            raise ValueError(f"even: expected a share from 0 to below 1; got {self.even!r}")

    @property
    def size(self) -> int:
        return self.count

    @property
    def numbers(self) -> int:
        return self.count

    @property
    def free(self) -> int:
        return 1

    @property
    def continuous(self) -> bool:
        return False

    def decision(self, vector: Float[Array, " P"]) -> "Chosen":
        if not self.even:
            return Chosen(jax.nn.log_softmax(vector))
        shares = (1.0 - self.even) * jax.nn.softmax(vector) + self.even / self.count
        return Chosen(jnp.log(shares))


class Chosen(Decision):
    """A one-hot row, of log-probabilities [U]. A draw's gradient is that of the probabilities (Bengio et al. 2013)."""

    logs: Float[Array, " U"]

    def sample(self, key: PRNGKeyArray) -> Float[Array, " U"]:
        return through(jax.random.categorical(key, self.logs), self.logs)

    def central(self) -> Float[Array, " U"]:
        return jax.nn.one_hot(jnp.argmax(self.logs), len(self.logs), dtype=self.logs.dtype)

    def log_prob(self, value: Float[Array, " U"]) -> Float[Array, ""]:
        return jnp.sum(jnp.where(value > 0.5, self.logs, 0.0))

    def entropy(self, key: PRNGKeyArray) -> Float[Array, ""]:
        return -jnp.sum(jnp.where(self.logs > -jnp.inf, jnp.exp(self.logs) * self.logs, 0.0))


def through(drawn: Any, logs: Float[Array, "*n C"]) -> Float[Array, "*n C"]:
    """One-hot rows of what was drawn, with the gradient of the probabilities, straight through."""
    chances = jnp.exp(logs)
    one = jax.nn.one_hot(drawn, logs.shape[-1], dtype=logs.dtype)
    return jax.lax.stop_gradient(one) + (chances - jax.lax.stop_gradient(chances))
