"""The exact filters, one step at a time: of hidden Markov models and of linear-Gaussian chains."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from veil.maths import kalman, linear, markov
from veil.model import Datum
from veil.model.chains import Normal
from veil.model.filter import Belief, Filter, known, started_anew
from veil.model.stepwise import Before, Marginal
from veil.parts.nets import with_one


class DiscreteFilter(Filter):
    """The forward recursion of an ``HMM``: its state is log p(z_t | y_1..t) [K]."""

    model: Any

    def init(self) -> Belief:
        return Belief(jnp.zeros(self.model.states), jnp.array(True), jnp.zeros(()))

    def update(self, belief: Belief, datum: Datum, key: PRNGKeyArray) -> Belief:
        model = self.model
        fresh, there = started_anew(belief, datum)
        features = with_one(datum.evidence)
        seen = model.experts.log_probs(datum.query, features, datum.observed)
        move = model._moves(features[None])
        parts = model.initial.logits(jnp.ones(1)), move.reshape(move.shape[-2:]), seen
        first, move, seen = map(markov.floored, parts)
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
