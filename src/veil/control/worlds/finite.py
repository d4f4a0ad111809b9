"""Finite decision problems that are known from elsewhere, and walks in any: who acts so, and what is seen of them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil.control.optimality import Solution
from veil.data import Data, episodes
from veil.model.checks import random_key, whole
from veil.parts.decisions import MDP, DenseTransitions, SparseTransitions
from veil.zoo.intent import Intent
from veil.zoo.latent_intent import WeightedIntent

LONGEST = 100  # steps of a walk without a horizon


def simulate(
    solution: Solution, key: PRNGKeyArray, count: int, steps: int = LONGEST, *, outcomes: bool = False
) -> Data:
    """``count`` episodes of somebody who follows a policy, as demonstrations for ``veil.Intent``.

    Each begins at a draw of p(s_0) and goes on until it ends, or for the problem's horizon, or without one for
    ``steps`` steps. Query [N, T, 1] the action, with ``outcomes`` {"action", "next"}; evidence the state, of a problem
    with a horizon {"state", "step"}.

    Raises:
        ValueError: a number that is not positive, or p(s_0) > 0 where an episode has ended.

    >>> from veil.control import solve
    >>> simulate(solve(deep_sea(4), temperature=0.0), jax.random.key(0), count=1).query[0, :, 0].tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    random_key(key)
    return _walks(solution.problem, solution.log_policy[None], np.zeros(count, int), key, steps, outcomes)


def people(
    model: Intent | WeightedIntent, key: PRNGKeyArray, count: int, steps: int = LONGEST
) -> tuple[np.ndarray, Data]:
    """What ``count`` persons want, z or w ~ p [N, ...], and an episode of each: draws of ``veil.Episodic(model)``.

    ``model``: an ``Intent``, whose kinds are numbers, or a ``LatentIntent`` or ``BayesianIntent`` (weights, one draw a
    person). Episodes are those of ``simulate``, with ``outcomes`` as the model has them.
    """
    random_key(key)
    whole("count", count)
    key_latents, key_walks = jax.random.split(key)
    latents = jax.vmap(model.prior(None).sample)(jax.random.split(key_latents, count))
    many = isinstance(model, WeightedIntent)
    policies = _policies(model, latents if many else None)
    rows = np.arange(count) if many else np.asarray(latents)
    return np.asarray(latents), _walks(model.problem, policies, rows, key_walks, steps, model.outcomes)


@eqx.filter_jit
def _policies(model: Any, latents: Any) -> Float[Array, "K *H S A"]:
    """Of every kind, or of every person."""
    return model.log_policies() if latents is None else jax.lax.map(model.log_policy, latents)


def _walks(
    problem: MDP, policies: Float[Array, "K *H S A"], kinds: np.ndarray, key: Any, steps: int, outcomes: bool
) -> Data:
    whole("count", len(kinds))
    whole("steps", steps)
    if bool(jnp.any((problem.start > 0) & problem.ends)):
        raise ValueError("start: this problem may begin where an episode has ended, and then nothing is decided")
    keys = jax.random.split(key, len(kinds))
    limit = steps if problem.horizon is None else problem.horizon
    found = jax.tree.map(np.asarray, _walked(problem, policies, jnp.asarray(kinds), keys, limit))
    states, actions, following, there = found
    lengths = there.sum(1)
    cut = lambda table: [row[:n].astype(float) for row, n in zip(table, lengths, strict=True)]  # noqa: E731
    query: Any = {"action": cut(actions), "next": cut(following)} if outcomes else cut(actions)
    counted = np.broadcast_to(np.arange(limit), states.shape)
    evidence: Any = cut(states) if problem.horizon is None else {"state": cut(states), "step": cut(counted)}
    return episodes(query, evidence)


@eqx.filter_jit
def _walked(
    problem: MDP, policies: Float[Array, "K *H S A"], kinds: Int[Array, " N"], keys: Any, steps: int
) -> tuple[Int[Array, "N T"], Int[Array, "N T"], Int[Array, "N T"], Bool[Array, "N T"]]:
    """States, actions, next states, and which of the decisions are there."""

    def one(kind: Int[Array, ""], key: PRNGKeyArray) -> Any:
        key_start, key_steps = jax.random.split(key)

        def step(state: Int[Array, ""], now: tuple[Int[Array, ""], PRNGKeyArray]) -> Any:
            t, key = now
            key_action, key_next = jax.random.split(key)
            # at once: a policy for each walker would be copied
            log_policy = policies[kind, state] if policies.ndim == 3 else policies[kind, t, state]
            action = jax.random.categorical(key_action, log_policy)
            arrives = jax.random.categorical(key_next, problem.transitions.log_prob_of(state, action))
            ended = problem.ends[state]
            following = jnp.where(ended, state, arrives)
            return following, (state, action, following, ~ended)

        start = jax.random.categorical(key_start, jnp.log(problem.start))
        return jax.lax.scan(step, start, (jnp.arange(steps), jax.random.split(key_steps, steps)))[1]

    return jax.vmap(one)(kinds, keys)


def random_problem(key: PRNGKeyArray, states: int = 16, actions: int = 4, **options: Any) -> MDP:
    """Random dynamics, p(s' | s, a) ~ Dirichlet(1); any action in state 0 earns 1, and episodes start in state 1.

    Fu et al. 2018, "Learning robust rewards with adversarial inverse reinforcement learning", section 7.1. ``options``
    of ``MDP`` (default: discount 0.9).

    >>> random_problem(jax.random.key(0)).transitions.shape
    (16, 4, 16)
    """
    chances = jax.random.dirichlet(key, jnp.ones(states), (states, actions))
    given: dict[str, Any] = {
        "reward": jnp.zeros(states).at[0].set(1.0),
        "start": jnp.zeros(states).at[1].set(1.0),
        "discount": 0.9,
    }
    return MDP(DenseTransitions(chances), **(given | options))


def deep_sea(size: int) -> MDP:
    """DeepSea of bsuite (Osband et al. 2020), with action 1 to the right: N rows of N places, down a row at each step.

    To the right costs 0.01 / N, to the left nothing; who goes right N times finds the treasure, 1: a return of .99,
    which actions by chance meet in 2^-N of episodes. State N row + column, and N² the end.

    >>> from veil.control import solve
    >>> round(float(solve(deep_sea(10), temperature=0.0).expected_return), 6)
    0.99
    """
    whole("size", size)
    row, column = np.divmod(np.arange(size * size), size)
    moved = np.stack([np.maximum(column - 1, 0), np.minimum(column + 1, size - 1)], -1)
    following = np.where(row[:, None] < size - 1, (row[:, None] + 1) * size + moved, size * size)
    reward = np.zeros((size * size + 1, 2))
    reward[:-1, 1] = -0.01 / size
    reward[-2, 1] += 1.0
    end = np.arange(size * size + 1) == size * size
    following = np.concatenate([following, [[size * size] * 2]])
    return MDP(SparseTransitions(following), reward, start=np.eye(size * size + 1)[0], ends=end, horizon=size)
