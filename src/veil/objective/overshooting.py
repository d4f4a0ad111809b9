"""Latent overshooting: the prior's predictions several steps ahead are held to the posterior, too."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.model import Datum, Model, Stepwise, frozen
from veil.model.abilities import name_of
from veil.model.chains import NeuralChain, Path, State
from veil.objective.base import Estimate, Objective
from veil.objective.elbo import ELBO
from veil.parts.nets import positive
from veil.posterior import Posterior


class Overshooting(Objective):
    """An ELBO of a deep state-space model less ``weight`` / D · Σ_{d=2..D} Σ_t KL(q(z_t) || p(z_t | z_t-d)).

    p(z_t | z_t-d) is open loop: d - 1 steps drawn from the prior after a step of q's path, and the posterior is held
    fixed there, so that the dynamics learn to predict D = ``distance`` steps ahead. Hafner et al. 2019, eqs. 6 and 7
    (whose d = 1 is the ELBO's own KL). The value is no ELBO; the metric ``elbo`` is. Predictions do not cross the start
    of an episode. Not for models that see observations (``veil.vrnn``), which have no open-loop prior.
    """

    distance: int = eqx.field(static=True, default=5)
    weight: float = eqx.field(static=True, default=1.0)
    elbo: Any = ELBO()

    def __check_init__(self) -> None:
        positive("distance", self.distance)
        if self.distance < 2:
            raise ValueError("distance: expected two steps or more; one is the ELBO's own")
        if not self.weight >= 0:
            raise ValueError(f"weight: expected a number, zero or more; got {self.weight!r}")
        if not isinstance(self.elbo, ELBO):
            raise TypeError(f"elbo: expected an ELBO(...); got {self.elbo!r}")

    def __call__(self, model: Model, posterior: Posterior, datum: Datum, key: PRNGKeyArray) -> Estimate:
        if not isinstance(model, Stepwise) or model.remembers:
            raise TypeError(
                "objective: Overshooting is for veil.StateSpace models whose prior does not see observations, such as "
                "veil.rssm() and veil.dmm()"
            )
        estimate = self.elbo(model, posterior, datum, key)
        q, p = posterior(model, datum), model.prior_for(datum)
        if not isinstance(p, NeuralChain):
            raise TypeError(f"objective: Overshooting is for veil.StateSpace models; got {name_of(model)}")
        path = distributions.drawn(q, key, self.elbo.gradient.draw)  # the ELBO's own draw
        ahead = self._ahead(q, p, path, jax.random.fold_in(key, 1))
        metrics = estimate.metrics | {"overshooting": jax.lax.stop_gradient(ahead)}
        return Estimate(estimate.value - self.weight * ahead, metrics)

    def _ahead(self, q: Any, p: NeuralChain, path: Path, key: PRNGKeyArray) -> Float[Array, ""]:
        """1/D Σ_{d=2..D} Σ_t KL(q(z_t) || p(z_t | z_t-d)), nats."""
        count = len(path)
        target, episode = frozen(q.conditionals(path)), jnp.cumsum(p.starts)
        states = jax.vmap(State)(path.memory, path.latent, p.seen)

        def step(states: State, now: tuple[Array, PRNGKeyArray]) -> tuple[State, Float[Array, ""]]:
            by, key = now
            there = jnp.arange(count) + by
            there, inside = jnp.minimum(there, count - 1), there < count
            memory = jax.vmap(p.recall)(states, None if p.evidence is None else p.evidence[there])
            following = eqx.tree_at(lambda steps: steps.memory, p.conditionals(path), memory)
            kl = jnp.sum(target.at(there).kl(following), 1)
            same = inside & p.there[there] & (episode[there] == episode)
            keys = jax.random.split(key, count)
            draw = lambda memory, features, key: self.elbo.gradient.draw(p.one(memory, features), key)  # noqa: E731
            latent = jax.vmap(draw)(memory, p.features, keys).astype(states.latent.dtype)
            return jax.vmap(State)(memory, latent, states.seen), jnp.sum(jnp.where(same & (by > 1), kl, 0.0))

        distances = jnp.arange(1, self.distance + 1)
        each = jax.lax.scan(step, states, (distances, jax.random.split(key, self.distance)))[1]
        return jnp.sum(each) / self.distance

    def advanced(self, metrics: dict[str, Float[Array, ""]]) -> "Overshooting":
        return Overshooting(self.distance, self.weight, self.elbo.advanced(metrics))
