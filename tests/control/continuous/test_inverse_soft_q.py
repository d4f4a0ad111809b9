"""The objective of inverse soft Q on finite problems, where everything is exact, and from recordings."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from veil.control import MDP, DenseTransitions, InverseSoftQ, solve
from veil.control.continuous.objectives import Values
from veil.control.continuous.transitions import Transitions

STATES, ACTIONS, DISCOUNT = 4, 3, 0.8


@pytest.fixture(autouse=True)
def exactly():
    with jax.enable_x64(True):
        yield


def world(seed=0, ends=None, following=None):
    """Random dynamics, deterministic ones where the transitions say where each pair leads, and a start."""
    rng = np.random.default_rng(seed)
    chances = rng.dirichlet(np.ones(STATES), (STATES, ACTIONS))
    if following is not None:
        chances = np.eye(STATES)[following]
    start = rng.dirichlet(np.ones(STATES)) if ends is None else np.where(ends, 0, 1) / np.sum(~ends)
    return MDP(DenseTransitions(chances), rng.normal(size=(STATES, ACTIONS)), start=start, discount=DISCOUNT)


def listed(problem, *policies, ends=None):
    """Every (s, a, s') as a transition, as often as each of the policies comes there: the expert's first.

    Discounted visits that sum to one each; of states that ``ends`` none, if it says which.
    """
    state, action, following = (each.ravel() for each in np.indices((STATES, ACTIONS, STATES)))
    chances = np.asarray(problem.transitions.chances)
    rows, weight = [], []
    for place, policy in enumerate(policies):
        visits = (1 - DISCOUNT) * np.asarray(visited(problem, policy))
        weight.append((visits[:, :, None] * chances).ravel())
        over = np.zeros(len(state), bool) if ends is None else ends[following]
        rows.append((state, action, following, over, np.full(len(state), place == 0)))
    state, action, following, over, expert = (np.concatenate(each) for each in zip(*rows, strict=True))
    weight = np.concatenate(weight)
    if ends is not None:
        kept = ~ends[state]
        state, action, following, over, expert, weight = (
            each[kept] for each in (state, action, following, over, expert, weight)
        )
    column = lambda each: jnp.asarray(each, float)[:, None]  # noqa: E731
    return Transitions(
        column(state),
        column(action),
        jnp.zeros(len(state)),
        column(following),
        jnp.asarray(over),
        jnp.asarray(expert),
        jnp.asarray(weight),
    )


def visited(problem, policy):
    """Σ_t γ^t p(s_t, a_t), by a linear system."""
    policy, chances = np.asarray(policy), np.asarray(problem.transitions.chances)
    moved = np.einsum("sa,sat->st", policy, chances)
    return np.linalg.solve(np.eye(STATES) - DISCOUNT * moved.T, np.asarray(problem.start))[:, None] * policy


def loss(objective, table, ended, rows, temperature, worth=None):
    """The objective of a table Q [S, A], V = τ log Σ exp(Q / τ); ``worth``: V of states that are given."""
    values = temperature * jax.nn.logsumexp(table / temperature, axis=1)
    if worth is not None:
        values = jnp.where(jnp.isnan(worth), values, worth)
    at = lambda column: column[:, 0].astype(int)  # noqa: E731
    state, following = at(rows.observation), at(rows.following)
    chosen = table[state, at(rows.action)]
    given = Values(chosen, values[state], values[following], jnp.zeros_like(chosen), jnp.asarray(ended, float))
    return objective(given, rows, DISCOUNT)


def fitted(objective, rows, temperature):
    """The table at which the objective is least, to rounding."""
    function = jax.jit(
        jax.value_and_grad(lambda q: loss(objective, q.reshape(STATES, ACTIONS), 0.0, rows, temperature))
    )
    found = optimize.minimize(
        lambda q: [np.asarray(each, float) for each in function(q)],
        np.zeros(STATES * ACTIONS),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-10, "maxiter": 5000},
    )
    return found.x.reshape(STATES, ACTIONS)


def rewards(problem, table, temperature):
    """r(s, a) = Q - γ E V."""
    values = temperature * np.log(np.exp(table / temperature).sum(1))
    return table - DISCOUNT * np.asarray(problem.transitions.chances) @ values


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_its_maximum_is_maximum_causal_entropy(temperature):
    """χ² of the expert's: visits of the policy that ``solve`` finds for the reward are ρ_E (1 - r / (2 α)), exactly."""
    following = np.array([[0, 1, 2], [2, 3, 0], [3, 1, 0], [1, 2, 3]])
    problem, alpha = world(following=following), 2.0
    expert = np.exp(np.asarray(solve(problem, temperature).log_policy))
    other = np.random.default_rng(1).dirichlet(np.ones(ACTIONS), STATES)
    rows = listed(problem, expert, other)
    table = fitted(InverseSoftQ(alpha, everywhere=False), rows, temperature)
    reward = rewards(problem, table, temperature)
    solution = solve(problem.rewarded(reward), temperature)
    np.testing.assert_allclose(solution.action_values, table, atol=1e-6)
    mine, theirs = np.asarray(solution.visits), visited(problem, expert)
    np.testing.assert_allclose(mine, theirs * (1 - reward / (2 * alpha)), atol=1e-6)
    assert np.abs(reward).max() > 0.1, "the bound takes something"
    # whatever rows there are beside the expert's: V telescopes
    again = fitted(InverseSoftQ(alpha, everywhere=False), listed(problem, expert), temperature)
    np.testing.assert_allclose(again, table, atol=1e-6)


def test_of_all_transitions_rewards_are_the_difference_of_visits():
    """At the maximum ρ_π = ρ_E - r ρ / (2 α), ρ of all rows; with a wide bound π is the expert's."""
    following = np.array([[0, 1, 2], [2, 3, 0], [3, 1, 0], [1, 2, 3]])
    problem = world(following=following)
    expert = np.exp(np.asarray(solve(problem, 1.0).log_policy))
    other = np.random.default_rng(1).dirichlet(np.ones(ACTIONS), STATES)
    rows = listed(problem, expert, other)
    distance = []
    for alpha in (1.0, 30.0):
        reward = rewards(problem, fitted(InverseSoftQ(alpha), rows, 1.0), 1.0)
        found = solve(problem.rewarded(reward), 1.0)
        theirs, every = visited(problem, expert), (visited(problem, expert) + visited(problem, other)) / 2
        np.testing.assert_allclose(found.visits, theirs - reward * every / (2 * alpha), atol=1e-6)
        distance.append(np.abs(np.exp(np.asarray(found.log_policy)) - expert).max())
    assert distance[1] < 0.02 < distance[0]


@pytest.mark.parametrize("everywhere", [True, False])
def test_an_end_is_an_absorbing_state_like_any_other(everywhere):
    """The same number and gradient as where the state after the end is a state, that is seen again and again."""
    ends = np.array([False, False, False, True])
    following = np.array([[0, 1, 2], [2, 3, 0], [3, 1, 0], [3, 3, 3]])
    problem = world(ends=ends, following=following)
    rng = np.random.default_rng(2)
    policy, table = rng.dirichlet(np.ones(ACTIONS), STATES), jnp.asarray(rng.normal(size=(STATES, ACTIONS)))
    objective = InverseSoftQ(0.7, everywhere)
    ended, seen = listed(problem, policy, policy, ends=ends), listed(problem, policy, policy)

    def as_state(value):
        """What is decided there makes no difference: Q and V of it are its value."""
        worth = jnp.where(jnp.asarray(ends), value, jnp.nan)
        return loss(objective, table.at[3].set(value), 0.0, seen, 1.0, worth)

    one = jax.value_and_grad(lambda value: loss(objective, table, value, ended, 1.0))(2.0)
    share = (1 - DISCOUNT) * visited(problem, policy)[:3].sum()  # of steps before the end, which the means are of
    for found, expected in zip(one, jax.value_and_grad(as_state)(2.0), strict=True):
        np.testing.assert_allclose(share * found, expected, atol=1e-12)
    # taken for cut off, or worth nothing, an end gives other numbers
    forever = loss(objective, table, 2.0, replace(ended, terminated=jnp.zeros_like(ended.terminated)), 1.0)
    nothing = loss(objective, table, 0.0, ended, 1.0)
    assert abs(float(forever) - float(one[0])) > 1e-2
    assert abs(float(nothing) - float(one[0])) > 1e-2
