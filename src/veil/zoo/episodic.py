"""Models of whole episodes from models of one step: the latent is drawn at the first step and kept.

What the model of a step can do its model of episodes can: sums over a finite latent, EM in closed form, a start from
data. A class for each, and ``Episodic`` chooses.
"""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.maths.markov import bayes
from veil.model import (
    ClosedForm,
    Datum,
    Enumerable,
    Guided,
    Model,
    OfSequences,
    PerEpisode,
    Plate,
    Rescalable,
    SecondOrder,
    Sized,
)
from veil.model.abilities import Sizes, Space, Startable, Wrapped, name_of
from veil.model.per_episode import first_step, over_steps
from veil.model.scales import Scale
from veil.model.slips import answering
from veil.parts.nets import MLP
from veil.parts.statistics import Outer, contract
from veil.posterior import Amortized, EpisodeEncoder, Posterior
from veil.zoo.mixture import Mixture

EPISODES, STEPS, RATE = 256, 100, 1e-2  # of a start by gradients


class Episodes(PerEpisode, Sized):
    """Episodes whose steps are those of ``model``, a model of one step."""

    model: eqx.AbstractVar[Any]

    @property
    def sizes(self) -> Sizes:
        return self.model.sizes if isinstance(self.model, Sized) else Sizes()

    def prior_at(self, evidence: Any) -> Distribution:
        return self.model.prior(evidence)

    def likelihood_at(self, latent: Any, evidence: Any) -> Distribution:
        return self.model.likelihood(latent, evidence)

    def log_likelihood(self, latent: Any, datum: Datum) -> Float[Array, ""]:
        return over_steps(datum, jax.vmap(lambda step: self.model.log_likelihood(latent, step))(datum.each_step()))


class Inferred(Episodes, Guided):
    """The latent is integrated out by a posterior that learns to read episodes."""

    @property
    def usual_posterior(self) -> Posterior:
        """An ``EpisodeEncoder``, whose network is that of the step model's usual posterior."""
        usual = self.model.usual_posterior if isinstance(self.model, Guided) else None
        return EpisodeEncoder(usual.net if isinstance(usual, Amortized) and not usual.shared else MLP())


class Listed(Episodes, Enumerable, SecondOrder):
    """The latent has a finite list of values: log p(z | x_1) + Σ_t log p(y_t | x_t, z) of every one."""

    @property
    def smooth(self) -> bool:
        return isinstance(self.model, SecondOrder) and self.model.smooth

    @property
    def work(self) -> int:
        return self.model.work if isinstance(self.model, SecondOrder) else 0

    def log_joints(self, datum: Datum) -> Float[Array, " K"]:
        prior = self.prior_for(datum)
        return jax.vmap(prior.log_prob)(distributions.support(prior)) + self.log_likelihoods(datum)

    def log_likelihoods(self, datum: Datum) -> Float[Array, " K"]:
        return over_steps(datum, jax.vmap(self.model.log_likelihoods)(datum.each_step()))


