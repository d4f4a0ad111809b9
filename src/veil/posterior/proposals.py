"""Posteriors of one step at a time, as proposals of particle filters; and the particle filter of any such model."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.maths import particles
from veil.model import Datum, Model, Stepwise, frozen
from veil.model.abilities import name_of, states
from veil.model.filter import Belief, Filter, known, started_anew
from veil.model.stepwise import Before, Marginal, StepPosterior
from veil.posterior.base import Intrinsic, Online, Proposal

PARTICLES = 1000  # of a filter that is not told how many


class Bootstrap(Intrinsic, Proposal, Online):
    """q(z_t | past) = p(z_t | past): the prior proposes, and the weights are the likelihoods. Gordon et al. 1993."""

    def __call__(self, model: Model, datum: Datum) -> Distribution:
        """The prior over the whole sequence, where the model has one for a datum."""
        return model.prior_for(datum)

    def step_proposals(self, model: Any, datum: Datum) -> None:
        """Nothing is computed before."""
        return None

    def step(self, model: Any, features: Any, carry: Any, datum: Datum) -> Distribution:
        """The model's ``step_prior``."""
        return model.step_prior(carry, datum.evidence)

    def filter(self, model: Any) -> "ParticleBeliefs":
        """A particle filter of 1000 particles."""
        return ParticleBeliefs(stepwise(model, self), self)


class Optimal(Intrinsic, Proposal, Online):
    """q(z_t | past) = p(z_t | past, y_t), of models that know it (``StepPosterior``), exactly or nearly.

    It makes the variance of a step's weights, given the past, as small as it can be. Doucet, Godsill & Andrieu 2000.
    ``HMM``, ``LDS`` and ``SwitchingLDS`` know it exactly, ``NonlinearGaussian`` by linearising its emission.
    """

    def __call__(self, model: Model, datum: Datum) -> Distribution:
        raise TypeError("posterior: Optimal() proposes step by step, for particle filters; for whole paths use Exact()")

    def step_proposals(self, model: Any, datum: Datum) -> None:
        """Nothing is computed before."""
        if not isinstance(model, StepPosterior):
            raise TypeError(
                f"posterior: {name_of(model)} has no step_posterior(carry, datum); use veil.posterior.Bootstrap()"
            )

    def step(self, model: Any, features: Any, carry: Any, datum: Datum) -> Distribution:
        """The model's ``step_posterior``."""
        return model.step_posterior(carry, datum)

    def filter(self, model: Any) -> "ParticleBeliefs":
        """A particle filter of 1000 particles."""
        self.step_proposals(model, Datum(jnp.zeros(0)))
        return ParticleBeliefs(stepwise(model, self), self)


def stepwise(model: Any, posterior: Any) -> Any:
    """The model. Raises TypeError for a model or a proposal that cannot be run step by step."""
    if not isinstance(model, Stepwise):
        raise TypeError(
            f"model: {name_of(model)} cannot be run step by step; a particle filter needs carry, advance, "
            "step_prior and step_likelihood (see veil.Stepwise)"
        )
    if not isinstance(posterior, Proposal):
        raise TypeError(
            f"posterior: {type(posterior).__name__} cannot propose step by step; use veil.posterior.Bootstrap(), or "
            "give it step_proposals and step (see veil.posterior.Proposal)"
        )
    return model


def _propose(
    model: Any, posterior: Any, key: PRNGKeyArray, carry: Any, now: tuple[Datum, Any]
) -> tuple[Any, Float[Array, ""]]:
    """A draw of z_t, and its log-weight log p(z_t, y_t | past) - log q(z_t), nats."""
    one, features = now
    q = posterior.step(model, features, carry, one)
    if not distributions.reparameterised(q):
        q = frozen(posterior).step(frozen(model), frozen(features), frozen(carry), one)
    latent = q.sample(key)
    prior = distributions.log_prob(model.step_prior(carry, one.evidence), latent)
    seen = distributions.log_prob(model.step_likelihood(carry, latent, one.evidence), one.query, one.observed)
    return latent, prior + seen - distributions.log_prob(q, latent)


def _advance(model: Any, carry: Any, latent: Any, now: tuple[Datum, Any]) -> Any:
    one = now[0]
    return model.advance(carry, latent, one.query, one.evidence, one.observed)


