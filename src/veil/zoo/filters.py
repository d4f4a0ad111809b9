"""The exact filters, one step at a time: of hidden Markov models and of linear-Gaussian chains."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from veil.maths import kalman, linear, markov
from veil.model import Datum
from veil.model.chains import Normal
from veil.model.filter import Belief, Filter, known, started_anew
from veil.model.stepwise import Before, Marginal
from veil.parts.nets import with_one


class DiscreteFilter(Filter):
    """The forward recursion of a hidden Markov chain of K states: its state is log p(z_t | y_1..t) [K].

    ``parts`` of a datum that is one step: log p(z_1) [K], log p(z_t | z_t-1) [K, K], log p(y_t | z_t) [K].
    """

    states: int = eqx.field(static=True)
    parts: Callable[[Datum], tuple[Array, Array, Array]]

    def init(self) -> Belief:
        return Belief(jnp.zeros(self.states), jnp.array(True), jnp.zeros(()))

    def update(self, belief: Belief, datum: Datum, key: PRNGKeyArray) -> Belief:
        fresh, there = started_anew(belief, datum)
        first, move, seen = map(markov.floored, self.parts(datum))
        logits, value = markov.update(belief.state, first, move, seen, fresh, there)
        return Belief(logits, fresh & ~there, markov.possible(value))

    def draw(self, belief: Belief, key: PRNGKeyArray) -> Before:
        return Before(jax.random.categorical(key, belief.state), belief.fresh)

    def marginal(self, belief: Belief) -> Marginal:
        return Marginal(belief.state)


class KalmanFilter(Filter):
    """The Kalman filter of an ``LDS``: its state is mean [L] and covariance [L, L] of p(z_t | y_1..t)."""

    model: Any

    def init(self) -> Belief:
        mean, factor, *_ = self.model._parts()
        return Belief((mean, factor @ factor.T), jnp.array(True), jnp.zeros(()))

    def update(self, belief: Belief, datum: Datum, key: PRNGKeyArray) -> Belief:
        fresh, there = started_anew(belief, datum)
        first, factor, transition, drift, process, emission, offset = self.model._parts()
        before, spread = belief.state
        mean = jnp.where(fresh, first, transition @ before + drift @ with_one(datum.evidence))
        moved = linear.symmetric(transition @ spread @ transition.T) + process @ process.T
        covariance = jnp.where(fresh, factor @ factor.T, moved)
        observed = None if datum.observed is None else datum.observed[None]
        white, divided, normaliser = kalman.whitened(
            (datum.query - offset)[None], emission, self.model._variance(), observed
        )
        after, spread, _, value = kalman.update(mean, covariance, white[0], divided.reshape(emission.shape))
        return known(belief, (after, spread), value + normaliser[0], fresh, there)

    def draw(self, belief: Belief, key: PRNGKeyArray) -> Before:
        mean, covariance = belief.state
        return Before(Normal(mean, linear.cholesky(covariance)).sample(key), belief.fresh)

    def marginal(self, belief: Belief) -> Marginal:
        mean, covariance = belief.state
        return Marginal(None, mean, jnp.diagonal(covariance))
