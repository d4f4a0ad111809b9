"""Linear-quadratic control as inference: Riccati's recursion, scipy, and Bayes' rule on one large normal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_are
from scipy.stats import multivariate_normal

from veil.control import Hoped
from veil.control.linear_quadratic import LinearQuadratic, solve_linear_quadratic

STATES, ACTIONS, HORIZON = 3, 2, 6


@pytest.fixture(autouse=True)
def exactly():
    with jax.enable_x64(True):
        yield


def problem(horizon=HORIZON, noise=True, seed=0):
    rng = np.random.default_rng(seed)
    square = lambda n: (lambda m: m @ m.T + 0.1 * np.eye(n))(rng.normal(size=(n, n)))  # noqa: E731
    moved, steered = 0.6 * rng.normal(size=(STATES, STATES)), rng.normal(size=(STATES, ACTIONS))
    cost, price, spread, last = square(STATES), square(ACTIONS), 0.2 * square(STATES), square(STATES)
    return LinearQuadratic(moved, steered, cost, price, horizon, spread if noise else None, last)


def riccati(given):
    """Textbook recursion: gains from the first decision to the last, P_0, and what noise costs."""
    moved, steered, cost, price = (
        np.asarray(x) for x in (given.transition, given.steering, given.state_cost, given.action_cost)
    )
    ahead, gains, lost = np.asarray(given.final_cost), [], 0.0
    for _ in range(given.horizon):
        lost += 0.5 * np.trace(ahead @ given.noise)
        gain = np.linalg.solve(price + steered.T @ ahead @ steered, steered.T @ ahead @ moved)
        gains.append(gain)
        ahead = cost + moved.T @ ahead @ (moved - steered @ gain)
    return np.stack(gains[::-1]), ahead, lost


@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_messages_are_riccatis(temperature):
    given = problem()
    found = solve_linear_quadratic(given, temperature)
    gains, ahead, lost = riccati(given)
    np.testing.assert_allclose(found.gain, gains, atol=1e-10)
    np.testing.assert_allclose(found.curvature[0], ahead, rtol=1e-10)
    if temperature == 0:
        np.testing.assert_allclose(found.constant[0], -lost, rtol=1e-10)
        np.testing.assert_array_equal(found.covariance, 0.0)


def test_a_long_horizon_is_the_algebraic_equation():
    given = problem(200)
    found = solve_linear_quadratic(given, 0.0)
    exact = solve_discrete_are(
        *(np.asarray(x) for x in (given.transition, given.steering, given.state_cost, given.action_cost))
    )
    np.testing.assert_allclose(found.curvature[0], exact, rtol=1e-9)


def path_normal(given, start, temperature):
    """log ∫ exp(Σ r / τ) p(s | u) du, and the mean and covariance of u_0: one normal of all actions and all noise."""
    steps, sizes = given.horizon, STATES + ACTIONS
    moved, steered = np.asarray(given.transition), np.asarray(given.steering)
    root = np.linalg.cholesky(given.noise)
    # states as linear functions of x = (u_0, w_0, u_1, w_1, ...), w standard normal
    linear, constant = np.zeros((STATES, steps * sizes)), np.asarray(start)
    precision, term, base = np.zeros((steps * sizes,) * 2), np.zeros(steps * sizes), 0.0

    def costs(matrix):
        nonlocal precision, term, base
        precision = precision + linear.T @ matrix @ linear / temperature
        term = term - linear.T @ matrix @ constant / temperature
        base = base - 0.5 * constant @ matrix @ constant / temperature

    for t in range(steps):
        costs(np.asarray(given.state_cost))
        at = t * sizes
        precision[at : at + ACTIONS, at : at + ACTIONS] += np.asarray(given.action_cost) / temperature
        precision[at + ACTIONS : at + sizes, at + ACTIONS : at + sizes] += np.eye(STATES)
        linear, constant = moved @ linear, moved @ constant
        linear[:, at : at + ACTIONS] += steered
        linear[:, at + ACTIONS : at + sizes] += root
    costs(np.asarray(given.final_cost))
    covariance = np.linalg.inv(precision)
    mean = covariance @ term
    logs = base + 0.5 * term @ mean + 0.5 * steps * sizes * np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(precision)[1]
    return logs - 0.5 * steps * STATES * np.log(2 * np.pi), mean[:ACTIONS], covariance[:ACTIONS, :ACTIONS]


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_hoped_is_bayes_rule(temperature):
    given, start = problem(seed=1), np.array([1.0, -0.5, 0.3])
    found = solve_linear_quadratic(given, temperature, Hoped())
    logs, mean, covariance = path_normal(given, start, temperature)
    np.testing.assert_allclose(found.value(jnp.asarray(start)), temperature * logs, rtol=1e-9)
    np.testing.assert_allclose(-found.gain[0] @ start, mean, atol=1e-9)
    np.testing.assert_allclose(found.covariance[0], covariance, atol=1e-9)


def test_without_noise_there_is_nothing_to_hope_for():
    given = problem(noise=False)
    one, other = solve_linear_quadratic(given, 0.7), solve_linear_quadratic(given, 0.7, Hoped())
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_the_soft_value_is_reward_and_entropy():
    """V_0(s) = E[Σ r + τ H(π)], by Monte Carlo with its error."""
    given, start, temperature = problem(seed=2), np.array([0.5, 0.2, -1.0]), 0.8
    found = solve_linear_quadratic(given, temperature)
    rng, count = np.random.default_rng(0), 40_000
    state, total = np.tile(start, (count, 1)), np.zeros(count)
    moved, steered = np.asarray(given.transition), np.asarray(given.steering)
    for t in range(given.horizon):
        action = -state @ np.asarray(found.gain[t]).T + rng.multivariate_normal(
            np.zeros(ACTIONS), found.covariance[t], count
        )
        total -= 0.5 * np.einsum("ni,ij,nj->n", state, given.state_cost, state)
        total -= 0.5 * np.einsum("ni,ij,nj->n", action, given.action_cost, action)
        total += temperature * multivariate_normal(np.zeros(ACTIONS), found.covariance[t]).entropy()
        state = state @ moved.T + action @ steered.T + rng.multivariate_normal(np.zeros(STATES), given.noise, count)
    total -= 0.5 * np.einsum("ni,ij,nj->n", state, given.final_cost, state)
    assert abs(total.mean() - float(found.value(jnp.asarray(start)))) < 4 * total.std() / count**0.5


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"state_cost: expected a matrix \[1, 1\]"):
        LinearQuadratic([[1.0]], [[1.0]], np.eye(2), [[1.0]], 3)
    with pytest.raises(ValueError, match="horizon: expected a positive number"):
        LinearQuadratic([[1.0]], [[1.0]], [[1.0]], [[1.0]], 0)
    with pytest.raises(ValueError, match="temperature"):
        solve_linear_quadratic(LinearQuadratic([[1.0]], [[1.0]], [[1.0]], [[1.0]], 3), 0.0, Hoped())