def filtered(
    model: Any,
    posterior: Any,
    datum: Datum,
    key: PRNGKeyArray,
    count: int,
    threshold: float = 0.5,
    resampling: particles.Resampling = particles.systematic,
    record: Callable[[Any], Any] | None = None,
) -> particles.Particles:
    """The particle filter of a stepwise model and its proposal for one sequence (see ``maths.particles.filtered``).

    Where draws are no differentiable function of the proposal's parameters, no gradient passes through it.

    Raises TypeError if the model or the posterior cannot be run step by step.
    """
    stepwise(model, posterior)
    features = posterior.step_proposals(model, datum)
    begin = jax.tree.map(jnp.asarray, model.carry(datum.evidence))
    return particles.filtered(
        key,
        begin,
        lambda key, carry, now: _propose(model, posterior, key, carry, now),
        lambda carry, latent, now: _advance(model, carry, latent, now),
        (datum.each_step(), features),
        datum.starts,
        datum.there,
        count,
        threshold,
        resampling,
        record,
    )


class ParticleBeliefs(Filter):
    """The particle filter of a stepwise model, one step at a time; its state is a ``maths.particles.Swarm``.

    The proposal must not need what ``step_proposals`` computes of a whole sequence.
    """

    model: Any
    posterior: Any
    count: int = eqx.field(static=True, default=PARTICLES)
    threshold: float = eqx.field(static=True, default=0.5)

    def _begin(self) -> Any:
        return jax.tree.map(jnp.asarray, self.model.carry(None))

    def of(self, count: int) -> "ParticleBeliefs":
        """With so many particles."""
        return ParticleBeliefs(self.model, self.posterior, count, self.threshold)

    def init(self) -> Belief:
        return Belief(particles.swarm(self._begin(), self.count), jnp.array(True), jnp.zeros(()))

    def update(self, belief: Belief, datum: Datum, key: PRNGKeyArray) -> Belief:
        fresh, there = started_anew(belief, datum)
        one = Datum(datum.query, datum.evidence, observed=datum.observed)
        after, _, value, _ = particles.stepped(
            key,
            belief.state,
            self._begin(),
            lambda key, carry, now: _propose(self.model, self.posterior, key, carry, now),
            lambda carry, latent, now: _advance(self.model, carry, latent, now),
            (one, None),
            fresh,
            there,
            self.threshold,
        )
        return known(belief, after, value, fresh, there)

    def draw(self, belief: Belief, key: PRNGKeyArray) -> Any:
        """The carry of a particle, chosen by its weight."""
        chosen = jax.random.categorical(key, belief.state.log_weights)
        return jax.tree.map(lambda leaf: leaf[chosen], belief.state.carries)

    def marginal(self, belief: Belief) -> Marginal:
        """The particles' own, by their weights (the mean and variance of a mixture)."""
        each = jax.vmap(self.model.latent_of)(belief.state.carries)
        return mixed(each, jnp.exp(belief.state.log_weights))


def mixed(each: Marginal, weights: Float[Array, " K"]) -> Marginal:
    """The marginal of a mixture of K."""
    logs = mean = variance = None
    if each.log_probabilities is not None:
        logs = _log(weights @ jnp.exp(each.log_probabilities))
    if each.mean is not None:
        mean = jnp.tensordot(weights, each.mean, 1)
        variance = jnp.tensordot(weights, each.variance + (each.mean - mean[None]) ** 2, 1)
    return Marginal(logs, mean, variance)


def marginals(model: Any, drawn: Any) -> Marginal:
    """Of draws [T, S, ...] of a path the shares of states, or the moments of vectors, at each step."""
    if not jnp.issubdtype(drawn.dtype, jnp.integer):
        return Marginal(None, jnp.mean(drawn, 1), jnp.var(drawn, 1))
    return Marginal(_log(jnp.mean(jax.nn.one_hot(drawn, states(model)), 1)))


def _log(shares: Array) -> Array:
    """log p, of nothing minus infinity, without a warning."""
    return jnp.where(shares > 0, jnp.log(jnp.where(shares > 0, shares, 1.0)), -jnp.inf)


def paths(model: Any, found: particles.Particles, datum: Datum, key: PRNGKeyArray, count: int) -> Any:
    """``count`` paths from nearly p(z_1..T | y, x), leaves [count, T, ...], of what ``filtered`` found.

    Of models that are Markov in their latent (their carry is a ``Before``) each is drawn backwards through all
    particles; of others it is a last particle's own path, chosen by its weight: early steps have few different values.
    """
    begin = model.carry(datum.evidence)
    if not isinstance(begin, Before):
        chosen = jax.random.categorical(key, found.log_weights[-1], shape=(count,))
        return jax.tree.map(lambda leaf: leaf[chosen], particles.paths(found))

    def move(before: Array, after: Array, x: Array | None) -> Array:
        carry = model.advance(begin, before, None, x, None)
        return distributions.log_prob(model.step_prior(carry, x), after)

    return particles.backward_paths(key, found, move, datum.evidence, datum.starts, datum.there, count)
