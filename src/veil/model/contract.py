"""The first contract: a model p(y, z | x) of one datum, and the datum."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.units import Units

# A batch of data is a Datum of numpy arrays while it is on the host; on the device, and to a model, of JAX arrays.
if TYPE_CHECKING:
    Leaf = Array
else:
    Leaf = Array | np.ndarray


class Datum(eqx.Module):
    """ONE datum: what is scored, what is given, and what real data brings. (Outside ``vmap``, a batch of them.)

    ``query`` y [*query]; ``evidence`` x [P] or None; ``weight`` how many times the datum counts (None: once);
    ``observed`` bool [*query], which entries of the query are present (None: all); ``index`` its row in the data.

    Of a sequence, query [T, ...] and evidence [T, P]: ``mask`` bool [T], which steps are not padding (None: all), and
    ``reset`` bool [T], which steps start an episode (None: the first one). ``begin``: what is known before the first
    step, for a window that goes on with an episode (a posterior's ``Belief``; None: an episode starts).
    """

    query: Float[Leaf, "*query"]
    evidence: Float[Leaf, "*evidence"] | None = None
    weight: Float[Leaf, "*batch"] | None = None
    observed: Bool[Leaf, "*query"] | None = None
    index: Int[Leaf, "*batch"] | None = None
    mask: Bool[Leaf, "*steps"] | None = None
    reset: Bool[Leaf, "*steps"] | None = None
    begin: Any = None


def frozen(tree: Any) -> Any:
    """The same model, posterior or array, through which no gradient passes."""
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf, tree)


class Model(eqx.Module):
    """p(y, z | x) = p(z | x) p(y | x, z) for one datum; never sees a batch axis (the verbs ``vmap`` outside).

    Write ``prior`` and ``likelihood``; the rest follows. A model may start without parameters: then ``initialise``
    gives it some, from (a sample of) the data, and ``veil.fit`` calls it.
    """

    @abstractmethod
    def prior(self, evidence: Float[Array, "*evidence"] | None) -> Distribution:
        """p(z | x)."""

    @abstractmethod
    def likelihood(self, latent: Any, evidence: Float[Array, "*evidence"] | None) -> Distribution:
        """p(y | x, z)."""

    # What a fit asks of a model. The defaults suit a model that comes with its parameters and learns by gradients.

    @property
    def ready(self) -> bool:
        """Whether there are parameters; if not, a fit starts by making some."""
        return True

    @property
    def closed_form(self) -> bool:
        """Whether ``statistics(datum, weights)``, ``maximise(sums)``, ``moved`` and ``log_prior`` give EM's M-step.

        They take what ``expectations(datum)`` gives of the exact posterior.
        """
        return False

    standardised: ClassVar[bool] = (
        False  # whether a fit may train in standardised units and call ``rescaled`` at the end
    )

    sequential: ClassVar[bool] = False  # whether a datum is a sequence, [T, ...], that may have ``mask`` and ``reset``

    @property
    def real(self) -> bool:
        """Whether the query is on the real line, so that standardising may include it; a ``head`` knows."""
        return bool(getattr(getattr(self, "head", None), "real", False))

    @property
    def isotropic(self) -> bool:
        """Whether all entries of the query must share one unit; a ``head`` knows."""
        return bool(getattr(getattr(self, "head", None), "isotropic", False))

    def responsibilities(self, points: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> Any:
        """Host-side preparation of ``initialise``, from standardised points [N, ·] (None: nothing)."""
        return None

    def initialise(self, data: Datum, responsibilities: Any, key: PRNGKeyArray) -> Self:
        """This model with starting parameters, from (a sample of) the data, batched."""
        return self

    def rescaled(self, query: Units, evidence: Units | None) -> Self:
        """The model of data in the user's units, from the model of standardised data."""
        raise NotImplementedError(f"{type(self).__name__} says it is standardised but has no rescaled()")

    def with_expanded_sums(self, expanded: bool) -> Self:
        """The same model, its closed-form sums computed the fast way or the careful one, where it knows two."""
        return self

    def largest_precision(self) -> Float[Array, ""] | float:
        """The largest precision along any direction: how small a distance the likelihood resolves."""
        return 0.0

    def check(self, query: np.ndarray, names: tuple[str, ...]) -> None:
        """Raise ValueError where data are outside the model's support; a ``head`` knows."""
        if hasattr(self, "head"):
            self.head.check(query, names)

    def parameters(self) -> int:
        """How many numbers are free (for BIC and AIC)."""
        return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(self, eqx.is_inexact_array)))

    def prior_for(self, datum: Datum) -> Distribution:
        """p(z | x) of this datum; of a sequence, over its steps, with its padding and resets."""
        return self.prior(datum.evidence)

    def log_likelihood(self, latent: Any, datum: Datum) -> Float[Array, ""]:
        """log p(y | x, z), nats, over the entries of y that are present (and the steps that are there)."""
        return distributions.log_prob(self.likelihood(latent, datum.evidence), datum.query, datum.observed)

    def log_joint(self, latent: Any, datum: Datum) -> Float[Array, ""]:
        """log p(y, z | x) = log p(z | x) + log p(y | x, z), nats."""
        return distributions.log_prob(self.prior_for(datum), latent) + self.log_likelihood(latent, datum)

    @property
    def shared_by(self) -> int:
        """How many data share one latent (1: each datum has its own). Its KL counts 1/N in each datum's ELBO."""
        return 1

    def counted(self, total: float) -> Self:
        """This model of data of this total weight (for a latent that they share)."""
        return self

    def local(self, q: Any, evidence: Float[Array, "*evidence"] | None, key: PRNGKeyArray) -> Distribution:
        """p(y | x, z) at a draw of z that is made inside, where that is the better way (local reparameterisation)."""
        raise TypeError(f"gradient: {type(self).__name__} knows no local reparameterisation; use Pathwise()")

    tractable: ClassVar[bool] = True  # ``log_marginal`` and ``posterior`` are exact: the latent is summed out

    def log_marginal(self, datum: Datum) -> Float[Array, ""]:
        """log p(y | x), the latent summed out (nats, exact)."""
        return jax.scipy.special.logsumexp(self.log_joints(datum))

    def posterior(self, datum: Datum) -> Distribution:
        """p(z | y, x), exact: Bayes' rule over every value of a discrete latent, or the empty latent's only value."""
        prior = self.prior(datum.evidence)
        if isinstance(prior, distributions.Empty):
            return prior
        return distributions.categorical(self.log_joints(datum))

    def expectations(self, datum: Datum) -> tuple[Any, Float[Array, ""]]:
        """What the M-step's ``statistics`` need of the exact posterior (its probabilities [K]), and log p(y | x)."""
        joints = self.log_joints(datum)
        value = jax.scipy.special.logsumexp(joints)
        return jnp.exp(joints - value), value

    def used(self, expectations: Any) -> Float[Array, " K"]:
        """How much of a datum each value of a discrete latent has, from its ``expectations`` (nothing: not known)."""
        return expectations if isinstance(expectations, jax.Array) else jnp.zeros(0)

    def log_joints(self, datum: Datum) -> Float[Array, " K"]:
        """``log_joint`` of every value of a discrete latent, in the order of the prior's support (nats, exact).

        A model may override this with something faster that gives the same numbers.
        """
        support = distributions.support(self.prior(datum.evidence))
        return jax.vmap(lambda latent: self.log_joint(latent, datum))(support)

    def sample(self, key: PRNGKeyArray, evidence: Float[Array, "*evidence"] | None = None) -> tuple[Any, Array]:
        """(z, y) drawn from p(z | x) p(y | x, z)."""
        key_latent, key_query = jax.random.split(key)
        latent = self.prior(evidence).sample(key_latent)
        query = self.likelihood(latent, evidence).sample(key_query)
        return latent, query.astype(jnp.result_type(float))  # counts and categories too: a query is floats
