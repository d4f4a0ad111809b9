"""Intent that changes: what somebody is trying to do is a hidden path, and may turn at every decision."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from veil import distributions
from veil.distributions import Distribution
from veil.maths import markov, viterbi
from veil.model import Datum
from veil.model.abilities import Sized, Sizes
from veil.model.chains import DiscreteChain, Emissions
from veil.model.filter import ExactChain
from veil.model.stepwise import Before, Marginal
from veil.zoo.filters import DiscreteFilter
from veil.zoo.intent import Intent

UNLIKELY = -4.0  # the log-odds of a change at a decision, before anything is learned


class SwitchingIntent(ExactChain, Sized):
    """p(a, z | s) = p(z_1) Π_t p(z_t | z_t-1) π_z_t(a_t | s_t): a hidden Markov chain of an ``Intent``'s kinds.

    At every decision after the first of an episode the kind is drawn anew from p(z) with a chance of σ(``log_odds``),
    and else stays what it was; with a chance of zero this is ``Episodic(intent)``. A datum is an episode, query and
    evidence [T, ...] of the ``Intent``'s. Likelihood, filter and smoother are exact, in nats; ``veil.fit`` learns the
    reward, p(z) and the chance of a change. Bishop 2006, section 13.2.

    >>> import numpy as np, veil
    >>> from veil.control import KnownReward
    >>> from veil.control.worlds.grid import grid
    >>> world = grid("A.....B")
    >>> walker = SwitchingIntent(veil.Intent(world.problem, KnownReward(world.rewards())))
    >>> turned = veil.data.episodes([[1.0] * 3 + [3.0] * 4], [[2.0, 3.0, 4.0, 5.0, 4.0, 3.0, 2.0]])
    >>> veil.infer(walker, turned, filtered=True).most_likely[0].tolist()  # to A, or to B
    [1, 1, 1, 0, 0, 0, 0]
    """

    intent: Intent
    log_odds: Float[Array, ""]

    def __init__(self, intent: Any, *, log_odds: Any = UNLIKELY) -> None:
        if not isinstance(intent, Intent):
            raise TypeError(f"intent: expected a veil.Intent, a model of one decision; got {intent!r:.80}")
        self.intent, self.log_odds = intent, jnp.asarray(log_odds, float)

    @property
    def sizes(self) -> Sizes:
        return self.intent.sizes

    @property
    def states(self) -> int:
        return self.intent.reward.kinds

    @property
    def remembers(self) -> bool:
        return False

    def first(self) -> Float[Array, " K"]:
        """log p(z_1)."""
        return jax.nn.log_softmax(self.intent.logits)

    def moves(self) -> Float[Array, "K K"]:
        """log p(z_t = j | z_t-1 = i), rows i."""
        anew = jax.nn.log_sigmoid(self.log_odds) + jnp.broadcast_to(self.first(), (self.states, self.states))
        stays = jax.nn.log_sigmoid(-self.log_odds) + jnp.where(jnp.eye(self.states, dtype=bool), 0.0, markov.LEAST)
        return jnp.logaddexp(anew, stays)

    def _parts(self, datum: Datum) -> tuple[Array, Array, Array, Array, Array]:
        """What ``maths.markov`` takes."""
        seen = jax.vmap(self.intent.log_likelihoods)(datum.each_step())
        return self.first(), self.moves(), seen, datum.starts, datum.there

    # -- the model -----------------------------------------------------------------------------------------------------

    def prior_for(self, datum: Datum) -> DiscreteChain:
        return DiscreteChain(markov.transitions(self.first(), self.moves(), datum.starts), datum.there)

    def likelihood(self, latent: Int[Array, " T"], evidence: Any) -> Distribution:
        return Emissions(self.intent.likelihood, latent, evidence)

    def log_marginal(self, datum: Datum) -> Float[Array, ""]:
        """log p(actions | states), the kinds summed out by the forward recursion."""
        return markov.log_likelihood(*self._parts(datum))

    def posterior(self, datum: Datum) -> Distribution:
        parts = self._parts(datum)
        return DiscreteChain(markov.conditioned(*parts), parts[-1])

    def marginals(self, datum: Datum) -> Marginal:
        parts = self._parts(datum)
        return Marginal(jnp.log(markov.smooth(*parts).marginals), path=viterbi.best_path(*parts)[0])

    # -- one step at a time --------------------------------------------------------------------------------------------

    def filter(self) -> DiscreteFilter:
        policies = self.intent.log_policies()  # solved for once, and not at every step
        return DiscreteFilter(self.states, eqx.Partial(self._step_parts, policies))

    def _step_parts(self, policies: Float[Array, "K *H S A"], datum: Datum) -> tuple[Array, Array, Array]:
        return self.first(), self.moves(), self.intent.log_likelihoods_under(policies, datum)

    def carry(self, evidence: Any) -> Before:
        return Before(jnp.zeros((), int), jnp.array(True))

    def advance(self, carry: Before, latent: Array, query: Any, evidence: Any, observed: Any) -> Before:
        return Before(latent.astype(carry.latent.dtype), jnp.array(False))

    def _next(self, carry: Before) -> Float[Array, " K"]:
        return jnp.where(carry.fresh, self.first(), self.moves()[carry.latent])

    def step_prior(self, carry: Before, evidence: Any) -> Distribution:
        return distributions.categorical(self._next(carry))

    def step_likelihood(self, carry: Before, latent: Array, evidence: Any) -> Distribution:
        return self.intent.likelihood(latent, evidence)

    def step_posterior(self, carry: Before, datum: Datum) -> Distribution:
        return distributions.categorical(self._next(carry) + self.intent.log_likelihoods(datum))
