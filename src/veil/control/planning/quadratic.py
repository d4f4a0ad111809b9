"""Planning by quadratic models about a path, round by round: iterative linear-quadratic control."""

from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from veil.control.imagined import Imagined, each_of
from veil.control.planning.base import Actions, Plan, Planner
from veil.control.planning.numbers import check_numbers
from veil.control.planning.still import Still
from veil.maths import linear

LEAST, FACTOR = 1e-3, 10.0  # of the damping: the smallest but zero, and by how much it grows and falls


class Path(NamedTuple):
    """States as vectors, before every step and after the last, what of them is no real number, and the actions."""

    state: Float[Array, "T S"]
    rest: Any
    action: Actions


class Quadratic(Planner):
    """Iterative linear-quadratic control: some ``rounds`` of Riccati's recursion about the path that is best so far.

    Dynamics are those of the model's means (``Still``: certainty equivalence), linear about the path, and what steps
    are expected to earn is quadratic there. The correction is u = ū + α k + K (s - s̄), cut at the bounds, with α the
    best of 1, ½, ... (``searched`` of them, side by side), and none where none is better; then the next round is damped
    (Levenberg and Marquardt's λ on the curvature by actions grows tenfold, and falls where it was better). What is at a
    bound and wants past it stays there. On linear dynamics and a quadratic reward the first round is exact. The state
    is all that is real in the model's carry, of ``Several`` of them side by side, and beside it the chance that the
    episode still goes on.

    Li & Todorov 2004; Tassa, Erez & Todorov 2012, section II. Metrics: ``best``, what the plan earns without noise, and
    ``damping``, λ of the last round.

    Raises:
        ValueError: numbers that are not positive.
    """

    horizon: int = eqx.field(static=True)
    rounds: int = eqx.field(static=True, default=10)
    searched: int = eqx.field(static=True, default=8)

    def __check_init__(self) -> None:
        check_numbers(self, ("horizon", "rounds", "searched"))

    def improved(self, problem: Imagined, state: Any, key: PRNGKeyArray, start: Actions) -> Plan:
        still = replace(problem, model=Still(problem.model), draws=1)
        path = Vectors.of(still, state, key)
        steps = 0.5 ** jnp.arange(self.searched, dtype=start.dtype)
        earns = lambda actions: still.returns(state, actions, key)  # noqa: E731

        def once(now: Any, _: None) -> tuple[Any, None]:
            actions, earned, damping = now
            about = path.followed(actions)
            shift, gain = path.corrections(about, damping)
            tried = jax.vmap(lambda step: path.followed(actions, about, step * shift, gain).action)(steps)
            found = jax.vmap(earns)(tried)
            found = jnp.where(jnp.isnan(found), -jnp.inf, found)
            best = jnp.argmax(found)
            won = found[best] > earned
            less = jnp.where(damping > LEAST, damping / FACTOR, 0.0)
            damping = jnp.where(won, less, jnp.maximum(damping * FACTOR, LEAST))
            return (jnp.where(won, tried[best], actions), jnp.where(won, found[best], earned), damping), None

        first = start, earns(start), jnp.zeros((), start.dtype)
        actions, earned, damping = jax.lax.scan(once, first, None, self.rounds)[0]
        return Plan(actions, {"best": earned, "damping": damping})


