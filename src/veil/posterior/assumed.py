"""Approximate inference in state-space models with known, nonlinear dynamics: extended, unscented, by particles.

Each strategy gives the same things of one sequence: ``filtered`` and ``smoothed`` means and covariances, and an
approximate log-likelihood. The Gaussian ones are posteriors, too: their smoother is a chain to take draws from, whose
ELBO is a lower bound, however rough the approximation.
"""

from abc import abstractmethod
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.maths import assumed, linear, particles
from veil.model import Datum
from veil.model.abilities import name_of
from veil.model.chains import GaussianChain, Normal
from veil.model.filter import Belief, Filter, known, started_anew
from veil.model.stepwise import Before, Marginal, StepPosterior
from veil.parts.nets import positive
from veil.posterior.base import Intrinsic, Online, Proposal
from veil.posterior.proposals import Optimal, ParticleBeliefs, filtered, paths, stepwise


class Estimated(NamedTuple):
    """``mean`` [T, L] and ``covariance`` [T, L, L] of every z_t; ``log_likelihood``, nats, approximate."""

    mean: Float[Array, "T L"]
    covariance: Float[Array, "T L L"]
    log_likelihood: Float[Array, ""]


class KnownDynamics(StepPosterior):
    """A model of sequences with known dynamics and Gaussian noise (``veil.NonlinearGaussian``)."""

    @abstractmethod
    def system(self) -> assumed.System:
        """What ``maths.assumed`` takes."""


class AssumedGaussian(Intrinsic, Proposal, Online):
    """Filters and smoothers that take p(z_t | y_1..t) for a Gaussian; ``rule`` says how a function moves its moments.

    For models of ``KnownDynamics``. The log-likelihood is an approximation, no bound.
    """

    @property
    @abstractmethod
    def rule(self) -> assumed.Rule:
        """(function, mean, covariance) -> mean, covariance and cross-covariance of its value."""

    def _known(self, model: Any) -> KnownDynamics:
        if not isinstance(model, KnownDynamics):
            raise TypeError(
                f"posterior: {type(self).__name__}() is for models with known dynamics (veil.NonlinearGaussian); got "
                f"{name_of(model)}"
            )
        return model

    def _run(self, model: Any, datum: Datum) -> assumed.AssumedDensity:
        system, each = self._known(model).system(), (datum.query, datum.evidence, datum.observed)
        return assumed.filtered(self.rule, system, *each, datum.starts, datum.there)

    def filtered(self, model: Any, datum: Datum, key: PRNGKeyArray | None = None) -> Estimated:
        """Of p(z_t | y_1..t, x). Nothing is drawn: the key is for particles."""
        found = self._run(model, datum)
        return Estimated(found.mean, found.covariance, found.log_likelihoods.sum())

    def smoothed(self, model: Any, datum: Datum, key: PRNGKeyArray | None = None) -> Estimated:
        """Of p(z_t | y_1..T, x). Nothing is drawn: the key is for particles."""
        found = self._run(model, datum)
        after = assumed.smoothed(found, datum.starts, datum.there)
        return Estimated(after.mean, after.covariance, found.log_likelihoods.sum())

    def __call__(self, model: Any, datum: Datum) -> GaussianChain:
        """The smoother as a chain, q(z_1..T | y, x)."""
        after = assumed.smoothed(self._run(model, datum), datum.starts, datum.there)
        return GaussianChain.smoothed(after, datum.starts, datum.there)

    def step_proposals(self, model: Any, datum: Datum) -> None:
        """Nothing is computed before."""
        return None

    def step(self, model: Any, features: Any, carry: Any, datum: Datum) -> Normal:
        """p(z_t | z_t-1, y_t, x_t), approximately: this filter's update of the prior."""
        return proposal(self.rule, model, carry, datum)

    def filter(self, model: Any) -> "GaussianFilter":
        """This filter, one step at a time."""
        return GaussianFilter(self._known(model), self)


