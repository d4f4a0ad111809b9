"""Posteriors of one step at a time, as proposals of particle filters; and the particle filter of any such model."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.maths import markov, particles
from veil.model import Datum, Model, frozen
from veil.model.stepwise import Before, Proposal, Stepwise
from veil.posterior.base import Posterior


class Bootstrap(Posterior):
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


class Optimal(Posterior):
    """q(z_t | past) = p(z_t | past, y_t), of models that know it (``step_posterior``); of others its approximation.

    It makes the variance of a step's weights, given the past, as small as it can be. Doucet, Godsill & Andrieu 2000.
    ``HMM``, ``LDS`` and ``SwitchingLDS`` know it exactly, ``NonlinearGaussian`` by linearising its emission.
    """

    def __call__(self, model: Model, datum: Datum) -> Distribution:
        raise TypeError("posterior: Optimal() proposes step by step, for particle filters; for whole paths use Exact()")

    def step_proposals(self, model: Any, datum: Datum) -> None:
        """Nothing is computed before."""
        if not hasattr(model, "step_posterior"):
            raise TypeError(
                f"posterior: {type(model).__name__} has no step_posterior(carry, datum); use veil.posterior.Bootstrap()"
            )

    def step(self, model: Any, features: Any, carry: Any, datum: Datum) -> Distribution:
        """The model's ``step_posterior``."""
        return model.step_posterior(carry, datum)


def stepwise(model: Any, posterior: Any) -> None:
    """Raise TypeError for a model or a proposal that cannot be run step by step."""
    if not isinstance(model, Stepwise):
        raise TypeError(
            f"model: {type(model).__name__} cannot be run step by step; a particle filter needs carry, advance, "
            "step_prior and step_likelihood (see veil.model.stepwise)"
        )
    if not isinstance(posterior, Proposal):
        raise TypeError(
            f"posterior: {type(posterior).__name__} cannot propose step by step; use veil.posterior.Bootstrap(), or "
            "give it step_proposals and step (see veil.model.stepwise)"
        )


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
    starts, there = markov.steps(len(datum.query), datum.mask, datum.reset)
    features = posterior.step_proposals(model, datum)

    def propose(key: PRNGKeyArray, carry: Any, now: tuple[Datum, Any]) -> tuple[Any, Float[Array, ""]]:
        one, features = now
        q = posterior.step(model, features, carry, one)
        if not distributions.reparameterised(q):
            q = frozen(posterior).step(frozen(model), frozen(features), frozen(carry), one)
        latent = q.sample(key)
        prior = distributions.log_prob(model.step_prior(carry, one.evidence), latent)
        seen = distributions.log_prob(model.step_likelihood(carry, latent, one.evidence), one.query, one.observed)
        return latent, prior + seen - distributions.log_prob(q, latent)

    def advance(carry: Any, latent: Any, now: tuple[Datum, Any]) -> Any:
        one = now[0]
        return model.advance(carry, latent, one.query, one.evidence, one.observed)

    each = Datum(datum.query, datum.evidence, observed=datum.observed)
    begin = jax.tree.map(jnp.asarray, model.carry(datum.evidence))
    return particles.filtered(
        key, begin, propose, advance, (each, features), starts, there, count, threshold, resampling, record
    )


def paths(model: Any, found: particles.Particles, datum: Datum, key: PRNGKeyArray, count: int) -> Any:
    """``count`` paths from nearly p(z_1..T | y, x), leaves [count, T, ...], of what ``filtered`` found.

    Of models that are Markov in their latent (their carry is a ``Before``) each is drawn backwards through all
    particles; of others it is a last particle's own path, chosen by its weight: early steps have few different values.
    """
    begin = model.carry(datum.evidence)
    if not isinstance(begin, Before):
        chosen = jax.random.categorical(key, found.log_weights[-1], shape=(count,))
        return jax.tree.map(lambda leaf: leaf[chosen], particles.paths(found))
    starts, there = markov.steps(len(datum.query), datum.mask, datum.reset)

    def move(before: Array, after: Array, x: Array | None) -> Array:
        carry = model.advance(begin, before, None, x, None)
        return distributions.log_prob(model.step_prior(carry, x), after)

    return particles.backward_paths(key, found, move, datum.evidence, starts, there, count)
