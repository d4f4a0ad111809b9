"""What a planner or an actor imagines in: a model that runs step by step, and what its steps earn."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.control.success import Earned
from veil.model import Stepwise
from veil.model.stepwise import Rollout, rollout


class Outcome(NamedTuple):
    """What a step comes to: the ``reward`` expected of it, and the probability that the episode is ``going`` on."""

    reward: Float[Array, "*H"]
    going: Float[Array, "*H"]


class Outcomes(eqx.Module):
    """How a step of a model's future is judged. It sees one step of a ``Rollout``, whose query may be None."""

    @abstractmethod
    def __call__(self, model: Stepwise, step: Rollout) -> Outcome:
        """What it comes to, in the model's units."""


class Predicted(Outcomes):
    """The model says it: E[reward | z_t, past], and one minus the chance that the episode ended with this step.

    ``reward``, ``terminated``: parts of the query, as ``Recording.data({"reward": "reward", ...}, "action")`` has them;
    ``terminated`` None: episodes never end by themselves.
    """

    reward: str = eqx.field(static=True, default="reward")
    terminated: str | None = eqx.field(static=True, default=None)

    def __call__(self, model: Stepwise, step: Rollout) -> Outcome:
        mean = distributions.moments(model.likelihood_after(step.before, step.latent, step.evidence, step.after))[0]
        reward = jnp.sum(mean[self.reward])
        if self.terminated is None:
            return Outcome(reward, jnp.ones_like(reward))
        return Outcome(reward, 1.0 - jnp.clip(jnp.sum(mean[self.terminated]), 0.0, 1.0))


class Rewarded(Outcomes):
    """The reward is known: ``reward(step)``. Episodes never end by themselves."""

    reward: Earned

    def __call__(self, model: Stepwise, step: Rollout) -> Outcome:
        reward = self.reward(step)
        return Outcome(reward, jnp.ones_like(reward))


class Several(eqx.Module):
    """Several states in the place of one, as draws of a belief: ``states``, carries with a leading axis."""

    states: Any


def each_of(state: Any) -> Any:
    """States with a leading axis, of ``Several`` or of one."""
    return state.states if isinstance(state, Several) else jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], state)


class Imagined(eqx.Module):
    """A problem of control inside a model: p(z' | past, u) of ``model``, what its ``outcomes`` are, bounds of actions.

    ``low``, ``high`` [U]: the model gets actions cut off at these (None: as they are). ``discount``: γ a step, beside
    the chance that the episode goes on. ``value(state)``: what is still to come behind the last step, given the state
    (a carry) there; None: nothing. ``draws``: futures over which a return is averaged.
    """

    model: Stepwise
    outcomes: Outcomes
    low: Any = None
    high: Any = None
    discount: float = 1.0
    value: Callable[[Any], Float[Array, ""]] | None = None
    draws: int = eqx.field(static=True, default=1)

    def cut(self, actions: Any) -> Any:
        """Actions [..., U] as the model gets them."""
        if self.low is None and self.high is None:
            return actions
        each = (self.low, self.high)
        low, high = (None if one is None else jnp.broadcast_to(jnp.asarray(one), jnp.shape(actions)) for one in each)
        return jnp.clip(actions, low, high)

    def future(self, state: Any, act: Any, horizon: int, key: PRNGKeyArray) -> tuple[Rollout, Outcome]:
        """A draw of the next steps, and what each comes to. ``act``: actions [H, U], or a policy (state, key) -> u."""
        given: Any = (lambda state, key: self.cut(act(state, key))) if callable(act) else self.cut(act)
        steps = rollout(self.model, state, given, horizon, key)
        return steps, jax.vmap(lambda step: self.outcomes(self.model, step))(steps)

    def returns(self, state: Any, actions: Float[Array, "H U"], key: PRNGKeyArray) -> Float[Array, ""]:
        """E[Σ_t γ^t r_t Π_s<t c_s + γ^H V(z_H) Π_s c_s] of a sequence of actions, on average over ``draws`` futures.

        ``state``: a carry, or ``Several``, over which it is averaged, too: what is not known of the state counts.
        Given the same key all sequences meet the same noise.
        """
        states = each_of(state)
        count = jax.tree.leaves(states)[0].shape[0]

        def one(state: Any, key: PRNGKeyArray) -> Float[Array, ""]:
            steps, outcome = self.future(state, actions, len(actions), key)
            going = jnp.cumprod(self.discount * outcome.going)
            earned = outcome.reward[0] + jnp.sum(going[:-1] * outcome.reward[1:])
            if self.value is None:
                return earned
            return earned + going[-1] * self.value(jax.tree.map(lambda leaf: leaf[-1], steps.after))

        keys = jax.random.split(key, (count, self.draws))
        return jnp.mean(jax.vmap(lambda state, keys: jax.vmap(lambda key: one(state, key))(keys))(states, keys))
