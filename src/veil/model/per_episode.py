"""Models with one latent an episode: it is drawn at the first step and kept.

    p(y_1..T | x_1..T) = ∫ p(z | x_1) Π_t p(y_t | x_t, z) dz

Given z the steps are independent. To act is to draw z at the first observation (``prior_at``) and to keep it
(``likelihood_at``); what the actions so far say of z, their intent, is an ``EpisodeFilter``'s belief.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Central, Composed, Distribution, Marginals, Moments, Reparameterised
from veil.maths.markov import log_total
from veil.model.abilities import OfSequences
from veil.model.chains import length
from veil.model.contract import as_floats
from veil.model.datum import Datum
from veil.model.filter import Belief, Filter, known, started_anew
from veil.model.stepwise import Marginal


class PerEpisode(OfSequences):
    """A model of whole episodes, query [T, ...] and evidence [T, ...], whose latent is drawn once for each.

    Write ``prior_at`` and ``likelihood_at``, of ONE step; what it says of whole episodes follows.
    """

    @abstractmethod
    def prior_at(self, evidence: Any) -> Distribution:
        """p(z | x_1): ``evidence`` is that of the first step."""

    @abstractmethod
    def likelihood_at(self, latent: Any, evidence: Any) -> Distribution:
        """p(y_t | x_t, z) of one step."""

    def prior(self, evidence: Any, steps: int | None = None) -> Distribution:
        """p(z | x_1), from the evidence of a whole episode."""
        return self.prior_at(jax.tree.map(lambda leaf: leaf[0], evidence))

    def prior_for(self, datum: Datum) -> Distribution:
        """p(z | x_1), of the first step that is there."""
        return self.prior_at(first_step(datum).evidence)

    def likelihood(self, latent: Any, evidence: Any, steps: int | None = None) -> Distribution:
        """p(y_1..T | x_1..T, z): of as many steps as the evidence has, or ``steps``; without either only a density.

        Padding is not known to it: ``log_likelihood`` is of a datum.
        """
        return EpisodeSteps(self, latent, evidence, steps)

    def log_likelihood(self, latent: Any, datum: Datum) -> Float[Array, ""]:
        """Σ_t log p(y_t | x_t, z), nats, over the steps that are there and the entries that are present."""

        def one(step: Datum) -> Float[Array, ""]:
            return distributions.log_prob(self.likelihood_at(latent, step.evidence), step.query, step.observed)

        return over_steps(datum, jax.vmap(one)(datum.each_step()))

    def sample(self, key: PRNGKeyArray, evidence: Any = None, steps: int | None = None) -> tuple[Any, Any]:
        """(z, y [T, ...]) drawn from the model, as long as the evidence, or ``steps``."""
        key_latent, key_query = jax.random.split(key)
        latent = self.prior(evidence).sample(key_latent)
        return latent, self.likelihood(latent, evidence, steps).sample(key_query)


def first_step(datum: Datum) -> Datum:
    """The first step that is there."""
    at = jnp.argmax(datum.there)
    return jax.tree.map(lambda leaf: leaf[at], datum.each_step())


def over_steps(datum: Datum, values: Float[Array, "T *more"]) -> Float[Array, "*more"]:
    """The sum over the steps that are there."""
    there = datum.there.reshape(-1, *[1] * (values.ndim - 1))
    return jnp.sum(jnp.where(there, values, 0.0), 0)


class EpisodeSteps(Distribution, Moments, Marginals, Central, Reparameterised, Composed):
    """p(y_1..T | x_1..T, z): steps that are independent given z."""

    model: PerEpisode
    latent: Any
    evidence: Any
    count: int | None = eqx.field(static=True, default=None)

    def _each(self, function: Any, *rest: Any) -> Any:
        def one(evidence: Any, *more: Any) -> Any:
            return function(self.model.likelihood_at(self.latent, evidence), *more)

        return jax.vmap(one, axis_size=None if rest else self._length())(self.evidence, *rest)

    def _length(self) -> int:
        return length(self.evidence, self.count)

    def made_of(self) -> tuple[Any]:
        """A step: they are all alike."""
        first = jax.tree.map(lambda leaf: leaf[0], self.evidence)
        return (eqx.filter_eval_shape(lambda: self.model.likelihood_at(self.latent, first)),)

    def sample(self, key: PRNGKeyArray) -> Any:
        return self._each(lambda step, key: as_floats(step.sample(key)), jax.random.split(key, self._length()))

    def log_prob(self, value: Any) -> Float[Array, ""]:
        return self.observed_log_prob(value, None)

    def observed_log_prob(self, value: Any, observed: Any) -> Float[Array, ""]:
        return jnp.sum(self._each(distributions.log_prob, value, observed))

    @property
    def mean(self) -> Any:
        return self._each(lambda step: distributions.moments(step)[0])

    @property
    def variance(self) -> Any:
        return self._each(lambda step: distributions.moments(step)[1])

    def central(self) -> Any:
        return self._each(distributions.central)


class EpisodeFilter(Filter):
    """p(z | y_1..t, x_1..t) of a latent of ``values`` values, exact: Bayes' rule one step at a time.

    The belief's state is log p(z | y_1..t, x_1..t) [K], in the order of the prior's support.
    """

    model: PerEpisode
    values: int = eqx.field(static=True)

    def init(self) -> Belief:
        """Before the first step, whose evidence the prior may see: nothing is known."""
        return Belief(jnp.full(self.values, -jnp.log(float(self.values))), jnp.array(True), jnp.full((), jnp.nan))

    def update(self, belief: Belief, datum: Datum, key: PRNGKeyArray) -> Belief:
        fresh, there = started_anew(belief, datum)
        prior = self.model.prior_at(datum.evidence)
        support = distributions.support(prior)
        before = jnp.where(fresh, jax.vmap(prior.log_prob)(support), belief.state)

        after, value = _told(before, of_values(self.model, support, datum))
        return known(belief, after, value, fresh, there)

    def draw(self, belief: Belief, key: PRNGKeyArray) -> Array:
        """A value of the latent, by its place in the prior's support."""
        return distributions.categorical(belief.state).sample(key)

    def marginal(self, belief: Belief) -> Marginal:
        return Marginal(belief.state)