class Begun(Episodes, Startable):
    """Its parameters start from data: those of the step model from all steps, each with its episode's share."""

    @property
    def space(self) -> Space:
        return self.model.space

    def responsibilities(self, points: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> Any:
        """Of whole episodes: ``points`` [N, stations · query]."""
        return self.model.responsibilities(points, weights, rng)

    def initialise(self, data: Datum, responsibilities: Any, key: PRNGKeyArray) -> Any:
        return replace(self, model=_begun(self.model, data, responsibilities, key))


class EpisodicModel(Inferred):
    """Episodes of a model that comes with its parameters."""

    model: Any


class EpisodicLatent(Inferred, Begun):
    """Episodes of a model with a continuous latent, such as a VAE: a style."""

    model: Any


class EpisodicChoice(Listed):
    """Episodes of a model with a finite latent that comes with its parameters."""

    model: Any


class EpisodicList(Listed, Begun):
    """Episodes of a model with a finite latent."""

    model: Any


class EpisodicMixture(Listed, Begun, ClosedForm, Rescalable):
    """Episodes of a mixture. EM: all steps share their episode's responsibilities, and the gate counts it once."""

    model: Mixture

    def initialise(self, data: Datum, responsibilities: Any, key: PRNGKeyArray) -> "EpisodicMixture":
        """One M-step from the responsibilities; of parameters that have none in closed form, by gradients."""
        begun = EpisodicMixture(_begun(self.model, data, responsibilities, key))
        return begun if begun.closed_form else _ascended(begun, data, jnp.asarray(responsibilities, float))

    @property
    def closed_form(self) -> bool:
        return self.model.closed_form

    def expectations(self, datum: Datum) -> tuple[Float[Array, " K"], Float[Array, ""]]:
        """p(z | y_1..T, x_1..T) [K] and log p(y_1..T | x_1..T)."""
        return bayes(self.log_joints(datum))

    def statistics(self, datum: Datum, expectations: Float[Array, " K"]) -> Any:
        """Expected sufficient statistics of one episode: the gate's at its first step, its steps' summed experts'."""
        gate: Any = self.model.gate
        chosen = gate.statistics(self.model.features(first_step(datum).evidence), expectations)

        def one(step: Datum) -> Any:
            features = self.model.features(step.evidence)
            return self.model.experts.statistics(step.query, features, step.observed, expectations)

        sums = contract(jax.vmap(one)(datum.each_step()), datum.there.astype(expectations.dtype))
        return chosen, jax.tree.map(lambda total: Outer(jnp.ones(len(total)), total), sums)

    def maximise(self, sums: Any) -> "EpisodicMixture":
        return EpisodicMixture(self.model.maximise(sums))

    def recentred(self, sums: Any, to: "EpisodicMixture") -> Any:
        return self.model.recentred(sums, to.model)

    def log_prior(self) -> Float[Array, ""]:
        return self.model.log_prior()

    def rescaled(self, query: Scale | None, evidence: Scale | None) -> "EpisodicMixture | None":
        found = self.model.rescaled(query, evidence)
        return None if found is None else EpisodicMixture(found)


def _begun(model: Any, data: Datum, responsibilities: Any, key: PRNGKeyArray) -> Any:
    """The model of a step, started from all steps of all episodes, each with its episode's weight and share."""
    count, steps = jax.tree.leaves(data.query)[0].shape[:2]
    weight = jnp.ones(count) if data.weight is None else data.weight
    there = jnp.ones((count, steps), bool) if data.mask is None else data.mask
    flat = lambda leaf: leaf.reshape(count * steps, *leaf.shape[2:])  # noqa: E731
    query, evidence, observed = jax.tree.map(flat, (data.query, data.evidence, data.observed))
    rows = Datum(query, evidence, (weight[:, None] * there).ravel(), observed)
    shares = None if responsibilities is None else jnp.repeat(responsibilities, steps, 0)
    return model.initialise(rows, shares, key)


def _ascended(model: EpisodicMixture, data: Datum, responsibilities: Float[Array, "N K"]) -> EpisodicMixture:
    """Some steps of Adam on Σ_n w_n Σ_z r_nz log p(y_n, z | x_n), r held fixed.

    An episode's likelihood is so sharp that a fit never leaves the routes that the first parameters tell apart; random
    ones tell others apart than the start found.
    """
    import optax

    some = slice(None, None, -(-len(responsibilities) // EPISODES))
    batch, shares = jax.tree.map(lambda leaf: leaf[some], data), responsibilities[some]
    weight = jnp.ones(len(shares)) if batch.weight is None else batch.weight
    free, fixed = eqx.partition(model, eqx.is_inexact_array)
    adam = optax.adam(RATE)

    def loss(free: Any) -> Array:
        joints = jax.vmap(eqx.combine(free, fixed).log_joints)(batch)
        return -jnp.sum(weight[:, None] * shares * joints) / jnp.sum(weight)

    def step(_: Any, now: tuple[Any, Any]) -> tuple[Any, Any]:
        free, state = now
        change, state = adam.update(jax.grad(loss)(free), state, free)
        return eqx.apply_updates(free, change), state

    return eqx.combine(jax.lax.fori_loop(0, STEPS, step, (free, adam.init(free)))[0], fixed)


@answering
def Episodic(model: Any) -> Episodes:
    """p(y_1..T | x_1..T) = ∫ p(z | x_1) Π_t p(y_t | x_t, z) dz: the latent of ``model`` is drawn once an episode.

    ``model``: any model p(y, z | x) of one step, your own among them: of a ``Mixture`` z is a route or a skill that is
    chosen once and kept, of a ``VAE`` or ``ConditionalVAE`` a style. A latent that is drawn anew at every step is
    ``model`` itself. A datum is a whole episode: query [T, ...] and evidence [T, ...], made by ``veil.data.episodes``,
    with padding and missing entries. log p is in nats per episode.

    A finite latent (``Enumerable``) is summed over, exactly; of a mixture with closed-form EM so is this one's, and a
    fit starts from episodes that go the same way. Any other latent has an ``EpisodeEncoder`` for its posterior.

    Raises:
        TypeError: not a model, or one of sequences, of a latent that all data share, or in other units (a fitted one).

    >>> import jax, numpy as np, veil
    >>> rng = np.random.default_rng(0)
    >>> side = rng.choice([-1.0, 1.0], 20)
    >>> drives = veil.data.episodes([s + rng.normal(size=(5, 1)) for s in side])
    >>> fit = veil.fit(Episodic(veil.Mixture(components=2)), drives, key=jax.random.key(0))
    >>> veil.infer(fit, drives).probabilities.shape
    (20, 2)
    """
    if not isinstance(model, Model):
        raise TypeError(f"model: expected a model of one step, such as veil.Mixture(components=2); got {model!r:.80}")
    refused = (
        (Wrapped, "works in units of its own: wrap it before it is fitted, veil.fit(veil.Episodic(...), data)"),
        (OfSequences, "is a model of sequences already"),
        (Plate, "has a latent that all data share, not one an episode"),
    )
    for kind, why in refused:
        if isinstance(model, kind):
            raise TypeError(f"model: {name_of(model)} {why}; expected a model of one step, such as veil.Mixture()")
    if isinstance(model, Mixture):
        return EpisodicMixture(model)
    if isinstance(model, Enumerable):
        return EpisodicList(model) if isinstance(model, Startable) else EpisodicChoice(model)
    return EpisodicLatent(model) if isinstance(model, Startable) else EpisodicModel(model)
