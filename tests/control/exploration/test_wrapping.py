"""A bonus beside the reward of an environment, single and vector: of what, of when, and how large."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.control.exploration.bonus import Bonus, Episodic, Remembered, arrived
from veil.control.exploration.counts import Counted, Tally
from veil.control.exploration.scales import ReturnScale
from veil.control.exploration.wrapping import curious


class Line(gymnasium.Env):
    """Places 0, 1, 2, ...; an episode of three steps."""

    observation_space = gymnasium.spaces.Box(0.0, 10.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, begins=0.0):
        self.begins = begins

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.taken = self.begins, 0
        return np.array([self.place], np.float32), {}

    def step(self, action):
        self.place, self.taken = self.place + 1.0, self.taken + 1
        return np.array([self.place], np.float32), 1.0, self.taken == 3, False, {}


class Seen(Bonus):
    """As a user would write it: 100 o + o', and how many steps it has learned from."""

    def init(self, example, key):
        return jnp.zeros(())

    def __call__(self, state, observation, action, following):
        return 100.0 * observation[0] + following[0] + 1e-3 * state, state

    def update(self, state, batch):
        return state + len(batch.action)


class Nth(Episodic):
    """The number of the step in its episode, which the state remembers."""

    def init(self, example, key):
        return Remembered(jnp.zeros(()), jnp.zeros(()))

    def begin(self, state, observation):
        return Remembered(state.learned, observation[0] * 10.0)

    def __call__(self, state, observation, action, following):
        return state.memory, Remembered(state.learned, state.memory + 1.0)

    def update(self, state, batch):
        return Remembered(state.learned + len(batch.action), state.memory)


MODES = gymnasium.vector.AutoresetMode


def values(env, steps, actions=0):
    env.reset(seed=0)
    found = []
    for _ in range(steps):
        *_, terminated, _, info = env.step(actions)
        found.append(info["intrinsic"])
        if not isinstance(env, gymnasium.vector.VectorEnv) and terminated:
            env.reset()
    return np.array(found)


def test_a_step_leads_to_its_own_end_and_not_to_the_next_beginning():
    key = jax.random.key(0)
    wanted = np.array([1.0, 102.0, 203.0, 1.0, 102.0, 203.0])
    single = values(curious(Line(), Seen(), key), 6)
    np.testing.assert_allclose(single, wanted + 1e-3 * np.arange(6), rtol=1e-6)  # it learned of those before
    same = gymnasium.vector.SyncVectorEnv([Line, lambda: Line(5.0)], autoreset_mode=MODES.SAME_STEP)
    both = values(curious(same, Seen(), key, every=1), 6, np.zeros(2, int))
    np.testing.assert_allclose(both[:, 0], wanted + 2e-3 * np.arange(6), rtol=1e-6)
    np.testing.assert_allclose(both[:, 1], wanted + 505.0 + 2e-3 * np.arange(6), rtol=1e-6)
    following = gymnasium.vector.SyncVectorEnv([Line, lambda: Line(5.0)], autoreset_mode=MODES.NEXT_STEP)
    seen = values(curious(following, Seen(), key), 8, np.zeros(2, int))
    assert seen[3].tolist() == [0.0, 0.0]  # there an episode began, and nobody did anything
    np.testing.assert_allclose(seen[[0, 1, 2, 4, 5, 6], 0], wanted, atol=0.02)


def test_a_memory_is_of_the_episode_and_of_the_environment():
    same = gymnasium.vector.SyncVectorEnv([Line, lambda: Line(5.0)], autoreset_mode=MODES.SAME_STEP)
    found = values(curious(same, Nth(), jax.random.key(0)), 5, np.zeros(2, int))
    np.testing.assert_allclose(found, [[0, 50], [1, 51], [2, 52], [0, 50], [1, 51]])


def test_rewards_apart_a_schedule_and_learning_in_one_size():
    env = curious(Line(), Seen(), jax.random.key(0), weight=lambda step: 0.5**step, every=2)
    env.reset(seed=0)
    *_, info = first = env.step(0)
    assert first[1] == pytest.approx(1.0 + info["intrinsic"])
    assert info["extrinsic"] == 1.0
    *_, info = second = env.step(0)
    assert second[1] == pytest.approx(1.0 + 0.5 * info["intrinsic"])
    assert float(env.bonus_state) == 2.0
    env.step(0)
    assert float(env.bonus_state) == 2.0  # one step waits for another


def test_a_count_falls_as_the_root():
    env = curious(gymnasium.make("veil.control.worlds:veil/DeepSea-v0", size=3), Counted(Tally(10)), jax.random.key(0))
    found = []
    for _ in range(4):
        env.reset(seed=0)
        found.append(env.step(int(env.unwrapped.land.problem.rewards()[0, 0] < 0) ^ 1)[-1]["intrinsic"])
    np.testing.assert_allclose(found, (np.arange(4) + 0.01) ** -0.5, rtol=1e-5)


def test_the_scale_is_that_of_returns_along_time():
    rng, scale = np.random.default_rng(0), ReturnScale(0.9)
    values = rng.exponential(size=(50, 3))
    state, sums, seen = scale.init(3), np.zeros(3), []
    for row in values:
        scaled, state = scale(state, jnp.asarray(row))
        sums = 0.9 * sums + row
        seen.append(sums)
    np.testing.assert_allclose(scaled, values[-1] / np.std(seen), rtol=1e-4)


def test_wrong_usage():
    with pytest.raises(TypeError, match="bonus: expected one, such as Counted"):
        curious(Line(), "count", jax.random.key(0))
    with pytest.raises(TypeError, match="env: expected a Gymnasium environment"):
        curious("Line", Seen(), jax.random.key(0))
    with pytest.raises(ValueError, match="weight: expected a finite number"):
        curious(Line(), Seen(), jax.random.key(0), weight=float("nan"))
    with pytest.raises(ValueError, match="offset: expected a positive number"):
        Counted(Tally(3), about=arrived, offset=0.0)
