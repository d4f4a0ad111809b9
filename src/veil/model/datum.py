"""ONE datum: what is scored, what is given, and what real data brings."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from veil.maths import markov

# A batch of data is a Datum of numpy arrays while it is on the host; on the device, and to a model, of JAX arrays.
if TYPE_CHECKING:
    Leaf = Array
else:
    Leaf = Array | np.ndarray


class Datum(eqx.Module):
    """ONE datum: what is scored, what is given, and what real data brings. (Outside ``vmap``, a batch of them.)

    ``query`` y and ``evidence`` x (or None) are trees: an array [*query], or a dictionary of them. ``weight``: how
    many times the datum counts (None: once); ``observed``: a tree like the query's of bools, which entries are present
    (None: all); ``index``: its row in the data.

    Of a sequence, query [T, ...] and evidence [T, ...]: ``mask`` bool [T], which steps are not padding (None: all), and
    ``reset`` bool [T], which steps start an episode (None: the first one). What follows from these is in ``starts``
    and ``there``. ``begin``: what is known before the first step, for a window that goes on with an episode (a
    posterior's ``Belief``; None: an episode starts).
    """

    query: Any
    evidence: Any = None
    weight: Float[Leaf, "*batch"] | None = None
    observed: Any = None
    index: Int[Leaf, "*batch"] | None = None
    mask: Bool[Leaf, "*steps"] | None = None
    reset: Bool[Leaf, "*steps"] | None = None
    begin: Any = None

    def __len__(self) -> int:
        """Of a sequence its steps; of a batch its data."""
        return int(jax.tree.leaves(self.query)[0].shape[0])

    @property
    def there(self) -> Bool[Array, " T"]:
        """Of a sequence, which steps are there (not padding)."""
        return markov.steps(len(self), self.mask, self.reset, self._fresh())[1]

    @property
    def starts(self) -> Bool[Array, " T"]:
        """Of a sequence, which steps that are there start an episode."""
        return markov.steps(len(self), self.mask, self.reset, self._fresh())[0]

    def _fresh(self) -> Bool[Array, ""] | None:
        """Whether the first step starts an episode without a reset; None: it does."""
        return None if self.begin is None else self.begin.fresh

    def each_step(self) -> "Datum":
        """The fields that every step has, to be mapped over."""
        return Datum(self.query, self.evidence, observed=self.observed)

    def led(self) -> "Datum":
        """Of a sequence, with zeros in the place of evidence where an episode starts: no action led there."""
        return replace(self, evidence=led(self.evidence, self.starts))

    def rows(self, chosen: Any) -> "Datum":
        """Of a batch, some of the data (any index)."""
        return jax.tree.map(lambda leaf: leaf[chosen], self)


def led(evidence: Any, starts: Bool[Array, "*steps"]) -> Any:
    """Evidence that led to its steps: zeros where an episode starts."""

    def one(leaf: Array) -> Array:
        return jnp.where(starts.reshape(*starts.shape, *[1] * (leaf.ndim - starts.ndim)), jnp.zeros_like(leaf), leaf)

    return jax.tree.map(one, evidence)


def frozen(tree: Any) -> Any:
    """The same model, posterior or array, through which no gradient passes."""
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf, tree)
