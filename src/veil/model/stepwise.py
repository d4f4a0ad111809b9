"""Sequence models one step at a time: what a particle filter asks of a model and of its proposal.

    p(y, z | x) = Π_t p(z_t | c_t-1, x_t) p(y_t | c_t-1, z_t, x_t),   c_t = advance(c_t-1, z_t, y_t, x_t)

The *carry* c is all that the next step needs of the past, of one path: the last latent, a recurrent network's state, a
Kalman filter's belief. The carry of the start holds before the first step and is put back wherever an episode starts.
At padding nothing is called for, and the carry stays.
"""

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
from jaxtyping import Array, Bool, Float

from veil.distributions import Distribution
from veil.model import Datum


@runtime_checkable
class Stepwise(Protocol):
    """A sequential ``Model`` that can be run step by step. Shapes are those of ONE step, without a time axis."""

    def carry(self, evidence: Float[Array, "T *P"] | None) -> Any:
        """The carry before the first step of an episode: a pytree of arrays. ``evidence`` is the whole sequence's."""

    def advance(
        self,
        carry: Any,
        latent: Any,
        query: Float[Array, "*event"],
        evidence: Float[Array, "*P"] | None,
        observed: Bool[Array, "*event"] | None,
    ) -> Any:
        """The carry after a step, once z_t and y_t are known, of the same structure, shapes and types."""

    def step_prior(self, carry: Any, evidence: Float[Array, "*P"] | None) -> Distribution:
        """p(z_t | the past, x_t)."""

    def step_likelihood(self, carry: Any, latent: Any, evidence: Float[Array, "*P"] | None) -> Distribution:
        """p(y_t | the past, z_t, x_t); ``carry`` is the one that ``step_prior`` was given."""


@runtime_checkable
class Proposal(Protocol):
    """A ``Posterior`` from which z_t can be drawn step by step: q(z_t | the past, and whatever of y it has seen)."""

    def step_proposals(self, model: Any, datum: Datum) -> Any:
        """What is computed once for a whole sequence: a pytree of arrays [T, ...], or None."""

    def step(self, model: Any, features: Any, carry: Any, datum: Datum) -> Distribution:
        """q(z_t | ...): ``features`` and ``datum`` (query, evidence, observed) of this step, ``carry`` before it."""


class Before(eqx.Module):
    """The carry of a model that is Markov in its latent: z_t-1, and whether there is none (the start)."""

    latent: Any
    fresh: Bool[Array, ""]
