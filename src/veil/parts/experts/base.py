"""What experts are: p(y | x, z) for K values of z, from features φ = [1, h] of the evidence."""

from abc import abstractmethod
from typing import Any, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil.distributions import Distribution
from veil.model.abilities import Redundant, Space
from veil.model.scales import Scale

Latent = Int[Array, ""] | int
Observed = Any  # bool, a tree like the query; None: all entries are present


class Experts(Redundant):
    """K conditional densities over the same query."""

    @property
    @abstractmethod
    def sees(self) -> bool:
        """Whether they look at evidence, where there is some."""

    @property
    @abstractmethod
    def inputs(self) -> int:
        """How many numbers of evidence they have weights for."""

    @property
    @abstractmethod
    def closed_form(self) -> bool:
        """Whether ``statistics`` and ``maximise`` give the exact M-step."""

    @property
    @abstractmethod
    def space(self) -> Space:
        """Where the query lives."""

    @property
    @abstractmethod
    def query_shape(self) -> Any:
        """The shape of one datum's query, of experts with parameters."""

    @abstractmethod
    def blank(self, components: int, features: int, shape: Any) -> Self:
        """Experts with placeholder parameters of the right shapes."""

    @abstractmethod
    def distribution(self, latent: Latent, features: Float[Array, " P"]) -> Distribution:
        """p(y | φ, z)."""

    @abstractmethod
    def log_probs(self, query: Any, features: Float[Array, " P"], observed: Observed) -> Float[Array, " K"]:
        """log p(y | φ, z) of every z (nats, exact)."""

    @abstractmethod
    def statistics(
        self,
        query: Any,
        features: Float[Array, " P"],
        observed: Observed,
        weights: Float[Array, " K"],
    ) -> Any:
        """One datum's expected sufficient statistics under posterior weights r [K]."""

    @abstractmethod
    def maximise(self, sums: Any) -> Self:
        """The experts that maximise the expected log-likelihood plus log-prior."""

    @abstractmethod
    def log_prior(self) -> Float[Array, ""]:
        """The penalty that ``maximise`` includes (nats)."""

    @abstractmethod
    def rescaled(self, query: Scale | None, evidence: Scale | None) -> Self | None:
        """The same experts in the user's units; None if they cannot be written in them."""

    def recentred(self, sums: Any, to: Self) -> Any:
        """Sums that were taken under these experts as sums under ``to``, for running averages."""
        return sums

    def scattered(self, key: PRNGKeyArray) -> Self:
        """The same experts with whatever randomness a gradient fit should start from."""
        return self

    def largest_precision(self) -> Float[Array, ""] | float:
        """The largest precision along any direction."""
        return 0.0

    def with_expanded_sums(self, expanded: bool) -> Self:
        """The same experts, their sums computed the fast way or the careful one, where they know two."""
        return self


def with_expanded_sums(tree: Any, expanded: bool) -> Any:
    """The same model, the closed-form sums of its experts computed the fast way or the careful one."""
    known = lambda node: isinstance(node, Experts)  # noqa: E731
    return jax.tree.map(lambda node: node.with_expanded_sums(expanded) if known(node) else node, tree, is_leaf=known)


def largest_precision(tree: Any) -> Float[Array, ""]:
    """The largest precision of any expert of a model along any direction: how small a distance it resolves."""
    known = lambda node: isinstance(node, Experts)  # noqa: E731
    found = [node.largest_precision() for node in jax.tree.leaves(tree, is_leaf=known) if known(node)]
    return jnp.max(jnp.stack([jnp.asarray(each) for each in found])) if found else jnp.zeros(())
