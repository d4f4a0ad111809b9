"""Intent: likelihoods of soft-optimal actions against numpy, finite differences and enumeration; what is identified."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import veil
from veil.control import (
    MDP,
    DenseTransitions,
    KnownReward,
    LinearReward,
    NeuralReward,
    SparseTransitions,
    TableReward,
    solve,
)

STATES, ACTIONS, HORIZON = 4, 3, 5


@pytest.fixture(autouse=True)
def exactly():
    with jax.enable_x64(True):
        yield


def dynamics(seed=0, states=STATES, actions=ACTIONS):
    return np.random.default_rng(seed).dirichlet(np.ones(states), (states, actions))


def listed(chances):
    return SparseTransitions(np.broadcast_to(np.arange(len(chances)), chances.shape).copy(), chances)


def demonstrations(problem, reward):
    """Every decision that can be taken, weighted by how often a soft-optimal person takes it."""
    visits = np.asarray(solve(problem.rewarded(reward)).visits)
    places = np.argwhere(visits > 0)
    evidence = {"state": places[:, -2:-1].astype(float)}
    if problem.horizon is not None:
        evidence["step"] = places[:, :1].astype(float)
    return veil.Data(places[:, -1:].astype(float), evidence, weight=visits[tuple(places.T)]), visits


def total(model, data):
    """The log-likelihood, and a function of the reward's numbers that gives it."""
    batch = jax.tree.map(jnp.asarray, (data.query, data.evidence, data.weight))

    def value(model):
        each = jax.vmap(lambda query, evidence: model.log_marginal(veil.Datum(query, evidence)))(*batch[:2])
        return jnp.sum(each * batch[2])

    return value(model), value


@pytest.mark.parametrize("made", [DenseTransitions, listed])
@pytest.mark.parametrize(("discount", "horizon"), [(0.9, None), (0.9, HORIZON), (1.0, HORIZON)])
def test_the_gradient_is_that_of_the_likelihood(made, discount, horizon):
    rng = np.random.default_rng(1)
    problem = MDP(made(dynamics()), discount=discount, horizon=horizon)
    data, _ = demonstrations(problem, rng.normal(size=(STATES, ACTIONS)))
    features, weights = rng.normal(size=(STATES, ACTIONS, 3)), rng.normal(size=(1, 3))
    _, value = total(veil.Intent(problem, LinearReward(features)), data)
    at = jax.jit(lambda weights: value(veil.Intent(problem, LinearReward(features, weights=weights))))
    found, small = jax.grad(at)(jnp.asarray(weights)), 1e-5
    for place in np.ndindex(weights.shape):
        ends = [float(at(jnp.asarray(weights).at[place].add(sign * small))) for sign in (1, -1)]
        np.testing.assert_allclose(found[place], (ends[0] - ends[1]) / (2 * small), atol=1e-6)


@pytest.mark.parametrize("discount", [0.9, 1.0])
def test_the_likelihood_is_that_of_plain_numpy(discount):
    chances, rng = dynamics(), np.random.default_rng(2)
    reward, value, scores = rng.normal(size=STATES), np.zeros(STATES), []
    for _ in range(HORIZON):
        scores.append(reward[:, None] + discount * chances @ value)
        value = np.log(np.exp(scores[-1]).sum(1))
    model = veil.Intent(
        MDP(DenseTransitions(chances), discount=discount, horizon=HORIZON),
        TableReward(numbers=jnp.asarray(reward[None])),
    )
    for step, state, action in [(0, 1, 2), (3, 0, 0), (4, 2, 1)]:
        now = scores[HORIZON - 1 - step][state]
        data = veil.Data([[float(action)]], {"state": [[float(state)]], "step": [[float(step)]]})
        expected = now[action] - np.log(np.exp(now).sum())
        np.testing.assert_allclose(veil.log_prob(model, data), expected, atol=1e-12)


