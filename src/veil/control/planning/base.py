"""What a planner is: actions to come, found inside a problem of control, from a state on."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.imagined import Imagined, each_of

Actions = Float[Array, "H U"]
Candidates = Float[Array, "C H U"]


class Plan(eqx.Module):
    """Actions to come: ``mean`` [H, U], within the bounds of the problem, and by name what was noted on the way."""

    mean: Actions
    metrics: dict[str, Float[Array, "*shape"]]


class Planner(eqx.Module):
    """How actions are found that earn much. All of it is pure: ``jax.vmap`` it over states, as of environments."""

    horizon: eqx.AbstractVar[int]

    @abstractmethod
    def improved(self, problem: Imagined, state: Any, key: PRNGKeyArray, start: Actions) -> Plan:
        """A plan, given the one to begin with. What a planner of your own writes."""

    def plan(self, problem: Imagined, state: Any, key: PRNGKeyArray, start: Any = None) -> Plan:
        """Actions from a state on: a carry of the model, or ``Several`` of them, on average over which they are good.

        ``start`` [H, U]: the plan to begin with, as the rest of the last one (``shifted``); None: zeros, of the shape
        that the bounds of the problem have. One compiled program.

        Raises:
            ValueError: a start of another length, or none where bounds do not say how many entries an action has.
        """
        return _planned(self, problem, state, key, begun(problem, self.horizon, start))


@eqx.filter_jit
def _planned(planner: Planner, problem: Imagined, state: Any, key: PRNGKeyArray, start: Actions) -> Plan:
    return planner.improved(problem, jax.tree.map(jnp.asarray, state), key, start)


def begun(problem: Imagined, horizon: int, start: Any = None) -> Actions:
    """The plan to begin with, within the bounds. It is what says how many entries an action has."""
    if start is None:
        shape = next((jnp.shape(bound) for bound in (problem.low, problem.high) if bound is not None), ())
        if len(shape) != 1:
            raise ValueError(
                "start: expected actions [H, U] to begin with, or bounds of the problem that are arrays [U], such as "
                f"low=jnp.full(2, -1.0): they say how many entries an action has; got bounds of shape {shape}"
            )
        start = jnp.zeros((horizon, *shape))
    start = jnp.asarray(start, float)
    if start.ndim != 2 or len(start) != horizon:
        raise ValueError(f"start: expected actions [{horizon}, U], one for each step; got the shape {start.shape}")
    return problem.cut(start)


def shifted(mean: Actions) -> Actions:
    """Where the next plan begins: the rest of this one, and zeros at the end of it."""
    return jnp.concatenate([mean[1:], jnp.zeros_like(mean[:1])])


def scores(problem: Imagined, state: Any, actions: Candidates, key: PRNGKeyArray) -> Float[Array, " C"]:
    """What each candidate earns, all under the same noise; what is no number is the worst."""
    earned = jax.vmap(lambda each: problem.returns(state, each, key))(actions)
    return jnp.where(jnp.isnan(earned), -jnp.inf, earned)


def proposals(
    problem: Imagined,
    state: Any,
    policy: Callable[[Any, PRNGKeyArray], Any] | None,
    count: int,
    horizon: int,
    key: PRNGKeyArray,
) -> Candidates | None:
    """Candidates that ``policy(state, key)`` does in futures of the model; None without one (Hansen et al. 2022)."""
    if policy is None:
        return None
    states = each_of(state)
    size = jax.tree.leaves(states)[0].shape[0]

    def one(number: Array, key: PRNGKeyArray) -> Actions:
        begin = jax.tree.map(lambda leaf: leaf[number % size], states)
        return problem.future(begin, policy, horizon, key)[0].evidence

    return jax.vmap(one)(jnp.arange(count), jax.random.split(key, count))
