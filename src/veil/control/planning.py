"""Planning is inference over actions, dynamics held fixed, by weighted draws; and an actor that plans at every step."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.actors import Actor, FilteringActor, or_nan
from veil.control.success import Earned
from veil.maths import importance, particles
from veil.model import Stepwise
from veil.model.checks import whole
from veil.model.stepwise import rollout
from veil.posterior import Bootstrap
from veil.posterior.arguments import parts
from veil.posterior.proposals import stepwise


class Plan(eqx.Module):
    """A posterior over actions.

    ``mean`` [H, U]; ``log_evidence``: an estimate of log E_p(u)[exp(R(u) / τ)], nats, low on average; ``effective``:
    as how many candidates of equal weight those of the last round count.
    """

    mean: Float[Array, "H U"]
    log_evidence: Float[Array, ""]
    effective: Float[Array, ""]


class PathIntegral(eqx.Module):
    """p(u_1..H | O) ∝ N(u; 0, spread²) exp(E[R(u)] / τ) by weighted draws: model predictive path integral control.

    Each of some ``rounds`` draws ``candidates`` from N(mean, spread²), weighs them by exp(R / τ) N(u; 0, spread²) /
    N(u; mean, spread²), and their weighted average is the next round's mean. ``spread``: a number, or one for each
    entry of an action [U]; ``low`` and ``high``: the model gets actions cut off at these. ``reward(step)`` of a
    ``Rollout`` of one step; R is its sum over ``horizon`` steps, on average over ``draws`` futures of the model, with
    the same noise for all candidates. With τ small few candidates count (``Plan.effective``).

    Williams et al. 2017, "Information theoretic MPC for model-based reinforcement learning".

    Raises:
        ValueError: numbers that are not positive.
    """

    reward: Earned
    horizon: int = eqx.field(static=True)
    spread: Float[Array, " U"] = eqx.field(converter=lambda value: jnp.atleast_1d(jnp.asarray(value, float)))
    temperature: float = 1.0
    candidates: int = eqx.field(static=True, default=256)
    rounds: int = eqx.field(static=True, default=4)
    draws: int = eqx.field(static=True, default=1)
    low: Any = None
    high: Any = None

    def __check_init__(self) -> None:
        for name in ("horizon", "candidates", "rounds", "draws"):
            whole(name, vars(self)[name])
        positive = self.temperature > 0 and bool(np.all(np.asarray(self.spread) > 0))
        if not isinstance(self.spread, jax.core.Tracer) and not positive:
            raise ValueError("temperature, spread: expected positive numbers")

    def cut(self, actions: Any) -> Any:
        """Actions as the model gets them."""
        return actions if self.low is None and self.high is None else jnp.clip(actions, self.low, self.high)

    def returns(self, model: Stepwise, state: Any, actions: Float[Array, "H U"], key: PRNGKeyArray) -> Float[Array, ""]:
        """E[R] of a sequence of actions, on average over the draws."""

        def one(key: PRNGKeyArray) -> Float[Array, ""]:
            future = rollout(model, state, self.cut(actions), self.horizon, key)
            return jnp.sum(jax.vmap(self.reward)(future))

        return jnp.mean(jax.vmap(one)(jax.random.split(key, self.draws)))

    def plan(self, model: Stepwise, state: Any, key: PRNGKeyArray, start: Any = None) -> Plan:
        """Actions from a state (a carry) on; ``start`` [H, U]: the mean to begin with, as the rest of the last plan."""
        shape = self.horizon, self.spread.size
        mean = jnp.zeros(shape) if start is None else jnp.asarray(start)

        def once(mean: Float[Array, "H U"], key: PRNGKeyArray) -> tuple[Float[Array, "H U"], tuple[Array, Array]]:
            key_noise, key_future = jax.random.split(key)
            noise = jax.random.normal(key_noise, (self.candidates, *shape), mean.dtype)
            actions = mean[None] + self.spread[None, None, :] * noise
            earned = jax.vmap(lambda each: self.returns(model, state, each, key_future))(actions)
            scaled = (mean / self.spread[None, :])[None]
            prior = -jnp.sum(scaled * (noise + 0.5 * scaled), (1, 2))  # log N(u; 0, spread²) - log N(u; mean, spread²)
            weights = particles.finite(earned / self.temperature + prior)
            shares = jax.nn.softmax(weights)
            return jnp.tensordot(shares, actions, 1), (
                importance.log_mean_exp(weights),
                importance.effective_sample_size(weights),
            )

        mean, (evidence, effective) = jax.lax.scan(once, mean, jax.random.split(key, self.rounds))
        return Plan(mean, evidence[-1], effective[-1])


class Planned(eqx.Module):
    """The memory of a ``PlanningActor``: its belief, the last action, and the mean of the last plan."""

    belief: Any
    action: Any
    mean: Any


class PlanningActor(Actor):
    """It filters as it acts, plans from a state drawn of its belief, and does the plan's first action.

    The rest of the plan is where the next one begins. ``planner``: a ``PathIntegral``. See ``FilteringActor`` for what
    observations and actions are; of a ``Fit`` to a recording they are the environment's own, and reward and limits of
    the planner are of the model's numbers.
    """

    seer: FilteringActor
    model: Stepwise
    planner: PathIntegral

    @staticmethod
    def of(model: Any, planner: PathIntegral, nothing: Any = None, posterior: Any = None) -> "PlanningActor":
        """From a ``Fit``, or a model and its posterior. Raises TypeError, ValueError for one that cannot filter."""
        seer = FilteringActor.of(model, _undecided, nothing, posterior)
        return PlanningActor(seer, stepwise(parts(model, posterior)[0], Bootstrap()), planner)

    def init(self, key: PRNGKeyArray) -> Planned:
        known = self.seer.init(key)
        return Planned(known.belief, known.action, jnp.zeros((self.planner.horizon, self.planner.spread.size)))

    def act(self, memory: Planned, observation: Any, key: PRNGKeyArray) -> tuple[Any, Planned]:
        key_filter, key_state, key_plan = jax.random.split(key, 3)
        belief, seen = self.seer.updated(memory, observation, key_filter)
        state = self.seer.filter.draw(belief, key_state)
        rest = jnp.concatenate([memory.mean[1:], jnp.zeros_like(memory.mean[:1])])
        mean = self.planner.plan(self.model, state, key_plan, rest).mean
        action = or_nan(self.planner.cut(mean[0]), seen)
        view = self.seer.view
        return action if view is None else view.action(action, jnp), Planned(belief, action, mean)


def _undecided(state: Any, key: PRNGKeyArray) -> Any:
    raise TypeError("policy: this actor plans")