class GaussianFilter(Filter):
    """p(z_t | y_1..t) taken for N(mean [L], covariance [L, L]), by a moment rule."""

    model: Any
    posterior: AssumedGaussian

    def init(self) -> Belief:
        system = self.model.system()
        return Belief((system.mean, system.covariance), jnp.array(True), jnp.zeros(()))

    def update(self, belief: Belief, datum: Datum, key: PRNGKeyArray) -> Belief:
        fresh, there = started_anew(belief, datum)
        rule, system = self.posterior.rule, self.model.system()
        ahead, spread, _ = rule(lambda z: system.transition(z, datum.evidence), *belief.state)
        mean = jnp.where(fresh, system.mean, ahead)
        covariance = jnp.where(fresh, system.covariance, linear.symmetric(spread) + system.process)
        emission = lambda z: system.emission(z, datum.evidence)  # noqa: E731
        *state, value = assumed.update(rule, emission, system.noise, mean, covariance, datum.query, datum.observed)
        return known(belief, tuple(state), value, fresh, there)

    def draw(self, belief: Belief, key: PRNGKeyArray) -> Before:
        mean, covariance = belief.state
        return Before(Normal(mean, linear.cholesky(covariance)).sample(key), belief.fresh)

    def marginal(self, belief: Belief) -> Marginal:
        mean, covariance = belief.state
        return Marginal(None, mean, jnp.diagonal(covariance))


def proposal(rule: assumed.Rule, model: Any, carry: Any, datum: Datum) -> Normal:
    """The prior of one step updated by y_t, as a moment rule has it."""
    prior, system = model.step_prior(carry, datum.evidence), model.system()
    mean, covariance, _ = assumed.update(
        rule,
        lambda z: system.emission(z, datum.evidence),
        system.noise,
        prior.mean,
        prior.factor @ prior.factor.T,
        datum.query,
        datum.observed,
    )
    return Normal(mean, linear.cholesky(covariance))


class Extended(AssumedGaussian):
    """The extended Kalman filter and smoother: functions are taken for their tangents at the mean.

    Särkkä & Svensson 2023, algorithms 7.1 and 13.4.
    """

    @property
    def rule(self) -> assumed.Rule:
        return assumed.tangent


class Unscented(AssumedGaussian):
    """The unscented Kalman filter and smoother: functions are evaluated at 2 L + 1 sigma points.

    The defaults keep all weights positive and use no small differences; ``kappa=0`` makes it the cubature filter. Van
    der Merwe's are ``alpha=1e-3, beta=2``. Särkkä & Svensson 2023, algorithms 8.16 and 14.10 (Julier & Uhlmann 1997).
    """

    alpha: float = eqx.field(static=True, default=1.0)
    beta: float = eqx.field(static=True, default=0.0)
    kappa: float | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if not self.alpha > 0:
            raise ValueError(f"alpha: expected a positive spread of the sigma points; got {self.alpha!r}")

    @property
    def rule(self) -> assumed.Rule:
        return partial(assumed.sigma_points, alpha=self.alpha, beta=self.beta, kappa=self.kappa)


class ParticleFilter(eqx.Module):
    """A particle filter with ``count`` particles from ``proposal``, and the smoother that draws ``paths`` backwards.

    For models run step by step whose latent is a vector. ``log_likelihood`` is log Ẑ: in expectation a lower bound.
    """

    count: int = eqx.field(static=True, default=1000)
    proposal: Any = Optimal()
    paths: int = eqx.field(static=True, default=100)
    threshold: float = eqx.field(static=True, default=0.5)

    def __check_init__(self) -> None:
        positive("count", self.count)
        positive("paths", self.paths)

    def filtered(self, model: Any, datum: Datum, key: PRNGKeyArray) -> Estimated:
        """Of p(z_t | y_1..t, x)."""
        found = filtered(model, self.proposal, datum, key, self.count, self.threshold)
        return Estimated(*particles.moments(found), found.log_likelihood)

    def smoothed(self, model: Any, datum: Datum, key: PRNGKeyArray) -> Estimated:
        """Of p(z_t | y_1..T, x), from ``paths`` drawn backwards (Godsill et al. 2004)."""
        key_filter, key_paths = jax.random.split(key)
        found = filtered(model, self.proposal, datum, key_filter, self.count, self.threshold)
        drawn = paths(model, found, datum, key_paths, self.paths)
        weights = jax.numpy.full(drawn.shape[:2], 1.0 / self.paths, drawn.dtype).T
        mean, covariance = particles.weighted_moments(jax.numpy.swapaxes(drawn, 0, 1), weights)
        return Estimated(mean, covariance, found.log_likelihood)

    def filter(self, model: Any) -> ParticleBeliefs:
        """One step at a time."""
        return ParticleBeliefs(stepwise(model, self.proposal), self.proposal, self.count, self.threshold)
