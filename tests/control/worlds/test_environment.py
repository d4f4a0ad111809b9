"""Worlds as environments of Gymnasium: its own check, pictures, and the same numbers as the JAX code."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil import ScriptedActor, collect
from veil.control.worlds import Slalom, Tree, drive, tree
from veil.control.worlds.drawing import DISC, HERE, PATH, draw

gymnasium = pytest.importorskip("gymnasium")
NAMES = ("veil/Tree-v0", "veil/Slalom-v0")


@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_finds_no_fault(name):
    from gymnasium.utils.env_checker import check_env

    env = gymnasium.make(f"veil.control.worlds:{name}", render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(symmetric and normalized|not on the recommended).*")
        check_env(env.unwrapped)


@pytest.mark.parametrize(("name", "world"), [(NAMES[0], Tree()), (NAMES[1], Slalom())])
def test_an_episode_is_that_of_the_jax_code(name, world):
    """The same key and the same actions, step by step."""
    env = gymnasium.make(name).unwrapped
    action = {"veil/Tree-v0": jnp.array([0.4]), "veil/Slalom-v0": jnp.array([0.07, 0.09])}[name]
    for seed in (0, 1):
        seen, info = env.reset(seed=seed)
        found = jax.jit(lambda key: drive(world, lambda seen, key: action, key))(env.key)
        assert info == {}
        for step in range(int(found.length)):
            np.testing.assert_allclose(seen, found.states[step], rtol=1e-6, atol=1e-6)
            assert env.observation_space.contains(seen)
            seen, reward, terminated, truncated, info = env.step(np.asarray(action))
            assert reward == float(found.rewards[step])
        assert (terminated, truncated) == (bool(found.terminated), not bool(found.terminated))
        end = found.ending
        assert info == {
            "success": bool(end.success), "hit": bool(end.hit), "out": bool(end.out), "passed": bool(end.passed),
            "outcome": int(end.outcome),
        }  # fmt: skip
        with pytest.raises(gymnasium.error.ResetNeeded, match="over"):
            env.step(np.asarray(action))


def test_a_demonstrator_succeeds_there_and_a_limit_of_time_cuts_off():
    env = gymnasium.make("veil/Tree-v0", noise=0.0)
    act = tree.Demonstrator(Tree(), 1.0)
    seen, _ = env.reset(seed=3)
    over = False
    while not over:
        seen, reward, over, cut, info = env.step(np.asarray(act(jnp.asarray(seen), jax.random.key(0))))
        assert not cut
    assert (info["success"], info["outcome"], reward) == (True, 1, 1.0)
    slow = gymnasium.make("veil/Slalom-v0", steps=3)
    slow.reset(seed=0)
    ends = [slow.step(np.zeros(2, np.float32))[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


@pytest.mark.parametrize(("name", "shape"), [("veil/Tree-v0", (154, 384, 3)), ("veil/Slalom-v0", (384, 341, 3))])
def test_pictures_change_with_the_path(name, shape):
    pytest.importorskip("PIL")
    env = gymnasium.make(name, render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    assert (before.shape, before.dtype) == (shape, np.uint8)
    env.step(env.action_space.high)
    env.step(env.action_space.high)
    assert (env.render() != before).any(-1).sum() > 20


def test_a_picture_shows_things_where_they_are():
    pytest.importorskip("PIL")
    path = np.array([[-1.5, 0.5, 0, 0], [1.5, 0.5, 0, 0]])
    image = draw(Slalom().scene(), path, side=450)  # 100 pixels a unit; the corner (-2, 4) is at row 0, column 0
    assert tuple(image[300, 200]) == DISC  # the first cylinder at (0, 1)
    assert tuple(image[100, 100]) == DISC  # the left one of the last row at (-1, 3)
    assert tuple(image[350, 200]) == PATH
    assert tuple(image[350, 350]) == HERE
    assert tuple(image[350, 30]) != PATH


def test_several_side_by_side():
    envs = gymnasium.make_vec("veil/Tree-v0", num_envs=3, vectorization_mode="sync")
    seen, _ = envs.reset(seed=0)
    assert seen.shape == (3, 3)
    assert len(np.unique(seen[:, 0])) == 3
    assert envs.step(envs.action_space.sample())[0].shape == (3, 3)
    envs.close()


def test_collected_by_name(tmp_path):
    policy = ScriptedActor(tree.Demonstrator(Tree(), -1.0))
    found = collect("veil/Tree-v0", 3, out=tmp_path / "drives", seed=0, policy=policy)
    assert [episode.rewards.sum() for episode in found.episodes] == [1, 1, 1]
    assert found.data("action", "observation").evidence_shape == (3,)
