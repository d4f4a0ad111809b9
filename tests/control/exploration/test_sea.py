"""DeepSea and walks in it, beside the rules written out, and Q-learning beside textbook code."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.control import solve
from veil.control.exploration.bonus import left
from veil.control.exploration.counts import Counted, Tally
from veil.control.exploration.searching import counting, search
from veil.control.exploration.tabular import QLearning
from veil.control.worlds.deep_sea import DeepSea
from veil.control.worlds.walks import Walk
from veil.parts.decisions import visits

END = "the end"


def rules(size, mapping, stochastic, row, column, action):
    """bsuite's step: [(chance, next place, reward)], deviation of noise, whether it went the wrong way."""
    right = action == mapping[row, column]
    reward = 1.0 if column == size - 1 and right else 0.0
    noise = 1.0 if stochastic and row == size - 1 and column in (0, size - 1) else 0.0
    below = lambda column: END if row == size - 1 else (row + 1, column)  # noqa: E731
    if not right:
        return {below(max(column - 1, 0)): 1.0}, reward, noise, row == column
    arrives = {below(min(column + 1, size - 1)): 1.0}
    if stochastic:
        arrives = {below(min(column + 1, size - 1)): 0.0, below(column): 0.0}
        arrives[below(min(column + 1, size - 1))] += 1.0 - 1.0 / size
        arrives[below(column)] += 1.0 / size
    return arrives, reward - 0.01 / size, noise, False


@pytest.mark.parametrize("stochastic", [False, True])
def test_the_tables_are_bsuites_rules(stochastic):
    size = 5
    sea = DeepSea(size, stochastic, mapping=42)
    mapping = np.random.RandomState(42).binomial(1, 0.5, [size, size])
    land, astray = sea.land, np.asarray(sea.astray)
    chances = np.zeros((size * size + 1, 2, size * size + 1))
    moves = land.problem.transitions
    for k in range(2):
        for s in range(size * size + 1):
            for a in range(2):
                chances[s, a, moves.next[s, a, k]] += moves.chances[s, a, k]
    for state in range(size * size):
        row, column = divmod(state, size)
        for action in range(2):
            arrives, reward, noise, wrong = rules(size, mapping, stochastic, row, column, action)
            wanted = np.zeros(size * size + 1)
            for place, chance in arrives.items():
                wanted[size * size if place is END else place[0] * size + place[1]] += chance
            np.testing.assert_allclose(chances[state, action], wanted, atol=1e-6)
            np.testing.assert_allclose(land.problem.rewards()[state, action], reward, atol=1e-7)
            assert noise == (0.0 if land.noise is None else float(land.noise[state, action]))
            assert astray[state, action] == wrong


def test_chance_finds_the_treasure_once_in_two_to_the_n_episodes():
    size = 8
    problem = DeepSea(size).land.problem
    met = visits(problem, jnp.full((size, problem.states, 2), jnp.log(0.5)))
    found = np.asarray(met).sum(0)[np.asarray(problem.rewards()) > 0.5].sum()
    np.testing.assert_allclose(found, 2.0**-size, rtol=1e-5)
    np.testing.assert_allclose(solve(problem, temperature=0.0).expected_return, 0.99, rtol=1e-5)


def test_solved_is_bsuites_rule():
    lost = np.ones(90, bool)
    found = np.zeros(20, bool)
    assert DeepSea(5).solved(np.concatenate([lost, found])) == 101  # 90 of 101 are fewer than nine in ten
    assert DeepSea(5).solved(lost) is None
    assert DeepSea(5, stochastic=True).solved(np.concatenate([lost, np.zeros(22, bool)])) is None
    assert DeepSea(5, stochastic=True).solved(np.zeros(150, bool)) == 100
    sea = DeepSea(10)
    assert sea.beats_chance(1123)
    assert not sea.beats_chance(1124)
    assert not sea.beats_chance(None)
    assert not DeepSea(50).beats_chance(10_001)


