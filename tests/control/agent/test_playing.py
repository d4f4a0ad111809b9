"""Playing: episodes side by side, of frames, with actions that last."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from veil import ScriptedActor
from veil.control.agent.playing import play
from veil.control.preparing import prepared

gymnasium = pytest.importorskip("gymnasium")


class Counting(gymnasium.Env):
    """It sees how many steps were taken, earns the action, and ends after ``limit`` of its own steps."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    render_mode = "rgb_array"

    def __init__(self, limit: int = 7) -> None:
        self.limit, self.taken, self.begun = limit, 0, 0.0
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)  # each has its own random numbers

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.taken, self.begun = 0, float(self.np_random.uniform())
        return self._seen(), {}

    def _seen(self) -> np.ndarray:
        return np.array([self.taken + self.begun], np.float32)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.taken += 1
        return self._seen(), float(action[0]), self.taken >= self.limit, False, {}

    def render(self) -> np.ndarray:
        return np.full((20, 40, 3), [30 * self.taken, 0, 0], np.uint8)


def halves(observation: Any, key: Any) -> Any:
    return jnp.full(1, 0.5)


def test_actions_last_in_every_episode() -> None:
    """Three steps each, and what is left of the episode: also in the second episode, and after a cut."""
    env = prepared(Counting(), repeat=3)
    for _ in range(2):
        start = env.reset(seed=1)[0][0]
        found = [env.step(np.array([0.5], np.float32)) for _ in range(3)]
        assert [round(float(each[0][0] - start)) for each in found] == [3, 6, 7]
        assert [each[1] for each in found] == [1.5, 1.5, 0.5]
        assert [each[2] for each in found] == [False, False, True]
        assert [each[4]["steps"] for each in found] == [3, 3, 1]


def test_frames_are_what_is_there_after_the_action() -> None:
    env = prepared(Counting(), frames=4, repeat=2)
    assert env.reset(seed=0)[0]["frame"].tolist() == np.zeros((4, 4, 3), int).tolist()
    seen = env.step(np.array([0.5], np.float32))[0]
    assert seen["frame"].shape == (4, 4, 3)
    np.testing.assert_array_equal(seen["frame"], np.broadcast_to([60, 0, 0], (4, 4, 3)))
    assert env.observation_space.contains(seen)
    grey = prepared(Counting(), frames=4, grey=True)
    grey.reset(seed=0)
    assert grey.step(np.array([0.5], np.float32))[0]["frame"].tolist() == np.full((4, 4, 1), 10).tolist()


def test_environments_that_cannot_be_prepared() -> None:
    with pytest.raises(ValueError, match='frames need an environment with render_mode="rgb_array"'):
        prepared(gymnasium.make("Pendulum-v1"), frames=8)
    with pytest.raises(ValueError, match="repeat"):
        prepared("Pendulum-v1", repeat=0)
    with pytest.raises(TypeError, match="a name or a Gymnasium environment; got a int"):
        prepared(3)
    with pytest.raises(ValueError, match="env: "):
        prepared("Pendulum-v77")


def test_episodes_do_not_depend_on_what_is_played_beside_them() -> None:
    """Of different lengths, too; and what stands where: o_0, then for each action what it led to and earned."""

    def drawing(observation: Any, key: Any) -> Any:
        import jax

        return jax.random.uniform(key, (1,), minval=-1.0)

    actor = ScriptedActor(drawing)
    worlds = [Counting(3), Counting(7), Counting(5)]
    together = play(worlds, actor, range(3), 4)
    assert [len(each) for each in together] == [3, 7, 5]
    alone = [play([world], actor, [number], 4)[0] for number, world in enumerate(worlds)]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.observations["observation"], other.observations["observation"])
        np.testing.assert_allclose(one.actions["action"], other.actions["action"], atol=1e-6)
        np.testing.assert_allclose(one.rewards, one.actions["action"][:, 0], atol=1e-6)
        np.testing.assert_allclose(np.diff(one.observations["observation"][:, 0]), 1.0, atol=1e-5)
        assert one.terminated
        assert one.infos["steps"].tolist() == [1] * len(one)
    assert not np.allclose(together[0].actions["action"][:3], together[1].actions["action"][:3])
    random = play(worlds, None, range(3), 4)
    again = play(worlds[2:], None, [2], 4)
    np.testing.assert_array_equal(random[2].actions["action"], again[0].actions["action"])


def test_more_episodes_than_environments() -> None:
    found = play([Counting(2), Counting(2)], ScriptedActor(halves), range(3), 0)
    assert [float(each.rewards.sum()) for each in found] == [1.0, 1.0, 1.0]
    assert len({float(each.observations["observation"][0, 0]) for each in found}) == 3


def test_observations_that_are_no_numbers_are_refused() -> None:
    class Broken(Counting):
        def _seen(self) -> np.ndarray:
            return np.array([np.nan if self.taken == 1 else 0.0], np.float32)

    with pytest.raises(ValueError, match="an observation holds NaN at step 1 of episode 5"):
        play([Broken()], ScriptedActor(halves), [5], 0)
