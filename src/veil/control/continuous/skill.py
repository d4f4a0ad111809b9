"""What has learned to act continuously: an actor, its soft values, and the reward that explains it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.actors import Actor
from veil.control.choices import Choice, Likeliest, LowNoise, Sample
from veil.control.continuous.networks import Critic, Judge, Learnt, drawn
from veil.control.policies import Policy
from veil.model import Model
from veil.model.checks import random_key
from veil.saved.registry import register
from veil.units import Units, standardised

for _choice in (Likeliest, LowNoise, Sample):
    register(_choice, name=f"veil.{_choice.__name__}")


@register(name="veil.control.Skill")
class Skill(Actor):
    """What ``SoftActorCritic.learn`` and its relatives return: an actor in the environment's units, and its values.

    ``policy``: the model π(a | o), which everything that takes models takes; ``choose``: how an action is chosen, by
    default its centre, with ``replace(skill, choose=veil.Sample())`` a draw. ``returns``: of the episodes that were
    played while it learned, and ``steps``: when they ended.
    """

    policy: Model
    critics: tuple[Critic, ...]
    units: Units
    judge: Judge | None
    temperature: Float[Array, ""]
    discount: float = eqx.field(static=True)
    choose: Choice
    returns: np.ndarray
    steps: np.ndarray

    @staticmethod
    def of(learnt: Learnt, units: Units, discount: float, returns: Any, steps: Any) -> "Skill":
        """Of what was learnt in standardised ``units``."""
        policy, temperature = standardised(learnt.policy, units), jnp.exp(learnt.log_temperature)
        played = np.asarray(returns, np.float32), np.asarray(steps, np.int64)
        return Skill(policy, learnt.critics, units, learnt.judge, temperature, discount, LowNoise(0.0), *played)

    def init(self, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def act(self, memory: tuple[()], observation: Any, key: PRNGKeyArray) -> tuple[Any, tuple[()]]:
        return Policy(self.policy, self.choose).act((), observation, key)

    def action_value(self, observation: Float[Array, " O"], action: Float[Array, " A"]) -> Float[Array, ""]:
        """Q(o, a) in units of reward, the least of the critics'."""
        seen, done = self.units.given(jnp.asarray(observation)), self.units.asked(jnp.asarray(action))
        return jnp.min(jnp.stack([critic(seen, done) for critic in self.critics]))

    def value(self, observation: Float[Array, " O"], key: PRNGKeyArray, draws: int = 64) -> Float[Array, ""]:
        """V(o) = E_π[Q(o, a) - τ log π(a | o)], from so many actions."""
        random_key(key)
        seen, inner = self.units.given(jnp.asarray(observation)), self.policy.model  # type: ignore[attr-defined]
        actions, log_probs = jax.vmap(lambda key: drawn(inner, seen, key))(jax.random.split(key, draws))
        each = jax.vmap(lambda done: jnp.min(jnp.stack([critic(seen, done) for critic in self.critics])))(actions)
        return jnp.mean(each - self.temperature * log_probs)

    def reward(
        self,
        observation: Float[Array, " O"],
        action: Float[Array, " A"],
        following: Float[Array, " O"],
        key: PRNGKeyArray,
        *,
        terminated: bool = False,
        draws: int = 64,
    ) -> Float[Array, ""]:
        """r(o, a, o') = Q(o, a) - γ V(o'): what an actor that acts by these values must be after; of a judge, g(o, a).

        In expectation over o' the soft Bellman equation read backwards; with ``InverseSoftQ()`` the reward that was
        recovered, in which shaping is not told from reward. Garg et al. 2021, section 3.2.
        """
        if self.judge is not None:
            seen, done = self.units.given(jnp.asarray(observation)), self.units.asked(jnp.asarray(action))
            return self.temperature * self.judge.rewarded(seen, done)
        if terminated:
            after = jnp.mean(jnp.stack([critic.ended for critic in self.critics]))
        else:
            after = self.value(following, key, draws)
        return self.action_value(observation, action) - self.discount * after