class Vectors(eqx.Module):
    """A problem without noise, its states as vectors.

    They are the real numbers of the carries, and beside them each one's chance that its episode still goes on, times
    the discount so far.
    """

    problem: Imagined
    begin: Float[Array, " S"]
    rest: Any
    key: PRNGKeyArray
    unravel: Any = eqx.field(static=True)

    @staticmethod
    def of(problem: Imagined, state: Any, key: PRNGKeyArray) -> "Vectors":
        """Of a problem, and where it begins."""
        real, rest = eqx.partition(each_of(state), eqx.is_inexact_array)
        count = jax.tree.leaves(real)[0].shape[0]
        begin, unravel = ravel_pytree((real, jnp.ones(count)))
        return Vectors(problem, begin, rest, key, unravel)

    def step(
        self, state: Float[Array, " S"], rest: Any, action: Float[Array, " U"]
    ) -> tuple[Float[Array, " S"], Any, Float[Array, ""]]:
        """The next state, and what the step earns."""
        real, going = self.unravel(state)
        free = replace(self.problem, low=None, high=None)  # actions are within the bounds, and have a gradient there
        steps, outcome = jax.vmap(lambda one: free.future(one, action[None], 1, self.key))(eqx.combine(real, rest))
        after, rest = eqx.partition(jax.tree.map(lambda leaf: leaf[:, 0], steps.after), eqx.is_inexact_array)
        earned = jnp.mean(going * outcome.reward[:, 0])
        return ravel_pytree((after, self.problem.discount * going * outcome.going[:, 0]))[0], rest, earned

    def worth(self, state: Float[Array, " S"], rest: Any) -> Float[Array, ""]:
        """What is still to come behind the last step."""
        if self.problem.value is None:
            return jnp.zeros((), state.dtype)
        real, going = self.unravel(state)
        return jnp.mean(going * jax.vmap(self.problem.value)(eqx.combine(real, rest)))

    def followed(self, actions: Actions, about: Path | None = None, shift: Any = None, gain: Any = None) -> Path:
        """The path of actions, or of their correction u + shift + gain (s - s̄); one step longer than they are."""

        def step(now: tuple[Array, Any], at: Any) -> tuple[tuple[Array, Any], Path]:
            action, more = at
            if more is not None:
                before, shift, gain = more
                action = self.problem.cut(action + shift + gain @ (now[0] - before))
            state, rest, _ = self.step(*now, action)
            return (state, rest), Path(*now, action)

        more = None if about is None else (about.state[:-1], shift, gain)
        last, path = jax.lax.scan(step, (self.begin, self.rest), (actions, more))
        joined = lambda leaves, end: jnp.concatenate([leaves, end[None]])  # noqa: E731
        return Path(joined(path.state, last[0]), jax.tree.map(joined, path.rest, last[1]), path.action)

    def corrections(self, path: Path, damping: Float[Array, ""]) -> tuple[Actions, Float[Array, "H U S"]]:
        """k and K of every step, by the quadratic models about a path: Tassa et al. 2012, eqs. 5, 10 and 11."""
        size = self.begin.size

        def moved(both: Float[Array, " N"], rest: Any) -> Float[Array, " S"]:
            return self.step(both[:size], rest, both[size:])[0]

        def earned(both: Float[Array, " N"], rest: Any) -> Float[Array, ""]:
            return self.step(both[:size], rest, both[size:])[2]

        last = path.state[-1], jax.tree.map(lambda leaf: leaf[-1], path.rest)
        rest = jax.tree.map(lambda leaf: leaf[:-1], path.rest)
        both = jnp.concatenate([path.state[:-1], path.action], 1)
        slopes = jax.vmap(jax.jacfwd(moved))(both, rest), jax.vmap(jax.grad(earned))(both, rest)
        bends = jax.vmap(jax.hessian(earned))(both, rest)

        def step(ahead: tuple[Array, Array], now: tuple[Array, ...]) -> tuple[Any, Any]:
            (slope, bend), (move, gradient, curvature, action) = ahead, now
            gradient = gradient + move.T @ slope
            curvature = linear.symmetric(curvature + move.T @ bend @ move)
            by_action, crossed = curvature[size:, size:], curvature[size:, :size]
            free = self._free(action, gradient[size:])
            inside = jnp.where(free[:, None] & free[None, :], -by_action, jnp.diag(jnp.max(jnp.abs(by_action), 1)))
            wanted = jnp.concatenate([gradient[size:, None], crossed], 1)
            factor = linear.cholesky(_positive(inside, damping))
            found = linear.solve_positive(factor, jnp.where(free[:, None], wanted, 0.0))
            shift, gain = found[:, 0], found[:, 1:]
            slope = gradient[:size] + gain.T @ (by_action @ shift + gradient[size:]) + crossed.T @ shift
            bend = curvature[:size, :size] + gain.T @ by_action @ gain + gain.T @ crossed + crossed.T @ gain
            return (slope, linear.symmetric(bend)), (shift, gain)

        begin = jax.grad(self.worth)(*last), jax.hessian(self.worth)(*last)
        return jax.lax.scan(step, begin, (*slopes, bends, path.action), reverse=True)[1]

    def _free(self, action: Float[Array, " U"], gradient: Float[Array, " U"]) -> Bool[Array, " U"]:
        """Which entries are not held at a bound that they want to get past."""
        low, high = self.problem.low, self.problem.high
        free = jnp.ones(action.shape, bool)
        free = free if low is None else free & ((action > low) | (gradient > 0))
        return free if high is None else free & ((action < high) | (gradient < 0))


def _positive(matrix: Float[Array, "U U"], damping: Float[Array, ""]) -> Float[Array, "U U"]:
    """A matrix, damped; where it is not positive definite with enough on its diagonal that it is (Gershgorin)."""
    size = jnp.max(jnp.abs(matrix)) + jnp.finfo(matrix.dtype).tiny
    eye = jnp.eye(len(matrix), dtype=matrix.dtype)
    factor = linear.cholesky(matrix)
    off = jnp.max(jnp.abs(factor @ factor.T - matrix)) > 1e-5 * size
    middle = jnp.diagonal(matrix)
    least = jnp.min(middle + jnp.abs(middle) - jnp.sum(jnp.abs(matrix), 1))
    lifted = jnp.where(off, jnp.maximum(0.0, -least) + 0.01 * size, 0.0)
    return matrix + (lifted + damping * size) * eye
