"""Expected sufficient statistics: what closed-form learning sums over data.

They are additive, so weights, missing entries, minibatches, streams and shards are all the same code.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Outer(eqx.Module):
    """One datum's term w_k left_k (⊗ right_k) for each expert k, not multiplied out.

    ``weights`` [K]; ``left`` [A] (the same for all experts) or [K, A]; ``right`` None, [B] or [K, B]. Kept apart, the
    sum over a block of data is one matrix product (4.4 against 7.8 ms for 100k x 20 x 66 as summed outer products).
    """

    weights: Float[Array, " K"]
    left: Float[Array, "..."]
    right: Float[Array, "..."] | None = None


class Steps(eqx.Module):
    """One sequence's term Σ_t w_t left_t ⊗ right_t, not multiplied out.

    ``weights`` [T], ``left`` [T, A], ``right`` [T, B]. The sum over a block is one matrix product over all steps of all
    its sequences, of one expert: [1, A, B].
    """

    weights: Float[Array, " T"]
    left: Float[Array, "T A"]
    right: Float[Array, "T B"]


def contract(terms: Any, weight: Float[Array, " N"]) -> Any:
    """Σ_n weight_n term_n over a block: of each batched ``Outer`` [K, A] or [K, A, B], of ``Steps`` [1, A, B]."""
    term = lambda node: isinstance(node, Outer | Steps)  # noqa: E731
    return jax.tree.map(lambda term: _sum(term, weight), terms, is_leaf=term)


def _sum(term: Outer | Steps, weight: Float[Array, " N"]) -> Array:
    if isinstance(term, Steps):
        weighted = (weight[:, None] * term.weights)[:, :, None] * term.left
        return _einsum("nta,ntb->ab", weighted, term.right)[None]
    weights = term.weights * weight[:, None]
    if term.right is None:
        if term.left.ndim == 2:
            # XLA has fast code for [K, N] x [N, A] and not for [N, K] transposed, to which it would go back
            return _einsum("kn,na->ka", jax.lax.optimization_barrier(weights.T), term.left)
        return _einsum("nk,nk...->k...", weights, term.left)
    left = "na" if term.left.ndim == 2 else "nka"
    weighted = weights[:, :, None] * (term.right if term.right.ndim == 3 else term.right[:, None, :])
    return _einsum(f"{left},nkb->kab", term.left, weighted)


def _einsum(formula: str, *arrays: Array) -> Array:
    return jnp.einsum(formula, *arrays, precision=jax.lax.Precision.HIGHEST)
