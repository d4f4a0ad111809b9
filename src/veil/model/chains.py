"""Chains: distributions over the path z_1..z_T of one sequence, priors and posteriors alike.

A chain says p(z_t | z_t-1) of every step at once, along a path; its ``log_prob`` is their sum over the steps that are
there. At a step that starts an episode the condition has no influence.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil import distributions
from veil.distributions import Composed, Distribution, Moments, PathDistribution, Reparameterised, StepDraws
from veil.maths import gaussian, linear, smoothing


class Chain(Distribution, PathDistribution):
    """p(z_1..T) = Π_t p(z_t | z_t-1). ``sample(key)`` gives a path [T, ...], whose padding repeats the last step."""

    def log_prob(self, path: Any) -> Float[Array, ""]:
        """log p(z_1..T) in nats: the sum of the conditionals over the steps that are there."""
        return jnp.sum(jnp.where(self.there, self.conditionals(path).log_prob(path), 0.0))

    def kl_along(self, other: "Chain", path: Any, balance: float | None = None) -> Float[Array, " T"] | None:
        """KL(self || other) of every step given the past on a path, nats; None where no closed form is known.

        Its sum, averaged over paths of this chain, is the KL of the chains.
        """
        parts = self.kl_parts(other, path, balance)
        return None if parts is None else jnp.sum(parts, 1)

    def kl_parts(self, other: "Chain", path: Any, balance: float | None = None) -> Float[Array, "T G"] | None:
        """The same by the independent parts of a step's latent: dimensions, or codes."""
        pair = self.conditionals(path), other.conditionals(path)
        parts = distributions.balanced(lambda q, p: q.kl(p), *pair, balance)
        return None if parts is None else jnp.where(self.there[:, None], parts, 0.0)


class Categoricals(eqx.Module):
    """T categoricals, one a step: normalised logits [T, K]."""

    logits: Float[Array, "T K"]

    def sample(self, key: PRNGKeyArray) -> Int[Array, " T"]:
        return jax.random.categorical(key, self.logits)

    def log_prob(self, path: Int[Array, " T"]) -> Float[Array, " T"]:
        return jnp.take_along_axis(self.logits, path[:, None], 1)[:, 0]

    def kl(self, other: "Categoricals") -> Float[Array, "T 1"]:
        """KL(self || other) of every step."""
        chances = jnp.exp(self.logits)
        terms = jnp.where(chances > 0, chances * (self.logits - other.logits), 0.0)
        return jnp.sum(terms, 1, keepdims=True)


class Normals(eqx.Module):
    """T multivariate normals, one a step: means [T, L], lower Cholesky factors [T, L, L]."""

    mean: Float[Array, "T L"]
    factor: Float[Array, "T L L"]

    def sample(self, key: PRNGKeyArray) -> Float[Array, "T L"]:
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.einsum("tij,tj->ti", self.factor, noise)

    def log_prob(self, path: Float[Array, "T L"]) -> Float[Array, " T"]:
        white = jax.vmap(linear.solve_lower)(self.factor, (path - self.mean)[:, :, None])[:, :, 0]
        return -0.5 * jnp.sum(white * white, 1) + gaussian.log_normaliser(self.factor)

    def kl(self, other: "Normals") -> Float[Array, "T 1"]:
        """KL(self || other) of every step: one part, the dimensions are coupled."""
        apart = jnp.concatenate([(self.mean - other.mean)[:, :, None], self.factor], 2)
        white = jax.vmap(linear.solve_lower)(other.factor, apart)
        logs = (jnp.sum(jnp.log(jnp.diagonal(each.factor, axis1=1, axis2=2)), 1) for each in (other, self))
        return (0.5 * (jnp.sum(white * white, (1, 2)) - self.mean.shape[1]) + next(logs) - next(logs))[:, None]


