"""Acting is filtering: what is known of the latent so far, step by step, whatever the model."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from veil.model.abilities import Tractable
from veil.model.datum import Datum
from veil.model.stepwise import Marginal, StepPosterior, where


class Belief(eqx.Module):
    """What is known of the latent so far: p(z_t | y_1..t, x_1..t), exactly or nearly.

    ``state``: the filter's own numbers; ``fresh``: whether no step of the episode has been seen yet;
    ``log_likelihood``: of the last step log p(y_t | y_1..t-1), nats (an estimate where the filter is one; NaN where it
    gives none).
    """

    state: Any
    fresh: Bool[Array, ""]
    log_likelihood: Float[Array, ""]


class Filter(eqx.Module):
    """One step at a time. Everything is pure, so that it jits and vmaps (over environments, over sequences)."""

    @abstractmethod
    def init(self) -> Belief:
        """The belief before anything is seen."""

    @abstractmethod
    def update(self, belief: Belief, datum: Datum, key: PRNGKeyArray) -> Belief:
        """The belief after one more step, ``datum``: query, evidence, observed; ``reset`` and ``mask`` single bools.

        ``reset`` starts an episode with this step; where ``mask`` is False there is no step, and the belief stays.
        """

    @abstractmethod
    def draw(self, belief: Belief, key: PRNGKeyArray) -> Any:
        """A state of the model (a carry of ``veil.model.stepwise``) drawn from the belief, to go on from."""

    @abstractmethod
    def marginal(self, belief: Belief) -> Marginal:
        """p(z_t | y_1..t)."""


def started_anew(belief: Belief, datum: Datum) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    """Whether a step starts an episode, and whether it is there."""
    fresh = belief.fresh if datum.reset is None else belief.fresh | datum.reset
    return fresh, jnp.array(True) if datum.mask is None else datum.mask


def known(
    before: Belief, state: Any, value: Float[Array, ""], fresh: Bool[Array, ""], there: Bool[Array, ""]
) -> Belief:
    """The belief after a step, or as it was where there is none."""
    return Belief(where(there, state, before.state), fresh & ~there, jnp.where(there, value, 0.0))


def beliefs(filter: Filter, datum: Datum, key: PRNGKeyArray) -> tuple[Belief, Belief]:
    """The belief after the last step of a sequence, and those after every step, leaves [T, ...]."""
    one = Datum(datum.query, datum.evidence, observed=datum.observed, mask=datum.there, reset=datum.starts)

    def step(belief: Belief, now: tuple[Datum, PRNGKeyArray]) -> tuple[Belief, Belief]:
        after = filter.update(belief, *now)
        return after, after

    return jax.lax.scan(step, filter.init(), (one, jax.random.split(key, len(datum))))


class ExactChain(Tractable, StepPosterior):
    """A model of sequences whose filter and smoother are exact."""

    @abstractmethod
    def filter(self) -> Filter:
        """Its filter."""

    @abstractmethod
    def marginals(self, datum: Datum) -> Marginal:
        """p(z_t | y_1..T, x) of every step, and the most likely path of a discrete one."""
