"""Members that each say which of several categories comes next: what they do not agree on can still be learned."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.exploration.bonus import About, Bonus, Transition, left
from veil.control.exploration.learning import Descending, Network, adam, descended, descending
from veil.control.exploration.measures import mutual_information
from veil.control.exploration.standards import Running, Standard, vector
from veil.parts.nets import MLP, positive

Outcome = Callable[[Any], Any]  # of o', the number of its category


class Voting(eqx.Module):
    """The members' networks, leaves [K, ...], the units of what they see, and a key."""

    learned: Descending
    seen: Any
    key: PRNGKeyArray


class Votes(Bonus):
    """I(c'; member | o, u), nats: how much which of ``members`` K networks is right would tell of a category c' of o'.

    p_k(c' | o, u) = softmax(f_k), and the value H(1/K Σ_k p_k) - 1/K Σ_k H(p_k) is exact, between 0 and log K; it does
    not depend on o'. ``outcome``: c' of o', a whole number from 0 below ``count``. ``inputs``: what the networks see of
    a step, not ``following``, in the units of ``standard``. ``update`` takes ``steps`` steps of the ``optimiser`` (an
    optax one; Adam at 0.001 if None) up Σ_k w_k log p_k(c'), each step with weights w_k ~ Poisson(1) of its own, drawn
    by the state's key. The members' last weights begin ``apart`` times as large as they would.

    Houlsby et al. 2011, "Bayesian active learning for classification and preference learning" (BALD), with an ensemble
    in the place of a posterior; Oza 2005, "Online bagging and boosting".

    >>> step = Transition(jnp.ones(2), jnp.zeros(1), jnp.array(2))
    >>> bonus = Votes(3, lambda following: following)
    >>> state = bonus.init(step, jax.random.key(0))
    >>> value, _ = bonus(state, step.observation, step.action, step.following)
    >>> bool(0 < value < jnp.log(5))
    True
    """

    count: int = eqx.field(static=True)
    outcome: Outcome = eqx.field(static=True)
    members: int = eqx.field(static=True, default=5)
    net: Any = MLP((64,), "tanh")
    inputs: About = eqx.field(static=True, default=left)
    standard: Standard = Running()
    optimiser: Any = eqx.field(static=True, default=None)
    steps: int = eqx.field(static=True, default=1)
    apart: float = eqx.field(static=True, default=3.0)

    def __check_init__(self) -> None:
        for name in ("count", "members", "steps"):
            positive(name, vars(self)[name])

    def init(self, example: Transition, key: PRNGKeyArray) -> Voting:
        size = vector(self.inputs(example)).size
        key_networks, key = jax.random.split(key)
        keys = jax.random.split(key_networks, self.members)
        networks = eqx.filter_vmap(lambda key: Network.initialise(self.net, size, self.count, key))(keys)
        networks = eqx.tree_at(lambda each: each.output.weight, networks, replace_fn=lambda weight: self.apart * weight)
        return Voting(descending(networks, adam(self.optimiser)), self.standard.init(size), key)

    def _log_probs(self, networks: Network, seen: Float[Array, " in"]) -> Float[Array, "K C"]:
        return jax.nn.log_softmax(eqx.filter_vmap(lambda network: network(seen))(networks))

    def __call__(self, state: Voting, observation: Any, action: Any, following: Any) -> tuple[Float[Array, ""], Voting]:
        seen = self.standard(state.seen, vector(self.inputs(Transition(observation, action, following))))
        return mutual_information(self._log_probs(state.learned.networks, seen)), state

    def update(self, state: Voting, batch: Transition) -> Voting:
        x = jax.vmap(lambda step: vector(self.inputs(step)))(batch)
        units = self.standard.update(state.seen, x)
        seen = jax.vmap(lambda each: self.standard(units, each))(x)
        came = jax.vmap(lambda following: jnp.ravel(self.outcome(following))[0].astype(int))(batch.following)
        key_weights, key = jax.random.split(state.key)
        weights = jax.random.poisson(key_weights, 1.0, (len(x), self.members)).astype(float)

        def loss(networks: Network) -> Float[Array, ""]:
            one = lambda seen, came: self._log_probs(networks, seen)[:, came]  # noqa: E731
            return -jnp.mean(jnp.sum(weights * jax.vmap(one)(seen, came), 1))

        return Voting(descended(state.learned, adam(self.optimiser), loss, self.steps), units, key)
