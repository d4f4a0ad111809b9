"""The first contract: a model p(y, z | x) of one datum."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.host.showing import Shown
from veil.model import slips
from veil.model.datum import Datum


class Model(Shown, eqx.Module):
    """p(y, z | x) = p(z | x) p(y | x, z) for one datum; never sees a batch axis (the verbs ``vmap`` outside).

    Write ``prior`` and ``likelihood``; the rest follows. What a model can do beyond that is said by its type (see
    ``veil.model.abilities``): a plain ``Model`` has a latent that can be neither summed nor integrated out, and comes
    with its parameters, in the user's units.
    """

    def __new__(cls, *given: Any, **named: Any) -> Any:
        slips.names(cls.__init__, cls.__name__, named)
        return eqx.Module.__new__(cls)

    def __check_init__(self) -> None:
        slips.parts(self)

    @abstractmethod
    def prior(self, evidence: Any) -> Distribution:
        """p(z | x)."""

    @abstractmethod
    def likelihood(self, latent: Any, evidence: Any) -> Distribution:
        """p(y | x, z)."""

    def prior_for(self, datum: Datum) -> Distribution:
        """p(z | x) of this datum; of a sequence, over its steps, with its padding and resets."""
        return self.prior(datum.evidence)

    def log_likelihood(self, latent: Any, datum: Datum) -> Float[Array, ""]:
        """log p(y | x, z), nats, over the entries of y that are present (and the steps that are there)."""
        return distributions.log_prob(self.likelihood(latent, datum.evidence), datum.query, datum.observed)

    def log_joint(self, latent: Any, datum: Datum) -> Float[Array, ""]:
        """log p(y, z | x) = log p(z | x) + log p(y | x, z), nats."""
        return distributions.log_prob(self.prior_for(datum), latent) + self.log_likelihood(latent, datum)

    def sample(self, key: PRNGKeyArray, evidence: Any = None) -> tuple[Any, Any]:
        """(z, y) drawn from p(z | x) p(y | x, z)."""
        key_latent, key_query = jax.random.split(key)
        latent = self.prior(evidence).sample(key_latent)
        query = self.likelihood(latent, evidence).sample(key_query)
        return latent, as_floats(query)


def as_floats(query: Any) -> Any:
    """A query is floats: counts and categories too."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.result_type(float)), query)