def test_the_environment_walks_as_the_tables_say():
    env = gymnasium.make("veil.control.worlds:veil/DeepSea-v0", size=4, pictures=True)
    sea = DeepSea(4)
    seen, _ = env.reset(seed=0)
    total, state = 0.0, 0
    for _step in range(4):
        assert seen.shape == (4, 4)
        assert np.flatnonzero(seen).tolist() == [state]
        seen, reward, terminated, truncated, _ = env.step(int(sea.right[state]))
        total, state = total + reward, state + 5
    assert terminated
    assert not truncated
    assert not seen.any()
    np.testing.assert_allclose(total, 0.99, rtol=1e-6)
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        env.unwrapped.step(0)
    windy = gymnasium.make("veil.control.worlds:veil/DeepSea-v0", size=4, stochastic=True).unwrapped
    rewards = []
    for seed in range(40):
        windy.reset(seed=seed)
        rewards += [windy.step(0)[1] for _ in range(4)][-1:]
    assert np.std(rewards) > 0.3


def naive(walk, state, weight, doubt, memory):
    """Q-learning from the last outcomes, written out; ``memory``: all of them, by state and action."""
    before = np.asarray(state.bonus)
    table = np.asarray(state.values, float).copy()
    for t in reversed(range(len(walk.state))):
        s, a, r, f = int(walk.state[t]), int(walk.action[t]), float(walk.reward[t]), int(walk.following[t])
        memory.setdefault((s, a), []).append((r, f))
        earned, led = map(list, zip(*memory[s, a], strict=True))
        error = np.std(earned, ddof=1) / len(earned) ** 0.5 if len(earned) > 1 else 1.0
        ahead = np.mean([table[g].max() for g in led[-4:]])
        table[s, a] = np.mean(earned) + doubt * error + weight * (before[s, a] + 1.0) ** -0.5 + ahead
    return table


def test_q_learning_is_the_textbooks_and_its_bonus_is_of_before():
    sea = DeepSea(3, stochastic=True)
    land = sea.land
    counts = Counted(Tally((10, 2)), about=left, offset=1.0)
    learner = QLearning(counts, weight=0.3, optimism=1.0, doubt=0.5, memory=4)
    state, memory = learner.start(land, jax.random.key(0)), {}
    for episode in range(12):
        before = state
        state, walks = learner.play(state, land, 1, jax.random.key(episode))
        walk = Walk(*(np.asarray(part)[0] for part in walks))
        wanted = naive(walk, before, 0.3, 0.5, memory)
        np.testing.assert_allclose(state.values, wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(state.bonus, state.counts)
    assert np.asarray(state.counts).max() > 4  # more than are remembered


def test_a_bonus_and_optimism_find_what_neither_greed_nor_chance_does():
    sea = DeepSea(12)
    found = search(sea, counting(sea), jax.random.key(0), most=1000)
    assert found.solved is not None
    assert sea.beats_chance(found.solved)
    assert found.returns.max() > 0.98
    assert 0.5 < found.coverage <= 1.0
    assert found.visits[-1].sum() == 12 * len(found.returns)
    lost = search(sea, QLearning(random=0.1), jax.random.key(0), most=300)
    assert lost.solved is None
    assert lost.coverage < found.coverage


def test_wrong_usage():
    with pytest.raises(TypeError, match="bonus: expected one"):
        QLearning(bonus="count")
    with pytest.raises(ValueError, match="random: expected a share"):
        QLearning(random=2.0)
    with pytest.raises(ValueError, match="sizes: expected one for each of the 2 numbers"):
        Tally((3,)).init((jnp.array(0), jnp.array(0)), jax.random.key(0))
    tally = Tally((3, 2))
    state = tally.update(tally.init((0, 0), jax.random.key(0)), (jnp.array([0, -1, 3]), jnp.array([1, 0, 1])))
    assert float(state.sum()) == 1.0  # what is beyond the sizes is not counted
    assert float(tally.count(state, (jnp.array(-3), jnp.array(1)))) == 0.0
