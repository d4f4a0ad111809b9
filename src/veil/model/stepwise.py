"""Sequence models one step at a time, from which everything about whole sequences follows.

    p(y, z | x) = Π_t p(z_t | c_t-1, x_t) p(y_t | c_t-1, z_t, x_t),   c_t = advance(c_t-1, z_t, y_t, x_t)

The *carry* c is all that the next step needs of the past, of one path: the last latent, a recurrent network's state, a
Kalman filter's belief. The carry of the start holds before the first step and is put back wherever an episode starts.
At padding nothing is called for, and the carry stays. Where evidence is the action that led to a step, none led to the
first one of an episode: what stands there is not to be read, and the carry (``Before.fresh``) is what knows.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Composed, Distribution, Reparameterised, StepDraws
from veil.model.abilities import OfSequences, states
from veil.model.chains import Chain, length
from veil.model.contract import as_floats
from veil.model.datum import Datum


class Marginal(NamedTuple):
    """Of p(z_t | ·): ``log_probabilities`` [K] of a discrete latent, ``mean`` and ``variance`` [L] of a vector.

    Of whole sequences with a leading axis of steps, and perhaps the most likely ``path`` [T] of states. Of filters
    ``log_likelihood`` log p(y_t | y_1..t-1), nats.
    """

    log_probabilities: Any = None
    mean: Any = None
    variance: Any = None
    path: Any = None
    log_likelihood: Any = None


class Stepwise(OfSequences):
    """A model of sequences, query [T, ...], that runs step by step. Shapes below are those of ONE step.

    Write the four abstract methods; ``prior``, ``likelihood``, ``log_likelihood`` and ``sample`` of whole sequences
    follow, and a model may override them with something faster that gives the same numbers.
    """

    @abstractmethod
    def carry(self, evidence: Any) -> Any:
        """The carry before the first step of an episode: a pytree of arrays. ``evidence`` is the whole sequence's."""

    @abstractmethod
    def advance(self, carry: Any, latent: Any, query: Any, evidence: Any, observed: Any) -> Any:
        """The carry after a step, once z_t and y_t are known, of the same structure, shapes and types.

        ``query`` is None where ``remembers`` says that it does not matter.
        """

    @abstractmethod
    def step_prior(self, carry: Any, evidence: Any) -> Distribution:
        """p(z_t | the past, x_t)."""

    @abstractmethod
    def step_likelihood(self, carry: Any, latent: Any, evidence: Any) -> Distribution:
        """p(y_t | the past, z_t, x_t); ``carry`` is the one that ``step_prior`` was given."""

    def likelihood_after(self, carry: Any, latent: Any, evidence: Any, after: Any) -> Distribution:
        """``step_likelihood`` for those who have the carry ``after`` the step, too, by which it may be known sooner."""
        return self.step_likelihood(carry, latent, evidence)

    @property
    def remembers(self) -> bool:
        """Whether the carry depends on the queries, not only on latents and evidence."""
        return True

    def latent_of(self, carry: Any) -> "Marginal":
        """What the carry after a step says of its latent: z_t itself, or moments of what was integrated out of it."""
        if not isinstance(carry, Before):
            name = type(self).__name__
            raise TypeError(
                f"model: {name} needs latent_of(carry), what a carry says of its latent: write it, or let its carry be "
                "veil.Before(latent, fresh)"
            )
        if jnp.issubdtype(carry.latent.dtype, jnp.integer):
            return Marginal(jnp.where(jnp.arange(states(self)) == carry.latent, 0.0, -jnp.inf))
        return Marginal(None, carry.latent, jnp.zeros_like(carry.latent))

    def prior(self, evidence: Any, steps: int | None = None) -> Distribution:
        """p(z_1..T | x): a chain of as many steps as the evidence has, or ``steps``.

        Raises TypeError for a model that remembers what was observed: ask ``prior_for`` a datum.
        """
        if self.remembers:
            raise TypeError("prior: its steps see observations, so that there is one for each datum: prior_for()")
        return self.prior_for(Datum(jnp.zeros(length(evidence, steps)), evidence))

    def prior_for(self, datum: Datum) -> Chain:
        """p(z | x) over the steps of a datum, with its resets and padding (and what it shows, if they see it)."""
        return SteppedChain(model=self, steps=datum.each_step(), starts=datum.starts, there=datum.there)

    def likelihood(self, latent: Any, evidence: Any) -> Distribution:
        """p(y_1..T | path, x)."""
        return SteppedEmissions(self, latent, evidence)

    def log_likelihood(self, latent: Any, datum: Datum) -> Float[Array, ""]:
        """Σ_t log p(y_t | past, z_t, x_t), nats, over the steps that are there and the entries that are present."""
        carries = replayed(self, latent, datum)[1]

        def one(carry: Any, z: Any, step: Datum) -> Float[Array, ""]:
            return distributions.log_prob(self.step_likelihood(carry, z, step.evidence), step.query, step.observed)

        return jnp.sum(jnp.where(datum.there, jax.vmap(one)(carries, latent, datum.each_step()), 0.0))

    def sample(self, key: PRNGKeyArray, evidence: Any = None, steps: int | None = None) -> tuple[Any, Any]:
        """(path, y [T, ...]) drawn from the model, as long as the evidence, or ``steps``."""
        found = rollout(self, self.carry(evidence), evidence, length(evidence, steps), key)
        return found.latent, found.query


