"""State-space models with known, nonlinear dynamics and Gaussian noise."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.maths import assumed
from veil.model import Datum, Guided, Sized
from veil.model.abilities import Sizes
from veil.model.chains import Chain, Emissions, Normal, Normals
from veil.model.stepwise import Before
from veil.parts.covariance import Covariance
from veil.posterior import Extended, Posterior
from veil.posterior.assumed import KnownDynamics, proposal


class Function(eqx.Module):
    """A plain function of latent and evidence, without parameters."""

    call: Callable[..., Array] = eqx.field(static=True)

    def __call__(self, latent: Float[Array, " L"], evidence: Any) -> Float[Array, " A"]:
        return self.call(latent, evidence)


def as_function(value: Any) -> eqx.Module:
    """A module as it is; any other callable as a ``Function``."""
    if isinstance(value, eqx.Module):
        return value
    if not callable(value):
        raise TypeError(f"expected a function of (latent, evidence), or an equinox.Module; got {type(value).__name__}")
    return Function(value)


class MovedPath(Chain, distributions.Reparameterised):
    """z_1 ~ N(m, P), z_t ~ N(f(z_t-1, x_t), Q) along a path."""

    model: Any
    evidence: Any
    starts: Any
    there: Any

    def sample(self, key: PRNGKeyArray) -> Float[Array, "T L"]:
        noise = jax.random.normal(key, (len(self.there), self.model.mean.size), self.model.mean.dtype)

        def step(before: Array, now: tuple[Any, ...]) -> tuple[Array, Array]:
            x, start, real, some = now
            prior = self.model.step_prior(Before(before, start), x)
            here = jnp.where(real, prior.mean + prior.factor @ some, before)
            return here, here

        begin = jnp.zeros_like(self.model.mean)
        return jax.lax.scan(step, begin, (self.evidence, self.starts, self.there, noise))[1]

    def conditionals(self, path: Float[Array, "T L"]) -> Normals:
        before = jnp.concatenate([jnp.zeros_like(path[:1]), path[:-1]])
        priors = jax.vmap(lambda z, start, x: self.model.step_prior(Before(z, start), x))(
            before, self.starts, self.evidence
        )
        return Normals(priors.mean, priors.factor)


class NonlinearGaussian(KnownDynamics, Sized, Guided):
    """z_t = f(z_t-1, x_t) + N(0, Q), y_t = h(z_t, x_t) + N(0, R); z ~ N(m, P) AT the first step of an episode.

    ``transition`` f and ``emission`` h are functions of (latent [L], evidence [U] or None), or ``equinox.Module``s,
    whose arrays ``veil.fit`` then learns together with the noises. ``process`` is a factor of Q [L, L], ``noise`` a
    covariance with parameters, such as ``Diagonal(scale=...[1, D])``; ``mean`` m [L], ``factor`` a factor of P. A datum
    is a sequence, query [T, D], with missing entries, padding and resets.

    The likelihood has no closed form. ``veil.Extended()``, ``veil.Unscented()`` and ``veil.ParticleFilter(count)``
    estimate paths and likelihood of one sequence; ``veil.fit`` raises the ELBO of the extended smoother's chain, or
    with ``objective=veil.FIVO()`` and ``posterior=veil.Optimal()`` a particle bound, which ``veil.evaluate`` reports.

    >>> import jax, jax.numpy as jnp, veil
    >>> swing = lambda z, x: jnp.array([z[0] + 0.1 * z[1], z[1] - jnp.sin(z[0])])
    >>> model = NonlinearGaussian(
    ...     swing,
    ...     lambda z, x: jnp.sin(z[:1]),
    ...     0.1 * jnp.eye(2),
    ...     veil.Diagonal(scale=jnp.full((1, 1), 0.2)),
    ...     jnp.zeros(2),
    ...     jnp.eye(2),
    ... )
    >>> _, seen = model.sample(jax.random.key(0), steps=20)
    >>> veil.Unscented().smoothed(model, veil.Datum(seen)).mean.shape
    (20, 2)
    """

    transition: Any = eqx.field(converter=as_function)
    emission: Any = eqx.field(converter=as_function)
    process: Float[Array, "L L"]
    noise: Covariance
    mean: Float[Array, " L"]
    factor: Float[Array, "L L"]

    @property
    def sizes(self) -> Sizes:
        return Sizes((self.noise.dense_covariance().shape[-1],))

    @property
    def remembers(self) -> bool:
        return False

    @property
    def usual_posterior(self) -> Posterior:
        """The extended smoother."""
        return Extended()

    def system(self) -> assumed.System:
        """What ``maths.assumed`` takes."""
        covariance, process = self.factor @ self.factor.T, self.process @ self.process.T
        return assumed.System(
            self.mean, covariance, self.transition, process, self.emission, self.noise.dense_covariance()[0]
        )

    def prior_for(self, datum: Datum) -> MovedPath:
        """p(z | x) over the steps of a datum, with its resets and padding."""
        return MovedPath(self, datum.evidence, datum.starts, datum.there)

    def _emitted(self, latent: Float[Array, " L"], evidence: Any) -> Distribution:
        return self.noise.distribution(self.emission(latent, evidence), 0)

    def likelihood(self, latent: Float[Array, "T L"], evidence: Any) -> Emissions:
        return Emissions(self._emitted, latent, evidence)

    def log_likelihood(self, latent: Float[Array, "T L"], datum: Datum) -> Float[Array, ""]:
        """Σ_t log p(y_t | z_t, x_t), nats, over the steps that are there and the entries present."""
        each = jax.vmap(lambda y, z, x, seen: distributions.log_prob(self._emitted(z, x), y, seen))(
            datum.query, latent, datum.evidence, datum.observed
        )
        return jnp.sum(jnp.where(datum.there, each, 0.0))

    def sample(self, key: PRNGKeyArray, evidence: Any = None, steps: int | None = None) -> tuple[Array, Array]:
        """(path [T, L], y [T, D]) drawn from the model, as long as the evidence, or ``steps``."""
        key_path, key_query = jax.random.split(key)
        path = self.prior(evidence, steps).sample(key_path)
        return path, self.likelihood(path, evidence).sample(key_query)

    def carry(self, evidence: Any) -> Before:
        """No state before."""
        return Before(jnp.zeros_like(self.mean), jnp.array(True))

    def advance(self, carry: Before, latent: Array, query: Any, evidence: Any, observed: Any) -> Before:
        """The state is what the next step needs."""
        return Before(latent, jnp.array(False))

    def step_prior(self, carry: Before, evidence: Any) -> Normal:
        """p(z_t | z_t-1, x_t)."""
        onward = self.transition(jnp.where(carry.fresh, self.mean, carry.latent), evidence)
        return Normal(jnp.where(carry.fresh, self.mean, onward), jnp.where(carry.fresh, self.factor, self.process))

    def step_likelihood(self, carry: Before, latent: Array, evidence: Any) -> Distribution:
        """p(y_t | z_t, x_t)."""
        return self._emitted(latent, evidence)

    def step_posterior(self, carry: Before, datum: Datum) -> Normal:
        """p(z_t | z_t-1, y_t, x_t), h taken for its tangent at the prior's mean."""
        return proposal(assumed.tangent, self, carry, datum)
