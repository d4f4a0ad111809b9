"""Each member of an ensemble learns from a draw of the data of its own."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.model import Datum, Model
from veil.model.abilities import name_of
from veil.model.members import Members
from veil.objective.base import Estimate, Helped
from veil.parts.nets import flat
from veil.posterior.base import Posterior

# P(Poisson(1) > j), j = 0..7: the last is 1e-6
TAILS = (0.6321206, 0.2642411, 0.0803014, 0.0189882, 0.0036598, 0.0005942, 0.0000832, 0.0000102)


class Bagging(Helped):
    """1/K Σ_k Σ_t w_kt log p(y_t | s_t-1, u_t, k), where w_kt ~ Poisson(1) says how often member k has seen a step.

    Members learn side by side, each from as many steps as there are, drawn with replacement (nearly: Oza 2005, "Online
    bagging and boosting"). Which steps those are follows from the steps' own numbers, so that they stay the same from
    batch to batch, however windows are cut and while more data come. With ``drawn`` False all learn from all, and
    differ by their first weights only. The metric ``elbo`` is 1/K Σ_k log p(y | u, k) ≤ log p(y | u), the bound
    that ``Undecided()`` gives.

    Breiman 1996, "Bagging predictors"; Chua et al. 2018, section 4.

    Raises TypeError for a model without members.
    """

    drawn: bool = eqx.field(static=True, default=True)

    def __call__(self, model: Model, posterior: Posterior, datum: Datum, key: PRNGKeyArray) -> Estimate:
        if not isinstance(model, Members):
            raise TypeError(
                f"objective: Bagging() is of ensembles, such as veil.DynamicsEnsemble(); got {name_of(model)}"
            )
        each = model.each_log_likelihood(datum)
        whole = jnp.sum(jnp.mean(each, 0))
        if not self.drawn:
            return Estimate(whole)
        counts = jax.vmap(lambda step: tosses(step, len(each)), out_axes=1)(datum.each_step())
        return Estimate(jnp.sum(jnp.mean(counts * each, 0)), {"elbo": jax.lax.stop_gradient(whole)})

    @property
    def bound(self) -> "Bagging":
        """Every member by all data."""
        return Bagging(drawn=False)


def tosses(step: Datum, members: int) -> Float[Array, " K"]:
    """How often each member has seen a step, Poisson(1), by the bits of its numbers."""
    numbers = flat((step.query, () if step.evidence is None else step.evidence)).astype(jnp.float32)
    bits = jax.lax.bitcast_convert_type(numbers + 0.0, jnp.uint32)  # -0 is 0

    def mixed(before: Array, bits: Array) -> tuple[Array, None]:
        some = (before ^ bits) * jnp.uint32(0x9E3779B1)
        return some ^ (some >> jnp.uint32(15)), None

    seed = jax.lax.scan(mixed, jnp.uint32(0), bits, unroll=True)[0]
    draws = jax.random.uniform(jax.random.key(seed), (members,))
    return jnp.sum(draws[:, None] < jnp.array(TAILS)[None], 1).astype(numbers.dtype)
