"""The expected log-likelihood of expectation maximisation."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.model import Datum, Enumerable, Model, Tractable
from veil.model.abilities import name_of
from veil.model.chains import DiscreteChain, GaussianChain
from veil.objective.base import Estimate, Objective
from veil.posterior.base import Expecting, Posterior
from veil.posterior.exact import Exact


class ExpectedLogLikelihood(Objective):
    """E_q[log p(y, z | x) - log q(z)] with q held fixed: what an EM step raises.

    The latent is enumerated, or with ``samples`` drawn from q that many times (Monte Carlo EM, Wei & Tanner 1990).
    With the exact posterior the value is log p(y | x), whatever z is drawn, and its gradient (Fisher's identity) the
    marginal's: exactly when enumerated, on average when sampled.
    """

    kind: ClassVar[str] = "lower bound"
    samples: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if self.samples is not None and self.samples < 1:
            raise ValueError(f"samples: expected a positive integer, or None to enumerate; got {self.samples}")

    def __call__(self, model: Model, posterior: Posterior, datum: Datum, key: PRNGKeyArray) -> Estimate:
        if isinstance(posterior, Expecting) and not isinstance(model, Tractable):
            return Estimate(posterior.expectations(model, datum)[1])
        q = posterior(jax.lax.stop_gradient(model), datum)
        if self.samples is None:
            values = distributions.support(q)
            log_q = jax.lax.stop_gradient(jax.vmap(q.log_prob)(values))
            probabilities = jnp.exp(log_q)
            terms = jax.vmap(lambda z: model.log_joint(z, datum))(values) - log_q
            return Estimate(jnp.sum(jnp.where(probabilities > 0, probabilities * terms, 0.0)))
        values = jax.vmap(q.sample)(jax.random.split(key, self.samples))
        log_q = jax.lax.stop_gradient(jax.vmap(q.log_prob)(values))
        return Estimate(jnp.mean(jax.vmap(lambda z: model.log_joint(z, datum))(values) - log_q))

    def weights(
        self, model: Model, posterior: Posterior, datum: Datum, key: PRNGKeyArray
    ) -> tuple[Any, Float[Array, ""]]:
        """What the closed-form M-step needs of q, and the objective's value.

        Of a discrete latent the weights of its values, enumerated or as frequencies of samples; of a continuous one
        the model's own summary (``model.expectations``), of q or of samples.
        """
        if isinstance(posterior, Expecting):
            expectations, value = posterior.expectations(model, datum)
            if self.samples is None:
                return expectations, value
            if not isinstance(posterior, Exact):
                raise TypeError(f"objective: {type(posterior).__name__}() needs no samples; leave them out")
            if isinstance(expectations, tuple):
                q = posterior(model, datum)
                return summary(q, jax.vmap(q.sample)(jax.random.split(key, self.samples))), value
            log_q = jnp.log(expectations)
        else:
            if not isinstance(model, Enumerable):
                raise TypeError(f"posterior: EM of {name_of(model)} needs one that gives expectations; use Exact()")
            q = posterior(model, datum)
            joints = model.log_joints(datum)
            log_q = jax.vmap(q.log_prob)(distributions.support(q))
            value = jnp.sum(jnp.where(jnp.exp(log_q) > 0, jnp.exp(log_q) * (joints - log_q), 0.0))
        if self.samples is None:
            return jnp.exp(log_q), value
        # inverse CDF: one random number a draw, and the frequencies without the draws themselves
        cumulative = jnp.cumsum(jnp.exp(log_q)).at[-1].set(1.0)
        draws = jax.random.uniform(key, (self.samples, 1), log_q.dtype)
        return jnp.diff(jnp.mean(draws < cumulative[None], 0), prepend=0.0), value


def summary(q: Any, draws: Any) -> Any:
    """What an M-step needs of draws of a latent: of chains their own, of vectors [S, L] mean and covariance."""
    if isinstance(q, DiscreteChain | GaussianChain):
        return q.summary(draws)
    mean = jnp.mean(draws, 0)
    away = draws - mean[None]
    return mean, away.T @ away / len(draws)
