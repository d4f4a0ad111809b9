"""Importance-resampled posteriors: draws of another posterior, chosen by their weights."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray

from veil.distributions import Distribution, Reparameterised
from veil.model import Datum, Model
from veil.parts.nets import positive
from veil.posterior.base import Derived


class Chosen(Distribution, Reparameterised):
    """The distribution of one of ``samples`` draws of q, chosen with probability ∝ p(y, z | x) / q(z)."""

    q: Any
    model: Any
    datum: Datum
    samples: int = eqx.field(static=True)

    def sample(self, key: PRNGKeyArray) -> Array:
        key_draws, key_choice = jax.random.split(key)
        draws = jax.vmap(self.q.sample)(jax.random.split(key_draws, self.samples))
        log_weights = jax.vmap(lambda z: self.model.log_joint(z, self.datum) - self.q.log_prob(z))(draws)
        return draws[jax.random.categorical(key_choice, log_weights)]

    def log_prob(self, value: Array) -> Array:
        """Not known in closed form: raises TypeError."""
        raise TypeError(
            "posterior: an importance-resampled posterior can be drawn from, but its density has no closed form; "
            "train with ImportanceWeighted(samples=...) and its base posterior: that bound is the ELBO of this one"
        )


class Resampled(Derived):
    """One of ``samples`` draws of ``base``, chosen by importance: sampling-importance-resampling.

    Closer to p(z | y, x) than ``base``, and exact as ``samples`` grows; for drawing and inferring. The ELBO of this
    posterior is the importance-weighted bound of ``base`` (Cremer et al. 2017).
    """

    base: Any
    samples: int = eqx.field(static=True, default=50)

    def __check_init__(self) -> None:
        positive("samples", self.samples)

    def __call__(self, model: Model, datum: Datum) -> Distribution:
        return Chosen(self.base(model, datum), model, datum, self.samples)