class Normal(Distribution, Moments, Reparameterised):
    """N(location, factor factorᵀ) of one step, in plain array code, for scans over time (see ``maths.linear``)."""

    location: Float[Array, " L"]
    factor: Float[Array, "L L"]

    @property
    def mean(self) -> Float[Array, "... L"]:
        return self.location

    @property
    def variance(self) -> Float[Array, " L"]:
        return jnp.sum(self.factor**2, 1)

    def sample(self, key: PRNGKeyArray) -> Float[Array, " L"]:
        return self.mean + self.factor @ jax.random.normal(key, self.mean.shape, self.mean.dtype)

    def log_prob(self, value: Float[Array, " L"]) -> Float[Array, ""]:
        white = linear.solve_lower(self.factor, (value - self.mean)[:, None])
        return -0.5 * jnp.sum(white * white) + gaussian.log_normaliser(self.factor)


class DiscreteChain(Chain):
    """z_t in 0..K-1: ``move`` [T, K, K], log p(z_t = j | z_t-1 = i), rows i, normalised; at starts all rows are alike.

    >>> chain = DiscreteChain(jnp.log(jnp.full((3, 2, 2), 0.5)), jnp.ones(3, bool))
    >>> round(float(chain.log_prob(jnp.array([0, 1, 1]))), 4)
    -2.0794
    """

    move: Float[Array, "T K K"]
    there: Bool[Array, " T"]

    def sample(self, key: PRNGKeyArray) -> Int[Array, " T"]:
        noise = jax.random.gumbel(key, self.move.shape[:2], self.move.dtype)

        def step(before: Array, now: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            move, real, some = now
            here = jnp.where(real, jnp.argmax(move[before] + some), before)
            return here, here

        return jax.lax.scan(step, jnp.zeros((), int), (self.move, self.there, noise))[1]

    def conditionals(self, path: Int[Array, " T"]) -> Categoricals:
        before = jnp.concatenate([jnp.zeros(1, path.dtype), path[:-1]])
        return Categoricals(jnp.take_along_axis(self.move, before[:, None, None], 1)[:, 0])

    def summary(self, draws: Int[Array, "S T"]) -> tuple[Float[Array, "T K"], Float[Array, "T K K"]]:
        """Of sampled paths how often each state, and each pair of states in a row: what an M-step needs of them."""
        chosen = jax.nn.one_hot(draws, self.move.shape[2])
        before = jnp.concatenate([jnp.zeros_like(chosen[:, :1]), chosen[:, :-1]], 1)
        return jnp.mean(chosen, 0), jnp.einsum("sti,stj->tij", before, chosen) / len(draws)

    def given(self, before: Int[Array, ""]) -> Distribution:
        """p(z_t | z_t-1), of the slice of a chain that is its step t."""
        return distributions.categorical(self.move[before])


class GaussianChain(Chain, Reparameterised):
    """z_t ~ N(A_t z_t-1 + c_t, G_t G_tᵀ), A_t = 0 at starts: ``gain`` A [T, L, L], ``offset`` c [T, L], ``factor`` G.

    >>> chain = GaussianChain(jnp.zeros((3, 1, 1)), jnp.zeros((3, 1)), jnp.ones((3, 1, 1)), jnp.ones(3, bool))
    >>> round(float(chain.log_prob(jnp.zeros((3, 1)))), 4)
    -2.7568
    """

    gain: Float[Array, "T L L"]
    offset: Float[Array, "T L"]
    factor: Float[Array, "T L L"]
    there: Bool[Array, " T"]

    @staticmethod
    def smoothed(found: smoothing.Smoothed, starts: Bool[Array, " T"], there: Bool[Array, " T"]) -> "GaussianChain":
        """p(z | y) from the moments of successive states."""
        before = jnp.concatenate([found.covariance[:1], found.covariance[:-1]])
        factors = jax.vmap(linear.cholesky)(before)
        gain = jnp.swapaxes(jax.vmap(linear.solve_positive)(factors, jnp.swapaxes(found.lagged, 1, 2)), 1, 2)
        gain = jnp.where((there & ~starts)[:, None, None], gain, 0.0)
        means = jnp.concatenate([jnp.zeros_like(found.mean[:1]), found.mean[:-1]])
        spread = found.covariance - gain @ jnp.swapaxes(found.lagged, 1, 2)
        offset = found.mean - jnp.einsum("tij,tj->ti", gain, means)
        factor = jax.vmap(lambda each: linear.cholesky(linear.symmetric(each)))(spread)
        return GaussianChain(gain, offset, factor, there)

    def sample(self, key: PRNGKeyArray) -> Float[Array, "T L"]:
        noise = jax.random.normal(key, self.offset.shape, self.offset.dtype)
        fresh = self.offset + jnp.einsum("tij,tj->ti", self.factor, noise)

        def step(before: Array, now: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            gain, some, real = now
            here = jnp.where(real, gain @ before + some, before)
            return here, here

        return jax.lax.scan(step, jnp.zeros_like(fresh[0]), (self.gain, fresh, self.there))[1]

    def conditionals(self, path: Float[Array, "T L"]) -> Normals:
        before = jnp.concatenate([jnp.zeros_like(path[:1]), path[:-1]])
        return Normals(jnp.einsum("tij,tj->ti", self.gain, before) + self.offset, self.factor)

    def summary(self, draws: Float[Array, "S T L"]) -> tuple[Array, Array, Array]:
        """Of sampled paths mean, covariance and lag-one covariance of every step: what an M-step needs of them."""
        mean = jnp.mean(draws, 0)
        away = draws - mean[None]
        before = jnp.concatenate([jnp.zeros_like(away[:, :1]), away[:, :-1]], 1)
        moments = [jnp.einsum("sti,stj->tij", away, other) / len(draws) for other in (away, before)]
        return mean, moments[0], moments[1]

    def given(self, before: Float[Array, " L"]) -> Normal:
        """p(z_t | z_t-1), of the slice of a chain that is its step t."""
        return Normal(self.gain @ before + self.offset, self.factor)


class Path(eqx.Module):
    """A path of a chain that remembers: ``latent`` z [T, ...] and ``memory`` [T, M], what each step had of the past."""

    latent: Float[Array, "T *latent"]
    memory: Float[Array, "T M"]

    def __len__(self) -> int:
        return len(self.latent)


class State(eqx.Module):
    """What a step leaves to the next: its ``memory`` [M], its ``latent``, and what it has ``seen`` of y_t [S].

    ``fresh``: there was no step, an episode begins (``Dynamics.start``).
    """

    memory: Float[Array, " M"]
    latent: Float[Array, "*latent"]
    seen: Float[Array, " S"]
    fresh: Bool[Array, ""] = eqx.field(default=False, converter=jnp.asarray)


class NeuralChain(Chain, StepDraws, Reparameterised, Composed):
    """z_t ~ one(m_t, f_t), m_t = recall(state after step t-1, x_t): steps of networks, after ``start`` in each episode.

    ``recall`` and ``one`` are functions of one step; ``evidence`` x [T, P] or None; ``seen`` [T, S] is what later steps
    remember of y_t, ``features`` f [T, F] what step t is told (of the data, by a posterior). Its paths carry the
    memory, so that all steps' distributions are known at once, without a second recursion. ``begin`` is the state
    before the first step where that does not start an episode.
    """

    recall: Callable[[State, Any], Float[Array, " M"]]
    one: Callable[[Float[Array, " M"], Float[Array, " F"]], Any]
    start: State
    begin: State
    evidence: Any
    seen: Float[Array, "T S"]
    features: Float[Array, "T F"]
    starts: Bool[Array, " T"]
    there: Bool[Array, " T"]

    def made_of(self) -> tuple[Any]:
        """A step: they are all alike."""
        return (eqx.filter_eval_shape(self.one, self.start.memory, self.features[0]),)

    def sample(self, key: PRNGKeyArray) -> Path:
        return self.drawn(key, lambda step, key: step.sample(key))

    def drawn(self, key: PRNGKeyArray, draw: Callable[[Any, PRNGKeyArray], Array]) -> Path:
        """A path whose every step is ``draw(distribution, key)``."""
        count = len(self.there)
        keys = jax.vmap(lambda step: jax.random.fold_in(key, step))(jnp.arange(count))

        def step(before: State, now: tuple[Any, ...]) -> tuple[State, tuple[Array, Array]]:
            fresh, real, key, evidence, seen, features = now
            before = jax.tree.map(lambda a, b: jnp.where(fresh, a, b), self.start, before)
            memory = self.recall(before, evidence)
            latent = draw(self.one(memory, features), key).astype(before.latent.dtype)
            after = State(memory, latent, seen)
            after = jax.tree.map(lambda a, b: jnp.where(real, a, b), after, before)
            return after, (after.latent, after.memory)

        steps = (self.starts, self.there, keys, self.evidence, self.seen, self.features)
        return Path(*jax.lax.scan(step, self.begin, steps)[1])

    def follow(self, latents: Float[Array, "T *latent"]) -> Path:
        """The path with these latents, what it remembers computed anew."""

        def step(before: State, now: tuple[Any, ...]) -> tuple[State, Array]:
            fresh, real, latent, evidence, seen = now
            before = jax.tree.map(lambda a, b: jnp.where(fresh, a, b), self.start, before)
            after = State(self.recall(before, evidence), latent, seen)
            after = jax.tree.map(lambda a, b: jnp.where(real, a, b), after, before)
            return after, after.memory

        steps = (self.starts, self.there, latents, self.evidence, self.seen)
        return Path(latents, jax.lax.scan(step, self.begin, steps)[1])

    def after(self, path: Path, step: Int[Array, ""]) -> State:
        """The state after a step."""
        return State(path.memory[step], path.latent[step], self.seen[step])

    def conditionals(self, path: Path) -> "Conditionals":
        return Conditionals(self.one, path.memory, self.features)


class Conditionals(eqx.Module):
    """The distributions of all steps along a path of a ``NeuralChain``."""

    one: Callable[[Float[Array, " M"], Float[Array, " F"]], Any]
    memory: Float[Array, "T M"]
    features: Float[Array, "T F"]

    def sample(self, key: PRNGKeyArray) -> Float[Array, "T *latent"]:
        keys = jax.random.split(key, len(self.memory))
        return jax.vmap(lambda memory, f, key: self.one(memory, f).sample(key))(self.memory, self.features, keys)

    def log_prob(self, path: Path) -> Float[Array, " T"]:
        return jax.vmap(lambda memory, f, z: self.one(memory, f).log_prob(z))(self.memory, self.features, path.latent)

    def at(self, steps: Int[Array, " T"]) -> "Conditionals":
        """Those of other steps."""
        return Conditionals(self.one, self.memory[steps], self.features[steps])

    def kl(self, other: "Conditionals") -> Float[Array, "T G"] | None:
        """KL(self || other) of every step by the independent parts of its latent; None if no closed form is known."""

        def one(*seen: Array) -> Float[Array, " G"] | None:
            return distributions.kl_entries(self.one(*seen[:2]), other.one(*seen[2:]))

        return jax.vmap(one)(self.memory, self.features, other.memory, other.features)

    def moments(self) -> tuple[Float[Array, "T *latent"], Float[Array, "T *latent"]]:
        """Mean and variance of every step."""
        return jax.vmap(lambda memory, f: distributions.moments(self.one(memory, f)))(self.memory, self.features)


class Emissions(Distribution):
    """p(y_1..T | path): independent steps. ``one(z_t, x_t)`` is the distribution of step t; xs None: no evidence."""

    one: Any
    path: Any
    evidence: Any

    def sample(self, key: PRNGKeyArray) -> Array:
        keys = jax.random.split(key, len(self.path))
        return jax.vmap(lambda key, z, x: self.one(z, x).sample(key))(keys, self.path, self.evidence)

    def log_prob(self, query: Any) -> Float[Array, ""]:
        return jnp.sum(jax.vmap(lambda y, z, x: self.one(z, x).log_prob(y))(query, self.path, self.evidence))


def without_memory(path: Any) -> Any:
    """A path without what it remembers: its latents z_1..z_T."""
    return path.latent if isinstance(path, Path) else path


def length(evidence: Any, steps: int | None) -> int:
    """How many steps a path is to have: as the evidence, or as asked for. Raises ValueError if neither says."""
    if evidence is not None:
        count = int(jax.tree.leaves(evidence)[0].shape[0])
        if steps is not None and steps != count:
            raise ValueError(f"steps: the evidence has {count} of them; got {steps}: leave it out")
        return count
    if steps is None:
        raise ValueError("steps: how long shall the sequence be? A model without evidence does not know; give a number")
    return steps
