"""Planning by gradients of what is earned, through the model, with respect to actions."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.control.imagined import Imagined, each_of
from veil.control.planning.base import Actions, Plan, Planner
from veil.control.planning.numbers import as_spread, check_numbers
from veil.model.abilities import name_of


class GradientPlanner(Planner):
    """Adam's ascent of E[R(u)] from some ``starts`` side by side, cut at the bounds after each step; the best is kept.

    The first start is the plan to begin with, others N(that, ``spread``²). ``rate``: Adam's, in units of actions a
    step. The noise of the model is the same throughout, so that what is climbed stands still: with few ``draws`` of
    the problem a plan trusts that very noise. Metric ``best``: what the plan earns under it.

    Raises:
        ValueError: numbers that are not positive.
        TypeError: of ``plan``: a model whose draws have no gradient (categories, codes).
    """

    horizon: int = eqx.field(static=True)
    rounds: int = eqx.field(static=True, default=50)
    rate: float = 0.1
    starts: int = eqx.field(static=True, default=4)
    spread: Float[Array, " U"] = eqx.field(converter=as_spread, default=0.5)

    def __check_init__(self) -> None:
        check_numbers(self, ("horizon", "rounds", "starts"), ("rate", "spread"))

    def improved(self, problem: Imagined, state: Any, key: PRNGKeyArray, start: Actions) -> Plan:
        _check_gradients(problem, state, start)
        key_start, key_future = jax.random.split(key)
        noise = jax.random.normal(key_start, (self.starts - 1, *start.shape), start.dtype)
        begin = problem.cut(jnp.concatenate([start[None], start[None] + self.spread[None, None, :] * noise]))
        adam = optax.adam(self.rate)
        earns = lambda actions: problem.returns(state, actions, key_future)  # noqa: E731
        Best = tuple[Actions, Float[Array, ""]]

        def better(best: Best, actions: Actions, earned: Float[Array, ""]) -> Best:
            won = earned > best[1]  # never of what is no number
            return jnp.where(won, actions, best[0]), jnp.where(won, earned, best[1])

        def climbed(begin: Actions) -> Best:
            def step(now: Any, _: None) -> tuple[Any, None]:
                actions, memory, best = now
                earned, slope = jax.value_and_grad(earns)(actions)
                down = jnp.where(jnp.isfinite(slope), -slope, 0.0)
                change, memory = adam.update(down, memory)
                return (problem.cut(actions + change), memory, better(best, actions, earned)), None

            first = begin, adam.init(begin), (begin, jnp.full((), -jnp.inf, begin.dtype))
            actions, _, best = jax.lax.scan(step, first, None, self.rounds)[0]
            return better(best, actions, earns(actions))

        actions, earned = jax.vmap(climbed)(begin)
        return Plan(actions[jnp.argmax(earned)], {"best": jnp.max(earned)})


def _check_gradients(problem: Imagined, state: Any, start: Actions) -> None:
    one = jax.tree.map(lambda leaf: leaf[0], each_of(state))
    step = eqx.filter_eval_shape(lambda: problem.model.step_prior(one, start[0]))
    if not distributions.reparameterised(step):
        raise TypeError(
            f"problem: draws of {name_of(problem.model)}'s latent have no gradient; use CrossEntropy or PathIntegral"
        )