class StepPosterior(Stepwise):
    """It knows p(z_t | the past, y_t, x_t), exactly or nearly: the best proposal of a particle filter."""

    @abstractmethod
    def step_posterior(self, carry: Any, datum: Datum) -> Distribution:
        """p(z_t | the past, y_t, x_t), of a datum that is one step."""


class Before(eqx.Module):
    """The carry of a model that is Markov in its latent: z_t-1, and whether there is none (the start)."""

    latent: Any
    fresh: Bool[Array, ""]


class Rollout(eqx.Module):
    """Some steps of a future, all leaves [H, ...]: what came ``before`` each step (carries), the latents, ``query`` y,

    the evidence that led into it, and the carries ``after`` it.
    """

    before: Any
    latent: Any
    query: Any
    evidence: Any
    after: Any

    def emissions(self, model: Stepwise, function: Callable[..., Any], *more: Any) -> Any:
        """``function(p(y_t | past, z_t, x_t), *more_t)`` of every step."""
        return _emissions(model, self.before, self.latent, self.evidence, self.after, function, *more)


def rollout(model: Stepwise, state: Any, act: Any, horizon: int, key: PRNGKeyArray) -> Rollout:
    """A draw of the next ``horizon`` steps after a state (a carry), open loop.

    ``act`` gives their evidence: a function (state, key) -> x_t (a policy, a planner), or a tree of arrays [H, ...]
    (fixed actions), or None. Of a model that does not remember its queries they are drawn all at once, after the scan.
    """
    given, act = (None, act) if callable(act) else (act, None)
    key_path, key_query = jax.random.split(key)

    def step(before: Any, now: tuple[Any, PRNGKeyArray]) -> tuple[Any, tuple[Any, ...]]:
        evidence, key = now
        key_act, key_latent, key_query = jax.random.split(key, 3)
        if act is not None:
            evidence = act(before, key_act)
        latent = model.step_prior(before, evidence).sample(key_latent)
        query = None
        if model.remembers:
            query = as_floats(model.step_likelihood(before, latent, evidence).sample(key_query))
        after = same_types(model.advance(before, latent, query, evidence, None), before)
        return after, (before, latent, query, evidence, after)

    begin = jax.tree.map(jnp.asarray, state)
    before, latent, query, evidence, after = jax.lax.scan(step, begin, (given, jax.random.split(key_path, horizon)))[1]
    if not model.remembers:
        draw = lambda seen, key: as_floats(seen.sample(key))  # noqa: E731
        query = _emissions(model, before, latent, evidence, after, draw, jax.random.split(key_query, horizon))
    return Rollout(before, latent, query, evidence, after)


def _emissions(model: Stepwise, before: Any, latent: Any, evidence: Any, after: Any, function: Any, *more: Any) -> Any:
    def one(before: Any, latent: Any, evidence: Any, after: Any, *more: Any) -> Any:
        return function(model.likelihood_after(before, latent, evidence, after), *more)

    return jax.vmap(one)(before, latent, evidence, after, *more)


def replayed(model: Stepwise, path: Any, datum: Datum) -> tuple[Any, Any]:
    """The carry after the last step of a known path, and those before every step, leaves [T, ...]."""
    begin = jax.tree.map(jnp.asarray, model.carry(datum.evidence))

    def again(carry: Any, now: tuple[Any, ...]) -> tuple[Any, Any]:
        latent, step, start, real = now
        before = where(start, begin, carry)
        after = same_types(model.advance(before, latent, step.query, step.evidence, step.observed), before)
        return where(real, after, carry), before

    return jax.lax.scan(again, begin, (path, datum.each_step(), datum.starts, datum.there))


