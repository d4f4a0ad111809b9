"""Agents with stable-baselines3's predict as actors, and actors with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil import Actor, RandomActor
from veil.control import Playing, Predicting

KEY = jax.random.key(0)


class Agent:
    """Its action is minus what it sees, plus how many steps of the episode it has taken: its state."""

    def __init__(self):
        self.asked = []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        self.asked.append((type(observation), episode_start.tolist(), deterministic))
        state = np.zeros(1) if state is None or episode_start[0] else state
        return -observation[:1] + state, state + 1


class Counting(Actor):
    """The steps of the episode, and a number drawn for it."""

    def init(self, key):
        return jnp.zeros(()), jax.random.uniform(key)

    def act(self, memory, observation, key):
        step, drawn = memory
        return jnp.stack([step, drawn, observation[0]]), (step + 1, drawn)


def test_an_agent_plays_and_keeps_its_state(tmp_path) -> None:
    pytest.importorskip("gymnasium")
    agent = Agent()
    found = veil.collect("Pendulum-v1", 2, out=tmp_path / "a", seed=0, max_steps=4, policy=Predicting(agent))
    for each in found.episodes:
        expected = -each.observations["observation"][:-1, :1] + np.arange(4)[:, None]
        np.testing.assert_allclose(each.actions["action"], expected, rtol=1e-6)
    assert agent.asked == [(np.ndarray, [t == 0], True) for t in range(4)] * 2


def test_an_actor_is_asked_as_an_agent_is() -> None:
    """One environment: numpy in and out, a memory that lasts an episode, the same numbers from the same key."""
    runs = []
    for _ in range(2):
        playing = Playing(Counting(), KEY)
        found = [playing.predict(np.full(2, t))[0] for t in range(3)]
        playing.reset()
        found += [playing.predict(np.zeros(2))[0]]
        found += [playing.predict(np.zeros(2), None, np.array([True]))[0]]
        runs.append(np.stack(found))
    np.testing.assert_array_equal(*runs)
    assert isinstance(found[0], np.ndarray)
    assert runs[0][:, 0].tolist() == [0, 1, 2, 0, 0]
    assert len(set(runs[0][:, 1].tolist())) == 3
    assert playing.predict(np.zeros(2), "kept", np.array([False]), deterministic=True)[1] == "kept"


def test_environments_side_by_side_start_on_their_own() -> None:
    playing = Playing(Counting(), KEY, environments=3)
    seen = np.arange(6.0).reshape(3, 2)
    first = playing.predict(seen, episode_start=np.ones(3, bool))[0]
    second = playing.predict(seen, episode_start=np.array([False, True, False]))[0]
    assert first[:, 0].tolist() == [0, 0, 0]
    assert second[:, 0].tolist() == [1, 0, 1]
    np.testing.assert_array_equal(second[:, 2], seen[:, 0])
    same = first[:, 1] == second[:, 1]
    assert same.tolist() == [True, False, True]
    assert len(set(first[:, 1].tolist())) == 3
    with pytest.raises(ValueError, match="observation: expected those of 3 environments; got 2"):
        playing.predict(seen[:2])


def test_a_vector_of_gymnasium_s(tmp_path) -> None:
    gymnasium = pytest.importorskip("gymnasium")
    worlds = gymnasium.make_vec("Pendulum-v1", num_envs=2, vectorization_mode="sync")
    playing = Playing(RandomActor(jnp.full(1, -2.0), jnp.full(1, 2.0)), KEY, environments=2)
    seen, _ = worlds.reset(seed=0)
    for _ in range(2):
        action, _ = playing.predict(seen)
        seen, *_ = worlds.step(action)
    assert action.shape == (2, 1)
    assert action[0, 0] != action[1, 0]
    worlds.close()


def test_what_cannot_play() -> None:
    with pytest.raises(TypeError, match="actor: expected an actor"):
        Playing(Agent(), KEY)
    with pytest.raises(TypeError, match="actor: a Predicting acts in one environment at a time"):
        Playing(Predicting(Agent()), KEY, environments=2).predict(np.zeros((2, 1)))
    with pytest.raises(ValueError, match="observation: expected finite numbers"):
        Playing(Counting(), KEY).predict(np.full(2, np.nan))
