"""The fixed posterior of a diffusion: noise that is added step by step, and walks along it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.distributions.protocol import Reparameterised
from veil.model import Datum
from veil.parts.fields import Field
from veil.parts.paths import Path
from veil.parts.transport import Direction, along
from veil.posterior.base import Intrinsic


def times_of(path: Path, steps: int | None, draws: int) -> Float[Array, " S"]:
    """The times of a chain, from 1 to the path's first: evenly spaced, or those of a draw in continuous time."""
    if steps is None:
        return jnp.maximum(path.grid(draws), path.first)
    return jnp.linspace(1.0, path.first, steps + 1)


class Walk(Distribution, Reparameterised):
    """z_1, ..., z_0 at the ``times``: each from q(z_s | z_t, y), with y known or what a field makes of z_t.

    q(z_s | z_t, y) = N((α_t|s σ_s² z_t + α_s σ_t|s² y) / σ_t², σ_t|s² σ_s² / σ_t²), α_t|s = α_t / α_s and
    σ_t|s² = σ_t² - α_t|s² σ_s² (Kingma et al. 2021, appendix A). It begins with q(z_1 | y), or N(0, I).
    """

    path: Path
    times: Float[Array, " S"]
    shape: tuple[int, ...] = eqx.field(static=True)
    clean: Float[Array, "*event"] | None = None
    field: Field | None = None
    given: Any = None

    def _begin(self) -> Distribution:
        at = self.times[0]
        if self.clean is None:
            return distributions.normal(jnp.zeros(self.shape), jnp.ones(self.shape))
        mean = self.path.alpha(at) * self.clean
        return distributions.normal(mean, jnp.full_like(mean, self.path.sigma(at)))

    def _step(self, value: Float[Array, "*event"], time: Array, then: Array, clean: Any) -> Distribution:
        alpha, sigma = self.path.alpha(time), self.path.sigma(time)
        alpha_then, sigma_then = self.path.alpha(then), self.path.sigma(then)
        ratio = alpha / alpha_then
        between = sigma**2 - (ratio * sigma_then) ** 2
        mean = (ratio * sigma_then**2 / sigma**2) * value + (alpha_then * between / sigma**2) * clean
        return distributions.normal(mean, jnp.full_like(mean, jnp.sqrt(between) * sigma_then / sigma))

    def sample(self, key: PRNGKeyArray) -> Float[Array, "S *event"]:
        key_begin, key_steps = jax.random.split(key)
        first = self._begin().sample(key_begin)

        times, then = self.times[:-1], self.times[1:]
        keys = jax.random.split(key_steps, len(times))

        def walk(direction: Direction | None, moments: Any) -> Array:
            def step(value: Array, now: Any) -> tuple[Array, Array]:
                time, then, key, moment = now
                clean: Any = self.clean
                if direction is not None:
                    clean = self.path.split(value, direction(value, moment), time)[0]
                after = self._step(value, time, then, clean).sample(key)
                return after, after

            return jax.lax.scan(step, first, (times, then, keys, moments))[1]

        rest = walk(None, None) if self.field is None else along(self.field, times, self.given, walk)
        return jnp.concatenate([first[None], rest])

    def log_prob(self, value: Float[Array, "S *event"]) -> Float[Array, ""]:
        def one(before: Array, time: Array, then: Array, after: Array) -> Array:
            clean: Any = self.clean if self.field is None else self.field.clean(before, time, self.given)[0]
            return self._step(before, time, then, clean).log_prob(after)

        steps = jax.vmap(one)(value[:-1], self.times[:-1], self.times[1:], value[1:])
        return self._begin().log_prob(value[0]) + jnp.sum(steps)


class Noising(Intrinsic):
    """q(z_1..z_0 | y): the path's own noise, whatever the model has learned. Ho et al. 2020, eq. 2; Kingma et al. 2021.

    The posterior of ``veil.Diffusion``. It has nothing to learn.
    """

    def __call__(self, model: Any, datum: Datum) -> Distribution:
        path = model.field.path
        return Walk(path, times_of(path, model.steps, model.draws), datum.query.shape, clean=datum.query)
