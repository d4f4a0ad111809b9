"""How far one step moves a mean-field posterior of weights, in nats: VIME's step of second order, or all the way."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from veil import distributions
from veil.parts.heads import DiagonalGaussian
from veil.parts.nets import positive
from veil.posterior import Shared

Score = Callable[[Shared], Float[Array, ""]]  # E_q[log p(o' | o, u, w)], nats


def _floor(q: Shared) -> float:
    if not isinstance(q.head, DiagonalGaussian):
        raise TypeError(f"posterior: expected independent normals, Shared(DiagonalGaussian()); got {q.head!r}")
    return q.head.floor


def numbers(q: Shared) -> Float[Array, " V"]:
    """φ = [means, log-scales] of a mean-field posterior. Raises TypeError for another, ValueError before it has any."""
    _floor(q)
    if q.parameters is None:
        raise ValueError("this posterior has no parameters yet: call bonus.init first")
    return q.parameters


def curvature(q: Shared) -> Float[Array, " V"]:
    """The diagonal of H = ∇² KL(q_φ' || q_φ) at φ' = φ, which has nothing beside it; in φ = [means, log-scales].

    1/σ² of a mean and 2 (dσ/ds)²/σ² of a scale's number s: σ = exp(s) + floor, so that dσ/ds = exp(s). Houthooft et al.
    2016, eq. 17, where σ = log(1 + exp(ρ)).

    >>> q = Shared(DiagonalGaussian(floor=0.0), shape=(1,), parameters=jnp.array([3.0, jnp.log(0.5)]))
    >>> curvature(q).tolist()
    [4.0, 2.0]
    """
    slope = jnp.exp(numbers(q).reshape(2, -1)[1])
    scale = slope + _floor(q)
    return jnp.concatenate([1.0 / scale**2, 2.0 * (slope / scale) ** 2])


def divergence(after: Shared, before: Shared) -> Float[Array, ""]:
    """KL(after || before), nats."""
    one, other = (q.head(numbers(q), q.shape) for q in (after, before))
    found = distributions.kl_entries(one, other)
    assert found is not None  # of independent normals it is known
    return jnp.sum(found)


class Step(eqx.Module):
    """A strategy: how much is learned from one step, KL(q' || q), nats."""

    @abstractmethod
    def gain(self, score: Score, q: Shared) -> Float[Array, ""]:
        """KL(q' || q) of what q becomes after one step of which ``score`` says how well it was predicted."""


class SecondOrder(Step):
    """½ λ² ∇ᵀ H⁻¹ ∇, ∇ the slope of E_q[log p(o' | o, u, w)] in φ: VIME's.

    One step of Newton's method on E_q[-log p] + KL(q' || q) from q, of length ``rate`` λ, moves φ by λ H⁻¹ ∇ if the
    curvature is taken for that of the KL, and then KL(q' || q) is this but for terms of third order. One gradient.
    Houthooft et al. 2016, "VIME: variational information maximizing exploration", eqs. 14-17.
    """

    rate: float = eqx.field(static=True, default=0.1)

    def __check_init__(self) -> None:
        if not self.rate > 0:
            raise ValueError(f"rate: expected a positive number; got {self.rate!r}")

    def gain(self, score: Score, q: Shared) -> Float[Array, ""]:
        slope = jax.grad(lambda numbers: score(replace(q, parameters=numbers)))(numbers(q))
        return 0.5 * self.rate**2 * jnp.sum(slope**2 / curvature(q))


class Variational(Step):
    """KL(q' || q) exactly, of the q' that ``steps`` steps down E_q'[-log p(o' | o, u, w)] + KL(q' || q) lead to.

    Steps are of Adam from q, in units of H^-½, that is of q's own deviations, with a ``rate`` that falls to zero as a
    cosine. What Adam divides by is one more than the size of the slope: where little is to be learned a step is in
    proportion to it, as of plain descent, and does not move each weight by a whole rate for nothing. With enough steps
    q' is the mean-field posterior after this step. Houthooft et al. 2016, section 2.3.
    """

    steps: int = eqx.field(static=True, default=50)
    rate: float = eqx.field(static=True, default=0.3)

    def __check_init__(self) -> None:
        positive("steps", self.steps)
        if not self.rate > 0:
            raise ValueError(f"rate: expected a positive number; got {self.rate!r}")

    def gain(self, score: Score, q: Shared) -> Float[Array, ""]:
        import optax

        begin, unit = numbers(q), curvature(q) ** -0.5
        adam = optax.adam(optax.cosine_decay_schedule(self.rate, self.steps), eps=1.0)

        def moved(by: Float[Array, " V"]) -> Shared:
            return replace(q, parameters=begin + unit * by)

        def loss(by: Float[Array, " V"]) -> Float[Array, ""]:
            after = moved(by)
            return divergence(after, q) - score(after)

        def one(now: tuple[Array, Any], _: None) -> tuple[tuple[Array, Any], None]:
            by, state = now
            change, state = adam.update(jax.grad(loss)(by), state, by)
            return (by + change, state), None

        still = jnp.zeros_like(begin)
        return divergence(moved(jax.lax.scan(one, (still, adam.init(still)), length=self.steps)[0][0]), q)
