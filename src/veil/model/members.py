"""Models of a state that is seen, whose latent is which of several members is right about how it changes.

    p(y_1..T, k_1..T | u) = p(y_1) Π_t p(k_t | k_t-1) p(y_t | s_t-1, u_t, k_t),   s_t the state in y_t

Probabilistic ensembles (Lakshminarayanan et al. 2017; Chua et al. 2018, PETS): where there are data the members agree,
and where there are none they do not. A future is that of a member, which is drawn once, or at every step (``Staying``).
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from veil import distributions
from veil.distributions import Distribution
from veil.model.abilities import states
from veil.model.datum import Datum
from veil.model.stepwise import Marginal, Stepwise


class Reached(eqx.Module):
    """The carry: the last ``state`` [D], the ``member`` that led there, if one did; ``fresh``: no state yet."""

    state: Float[Array, " D"]
    member: Int[Array, ""]
    decided: Bool[Array, ""]
    fresh: Bool[Array, ""]


class Staying(eqx.Module):
    """A strategy: how long a future stays with a member."""

    @abstractmethod
    def log_probabilities(self, carry: Reached, members: int) -> Float[Array, " K"]:
        """log p(k_t | k_t-1), nats."""


class SameMember(Staying):
    """One member for all of an episode, or of what is imagined of it: TS-infinity (Chua et al. 2018, section 4.1)."""

    def log_probabilities(self, carry: Reached, members: int) -> Float[Array, " K"]:
        one = jnp.where(jnp.arange(members) == carry.member, 0.0, -jnp.inf)
        return jnp.where(carry.decided, one, -jnp.log(float(members)))


class NewMember(Staying):
    """A member for each step: TS-1."""

    def log_probabilities(self, carry: Reached, members: int) -> Float[Array, " K"]:
        return jnp.full(members, -jnp.log(float(members)))


class Members(Stepwise):
    """It has members, each with a step of its own."""

    keep: eqx.AbstractVar[Staying]

    @abstractmethod
    def each_log_likelihood(self, datum: Datum) -> Float[Array, "K T"]:
        """log p(y_t | s_t-1, u_t, k) of every member and step, nats; zero where there is none."""

    @property
    def remembers(self) -> bool:
        """The state is part of what is seen."""
        return True

    def step_prior(self, carry: Reached, evidence: Any) -> Distribution:
        """p(k_t | k_t-1)."""
        return distributions.categorical(self.keep.log_probabilities(carry, states(self)))

    def latent_of(self, carry: Reached) -> Marginal:
        """Which member it was; all alike if that is not decided."""
        return Marginal(SameMember().log_probabilities(carry, states(self)))

    def log_likelihood(self, latent: Int[Array, " T"], datum: Datum) -> Float[Array, ""]:
        """Σ_t log p(y_t | s_t-1, u_t, k_t), nats, over the steps that are there."""
        return jnp.sum(jnp.take_along_axis(self.each_log_likelihood(datum), latent[None], 0))
