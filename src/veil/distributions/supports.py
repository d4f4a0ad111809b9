"""Which numbers have a density: what a distribution gives -inf outside of, and what a head refuses to be fitted to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

Entry = Any  # numbers, of numpy or of JAX


@dataclass(frozen=True)
class Support:
    """The numbers an entry may be: in ``words``; ``contains(y)`` of each; ``inside`` is one of them."""

    words: str
    contains: Callable[[Entry], Entry]
    inside: float

    def log_density(self, of: Callable[[Array], Array], value: Num[Array, "..."]) -> Float[Array, "..."]:
        """``of(value)`` inside, -inf outside; the gradient is finite in both."""
        inside = self.contains(value)
        return jnp.where(inside, of(jnp.where(inside, value, jnp.asarray(self.inside, value.dtype))), -jnp.inf)

    def held(self, value: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Numbers at the device's precision; what it would round to the support's edge goes to the nearest inside."""
        held, tiny = np.asarray(value, dtype), np.finfo(dtype).tiny
        if self is REAL:
            return held
        seen = np.where(np.abs(held) < tiny, dtype.type(0), held)  # processors read denormals as zero
        outside = ~np.asarray(self.contains(seen))
        if not np.any(outside):  # the usual case, without a second copy of all data
            return held
        lost = outside & self.contains(np.asarray(value, np.float64))
        nearest = np.nextafter(held, dtype.type(self.inside))
        return np.where(lost, np.where(np.abs(nearest) < tiny, tiny, nearest), held)


def _whole(y: Entry) -> Entry:
    return (y >= 0) & (y % 1 == 0)


REAL = Support("numbers", lambda y: y == y, 0.0)
COUNTS = Support("counts 0, 1, 2, ...", lambda y: _whole(y) & (y < np.inf), 0.0)
BITS = Support("values 0 or 1", lambda y: (y == 0) | (y == 1), 0.0)
SHARES = Support("values from 0 to 1", lambda y: (y >= 0) & (y <= 1), 0.0)
FRACTIONS = Support("values strictly between 0 and 1", lambda y: (y > 0) & (y < 1), 0.5)
POSITIVE = Support("values above 0", lambda y: (y > 0) & (y < np.inf), 1.0)
ANGLES = Support("angles from -π to π", lambda y: abs(y) <= float(np.float32(np.pi)), 0.0)


def categories(count: int) -> Support:
    """Whole numbers 0..count - 1."""
    return Support(f"whole numbers from 0 to {count - 1}", lambda y: _whole(y) & (y < count), 0.0)


def parts_of(total: int) -> Support:
    """What one of several counts with a known sum may be."""
    return Support(f"counts that add up to {total}", lambda y: _whole(y) & (y <= total), 0.0)


def strictly(low: float, high: float) -> Support:
    """Numbers between two finite ones, whose place between them is neither 0 nor 1 as far as precision tells."""
    if (low, high) == (0.0, 1.0):
        return FRACTIONS

    def contains(y: Entry) -> Entry:
        share = (y - low) / (high - low)
        return (share > 0) & (share < 1)

    return Support(f"values strictly between {low:g} and {high:g}", contains, 0.5 * (low + high))


def between(low: float, high: float) -> Support:
    """Numbers from ``low`` to ``high``, one of which may be infinite."""
    inside = low if np.isfinite(low) else high
    return Support(f"values from {low:g} to {high:g}", lambda y: (y >= low) & (y <= high) & (abs(y) < np.inf), inside)


def grid(low: float, high: float, levels: int) -> Support:
    """``levels`` numbers at equal distances from ``low`` to ``high``, to a thousandth of a level or rounding."""

    def contains(y: Entry) -> Entry:
        steps = (y - low) / (high - low) * (levels - 1)
        loose = max(1e-3, 4 * levels * float(np.finfo(steps.dtype).eps))
        return (abs(steps - steps.round()) <= loose) & (steps > -0.5) & (steps < levels - 0.5)

    return Support(f"one of {levels} levels from {low:g} to {high:g}", contains, low)
