"""The evidence lower bound, the importance-weighted bound, and reweighted wake-sleep."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.model import Datum, Model, Plate, frozen
from veil.model.abilities import Local, name_of
from veil.objective.base import Estimate, Helped, Objective, with_gradient
from veil.objective.estimators import (
    DoublyReparameterised,
    Estimator,
    LocalReparameterisation,
    Pathwise,
    Problem,
    StickingTheLanding,
)
from veil.objective.terms import Balanced, Term
from veil.parts.nets import positive
from veil.posterior.base import Posterior


def _check(gradient: Estimator | None, samples: int) -> None:
    positive("samples", samples)
    if gradient is not None and not isinstance(gradient, Estimator):
        raise TypeError(f"gradient: expected an estimator, such as Pathwise(); got {gradient!r}")


def _problem(model: Model, posterior: Posterior, datum: Datum, terms: tuple[Term, ...] = ()) -> Problem:
    def term(parts: Float[Array, " G"]) -> Float[Array, " G"]:
        for change in terms:
            parts = change(parts)
        # free nats and the like are none of the padding's
        return parts if there is None else jnp.where(there, parts, 0.0)

    def local(key: PRNGKeyArray) -> Float[Array, ""]:
        if not isinstance(model, Local):
            raise TypeError(f"gradient: {name_of(model)} knows no local reparameterisation; use Pathwise()")
        return distributions.log_prob(model.local(q, datum.evidence, key), datum.query, datum.observed)

    def fix() -> Distribution:
        return frozen(posterior)(frozen(model), datum)

    q, p = posterior(model, datum), model.prior_for(datum)
    there = p.there if isinstance(p, distributions.PathDistribution) else None
    balance = next((change.weight for change in terms if isinstance(change, Balanced)), None)
    score = lambda z: model.log_likelihood(z, datum)  # noqa: E731
    share = 1.0 / model.shared_by if isinstance(model, Plate) else 1.0
    return Problem(q, fix, p, score, term, local, share, balance)


def as_terms(kl: Any) -> tuple[Term, ...]:
    terms = tuple(kl) if isinstance(kl, tuple | list) else (kl,)
    if not all(isinstance(term, Term) for term in terms):
        raise TypeError(f"kl: expected terms, such as Annealed(1000) or FreeNats(0.1); got {kl!r}")
    return terms


class ELBO(Helped):
    """E_q[log p(y | x, z)] - KL(q(z | y, x) || p(z | x)), a lower bound on log p(y | x). Kingma & Welling 2014, eq. 3.

    ``gradient``: the estimator (see ``veil.objective.estimators``); ``samples``: draws of z for each datum; ``kl``:
    what is done to the KL term, in this order, such as ``(Annealed(1000), FreeNats(0.1))``. With any of those the
    value is no longer the ELBO; the metric ``elbo`` is.

    For a latent that all data share (a ``Plate``, N data) each datum carries 1/N of the KL, so that the mean
    over data is the ELBO of all of them divided by N.
    """

    gradient: Estimator = Pathwise()
    samples: int = eqx.field(static=True, default=1)
    kl: Any = eqx.field(default=(), converter=as_terms)

    def __check_init__(self) -> None:
        _check(self.gradient, self.samples)

    @property
    def local_noise(self) -> bool:
        return isinstance(self.gradient, LocalReparameterisation)

    def __call__(self, model: Model, posterior: Posterior, datum: Datum, key: PRNGKeyArray) -> Estimate:
        parts = self.gradient.elbo(_problem(model, posterior, datum, self.kl), key, self.samples)
        metrics = {"elbo": parts.reconstruction - parts.kl, "reconstruction": parts.reconstruction, "kl": parts.kl}
        return Estimate(parts.value, jax.lax.stop_gradient(metrics | {"_signal": parts.signal}))

    @property
    def bound(self) -> "ELBO":
        """With the whole KL."""
        return ELBO(self.gradient, self.samples)

    def advanced(self, metrics: dict[str, Float[Array, ""]]) -> "ELBO":
        gradient = self.gradient.advanced(metrics["_signal"])
        return ELBO(gradient, self.samples, tuple(term.advanced() for term in self.kl))


class ImportanceWeighted(Objective):
    """log 1/K Σ_k p(y, z_k | x) / q(z_k | y, x), z_k ~ q: a tighter lower bound, log p(y | x) as K grows.

    Burda et al. 2016, eq. 8. ``gradient``: ``Pathwise()``, ``DoublyReparameterised()`` (the default: unbiased, and
    its signal-to-noise for q grows with K) or ``ScoreFunction()`` (VIMCO).
    """

    samples: int = eqx.field(static=True, default=50)
    gradient: Estimator = DoublyReparameterised()

    def __check_init__(self) -> None:
        _check(self.gradient, self.samples)
        if isinstance(self.gradient, StickingTheLanding):
            raise ValueError(
                "gradient: StickingTheLanding is biased for the importance-weighted bound; use DoublyReparameterised()"
            )

    def __call__(self, model: Model, posterior: Posterior, datum: Datum, key: PRNGKeyArray) -> Estimate:
        if isinstance(model, Plate):
            raise TypeError("objective: data that share one latent have one bound together; use ELBO()")
        value = self.gradient.weighted(_problem(model, posterior, datum), key, self.samples)
        return Estimate(value, {"_signal": jax.lax.stop_gradient(value)})

    def advanced(self, metrics: dict[str, Float[Array, ""]]) -> "ImportanceWeighted":
        return ImportanceWeighted(self.samples, self.gradient.advanced(metrics["_signal"]))


class WakeSleep(Objective):
    """Reweighted wake-sleep: the model climbs the importance-weighted bound, q follows the weighted posterior.

    Model: Σ_k w̃_k ∇ log p(y, z_k | x); q (wake phase): Σ_k w̃_k ∇ log q(z_k | y, x), which lowers KL(p || q); with
    ``sleep`` also, in this proportion, ∇ log q(z | y', x) at dreams (z, y') ~ p. Any latent, no reparameterisation.
    Bornschein & Bengio 2015, eqs. 4-6. The value is the importance-weighted bound.
    """

    samples: int = eqx.field(static=True, default=10)
    sleep: float = eqx.field(static=True, default=0.0)

    def __check_init__(self) -> None:
        _check(None, self.samples)
        if not 0 <= self.sleep <= 1:
            raise ValueError(f"sleep: expected a proportion from 0 to 1; got {self.sleep!r}")

    def __call__(self, model: Model, posterior: Posterior, datum: Datum, key: PRNGKeyArray) -> Estimate:
        key_draws, key_dream = jax.random.split(key)
        q = posterior(model, datum)
        draws = jax.vmap(q.sample)(jax.random.split(key_draws, self.samples))
        values = jax.lax.stop_gradient(draws)
        joints = jax.vmap(lambda z: model.log_joint(z, datum))(values)
        log_q = jax.vmap(q.log_prob)(values)
        log_weights = jax.lax.stop_gradient(joints - log_q)
        share = jax.nn.softmax(log_weights)
        follow = (1.0 - self.sleep) * jnp.sum(share * log_q)
        if self.sleep > 0:
            latent, query = jax.lax.stop_gradient(model.sample(key_dream, datum.evidence))
            dream = Datum(query, datum.evidence, index=datum.index)
            follow = follow + self.sleep * posterior(model, dream).log_prob(latent)
        bound = jax.scipy.special.logsumexp(log_weights) - jnp.log(self.samples)
        return Estimate(with_gradient(bound, jnp.sum(share * joints) + follow))


class Binarised(Objective):
    """Another objective of coins y ~ Bernoulli(grey value), tossed anew for each datum in each step.

    Dynamic binarisation of images with values from 0 to 1 (Salakhutdinov & Murray 2008; Burda et al. 2016), for a
    model with the head ``Bernoulli(soft=True)``. The value is that of the tossed coins, on average over tosses.
    """

    objective: Objective = ELBO()

    def __call__(self, model: Model, posterior: Posterior, datum: Datum, key: PRNGKeyArray) -> Estimate:
        key_coins, key_objective = jax.random.split(key)
        coins = jax.random.uniform(key_coins, datum.query.shape, datum.query.dtype) < datum.query
        tossed = replace(datum, query=coins.astype(datum.query.dtype))
        return self.objective(model, posterior, tossed, key_objective)

    def advanced(self, metrics: dict[str, Float[Array, ""]]) -> "Binarised":
        return Binarised(self.objective.advanced(metrics))
