"""The questions that callers ask of any distribution. Each ability is told here, once."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.distributions.protocol import (
    LARGEST_SUPPORT,
    Categories,
    Central,
    Divergence,
    Entries,
    Finite,
    Marginals,
    Moments,
    PathDistribution,
    Reparameterised,
    StepDraws,
    has,
    without,
)


def _name(distribution: Any) -> str:
    return type(distribution).__name__


def log_prob(distribution: Any, value: Any, observed: Any = None) -> Float[Array, ""]:
    """log p(value) in nats, summed over the event; with ``observed`` (bool, as the event), of the entries present.

    The rest is integrated out exactly: by ``Entries`` or ``Marginals``; TypeError for a distribution with neither.
    """
    if observed is None:
        return distribution.log_prob(value)
    if isinstance(distribution, Marginals):
        return distribution.observed_log_prob(value, observed)
    if isinstance(distribution, Entries):
        return jnp.sum(jnp.where(observed, distribution.entry_log_prob(value), 0.0))
    raise TypeError(
        f"observed: missing entries need a distribution whose marginals are known, and this one is "
        f"{_name(distribution)}; drop the rows with missing entries, choose a head with independent entries, or let "
        f"{_name(distribution)} inherit veil.distributions.Entries (entry_log_prob) or Marginals (observed_log_prob)"
    )


def moments(distribution: Any) -> tuple[Any, Any]:
    """Mean and variance of each entry of the event; of categories, those of their numbers.

    Raises TypeError where they are not known in closed form.
    """
    lacking = without(distribution, Moments)
    if lacking is not None:
        raise TypeError(
            f"distribution: its mean and variance are asked for, and those of a {_name(lacking)} are not known in "
            f"closed form; if they are, let it inherit veil.distributions.Moments (mean, variance)"
        )
    return distribution.mean, distribution.variance


def probabilities(distribution: Any) -> Float[Array, "*event C"] | None:
    """Of each entry of the event the probability of every category; None where there are no categories."""
    return distribution.probabilities if isinstance(distribution, Categories) else None


def central(distribution: Any) -> Any:
    """One value that stands for the distribution: of categories and codes the most probable, else the mean.

    Of a mixture of normals the mean of its most probable component; of two levels, flows and changes of units the value
    that the base's leads to. Raises TypeError where none is known.

    >>> from veil import distributions
    >>> central(distributions.Codes(jnp.log(jnp.array([[0.2, 0.7, 0.1]])))).tolist()
    [[0.0, 1.0, 0.0]]
    """
    return distribution.central() if isinstance(distribution, Central) else moments(distribution)[0]


def enumerable(distribution: Any) -> bool:
    """Whether ``support`` gives every value: there are finitely many, at most 65536."""
    return has(distribution, Finite) and distribution.values <= LARGEST_SUPPORT


def support(distribution: Any) -> Any:
    """Every value of a finite discrete distribution, stacked along the first axis. Raises TypeError for any other."""
    if not enumerable(distribution):
        why = "has no finite list of values"
        if has(distribution, Finite):
            why = f"has {distribution.values} values, too many"
        raise TypeError(
            f"the latent's distribution {_name(distribution)} {why} to sum over: an exact posterior or a marginal "
            f"likelihood needs a discrete latent (veil.distributions.Finite); use another posterior or objective"
        )
    return distribution.enumerate_support()


def reparameterised(distribution: Any) -> bool:
    """Whether a draw is a differentiable function of the parameters and noise; of a chain, at every step."""
    return has(distribution, Reparameterised)


def balanced(kl: Callable[[Any, Any], Any], q: Any, p: Any, balance: float | None) -> Any:
    """kl(q, p), its gradient ``balance`` of it as if q were fixed and the rest as if p were (None: as it is)."""
    if balance is None or kl(q, p) is None:
        return kl(q, p)
    fixed = lambda part: jax.tree.map(  # noqa: E731
        lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf, part
    )
    return balance * kl(fixed(q), p) + (1.0 - balance) * kl(q, fixed(p))


def drawn(distribution: Any, key: PRNGKeyArray, draw: Callable[[Any, PRNGKeyArray], Any]) -> Any:
    """``draw(distribution, key)``; of a chain that remembers, such a draw at every step."""
    return distribution.drawn(key, draw) if isinstance(distribution, StepDraws) else draw(distribution, key)


def kl_entries(q: Any, p: Any) -> Float[Array, " G"] | None:
    """KL(q || p) in nats in closed form, one number for each independent part of the event; None where none is known.

    Independent normals have a part an entry, codes one a code; anything else known is a single part. The total is the
    sum.
    """
    return q.kl_entries(p) if isinstance(q, Divergence) else None


def kl_along(q: Any, p: Any, value: Any, balance: float | None = None) -> Float[Array, " G"] | None:
    """KL(q || p) by parts, nats, in closed form where known. Of chains the parts are steps, given the path ``value``:

    their mean over paths of q is the KL's. ``balance``: see ``objective.Balanced``.
    """
    if isinstance(q, PathDistribution):
        return q.kl_along(p, value, balance)
    return balanced(kl_entries, q, p, balance)


def log_ratio(q: Any, p: Any, value: Any) -> Float[Array, " G"]:
    """log q(value) - log p(value) by parts, nats: of chains the steps, else one."""
    if not isinstance(q, PathDistribution):
        return (log_prob(q, value) - log_prob(p, value))[None]
    steps = (chain.conditionals(value).log_prob(value) for chain in (q, p))
    return jnp.where(p.there, next(steps) - next(steps), 0.0)
