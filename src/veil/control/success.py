"""Control as inference by particles, on any model that runs step by step: that it went well is a query like others.

Latents are actions and states, so that particles hope for luck, too (``Hoped()`` of ``veil.control.optimality``); for
dynamics that are held fixed see ``veil.control.planning``.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.distributions import Distribution, asking
from veil.maths import particles
from veil.model import Datum, Stepwise
from veil.model.abilities import name_of
from veil.model.checks import whole
from veil.model.stepwise import Rollout
from veil.posterior import Bootstrap, proposals

Earned = Callable[
    [Rollout], Float[Array, ""]
]  # of one step: carries before and after, latent, query, evidence (action)


class WentWell(Stepwise):
    """p(O_1..H = 1, u, z) = Π_t p(u_t) p(z_t | past, u_t) exp(r_t / τ): the query is that it went well.

    Latents {"action", "latent"}; the evidence of ``model`` is the action, and ``state`` the carry that it goes on from.
    Likelihoods are known up to a factor, which cancels everywhere: log p(O = 1) is that of E[exp(Σ_t r_t / τ)]. The
    posterior is that of ``Hoped()``: success is evidence of luck. ``reward(step)`` of a ``Rollout`` of one step, whose
    query is None. It is a model like others: ``veil.posterior.proposals.filtered``, ``particle_bound``, FIVO take it.
    Levine 2018, section 2; Piché et al. 2019, "Probabilistic planning with sequential Monte Carlo methods".

    Raises:
        TypeError: a model that remembers its queries, which are not drawn here.
    """

    model: Stepwise
    reward: Earned
    actions: Distribution
    state: Any
    temperature: float = 1.0

    def __check_init__(self) -> None:
        if self.model.remembers:
            raise TypeError(
                f"model: {name_of(self.model)} needs its queries to go on, and here nothing but the latent is drawn"
            )

    @property
    def remembers(self) -> bool:
        return False

    def carry(self, evidence: Any) -> Any:
        return self.state

    def step_prior(self, carry: Any, evidence: Any) -> "Moved":
        return Moved(self.actions, self.model, carry)

    def advance(self, carry: Any, latent: Any, query: Any, evidence: Any, observed: Any) -> Any:
        return self.model.advance(carry, latent["latent"], None, latent["action"], None)

    def step_likelihood(self, carry: Any, latent: Any, evidence: Any) -> "Potential":
        step = Rollout(carry, latent["latent"], None, latent["action"], self.advance(carry, latent, None, None, None))
        return Potential(self.reward(step) / self.temperature)


class Moved(Distribution):
    """p(u) p(z | past, u): an action, and where it leads."""

    actions: Distribution
    model: Stepwise
    carry: Any

    def sample(self, key: PRNGKeyArray) -> dict[str, Any]:
        key_action, key_latent = jax.random.split(key)
        action = self.actions.sample(key_action)
        return {"action": action, "latent": self.model.step_prior(self.carry, action).sample(key_latent)}

    def log_prob(self, value: dict[str, Any]) -> Float[Array, ""]:
        moved = self.model.step_prior(self.carry, value["action"])
        return asking.log_prob(self.actions, value["action"]) + asking.log_prob(moved, value["latent"])


class Potential(Distribution):
    """log p(O = 1) up to a constant, nats; there is no other value, and nothing to draw."""

    logarithm: Float[Array, ""]

    def sample(self, key: PRNGKeyArray) -> Array:
        raise TypeError("optimality: it is only known up to a factor, and cannot be drawn; sample the model itself")

    def log_prob(self, value: Any) -> Float[Array, ""]:
        return self.logarithm


def successes(problem: WentWell, horizon: int, key: PRNGKeyArray, count: int = 1000) -> tuple[Any, Float[Array, ""]]:
    """Actions [count, H, ...], nearly draws of p(u_1..H | O_1..H = 1), and an estimate of log p(O_1..H = 1) in nats.

    By a particle filter with ``count`` particles: each draw is a last particle's own past, so that early actions have
    few different values. The estimate of p(O) is unbiased, that of its logarithm is low on average.
    """
    whole("horizon", horizon)
    whole("count", count)
    return _successes(problem, horizon, key, count)


@eqx.filter_jit
def _successes(problem: WentWell, horizon: int, key: PRNGKeyArray, count: int) -> tuple[Any, Float[Array, ""]]:
    key_filter, key_last = jax.random.split(key)
    found = proposals.filtered(problem, Bootstrap(), Datum(jnp.ones(horizon)), key_filter, count)
    last = particles.systematic(key_last, found.log_weights[-1])
    drawn = jax.tree.map(lambda leaf: leaf[last], particles.paths(found)["action"])
    return drawn, found.log_likelihood
