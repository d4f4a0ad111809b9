"""Steps along the curvature of the exact log-likelihood, each with a line search: Newton's and L-BFGS's."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil.learning.gradient import trainable
from veil.learning.learner import (
    CONVERGED,
    NOT_FINITE,
    ROUNDED,
    RUNNING,
    STUCK,
    UNBOUNDED,
    Info,
    Learner,
    Sums,
    where_each,
)
from veil.model import Datum

RISE = 1e-4  # of what the slope promises, that a step must keep (Nocedal & Wright 2006, eq. 3.4)
SHORTEST = 1e-10  # of a step, below which none is tried
STILL = 0.02  # of a slope, that may be left behind a Newton step along one line at a maximum
COLUMNS = 16  # of a Hessian at a time
FLAT = 1e-13  # of the largest curvature, below which a direction is taken for flat
Value = Callable[[Array], Array]
SEARCH, LINE, BEYOND = range(3)  # what is evaluated: a step, and behind convergence two points of one line


class Curvature(eqx.Module):
    """How a gradient becomes a step: by what it knows of the second derivatives."""

    @abstractmethod
    def seen(self, value: Value, at: Float[Array, " P"]) -> tuple[Float[Array, ""], Float[Array, " P"], Any]:
        """A block's value, its gradient and what else is needed, all of which add up over blocks."""

    @abstractmethod
    def begin(self, at: Float[Array, " P"]) -> Any:
        """What it remembers before the first step."""

    @abstractmethod
    def step(self, memory: Any, at: Array, gradient: Array, seen: Any) -> tuple[Float[Array, " P"], Any]:
        """A step that goes up, of the mean log-likelihood, and what it remembers."""


class Newton(Curvature):
    """H⁻¹ g of the exact Hessian -H: quadratic convergence, of few parameters (up to about a thousand).

    Where the log-likelihood is not concave, |H|, which has the same eigenvectors and no negative eigenvalue, so that
    steps go up and away from saddle points (Nocedal & Wright 2006, section 3.4). Where it is flat no step is taken. The
    parameters' units do not matter.

    >>> Newton()
    Newton()
    """

    def seen(self, value: Value, at: Float[Array, " P"]) -> tuple[Float[Array, ""], Float[Array, " P"], Array]:
        (total, gradient), push = jax.linearize(jax.value_and_grad(value), at)
        units = jnp.eye(len(at), dtype=at.dtype)
        return total, gradient, jax.lax.map(lambda unit: push(unit)[1], units, batch_size=min(COLUMNS, len(at)))

    def begin(self, at: Float[Array, " P"]) -> None:
        return None

    def step(self, memory: None, at: Array, gradient: Array, seen: Array) -> tuple[Float[Array, " P"], None]:
        return solved(-seen, gradient), None


class QuasiNewton(Curvature):
    """Limited-memory BFGS: curvature from the last ``memory`` steps, of any number of parameters.

    Liu & Nocedal 1989, by optax. Pairs along which the log-likelihood is not concave are forgotten.

    >>> QuasiNewton(memory=5)
    QuasiNewton(memory=5)
    """

    memory: int = eqx.field(static=True, default=20)

    def __check_init__(self) -> None:
        if isinstance(self.memory, bool) or not isinstance(self.memory, int) or self.memory < 1:
            raise ValueError(f"memory: expected how many steps are remembered, such as 20; got {self.memory!r}")

    def seen(self, value: Value, at: Float[Array, " P"]) -> tuple[Float[Array, ""], Float[Array, " P"], None]:
        return *jax.value_and_grad(value)(at), None

    def begin(self, at: Float[Array, " P"]) -> Any:
        # optax's memory has weights of the default type, whatever the parameters' is
        return jax.tree.map(lambda leaf: leaf.astype(at.dtype) if eqx.is_inexact_array(leaf) else leaf, self._new(at))

    def _new(self, at: Array) -> Any:
        return self._scaled().init(at)

    def _scaled(self) -> Any:
        import optax  # here, because EM need not wait for it

        return optax.scale_by_lbfgs(self.memory)

    def step(self, memory: Any, at: Array, gradient: Array, seen: None) -> tuple[Float[Array, " P"], Any]:
        concave = (at - memory.params) @ (memory.updates + gradient) < 0  # its updates are falls, of the other sign
        memory = where_each((memory.count == 0) | concave, memory, self.begin(at))
        step, memory = self._scaled().update(-gradient, memory, at)  # optax descends
        return -step, memory


class SearchState(eqx.Module):
    """The best model so far, the last step from it, how much of the step is tried next, and what is known there."""

    model: Any
    value: Float[Array, ""]
    gradient: Float[Array, " P"]
    direction: Float[Array, " P"]
    size: Float[Array, ""]
    memory: Any
    stage: Int[Array, ""]
    code: Int[Array, ""]