def test_the_gradient_in_a_reward_of_states_is_demonstrated_minus_expected_visits():
    """Of demonstrations whose next states are as the dynamics have them; over the H states of decisions, no more."""
    problem = MDP(DenseTransitions(dynamics(3)), start=[0.1, 0.2, 0.3, 0.4], horizon=HORIZON)
    data, demonstrated = demonstrations(problem, np.random.default_rng(3).normal(size=(STATES, ACTIONS)))
    _, value = total(veil.Intent(problem, TableReward(STATES)), data)
    other = jnp.asarray(np.random.default_rng(4).normal(size=(1, STATES)))
    found = jax.grad(lambda numbers: value(veil.Intent(problem, TableReward(numbers=numbers))))(other)
    expected = np.asarray(solve(problem.rewarded(other[0])).visits)
    np.testing.assert_allclose(found[0], (demonstrated - expected).sum((0, 2)), atol=1e-12)


def highest(problem, shape, data):
    """The rewards at which the exact likelihood is highest, by scipy's BFGS."""
    _, value = total(veil.Intent(problem, TableReward(numbers=jnp.zeros((1, *shape)))), data)
    objective = jax.jit(
        jax.value_and_grad(lambda flat: -value(veil.Intent(problem, TableReward(numbers=flat.reshape(1, *shape)))))
    )
    run = minimize(lambda flat: tuple(map(np.asarray, objective(flat))), np.zeros(np.prod(shape)), jac=True, tol=1e-12)
    return run.x.reshape(shape)


def test_at_the_maximum_features_are_as_demonstrated_and_the_likelihood_is_concave():
    problem = MDP(listed(dynamics(5)), horizon=HORIZON)
    data, demonstrated = demonstrations(problem, 2 * np.random.default_rng(5).normal(size=(STATES, ACTIONS)))
    reward = highest(problem, (STATES,), data)
    expected = np.asarray(solve(problem.rewarded(reward)).visits)
    np.testing.assert_allclose(expected.sum((0, 2)), demonstrated.sum((0, 2)), atol=1e-6)
    _, value = total(veil.Intent(problem, TableReward(STATES)), data)
    curve = jax.hessian(lambda numbers: value(veil.Intent(problem, TableReward(numbers=numbers[None]))))
    for seed in range(3):
        at = jnp.asarray(3 * np.random.default_rng(seed).normal(size=STATES))
        assert np.linalg.eigvalsh(curve(at)).max() < 1e-10


def test_a_reward_of_states_carries_over_to_other_dynamics_and_one_of_actions_does_not():
    """16 states, 4 actions, reward 1 in state 0, start in 1 (Fu et al. 2018, section 7.1)."""
    states, actions, discount = 16, 4, 0.9
    truth = 1.0 * (np.arange(states) == 0)
    here, there = (DenseTransitions(dynamics(seed, states, actions)) for seed in (0, 1))
    start = 1.0 * (np.arange(states) == 1)
    first, second = (MDP(each, start=start, discount=discount) for each in (here, there))
    data, _ = demonstrations(first, truth)
    of_states, of_actions = highest(first, (states,), data), highest(first, (states, actions), data)
    np.testing.assert_allclose(of_states - of_states.mean(), truth - truth.mean(), atol=1e-3)

    def worth(problem, reward):
        return float(problem_return(problem, truth, solve(problem.rewarded(reward), 0.01)))

    best, random = worth(second, truth), float(problem_return(second, truth, solve(second.rewarded(truth), 1e3)))
    assert worth(first, of_actions) > 0.98 * worth(first, truth)  # where it was found both are as good
    assert worth(second, of_states) > best - 0.01 * (best - random)
    assert worth(second, of_actions) < best - 0.2 * (best - random)


def problem_return(problem, reward, solution):
    from veil.control.optimality import returned

    return returned(problem.rewarded(reward), solution.log_policy)


def test_actions_that_nobody_saw_are_summed_out():
    chances = dynamics(6)
    policy = np.exp(np.asarray(solve(MDP(DenseTransitions(chances), np.arange(4.0), discount=0.9)).log_policy))
    for made in (DenseTransitions, listed):
        problem = MDP(made(chances), discount=0.9)
        model = veil.Intent(problem, TableReward(numbers=jnp.arange(4.0)[None]), outcomes=True)
        query = {"action": np.array([[1.0], [np.nan], [2.0]]), "next": np.array([[3.0], [3.0], [np.nan]])}
        found = veil.log_prob(model, veil.Data(query, np.array([[0.0], [0.0], [1.0]])))
        seen, hidden = policy[0, 1] * chances[0, 1, 3], policy[0] @ chances[0, :, 3]
        np.testing.assert_allclose(np.exp(found), [seen, hidden, policy[1, 2]], rtol=1e-10)
        draws = veil.sample(model, 2000, evidence=np.zeros((1, 1)), key=jax.random.key(0))
        assert set(draws.query) == {"action", "next"}
        np.testing.assert_allclose(
            np.bincount(draws.query["next"].ravel().astype(int), minlength=4) / 2000, policy[0] @ chances[0], atol=0.05
        )


