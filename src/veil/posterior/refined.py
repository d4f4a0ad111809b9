"""Semi-amortized posteriors: gradient steps from another posterior's guess."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from veil.distributions import Distribution, Gaussian, event_shape
from veil.maths.gaussian import LOG_2PI
from veil.model import Datum, Model, frozen
from veil.posterior.base import Derived, Vectorial


class Refined(Derived):
    """``steps`` of gradient ascent on this datum's ELBO, from ``base``'s guess. Kim et al. 2018.

    The expectation in the ELBO is taken by the degree-3 cubature (2 L points m ± √L s_i e_i): deterministic, and exact
    where log p(y, z) is quadratic along each axis. A step that does not raise it is halved in size and tried again at
    the next, so it never falls with ``steps``. Gradients for training pass by the refinement (first order).

    For Gaussian families without a flow; raises TypeError otherwise.
    """

    base: Any
    steps: int = eqx.field(static=True, default=5)
    rate: float = eqx.field(static=True, default=0.1)

    def __check_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"steps: expected a whole number, zero or more; got {self.steps}")
        if not isinstance(self.base, Vectorial):
            raise TypeError(f"base: expected Amortized or Table, whose parameters can be refined; got {self.base!r}")

    def __call__(self, model: Model, datum: Datum) -> Distribution:
        vector = self.base.vector(model, datum)
        fixed_model, fixed = frozen(model), frozen(self.base)

        def bound(vector: Float[Array, " V"]) -> Float[Array, ""]:
            return _cubature_elbo(fixed.distribution(vector), fixed_model, datum)

        value_and_gradient = jax.value_and_grad(bound)

        def step(carry: tuple[Array, Array, Array, Array, Array], _: None) -> tuple[Any, None]:
            place, value, gradient, scale, rate = carry
            direction = gradient / jnp.sqrt(scale + 1e-8)
            trial = place + rate * direction
            new_value, new_gradient = value_and_gradient(trial)
            better = new_value > value
            choose = lambda a, b: jnp.where(better, a, b)  # noqa: E731
            scale = choose(0.9 * scale + 0.1 * new_gradient**2, scale)
            rate = choose(1.2 * rate, 0.3 * rate)
            return (choose(trial, place), choose(new_value, value), choose(new_gradient, gradient), scale, rate), None

        start = jax.lax.stop_gradient(vector)
        value, gradient = value_and_gradient(start)
        carry = start, value, gradient, gradient**2, jnp.asarray(self.rate, start.dtype)
        (best, *_), _ = jax.lax.scan(step, carry, None, length=self.steps)
        return self.base.distribution(vector + jax.lax.stop_gradient(best - start))


def _cubature_elbo(q: Any, model: Model, datum: Datum) -> Float[Array, ""]:
    """E_q[log p(y, z | x)] by cubature plus the entropy of a Gaussian q (nats)."""
    if not isinstance(q, Gaussian):
        raise TypeError(f"posterior: Refined works for Gaussian families; this one is {type(q).__name__}")
    mean, factor = q.gaussian()
    shape, size = event_shape(q), mean.size
    offsets = jnp.sqrt(size) * factor.T
    points = jnp.concatenate([mean[None] + offsets, mean[None] - offsets])
    joint = jnp.mean(jax.vmap(lambda z: model.log_joint(z.reshape(shape), datum))(points))
    return joint + jnp.sum(jnp.log(jnp.abs(jnp.diagonal(factor)))) + 0.5 * size * (1.0 + LOG_2PI)
