"""Information gain about the weights of a network that predicts where a step leads: VIME."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.control.exploration.bonus import About, Bonus, Transition, left
from veil.control.exploration.learning import adam, ascended
from veil.control.exploration.standards import Running, Standard, vector
from veil.control.exploration.steps import Score, SecondOrder, Step, numbers
from veil.learning.choices import as_optimiser
from veil.learning.gradient import Gradient, GradientState
from veil.model import Datum
from veil.objective import ELBO, LocalReparameterisation
from veil.objective.terms import Term
from veil.parts.heads import BoundedGaussian
from veil.parts.nets import positive
from veil.posterior import Shared
from veil.zoo.bayesian import BayesianNetwork


class Divided(Term):
    """KL / N, with a number N of data that grows."""

    count: Float[Array, ""] | float = 1.0

    def __call__(self, parts: Float[Array, " G"]) -> Float[Array, " G"]:
        return parts / self.count


class Weights(eqx.Module):
    """What is known of the weights: network and posterior with the optimiser's state, the units of what it sees and

    predicts, how many steps there were, and a key, by which values draw weights and learning draws its noise.
    """

    learned: GradientState
    seen: Any
    told: Any
    count: Float[Array, ""]
    key: PRNGKeyArray


class NetworkGain(Bonus):
    """KL(q(w | the step) || q(w)), nats, of the weights of a ``network`` p(o' | o, u, w) whose q is mean-field: VIME.

    ``step``: how far q is moved by one step, ``SecondOrder(λ)`` or ``Variational(steps, rate)``. E_q[log p] is the mean
    over ``draws`` of w, opposite in pairs, whose mean and variance are q's for every weight alone; they come from the
    state's key, so that a value is a function of the state (and ``SecondOrder`` is a little too high, as every square
    of an estimate). ``inputs``: what the network sees of a step, not ``following``; by default o and u, all their
    numbers: of a choice give one number for each, as ``jax.nn.one_hot`` does. What it sees and what it predicts, o', is
    in the units of ``standard``, by default of all steps so far, from the batches of ``update``.

    ``update`` climbs the ELBO of all N steps by ``steps`` steps of the ``optimiser`` (an optax one or a
    ``veil.Optimiser``, whose moving averages are q; Adam at 0.01 if None), the whole batch in each, the network's noise
    included: E_q[log p] - KL(q || prior) / N. N is how many steps were given, but not more than ``most``: where batches
    are drawn again and again from a memory, its size. q begins at the prior's width times ``width``.

    Houthooft et al. 2016, "VIME: variational information maximizing exploration", where the noise is given; here it is
    learned, by the default ``network`` between a tenth and one of the units: where nothing is random it would go to
    zero, and every step would be news.

    >>> step = Transition(jnp.zeros(2), jnp.zeros(1), jnp.ones(2))
    >>> bonus = NetworkGain(BayesianNetwork((8,)))
    >>> state = bonus.init(step, jax.random.key(0))
    >>> value, _ = bonus(state, step.observation, step.action, step.following)
    >>> bool(value > 0)
    True
    """

    network: BayesianNetwork = BayesianNetwork((32,), head=BoundedGaussian(0.1, 1.0))
    step: Step = SecondOrder()
    inputs: About = eqx.field(static=True, default=left)
    standard: Standard = Running()
    draws: int = eqx.field(static=True, default=8)
    optimiser: Any = eqx.field(static=True, default=None)
    steps: int = eqx.field(static=True, default=1)
    most: float = eqx.field(static=True, default=100_000.0)
    width: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        if not isinstance(self.step, Step):
            raise TypeError(f"step: expected SecondOrder() or Variational(); got {self.step!r}")
        positive("steps", self.steps)
        if self.draws < 2 or self.draws % 2:
            raise ValueError(f"draws: expected an even number, for they are opposite in pairs; got {self.draws!r}")

    @property
    def _learner(self) -> Gradient:
        objective = ELBO(LocalReparameterisation(), kl=(Divided(),))
        return Gradient(objective, as_optimiser(adam(self.optimiser, 1e-2)))

    def init(self, example: Transition, key: PRNGKeyArray) -> Weights:
        key_network, key_weights, key = jax.random.split(key, 3)
        told, seen = (jnp.zeros_like(vector(tree)) for tree in (example.following, self.inputs(example)))
        one = Datum(told, seen)
        block = jax.tree.map(lambda leaf: leaf[None], one)
        network = replace(self.network.initialise(block, None, key_network), count=1.0)
        prior = network.prior(seen)
        mean, head = prior.sample(key_weights), Shared().head
        sums = jnp.stack([jnp.ones_like(mean), mean, mean**2 + self.width**2 * distributions.moments(prior)[1]])
        q = Shared(head, shape=mean.shape, parameters=head.from_sums(sums))
        standards = self.standard.init(seen.size), self.standard.init(told.size)
        learned = eqx.tree_at(
            lambda each: each.objective.kl[0].count, self._learner.init((network, q), block), jnp.ones(())
        )
        return Weights(learned, *standards, jnp.zeros(()), key)

    def _datum(self, state: Weights, step: Transition) -> Datum:
        told, seen = vector(step.following), vector(self.inputs(step))
        return Datum(self.standard(state.told, told), self.standard(state.seen, seen))

    def score(self, state: Weights, datum: Datum) -> Score:
        """E_q[log p(o' | o, u, w)] as a function of q, of a step in the units that it is learned in."""
        network, posterior = self._learner.learned(state.learned)
        size = numbers(posterior).size // 2
        some = jax.random.normal(jax.random.fold_in(state.key, 0), (self.draws // 2, size))
        some = some / jnp.sqrt(jnp.mean(some**2, 0, keepdims=True))
        noise = jnp.concatenate([some, -some])

        def expected(q: Shared) -> Float[Array, ""]:
            mean, variance = distributions.moments(q(network, datum))
            scale = jnp.sqrt(variance)
            one = lambda noise: network.likelihood(mean + scale * noise, datum.evidence).log_prob(datum.query)  # noqa: E731
            return jnp.mean(jax.vmap(one)(noise))

        return expected

    def __call__(
        self, state: Weights, observation: Any, action: Any, following: Any
    ) -> tuple[Float[Array, ""], Weights]:
        datum = self._datum(state, Transition(observation, action, following))
        return self.step.gain(self.score(state, datum), self._learner.learned(state.learned)[1]), state

    def update(self, state: Weights, batch: Transition) -> Weights:
        told, seen = jax.vmap(vector)(batch.following), jax.vmap(lambda step: vector(self.inputs(step)))(batch)
        count = jnp.minimum(state.count + len(told), self.most)
        standards = self.standard.update(state.seen, seen), self.standard.update(state.told, told)
        learned = eqx.tree_at(lambda each: each.objective.kl[0].count, state.learned, count)
        now = Weights(learned, *standards, count, state.key)
        key_noise, key = jax.random.split(jax.random.fold_in(state.key, 1))
        data = jax.vmap(lambda step: self._datum(now, step))(batch)
        return replace(now, learned=ascended(self._learner, learned, data, key_noise, self.steps), key=key)