def test_from_states_alone_a_reward_is_found():
    """Of endlessly many steps of which no action was recorded: each pair of states as often as it comes."""
    chances, truth = dynamics(7), np.array([2.0, 0.0, -1.0, 1.0])
    problem = MDP(listed(chances), discount=0.9)
    pairs = np.einsum("sa,sat->st", np.asarray(solve(problem.rewarded(truth)).visits), chances)
    places = np.argwhere(pairs > 0).astype(float)
    query = {"action": np.full((len(places), 1), np.nan), "next": places[:, 1:]}
    data = veil.Data(query, places[:, :1], weight=pairs.ravel())

    def loss(flat):
        model = veil.Intent(problem, TableReward(numbers=flat[None]), outcomes=True)
        each = lambda query, evidence, seen: model.log_marginal(veil.Datum(query, evidence, observed=seen))  # noqa: E731
        batch = jax.tree.map(jnp.asarray, (data.query, data.evidence, data.observed))
        return -jnp.sum(jnp.asarray(data.weight) * jax.vmap(each)(*batch))

    slope = jax.jit(jax.value_and_grad(loss))
    found = minimize(lambda flat: tuple(map(np.asarray, slope(flat))), np.zeros(STATES), jac=True, tol=1e-12).x
    np.testing.assert_allclose(found - found.mean(), truth - truth.mean(), atol=1e-3)


def test_known_things_are_not_learned():
    """Of dynamics, starts, discounts and features no fit moves a number; those that are free are counted."""
    problem = MDP(listed(dynamics(8)), discount=0.9)
    data, _ = demonstrations(problem, np.arange(4.0))
    goals = KnownReward(np.eye(4), rationalities=(0.5, 2.0))
    model = veil.Intent(problem, goals)
    fit = veil.fit(model, data, key=jax.random.key(0), steps=5)
    same = jax.tree.map(np.array_equal, (fit.model.problem, fit.model.reward.known), (problem, goals.known))
    assert all(jax.tree.leaves(same))
    assert not np.array_equal(fit.model.logits, model.logits)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: veil.Intent(p, TableReward(3)), "the problem's states"),
        (lambda p: veil.Intent(p, np.zeros(4)), "reward: expected one with parameters"),
        (lambda p: veil.Intent(p.transitions, TableReward(4)), "problem: expected an MDP"),
        (lambda p: TableReward(4, kinds=2), "key: several kinds must differ"),
        (lambda p: LinearReward(np.zeros(4)), "features: expected"),
        (lambda p: NeuralReward(np.zeros((4, 2))), "key: a network starts at random"),
        (lambda p: KnownReward(np.zeros((2, 4)), (0.0,)), "rationalities: expected positive"),
        (
            lambda p: veil.evaluate(veil.Intent(p, TableReward(4)), veil.Data([[0.0]], [[0.0]])),
            "with 2 evidence columns",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, words):
    problem = MDP(DenseTransitions(dynamics()), horizon=3)
    with pytest.raises((ValueError, TypeError), match=words):
        make(problem)


@pytest.mark.parametrize("horizon", [None, HORIZON])
def test_a_problem_made_in_float32_is_taken_in_float64(horizon):
    with jax.enable_x64(False):
        made = MDP(DenseTransitions(dynamics(8)), discount=0.9, horizon=horizon)
    reward = jnp.asarray(np.random.default_rng(8).normal(size=(1, STATES)))
    coarse, fine = (
        veil.Intent(each, TableReward(numbers=reward)).log_policies()
        for each in (made, MDP(DenseTransitions(dynamics(8)), discount=0.9, horizon=horizon))
    )
    assert coarse.dtype == jnp.float64
    np.testing.assert_allclose(coarse, fine, atol=1e-6)
    np.testing.assert_allclose(
        solve(made.rewarded(reward[0])).visits.sum(), 1 / 0.1 if horizon is None else HORIZON, rtol=1e-5
    )
