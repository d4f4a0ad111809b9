"""The posterior of which member is right that no data tell apart: every member stays as likely as before."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.model import Datum
from veil.model.abilities import name_of, states
from veil.model.filter import Belief, Filter, known, started_anew
from veil.model.members import Reached
from veil.model.stepwise import Marginal
from veil.posterior.base import Intrinsic, Online, Proposal


class Undecided(Intrinsic, Proposal, Online):
    """q(k_1..T | y, u) = p(k_1..T): members of an ensemble are draws of what is not known, and all of them stay.

    The exact posterior soon believes in one member, the best of those that there are, and plans as if it were right.
    Here the state is what was seen last, and every future that is imagined from there draws its member anew.
    """

    def __call__(self, model: Any, datum: Datum) -> Distribution:
        return model.prior_for(datum)

    def step_proposals(self, model: Any, datum: Datum) -> None:
        """Nothing is computed before."""
        return None

    def step(self, model: Any, features: Any, carry: Any, datum: Datum) -> Distribution:
        """The model's ``step_prior``."""
        return model.step_prior(carry, datum.evidence)

    def filter(self, model: Any) -> "LastSeen":
        """The last state. Raises TypeError for a model that has no members."""
        if not isinstance(model.carry(None), Reached):
            raise TypeError(
                f"posterior: Undecided() is of ensembles, such as veil.DynamicsEnsemble(); got {name_of(model)}"
            )
        return LastSeen(model)


class LastSeen(Filter):
    """Its state is the model's carry, the member not decided; log p(y_t | ..) is of the mixture of all members."""

    model: Any

    def init(self) -> Belief:
        return Belief(jax.tree.map(jnp.asarray, self.model.carry(None)), jnp.array(True), jnp.zeros(()))

    def update(self, belief: Belief, datum: Datum, key: PRNGKeyArray) -> Belief:
        fresh, there = started_anew(belief, datum)
        carry = replace(belief.state, fresh=fresh)

        def one(member: Any) -> Any:
            seen = self.model.step_likelihood(carry, member, datum.evidence)
            return distributions.log_prob(seen, datum.query, datum.observed)

        count = states(self.model)
        value = jax.nn.logsumexp(jax.vmap(one)(jnp.arange(count))) - jnp.log(float(count))
        after = self.model.advance(carry, carry.member, datum.query, datum.evidence, datum.observed)
        return known(belief, replace(after, decided=jnp.array(False)), value, fresh, there)

    def draw(self, belief: Belief, key: PRNGKeyArray) -> Reached:
        return belief.state

    def marginal(self, belief: Belief) -> Marginal:
        return self.model.latent_of(belief.state)
