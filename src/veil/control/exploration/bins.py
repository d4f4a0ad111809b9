"""Numbers as few whole ones, for what counts them."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from veil.model.checks import whole


def _ends(values: Any) -> Any:
    """One number, or one for each entry, that can be compared and hashed."""
    flat = np.ravel(np.asarray(values, float)).tolist()
    return flat[0] if np.ndim(values) == 0 else tuple(flat)


class Bins(eqx.Module):
    """``count`` equal bins from ``low`` up to ``high``, the same for every entry or one of each: which one x_i is in.

    What lies beyond an end is in the last bin there. Whole numbers 0 .. K - 1 are ``Bins(K, 0, K)``, bytes
    ``Bins(8, 0, 256)``. Raises ValueError for a range that is empty.

    >>> Bins(4)(jnp.array([-1.0, 0.3, 0.5, 7.0])).tolist()
    [0, 1, 2, 3]
    """

    count: int = eqx.field(static=True, default=8)
    low: Any = eqx.field(static=True, default=0.0, converter=_ends)
    high: Any = eqx.field(static=True, default=1.0, converter=_ends)

    def __check_init__(self) -> None:
        whole("count", self.count)
        width = np.subtract(self.high, self.low)
        if not (np.isfinite(width) & (width > 0)).all():
            raise ValueError(f"high: expected numbers above low={self.low!r}; got {self.high!r}")

    def __call__(self, x: Any) -> Int[Array, " P"]:
        """The bins of all entries of a tree, in a row; in the order of its leaves."""
        values = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(x)]).astype(float)
        low, high = (
            jnp.asarray(self._each(name, end, values.size)) for name, end in (("low", self.low), ("high", self.high))
        )
        share = (values - low) / (high - low)
        return jnp.clip(jnp.floor(share * self.count), 0, self.count - 1).astype(jnp.int32)

    def _each(self, name: str, ends: Any, size: int) -> np.ndarray:
        if isinstance(ends, tuple) and len(ends) != size:
            raise ValueError(f"{name}: expected one number, or one for each of the {size} entries; got {len(ends)}")
        return np.broadcast_to(np.asarray(ends, jnp.result_type(float)), (size,))


def entries(tree: Any) -> int:
    """How many numbers a tree has."""
    return sum(math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(tree))
