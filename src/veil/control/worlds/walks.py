"""A walk in a finite decision problem, step by step: who acts so, where it leads and what it earns."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil.parts.decisions import MDP

# from a place, the number of the step and a key, what is done there
Act = Callable[[Int[Array, ""], Int[Array, ""], PRNGKeyArray], Int[Array, ""]]


class Walk(NamedTuple):
    """Steps [T]: state, action, reward, next state; ``there``: whether the step was taken, or the walk was over."""

    state: Int[Array, "*T"]
    action: Int[Array, "*T"]
    reward: Float[Array, "*T"]
    following: Int[Array, "*T"]
    there: Bool[Array, "*T"]


class Land(eqx.Module):
    """A finite problem that is walked in: r = reward(s, a) + ``noise``(s, a) ε, ε ~ N(0, 1); noise None: there is none.

    The reward is the expected one of a state and an action. Walks begin at draws of p(s_0), and end by themselves or
    with the problem's horizon.
    """

    problem: MDP
    noise: Float[Array, "S A"] | None = None

    def walk(self, act: Act, key: PRNGKeyArray, most: int) -> Walk:
        """One of ``most`` steps, by somebody who does act(state, step, key)."""
        key_start, key_steps = jax.random.split(key)
        transitions, rewards = self.problem.transitions, self.problem.rewards()
        log_chances = jnp.log(transitions.chances)
        places = transitions.outcomes(jnp.arange(self.problem.states))  # [S or 1, A or 1, N]
        start = jax.random.categorical(key_start, jnp.log(self.problem.start))

        def one(state: Int[Array, ""], now: tuple[Int[Array, ""], PRNGKeyArray]) -> tuple[Int[Array, ""], Walk]:
            step, key = now
            key_act, key_next, key_reward = jax.random.split(key, 3)
            action = act(state, step, key_act)
            outcome = jax.random.categorical(key_next, log_chances[state, action])
            arrives = places[jnp.minimum(state, len(places) - 1), jnp.minimum(action, places.shape[1] - 1), outcome]
            reward = rewards[state, action]
            if self.noise is not None:
                reward = reward + self.noise[state, action] * jax.random.normal(key_reward, (), reward.dtype)
            over = self.problem.ends[state]
            following = jnp.where(over, state, arrives)
            return following, Walk(state, action, jnp.where(over, 0.0, reward), following, ~over)

        return jax.lax.scan(one, start, (jnp.arange(most), jax.random.split(key_steps, most)))[1]