def where(condition: Bool[Array, ""], new: Any, old: Any) -> Any:
    """One tree of arrays or the other."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def same_types(after: Any, before: Any) -> Any:
    """A carry whose numbers have the types of the one before, as a scan wants it."""
    return jax.tree.map(lambda a, b: a.astype(b.dtype), after, before)


class SteppedChain(Chain, StepDraws, Reparameterised, Composed):
    """p(z_1..T | x) of a model that runs step by step, over the steps of a datum."""

    model: Stepwise
    steps: Datum
    starts: Bool[Array, " T"]
    there: Bool[Array, " T"]

    def _first(self) -> tuple[Any, Datum]:
        """The carry before the first step, and the shapes of a step."""
        begin = jax.tree.map(jnp.asarray, self.model.carry(self.steps.evidence))
        return begin, jax.tree.map(lambda leaf: leaf[0], self.steps)

    def made_of(self) -> tuple[Any]:
        """A step: they are all alike."""
        begin, one = self._first()
        return (eqx.filter_eval_shape(lambda: self.model.step_prior(begin, one.evidence)),)

    def sample(self, key: PRNGKeyArray) -> Any:
        return self.drawn(key, lambda step, key: step.sample(key))

    def drawn(self, key: PRNGKeyArray, draw: Callable[[Any, PRNGKeyArray], Any]) -> Any:
        """A path whose every step is ``draw(distribution, key)``."""
        model = self.model
        begin, one = self._first()

        def step(carry: Any, now: tuple[Any, ...]) -> tuple[Any, Any]:
            (before, last), (one, start, real, key) = carry, now
            before = where(start, begin, before)
            latent = same_types(draw(model.step_prior(before, one.evidence), key), last)
            after = same_types(model.advance(before, latent, one.query, one.evidence, one.observed), before)
            kept = where(real, (after, latent), (before, last))
            return kept, kept[1]

        shape = jax.eval_shape(lambda key: draw(model.step_prior(begin, one.evidence), key), key)
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)
        keys = jax.random.split(key, len(self.there))
        return jax.lax.scan(step, (begin, nothing), (self.steps, self.starts, self.there, keys))[1]

    def conditionals(self, path: Any) -> "SteppedConditionals":
        whole = Datum(
            self.steps.query, self.steps.evidence, observed=self.steps.observed, mask=self.there, reset=self.starts
        )
        return SteppedConditionals(self.model, replayed(self.model, path, whole)[1], self.steps.evidence)


class SteppedConditionals(eqx.Module):
    """All p(z_t | past, x_t) along a path."""

    model: Stepwise
    carries: Any
    evidence: Any

    def _each(self, function: Any, *rest: Any) -> Any:
        def one(carry: Any, evidence: Any, *more: Any) -> Any:
            return function(self.model.step_prior(carry, evidence), *more)

        return jax.vmap(one)(self.carries, self.evidence, *rest)

    def sample(self, key: PRNGKeyArray) -> Any:
        count = jax.tree.leaves(self.carries)[0].shape[0]
        return self._each(lambda step, key: step.sample(key), jax.random.split(key, count))

    def log_prob(self, path: Any) -> Float[Array, " T"]:
        return self._each(distributions.log_prob, path)

    def kl(self, other: "SteppedConditionals") -> Float[Array, "T G"] | None:
        """KL(self || other) of every step by the independent parts of its latent; None if no closed form is known."""
        return self._each(
            lambda q, carry, x: distributions.kl_entries(q, other.model.step_prior(carry, x)),
            other.carries,
            other.evidence,
        )


class SteppedEmissions(Distribution):
    """p(y_1..T | path, x) of a model that runs step by step."""

    model: Stepwise
    path: Any
    evidence: Any

    def sample(self, key: PRNGKeyArray) -> Any:
        model = self.model
        begin = jax.tree.map(jnp.asarray, model.carry(self.evidence))
        count = jax.tree.leaves(self.path)[0].shape[0]

        def step(before: Any, now: tuple[Any, ...]) -> tuple[Any, Any]:
            latent, evidence, key = now
            query = as_floats(model.step_likelihood(before, latent, evidence).sample(key))
            return same_types(model.advance(before, latent, query, evidence, None), before), query

        return jax.lax.scan(step, begin, (self.path, self.evidence, jax.random.split(key, count)))[1]

    def log_prob(self, query: Any) -> Float[Array, ""]:
        return self.model.log_likelihood(self.path, Datum(query, self.evidence))