def filtered(model: PerEpisode, datum: Datum) -> Marginal:
    """p(z | y_1..t, x_1..t) of a finite latent for every step of an episode, [T, K], and log p(y_t | y_1..t-1) [T].

    The numbers of an ``EpisodeFilter``; what the model computes for all steps alike it computes once.
    """
    prior = model.prior_for(datum)
    support = distributions.support(prior)
    steps = jax.vmap(lambda step: of_values(model, support, step))(datum.each_step())

    def step(before: Float[Array, " K"], now: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        likelihoods, there = now
        after, value = _told(before, likelihoods)
        after, value = jnp.where(there, after, before), jnp.where(there, value, 0.0)
        return after, (after, value)

    begin = jax.nn.log_softmax(jax.vmap(prior.log_prob)(support).astype(steps.dtype))
    _, (beliefs, values) = jax.lax.scan(step, begin, (steps, datum.there))
    return Marginal(beliefs, log_likelihood=values)


def of_values(model: PerEpisode, support: Any, step: Datum) -> Float[Array, " K"]:
    """log p(y_t | x_t, z) of one step for every value of the latent, nats."""

    def one(latent: Any) -> Float[Array, ""]:
        return distributions.log_prob(model.likelihood_at(latent, step.evidence), step.query, step.observed)

    return jax.vmap(one)(support)


def _told(before: Float[Array, " K"], likelihoods: Float[Array, " K"]) -> tuple[Float[Array, " K"], Float[Array, ""]]:
    """Bayes' rule: log p(z | ..t) and log p(y_t | ..t-1); of what cannot be nothing is learned."""
    joints = before + likelihoods
    value = log_total(joints)
    return jnp.where(value > -jnp.inf, joints - value, before), value
