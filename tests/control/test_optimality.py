"""Control as inference on finite problems, against plain numpy, enumeration, and the messages of chains."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.control import MDP, DenseTransitions, Fixed, Hoped, SparseTransitions, solve
from veil.maths import markov, soft

STATES, ACTIONS, HORIZON = 3, 2, 4


@pytest.fixture(autouse=True)
def exactly():
    with jax.enable_x64(True):
        yield


def tables(seed=0, states=STATES, actions=ACTIONS):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(states), (states, actions)), rng.normal(size=(states, actions)), rng


def listed(chances):
    """The same dynamics, every state named as an outcome."""
    return SparseTransitions(np.broadcast_to(np.arange(len(chances)), chances.shape).copy(), chances)


def naive(chances, reward, horizon, discount, temperature, ends=None, final=None):
    """The recursions, written down."""
    final = np.zeros(len(chances)) if final is None else final
    ends = np.zeros(len(chances), bool) if ends is None else ends
    value, policies = final, []
    for _ in range(horizon):
        score = reward + discount * chances @ value
        policies.append(np.exp((score - score.max(1, keepdims=True)) / temperature))
        value = np.where(ends, final, temperature * np.log(np.exp(score / temperature).sum(1)))
    return value, np.stack([each / each.sum(1, keepdims=True) for each in policies[::-1]])


@pytest.mark.parametrize("made", [DenseTransitions, listed])
@pytest.mark.parametrize("discount", [0.9, 1.0])
@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_soft_values_are_those_of_the_recursion(made, discount, temperature):
    chances, reward, rng = tables()
    ends, final = np.array([False, False, True]), rng.normal(size=STATES)
    problem = MDP(made(chances), reward, discount=discount, horizon=HORIZON, ends=ends, final=final)
    found = solve(problem, temperature)
    value, policy = naive(chances, reward, HORIZON, discount, temperature, ends, final)
    np.testing.assert_allclose(found.values[0], value, atol=1e-12)
    np.testing.assert_allclose(np.exp(found.log_policy), policy, atol=1e-12)


def test_held_fixed_maximises_reward_and_entropy_against_every_other_policy():
    """V_0 is the largest E[Σ r + τ H(π)] there is: no policy near it, or far, has more."""
    chances, reward, rng = tables()
    problem = MDP(DenseTransitions(chances), reward, horizon=HORIZON)
    found = solve(problem)

    def worth(policy):
        here, total = np.full(STATES, 1 / STATES), 0.0
        for now in policy:
            total += np.sum(here[:, None] * now * (reward - np.log(now)))
            here = np.einsum("s,sa,sat->t", here, now, chances)
        return total

    best = worth(np.exp(np.asarray(found.log_policy)))
    np.testing.assert_allclose(best, np.mean(found.values[0]), atol=1e-12)
    for _ in range(50):
        logits = np.asarray(found.log_policy) + rng.normal(size=found.log_policy.shape) * rng.choice([0.01, 1.0])
        other = np.exp(logits)
        assert worth(other / other.sum(-1, keepdims=True)) < best


def joint_paths(chances, reward, start):
    """log p(s_0, a_0, ..., O = 1) of every path, with a uniform measure of actions."""
    for states in itertools.product(range(STATES), repeat=HORIZON):
        for actions in itertools.product(range(ACTIONS), repeat=HORIZON):
            total = np.log(start[states[0]]) + sum(reward[s, a] for s, a in zip(states, actions, strict=True))
            for t in range(HORIZON - 1):
                total += np.log(chances[states[t], actions[t], states[t + 1]])
            yield states, actions, total


def test_hoped_is_bayes_rule_over_states_and_actions():
    """p(a_0 | s_0, O = 1) and p(O = 1) by listing all paths."""
    chances, reward, _ = tables(1)
    start = np.array([0.2, 0.5, 0.3])
    found = solve(MDP(DenseTransitions(chances), reward, start=start, horizon=HORIZON), luck=Hoped())
    first, whole = np.zeros((STATES, ACTIONS)), 0.0
    for states, actions, total in joint_paths(chances, reward, start):
        first[states[0], actions[0]] += np.exp(total)
        whole += np.exp(total)
    np.testing.assert_allclose(np.exp(found.log_policy[0]), first / first.sum(1, keepdims=True), atol=1e-12)
    np.testing.assert_allclose(start @ np.exp(found.values[0]), whole, rtol=1e-12)


def test_hoped_are_the_messages_of_a_chain():
    """A hidden Markov model of pairs (s, a) that sees "it went well" has the same posterior over actions."""
    chances, reward, _ = tables(2)
    start = np.array([0.2, 0.5, 0.3])
    pairs = STATES * ACTIONS
    move = np.log(np.repeat(chances.reshape(pairs, STATES), ACTIONS, 1) / ACTIONS)
    seen = jnp.broadcast_to(jnp.asarray(reward.ravel()), (HORIZON, pairs))
    starts, there = markov.steps(HORIZON, None, None)
    first = jnp.asarray(np.log(np.repeat(start, ACTIONS) / ACTIONS))
    chain = markov.smooth(first, jnp.asarray(move), seen, starts, there)
    found = solve(MDP(DenseTransitions(chances), reward, start=start, horizon=HORIZON), luck=Hoped())
    marginals = np.asarray(chain.marginals).reshape(HORIZON, STATES, ACTIONS)
    conditional = marginals / marginals.sum(2, keepdims=True)
    np.testing.assert_allclose(np.exp(found.log_policy), conditional, atol=1e-10)
    evidence = np.log(start @ np.exp(np.asarray(found.values[0]))) - HORIZON * np.log(ACTIONS)
    np.testing.assert_allclose(chain.log_likelihood, evidence, atol=1e-10)


def test_hope_takes_the_risk_and_knowing_better_does_not():
    """A safe way of -1, and a lottery: 1 % of nothing lost, 99 % of -10. Hoped counts on the luck."""
    stay = [[[1, 1], [2, 3]], [[1, 1], [1, 1]], [[1, 1], [1, 1]], [[1, 1], [1, 1]]]
    odds = [[[1.0, 0.0], [0.01, 0.99]], *[[[1.0, 0.0], [1.0, 0.0]]] * 3]
    reward = np.zeros((4, 2))
    reward[0, 0], reward[3] = -6.0, -10.0
    problem = MDP(SparseTransitions(np.array(stay), odds), reward, horizon=2)
    careful, hopeful = solve(problem).log_policy[0, 0], solve(problem, luck=Hoped()).log_policy[0, 0]
    assert careful[1] < np.log(0.03)
    assert hopeful[1] > np.log(0.7)


def test_luck_is_the_same_where_there_is_none():
    rng = np.random.default_rng(0)
    problem = MDP(SparseTransitions(rng.integers(5, size=(5, 3))), rng.normal(size=(5, 3)), horizon=6)
    np.testing.assert_allclose(solve(problem).values, solve(problem, luck=Hoped()).values, atol=1e-12)


def test_rewards_of_outcomes():
    """Held fixed their mean counts; hoped for, each with its own outcome (by enumeration of one step)."""
    chances, _, rng = tables(3)
    reward = rng.normal(size=chances.shape)
    dense, sparse = (MDP(made(chances), reward, horizon=3) for made in (DenseTransitions, listed))
    mean = MDP(DenseTransitions(chances), np.sum(chances * reward, -1), horizon=3)
    np.testing.assert_allclose(solve(dense).values, solve(mean).values, atol=1e-12)
    np.testing.assert_allclose(solve(sparse, luck=Hoped()).values, solve(dense, luck=Hoped()).values, atol=1e-12)
    last = np.log(np.sum(chances * np.exp(reward), (1, 2)))
    np.testing.assert_allclose(solve(dense, luck=Hoped()).values[2], last, atol=1e-12)


@pytest.mark.parametrize("luck", [Fixed(), Hoped()])
def test_without_a_horizon_as_with_a_long_one(luck):
    chances, reward, _ = tables(4)
    reward = reward - 3.0  # what is hoped for has no limit where more is earned than is lost by ending
    forever = solve(MDP(listed(chances), reward, discount=0.8), 0.5, luck)
    long = solve(MDP(listed(chances), reward, discount=0.8, horizon=200), 0.5, luck)
    np.testing.assert_allclose(forever.values, long.values[0], atol=1e-10)
    visits = np.sum(0.8 ** np.arange(200)[:, None, None] * np.asarray(long.visits), 0)
    np.testing.assert_allclose(forever.visits, visits, atol=1e-9)


def test_an_end_is_worth_what_it_is_worth_and_no_more():
    """Where it is over nothing is earned any more, however good the state's reward: ends are not survived."""
    moves = SparseTransitions([[1, 0], [1, 1]])
    problem = MDP(moves, np.array([-1.0, 5.0]), ends=[False, True], final=[0.0, 2.0])
    found = solve(problem, temperature=0.0)
    np.testing.assert_allclose(found.values, [1.0, 2.0])
    np.testing.assert_allclose(found.visits.sum(1), [0.5, 0.0])
    np.testing.assert_allclose(found.expected_return, 1.5)
    by_steps = solve(problem.altered(horizon=4), temperature=0.0).visits
    np.testing.assert_allclose(by_steps.sum(2), [[0.5, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])


def test_the_return_of_a_policy_is_that_of_its_visits():
    chances, reward, _ = tables(5)
    found = solve(MDP(DenseTransitions(chances), reward, horizon=HORIZON), luck=Hoped())
    np.testing.assert_allclose(found.expected_return, np.sum(np.asarray(found.visits) * reward), atol=1e-12)


def test_gradients_without_a_horizon_are_those_of_the_fixed_point():
    chances, reward, _ = tables(6)
    problem = MDP(listed(chances), discount=0.9)

    def value(reward):
        now, ahead = Fixed().scores(problem.rewarded(reward), 1.0)
        return soft.forever(now, ahead, problem.final, problem.ends, 1.0)[0][0]

    found, small = jax.grad(value)(jnp.asarray(reward)), 1e-6
    for place in np.ndindex(reward.shape):
        up, down = (value(jnp.asarray(reward).at[place].add(sign * small)) for sign in (1, -1))
        np.testing.assert_allclose(found[place], (up - down) / (2 * small), atol=1e-7)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"reward": np.zeros((2, 2))}, "reward: expected one of the shapes"),
        ({"reward": [0.0, np.nan, 0.0]}, "reward: expected finite numbers"),
        ({"discount": 1.5}, "discount: expected a number in"),
        ({"horizon": 0}, "horizon: expected a positive number"),
        ({"start": [1.0, 1.0, 0.0]}, "start: expected numbers from 0 that sum to 1"),
        ({"ends": [True]}, "ends: expected one entry for each of the 3 states"),
    ],
)
def test_problems_that_are_none_are_refused(given, words):
    chances, reward, _ = tables()
    with pytest.raises(ValueError, match=words):
        MDP(DenseTransitions(chances), **{"reward": reward, **given})


def test_transitions_that_are_none_are_refused():
    with pytest.raises(ValueError, match="sum to 1"):
        DenseTransitions(np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match="expected states 0 to 1; got 2"):
        SparseTransitions([[0, 2], [1, 1]])
    with pytest.raises(ValueError, match="expected the numbers of states, integers"):
        SparseTransitions([[0.0, 1.0], [1.0, 1.0]])
    with pytest.raises(ValueError, match="these values have no limit"):
        solve(MDP(SparseTransitions([[0, 1], [1, 0]]), [1.0, 1.0]))
    with pytest.raises(ValueError, match="temperature"):
        solve(MDP(SparseTransitions([[0, 1], [1, 0]]), [1.0, 1.0], horizon=2), -1.0)