class LineSearch(Learner):
    """Ascent of the exact log-likelihood of all data to a gradient of at most ``tolerance`` nats a datum and parameter.

    Each step evaluates one point on the way to the next: it is taken where the likelihood rises by enough (Armijo), or,
    amid rounding, the gradient falls; else the way is shortened by a parabola. Where the gradient is small the last
    direction is looked at further: at a maximum one Newton step along a line leaves nothing of the slope, while of data
    that are separable the likelihood goes on rising as exp(-t), of whose slope such a step leaves a fifth
    (``UNBOUNDED``).

    Nocedal & Wright 2006, chapters 3, 6 and 7. All sums add up, so that blocks, streams and shards are the same code.
    """

    curvature: Curvature
    tolerance: float = eqx.field(static=True)

    def init(self, model: Any, block: Datum) -> SearchState:
        at = ravel_pytree(trainable(model))[0]
        zero, nothing = jnp.zeros((), int), -jnp.inf * jnp.ones((), at.dtype)
        still = jnp.zeros_like(at)
        return SearchState(model, nothing, still, still, jnp.zeros_like(nothing), self.curvature.begin(at), zero, zero)

    def learned(self, state: SearchState) -> tuple[Any, None]:
        return state.model, None

    def _tried(self, state: SearchState) -> Float[Array, " P"]:
        return ravel_pytree(trainable(state.model))[0] + state.size * state.direction

    def accumulate(self, state: SearchState, block: Datum, key: PRNGKeyArray) -> Sums:
        weight = jnp.ones(len(block)) if block.weight is None else block.weight

        def value(at: Float[Array, " P"]) -> Float[Array, ""]:
            values = jax.vmap(_moved(state.model, at).log_marginal)(block)
            return weight @ jnp.where(weight > 0, values, 0.0)

        total, *terms = self.curvature.seen(value, self._tried(state))
        return Sums(tuple(terms), total, jnp.sum(weight), jnp.zeros(0), {"gradient": jnp.zeros(())})

    def update(self, state: SearchState, sums: Sums, total: Float[Array, ""]) -> tuple[SearchState, Info]:
        value = sums.value / sums.weight
        gradient, seen = jax.tree.map(lambda term: term / sums.weight, sums.terms)
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
        running, searching = state.code == RUNNING, state.stage == SEARCH
        first = state.value == -jnp.inf
        promised, slope = state.gradient @ state.direction, gradient @ state.direction
        noise = 8 * jnp.finfo(value.dtype).eps * jnp.maximum(1.0, jnp.abs(state.value))
        risen = value >= state.value + RISE * state.size * promised
        near = (value >= state.value - noise) & (_largest(gradient) < _largest(state.gradient))
        taken = running & searching & finite & (first | risen | near)

        at = self._tried(state)
        step, memory = self.curvature.step(state.memory, at, gradient, seen)
        upwards = jnp.all(jnp.isfinite(step)) & (step @ gradient > 0)
        step = jnp.where(upwards, step, gradient / jnp.maximum(jnp.linalg.norm(gradient), 1e-300))
        memory = where_each(upwards, memory, self.curvature.begin(at))
        settled = _largest(gradient) <= self.tolerance
        small = _largest(gradient) <= 1e-3 * self.tolerance  # what is left is rounding: nothing runs off
        stage, code = _either(settled, LINE, SEARCH), _either(small, CONVERGED, RUNNING)
        new = SearchState(_moved(state.model, at), value, gradient, step, jnp.ones_like(value), memory, stage, code)
        # of a step not taken as much as the parabola says that goes through value and slope here and the value there
        bend = promised * state.size - (value - state.value)
        shorter = state.size * jnp.clip(0.5 * promised * state.size / bend, 0.1, 0.5)
        shorter = jnp.where(jnp.isfinite(value), shorter, 0.1 * state.size)
        ended = _either(_largest(state.gradient) <= 100 * self.tolerance, ROUNDED, STUCK)
        code = _either(shorter < SHORTEST, ended, RUNNING)
        # behind convergence: as far as the slopes here and there say that there is a maximum
        root = jnp.where(slope < promised, jnp.clip(promised / (promised - slope), 1.0, 10.0), 4.0)
        rising = slope > jnp.where(state.stage == LINE, 0.01, STILL) * promised
        found = _either(rising, _either(state.stage == LINE, RUNNING, UNBOUNDED), CONVERGED)
        code = _either(first & ~finite, NOT_FINITE, _either(searching, code, found))
        changed = (
            jnp.where(searching, shorter, root),
            _either(searching, SEARCH, BEYOND),
            _either(running, code, state.code),
        )
        old = eqx.tree_at(lambda each: (each.size, each.stage, each.code), state, changed)
        state = where_each(taken, new, old)
        none = jnp.zeros(())
        metrics = {"gradient": _largest(state.gradient)}
        return state, Info(state.value, none, state.code, jnp.zeros((), int), none, metrics)


def _either(condition: Any, yes: Any, no: Any) -> Int[Array, ""]:
    return jnp.where(condition, yes, no).astype(int)  # not weakly: the loop would compile twice


def _moved(model: Any, at: Float[Array, " P"]) -> Any:
    """The model with these parameters."""
    back = ravel_pytree(trainable(model))[1]
    return eqx.combine(back(at), model)


def _largest(vector: Float[Array, " P"]) -> Float[Array, ""]:
    return jnp.max(jnp.abs(vector), initial=0.0)


def solved(matrix: Float[Array, "P P"], right: Float[Array, " P"]) -> Float[Array, " P"]:
    """|A|⁻¹ b of a symmetric A, in the space where it is not flat; no matter the units of its rows."""
    scale = jnp.sqrt(jnp.abs(jnp.diagonal(matrix)))
    scale = jnp.where(scale > 0, scale, 1.0)
    symmetric = 0.5 * (matrix + matrix.T) / scale[:, None] / scale[None, :]
    values, vectors = jnp.linalg.eigh(jnp.where(jnp.isfinite(symmetric), symmetric, 0.0))
    sizes = jnp.abs(values)
    inverse = jnp.where(sizes > FLAT * jnp.max(sizes), 1.0 / sizes, 0.0)
    return (vectors @ (inverse * (vectors.T @ (right / scale)))) / scale
