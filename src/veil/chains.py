"""Chains: distributions over the path z_1..z_T of one sequence, priors and posteriors alike.

A chain says p(z_t | z_t-1) of every step at once, along a path; its ``log_prob`` is their sum over the steps that are
there. At a step that starts an episode the condition has no influence.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.maths import gaussian, kalman, linear


class Chain(eqx.Module):
    """p(z_1..T) = Π_t p(z_t | z_t-1). ``sample(key)`` gives a path, ``log_prob(path)`` its density (nats)."""

    there: eqx.AbstractVar[Bool[Array, " T"]]

    @abstractmethod
    def sample(self, key: PRNGKeyArray) -> Any:
        """A path [T, ...]; padding repeats the last step."""

    @abstractmethod
    def conditionals(self, path: Any) -> Any:
        """All p(z_t | z_t-1) along a path: what has ``log_prob(path)`` [T] and ``sample(key)`` [T, ...]."""

    def log_prob(self, path: Any) -> Float[Array, ""]:
        """log p(z_1..T) in nats: the sum of the conditionals over the steps that are there."""
        return jnp.sum(jnp.where(self.there, self.conditionals(path).log_prob(path), 0.0))


class Categoricals(eqx.Module):
    """T categoricals, one a step: normalised logits [T, K]."""

    logits: Float[Array, "T K"]

    def sample(self, key: PRNGKeyArray) -> Int[Array, " T"]:
        return jax.random.categorical(key, self.logits)

    def log_prob(self, path: Int[Array, " T"]) -> Float[Array, " T"]:
        return jnp.take_along_axis(self.logits, path[:, None], 1)[:, 0]


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


class Normal(eqx.Module):
    """N(mean, factor factorᵀ) of one step, in plain array code, which scans over time need (see ``maths.linear``)."""

    mean: Float[Array, " L"]
    factor: Float[Array, "L L"]

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.mean.shape

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

    def given(self, before: Int[Array, ""]) -> Distribution:
        """p(z_t | z_t-1), of the slice of a chain that is its step t."""
        return distributions.categorical(self.move[before])


class GaussianChain(Chain):
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
    def smoothed(found: kalman.Smoothed, starts: Bool[Array, " T"], there: Bool[Array, " T"]) -> "GaussianChain":
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

    def given(self, before: Float[Array, " L"]) -> Normal:
        """p(z_t | z_t-1), of the slice of a chain that is its step t."""
        return Normal(self.gain @ before + self.offset, self.factor)


class Emissions(eqx.Module):
    """p(y_1..T | path): independent steps. ``one(z_t, x_t)`` is the distribution of step t; xs None: no evidence."""

    one: Any
    path: Any
    evidence: Float[Array, "T *P"] | None

    def sample(self, key: PRNGKeyArray) -> Array:
        keys = jax.random.split(key, len(self.path))
        axes = (0, 0, None if self.evidence is None else 0)
        return jax.vmap(lambda key, z, x: self.one(z, x).sample(key), axes)(keys, self.path, self.evidence)

    def log_prob(self, query: Float[Array, "T *event"]) -> Float[Array, ""]:
        axes = (0, 0, None if self.evidence is None else 0)
        return jnp.sum(jax.vmap(lambda y, z, x: self.one(z, x).log_prob(y), axes)(query, self.path, self.evidence))


def length(evidence: Float[Array, "T *P"] | None, steps: int | None) -> int:
    """How many steps a path is to have: as the evidence, or as asked for. Raises ValueError if neither says."""
    if evidence is not None:
        if steps is not None and steps != len(evidence):
            raise ValueError(f"steps: the evidence has {len(evidence)} of them; got {steps}: leave it out")
        return len(evidence)
    if steps is None:
        raise ValueError("steps: how long shall the sequence be? A model without evidence does not know; give a number")
    return steps
