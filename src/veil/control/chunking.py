"""Chunks of actions while they are executed: what is remembered of them, when a new one is made, how several agree."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int


class Underway(eqx.Module):
    """The memory of a policy that needs one.

    ``step`` t of the episode, from 0; ``seen`` [n, ...]: the last observations, as the model sees them; ``chunks`` of
    actions [K, H, ...], as the model has them: that being executed (K = 1), of an ensemble those of the last H steps;
    ``latent``: of a model that draws one for an episode.
    """

    step: Int[Array, ""]
    seen: Any
    chunks: Any
    latent: Any


class Ensemble(eqx.Module):
    """Temporal ensembling: a chunk at every step, and what all of them say of the present step averaged.

    The weights are exp(-``decay`` i), i = 0 for the oldest chunk: with a larger ``decay`` new ones count less.
    Zhao et al. 2023, Learning fine-grained bimanual manipulation, section IV.B. Counts and categories are voted on.
    """

    decay: float = eqx.field(static=True, default=0.01)

    def __check_init__(self) -> None:
        if not 0 <= self.decay < np.inf:
            raise ValueError(f"decay: expected a rate a step that is not negative; got {self.decay!r}")

    def __call__(self, chunks: Any, step: Int[Array, ""], whole: Any) -> Any:
        """The action of a ``step`` from the chunks [H, H, ...] of the last H steps, that of step s in row s mod H."""
        rows = jnp.arange(jax.tree.leaves(chunks)[0].shape[0])
        age = (step - rows) % len(rows)
        order = jnp.minimum(step, len(rows) - 1) - age  # 0 for the oldest, negative where there was none yet
        weight = jnp.where(order >= 0, jnp.exp(-self.decay * order), 0.0)
        weight = weight / jnp.sum(weight)

        def one(leaf: Array, whole: bool) -> Array:
            said = leaf[rows, age]
            if not whole:
                return jnp.tensordot(weight, said, 1)
            votes = jnp.tensordot(weight, (said[:, None] == said[None]).astype(weight.dtype), 1)
            return jnp.take_along_axis(said, jnp.argmax(votes, 0)[None], 0)[0]

        return jax.tree.map(one, chunks, whole)


def renewed(due: Bool[Array, ""], make: Callable[[Any], Any], given: Any, old: Any) -> Any:
    """``make(given)`` where it is ``due``, else ``old``.

    Of several environments that are mapped over nothing is made where it is due in none of them; ``jax.vmap`` of a
    ``lax.cond`` makes all of it at every step. ``given`` holds every array that ``make`` needs.
    """

    @jax.custom_batching.custom_vmap
    def one(due: Array, given: Any, old: Any) -> Any:
        return jax.lax.cond(due, lambda: make(given), lambda: old)

    @one.def_vmap
    def many(size: int, batched: Any, due: Array, given: Any, old: Any) -> Any:
        axes = jax.tree.map(lambda each: 0 if each else None, batched)

        def each(due: Array, given: Any, old: Any) -> Any:
            return jax.tree.map(lambda new, old: jnp.where(due, new, old), make(given), old)

        def kept() -> Any:
            return jax.tree.map(lambda leaf, is_many: leaf if is_many else _wide(leaf, size), old, batched[2])

        every = jax.vmap(each, axes, axis_size=size)
        found = jax.lax.cond(jnp.any(due), lambda: every(due, given, old), kept)
        return found, jax.tree.map(lambda _: True, found)

    return one(due, given, old)


def _wide(leaf: Array, size: int) -> Array:
    return jnp.broadcast_to(leaf, (size, *leaf.shape))


def zeros(make: Callable[[], Any], *lead: Any) -> Any:
    """Zeros like what ``make`` would make, with these axes in front. Nothing is computed."""
    return jax.tree.map(lambda leaf: jnp.zeros((*lead, *leaf.shape), leaf.dtype), jax.eval_shape(make))
