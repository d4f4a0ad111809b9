"""How much an observation changes what is believed of a latent state: Bayesian surprise of a world model's filter."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.control.exploration.bonus import Episodic, Remembered, Transition
from veil.learning.result import Fit
from veil.maths import linear, markov
from veil.model import Datum
from veil.model.batching import on_device
from veil.model.datum import led
from veil.model.filter import Belief, Filter, started_anew
from veil.model.stepwise import where
from veil.posterior import Online
from veil.posterior.arguments import parts
from veil.posterior.assumed import GaussianFilter
from veil.posterior.choice import chosen
from veil.posterior.sequential import NeuralFilter
from veil.units.models import StandardisedFilter
from veil.zoo.filters import DiscreteFilter, KalmanFilter


def moved(filter: Filter, before: Belief, after: Belief, datum: Datum, key: PRNGKeyArray) -> Float[Array, ""]:
    """KL(q(z_t | past, o_t) || p(z_t | past, u_t)), nats, of a step of a filter from a belief to the next.

    Exact where the filter is; of a network's filter that of the path that the belief holds. Raises TypeError for a
    filter whose beliefs have no density (particles), or have none in closed form.
    """
    if isinstance(filter, StandardisedFilter):
        return moved(filter.inner, before, after, filter.units.standard(datum), key)
    if isinstance(filter, DiscreteFilter):
        q, p = _discrete(filter, before, after, datum)
    elif isinstance(filter, KalmanFilter | GaussianFilter):
        q, p = _gaussian(filter, before, after, datum, key)
    elif isinstance(filter, NeuralFilter):
        q, p = _neural(filter, before, after, datum)
    else:
        raise TypeError(
            f"posterior: the beliefs of a {type(filter).__name__} have no density; use an exact filter, "
            "veil.Sequential(), Extended() or Unscented()"
        )
    found = distributions.kl_entries(q, p)
    if found is None:
        raise TypeError(
            f"posterior: no closed form is known for KL({type(q).__name__} || {type(p).__name__}); use a posterior of "
            "the prior's family"
        )
    return jnp.sum(found)


def _discrete(filter: DiscreteFilter, before: Belief, after: Belief, datum: Datum) -> tuple[Any, Any]:
    fresh, _ = started_anew(before, datum)
    first, move, _ = map(markov.floored, filter.parts(datum))
    ahead = jax.nn.logsumexp(jax.nn.log_softmax(before.state)[:, None] + move, 0)
    return distributions.categorical(after.state), distributions.categorical(jnp.where(fresh, first, ahead))


def _gaussian(filter: Any, before: Belief, after: Belief, datum: Datum, key: PRNGKeyArray) -> tuple[Any, Any]:
    """What is believed without the observation is an update by one of which every entry is missing."""
    blind = replace(datum, observed=jnp.zeros_like(datum.query, bool))
    normals = (belief.state for belief in (after, filter.update(before, blind, key)))
    q, p = (distributions.multivariate_normal(mean, linear.cholesky(spread)) for mean, spread in normals)
    return q, p


def _neural(filter: NeuralFilter, before: Belief, after: Belief, datum: Datum) -> tuple[Any, Any]:
    q, memory = filter.posterior, after.state.path.memory
    fresh, _ = started_anew(before, datum)
    summary = where(fresh, q.sees.init(), before.state.summary)
    told = q.sees.step(summary, q.net(q.reader(replace(datum, evidence=led(datum.evidence, fresh)))))[1]
    return q.one(memory, told), filter.dynamics.prior(memory, jnp.zeros(0))


class Followed(eqx.Module):
    """What is believed now in the episode, and the key by which beliefs that are draws are drawn."""

    belief: Belief
    key: PRNGKeyArray


class BeliefGain(Episodic):
    """KL(q(z_t | past, o_t) || p(z_t | past, u_t)), nats: what o_t told of the state of the world, beyond what was
    known.

    ``filter``: of a model of sequences whose query is the observation and whose evidence is the action (``of`` makes
    one); ``nothing``: the action before the first one, which says of what shape actions are. Exact for hidden Markov
    and linear-Gaussian models, whose mean over o_t is the mutual information I(z_t; o_t | past); of a network's
    posterior it is the term of the ELBO's KL at this step along the path that was drawn; of assumed Gaussians as near
    as they are. Observations must be as the model's query is, and actions as its evidence.

    The model is fitted and fixed: ``update`` learns nothing. Where it learns elsewhere, make the bonus anew; a state
    may be kept.

    Itti & Baldi 2005, "Bayesian surprise attracts human attention"; Sekar et al. 2020, "Planning to explore via
    self-supervised world models" has the latent state, with an ensemble in the place of this divergence.

    >>> import veil
    >>> data = veil.data.episodes([[[0.0], [1.1], [1.9], [3.2], [3.9], [5.1]]])
    >>> fit = veil.fit(veil.LDS(latent=1), data, key=jax.random.key(0))
    >>> bonus = BeliefGain.of(fit)
    >>> state = bonus.init(Transition(jnp.zeros(1), None, jnp.zeros(1)), jax.random.key(0))
    >>> state = bonus.begin(state, jnp.zeros(1))
    >>> value, state = bonus(state, jnp.zeros(1), None, jnp.ones(1))
    >>> bool(value >= 0)
    True
    """

    filter: Filter
    nothing: Any = None

    @staticmethod
    def of(model: Any, nothing: Any = None, posterior: Any = None) -> "BeliefGain":
        """From a ``Fit``, or a model and its posterior. Raises TypeError, ValueError for one that cannot filter."""
        view = model.view if isinstance(model, Fit) else None
        if nothing is None and view is not None:
            nothing = view.nothing()
        found, given = parts(model, posterior)
        used = chosen(found, given, filtering=True)
        if not isinstance(used, Online):
            raise TypeError(
                f"posterior: {type(used).__name__} sees whole sequences and cannot filter; fit one that sees the past, "
                "veil.Sequential(sees=veil.posterior.Past())"
            )
        return BeliefGain(used.filter(found), on_device(nothing))

    def init(self, example: Transition, key: PRNGKeyArray) -> Remembered:
        return Remembered((), Followed(jax.tree.map(jnp.asarray, self.filter.init()), key))

    def begin(self, state: Remembered, observation: Any) -> Remembered:
        key_step, key = jax.random.split(state.memory.key)
        first = self.filter.update(self.filter.init(), Datum(observation, self.nothing), key_step)
        return Remembered(state.learned, Followed(first, key))

    def __call__(
        self, state: Remembered, observation: Any, action: Any, following: Any
    ) -> tuple[Float[Array, ""], Remembered]:
        key_step, key = jax.random.split(state.memory.key)
        before, datum = state.memory.belief, Datum(following, action)
        after = self.filter.update(before, datum, key_step)
        value = moved(self.filter, before, after, datum, key_step)
        return value, Remembered(state.learned, Followed(after, key))

    def update(self, state: Remembered, batch: Transition) -> Remembered:
        """The same state: the model is fitted, and learns nothing here."""
        return state
