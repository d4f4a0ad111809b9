"""Random shooting: the best of many sequences of actions that were drawn without looking."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from veil.control.imagined import Imagined
from veil.control.planning.base import Actions, Plan, Planner, scores
from veil.control.planning.numbers import check_numbers


class Shooting(Planner):
    """The best of ``candidates`` sequences, uniform between the bounds, of which the plan to begin with is one.

    Few steps and few entries of an action only: of a unit cube of n dimensions the best of N draws is N^-1/n away from
    the optimum. Metric ``best``: what it earns.

    Raises:
        ValueError: numbers that are not positive; of ``plan``: a problem without bounds.
    """

    horizon: int = eqx.field(static=True)
    candidates: int = eqx.field(static=True, default=1024)

    def __check_init__(self) -> None:
        check_numbers(self, ("horizon", "candidates"))

    def improved(self, problem: Imagined, state: Any, key: PRNGKeyArray, start: Actions) -> Plan:
        if problem.low is None or problem.high is None:
            raise ValueError("problem: Shooting draws between its bounds; give Imagined(..., low=..., high=...)")
        key_draw, key_future = jax.random.split(key)
        low, high = (jnp.broadcast_to(jnp.asarray(bound), start.shape[1:]) for bound in (problem.low, problem.high))
        shape = (self.candidates - 1, *start.shape)
        uniform = jax.random.uniform(key_draw, shape, start.dtype)
        drawn = low[None, None] + (high - low)[None, None] * uniform
        actions = jnp.concatenate([start[None], drawn])
        earned = scores(problem, state, actions, key_future)
        return Plan(actions[jnp.argmax(earned)], {"best": jnp.max(earned)})
