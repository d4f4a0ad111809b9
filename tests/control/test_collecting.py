"""Collecting: episodes of environments, by any actor, reproducible and whole whatever stops them."""

import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil import Actor, RandomActor, ScriptedActor, collect
from veil.control import collecting
from veil.data import read, recording, windows


def test_collecting_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium")
    whole = collect("CartPole-v1", 4, out=tmp_path / "whole", seed=3, max_steps=20)

    def stop(done: int, total: int, words: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect("CartPole-v1", 4, out=tmp_path / "part", seed=3, max_steps=20, watch=stop)
    assert len(recording(tmp_path / "part")) == 2
    again = collect("CartPole-v1", 4, out=tmp_path / "part", seed=3, max_steps=20)
    for one, other in zip(whole.episodes, again.episodes, strict=True):
        np.testing.assert_array_equal(one.observations["observation"], other.observations["observation"])
        np.testing.assert_array_equal(one.actions["action"], other.actions["action"])
    assert not np.array_equal(whole.episodes[0].actions["action"], whole.episodes[1].actions["action"])
    with pytest.raises(ValueError, match="seed 3 in place of 4; ask for the same to go on"):
        collect("CartPole-v1", 4, out=tmp_path / "part", seed=4, max_steps=20)
    anew = collect("CartPole-v1", 1, out=tmp_path / "part", seed=4, max_steps=20, force=True)
    assert len(anew) == 1


def test_a_collection_replays(tmp_path: Path) -> None:
    """The observations are those that the environment gives for the actions from the seed."""
    gymnasium = pytest.importorskip("gymnasium")
    found = collect("Pendulum-v1", 2, out=tmp_path / "p", seed=0, max_steps=30)
    env = gymnasium.make("Pendulum-v1")
    for each in found.episodes:
        assert (len(each), each.truncated, each.terminated) == (30, True, False)
        seen = [env.reset(seed=each.seed)[0]]
        rewards = []
        for action in each.actions["action"]:
            observation, reward, *_ = env.step(action)
            seen.append(observation)
            rewards.append(reward)
        np.testing.assert_array_equal(each.observations["observation"], np.stack(seen))
        np.testing.assert_allclose(each.rewards, rewards)
    data = read(tmp_path / "p", query=["observation", "reward"], evidence="action")
    assert data.query_names == ("observation0", "observation1", "observation2", "reward")
    cut = windows(data, 10).query
    assert {name: leaf.shape for name, leaf in cut.items()} == {"observation": (8, 10, 3), "reward": (8, 10, 1)}


def test_a_policy_and_an_environment_of_ones_own(tmp_path: Path) -> None:
    gymnasium = pytest.importorskip("gymnasium")

    class Counter(gymnasium.Env):
        observation_space = gymnasium.spaces.Dict(
            {"count": gymnasium.spaces.Discrete(5), "words": gymnasium.spaces.Text(4)}
        )
        action_space = gymnasium.spaces.Tuple((gymnasium.spaces.Discrete(2), gymnasium.spaces.Box(0, 1, (1,))))
        held = np.zeros((), int)

        def reset(self, *, seed=None, options=None):
            self.held[...] = 0
            return {"count": self.held, "words": "go"}, {}

        def step(self, action):
            self.held += action[0]  # the same array again and again
            return {"count": self.held, "words": "go"}, 1.0, bool(self.held == 3), False, {}

    def script(seen, key):
        assert set(seen) == {"count"}  # no text
        return 1, jax.random.uniform(key, (1,))

    found = collect(Counter(), 1, out=tmp_path / "c", seed=0, policy=ScriptedActor(script))
    assert found.parts == ("count", "_index_0", "_index_1", "reward", "terminated")
    data = found.data(evidence=["_index_0", "_index_1"])
    np.testing.assert_array_equal(data.query[0], np.eye(5)[:4])
    np.testing.assert_array_equal(data.evidence[0, :, :2], [[0, 0], [0, 1], [0, 1], [0, 1]])
    assert found.episodes[0].terminated
    with pytest.raises(ValueError, match='frames need an environment with render_mode="rgb_array"'):
        collect(Counter(), 1, out=tmp_path / "d", seed=0, frames=8)


def actions_of(found) -> list[np.ndarray]:
    return [each.actions["action"] for each in found.episodes]


class Held(Actor):
    """One action drawn for an episode, and how many steps it has been held: what a memory is for."""

    def init(self, key):
        return jax.random.uniform(key, (1,), minval=-2.0, maxval=2.0), jnp.zeros((), int)

    def act(self, memory, observation, key):
        action, step = memory
        return action + 0.01 * step, (action, step + 1)


def test_an_actors_memory_lasts_an_episode(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium")
    found = actions_of(collect("Pendulum-v1", 2, out=tmp_path / "h", seed=0, max_steps=5, policy=Held()))
    for each in found:
        assert each.dtype == np.float32
        np.testing.assert_allclose(np.diff(each, axis=0), 0.01, atol=1e-6)
    assert abs(float(found[0][0, 0] - found[1][0, 0])) > 1e-3


def test_keys_follow_from_seed_episode_and_step(tmp_path: Path) -> None:
    """The same call makes the same recording, whole or in parts; each episode, step and seed has its own numbers."""
    pytest.importorskip("gymnasium")
    actor = RandomActor(jnp.full(1, -2.0), jnp.full(1, 2.0))
    options = {"max_steps": 6, "policy": actor}
    whole = actions_of(collect("Pendulum-v1", 3, out=tmp_path / "a", seed=1, **options))
    collect("Pendulum-v1", 1, out=tmp_path / "b", seed=1, **options)
    parts = actions_of(collect("Pendulum-v1", 3, out=tmp_path / "b", seed=1, **options))
    np.testing.assert_array_equal(np.stack(parts), np.stack(whole))
    other = actions_of(collect("Pendulum-v1", 3, out=tmp_path / "c", seed=2, **options))
    assert len(np.unique(np.concatenate([np.stack(whole), np.stack(other)]))) == 36
    with pytest.raises(ValueError, match="policy 'RandomActor' in place of 'Held'"):
        collect("Pendulum-v1", 3, out=tmp_path / "a", seed=1, max_steps=6, policy=Held())


def test_a_fitted_policy_plays_what_it_was_shown(tmp_path: Path) -> None:
    """From demonstrations to a policy to its own recording: whole numbers where the environment has choices."""
    pytest.importorskip("gymnasium")
    rng = np.random.default_rng(0)
    seen = rng.uniform(-0.2, 0.2, (201, 4))
    shown = veil.data.trajectories([{"obs": seen, "acts": (seen[:-1, 2] > 0).astype(int)}], {"action": range(2)})
    data = shown.data("action", "observation")
    model = veil.density(veil.Linear(veil.heads.Bernoulli()))
    fit = veil.fit(model, data, key=jax.random.key(0), steps=400)
    policy = veil.Policy(fit, veil.Likeliest())
    found = collect("CartPole-v1", 1, out=tmp_path / "p", seed=0, max_steps=30, policy=policy)
    (each,) = found.episodes
    assert np.issubdtype(each.actions["action"].dtype, np.integer)
    likelier = veil.predict(fit, each.observations["observation"][:-1]).mean > 0.5
    np.testing.assert_array_equal(each.actions["action"], likelier[:, 1])


def test_what_is_no_actor_or_acts_in_another_shape(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium")
    with pytest.raises(TypeError, match=r"^policy: expected an actor"):
        collect("Pendulum-v1", 1, out=tmp_path / "x", seed=0, policy=lambda seen, key: jnp.zeros(1))
    with pytest.raises(ValueError, match=r"^policy: expected actions of shape \(1,\); got \(2,\)"):
        collect("Pendulum-v1", 1, out=tmp_path / "y", seed=0, policy=RandomActor(jnp.zeros(2), jnp.ones(2)))


def test_frames_are_what_is_rendered(tmp_path: Path) -> None:
    gymnasium = pytest.importorskip("gymnasium")
    pytest.importorskip("pygame")
    image = pytest.importorskip("PIL.Image")
    found = collect("CartPole-v1", 1, out=tmp_path / "f", seed=0, frames=32, max_steps=3)
    first = found.episodes[0]
    frames = first.observations["frame"]
    assert (frames.shape, frames.dtype) == ((4, 32, 32, 3), np.uint8)
    env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=first.seed)
    for frame, action in zip(frames, [*first.actions["action"], None], strict=True):
        large = np.asarray(image.fromarray(env.render()).resize((32, 32), image.Resampling.BOX), float)
        assert np.mean(np.abs(large - frame)) < 3
        assert large.std() > 5
        if action is not None:
            env.step(action)
    env.close()
    data = found.data(evidence="action")
    np.testing.assert_allclose(data.query[0], frames / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"env": "CartPoll-v1"}, ValueError, "env: .*CartPoll"),
        ({"episodes": 0}, ValueError, "episodes must be a positive integer"),
        ({"frames": -1}, ValueError, "frames must be a positive integer"),
        ({"seed": -1}, ValueError, "seed must be an integer that is not negative"),
    ],
)
def test_what_cannot_be_collected(tmp_path: Path, options: dict, kind: type, message: str) -> None:
    pytest.importorskip("gymnasium")
    with pytest.raises(kind, match=message):
        collect(**{"env": "CartPole-v1", "episodes": 1, "out": tmp_path / "x", "seed": 0, **options})
    assert not (tmp_path / "x").exists()


def test_nothing_else_is_overwritten(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium")
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(FileExistsError, match="holds other things"):
        collect("CartPole-v1", 1, out=tmp_path, seed=0, force=True)
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("missing", "env", "command"),
    [
        ("pygame", "CartPole-v1", "veil[control]"),
        ("gymnasium", "CartPole-v1", "veil[control]"),
        ("mujoco", "HalfCheetah-v5", "gymnasium[mujoco]"),
    ],
)
def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch, missing: str, env: str, command: str) -> None:
    import sys

    pytest.importorskip("gymnasium")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        collect(env, 1, out=tmp_path / "x", seed=0, frames=8)
    assert command in str(caught.value)


def test_small_pictures_of_mujoco_follow_the_body() -> None:
    """As gymnasium makes it the camera stands still, and the body runs out of the picture."""
    gymnasium, mujoco = pytest.importorskip("gymnasium"), pytest.importorskip("mujoco")
    world = collecting._make(gymnasium, "HalfCheetah-v5", 8, None)
    model, camera = world.unwrapped.model, world.unwrapped.mujoco_renderer.camera_id
    assert model.cam_mode[camera] == mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM
    assert not model.light_castshadow.any()
    world.close()


def test_a_damaged_episode_is_named(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium")
    collect("CartPole-v1", 2, out=tmp_path / "c", seed=0, max_steps=3)
    file = tmp_path / "c" / "episode_000001.npz"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"episode_000001\.npz is not a whole episode"):
        read(tmp_path / "c")
    (tmp_path / "c" / "collection.json").write_text("{}")
    with pytest.raises(ValueError, match="expected format 'veil collection'"):
        read(tmp_path / "c")
    assert zipfile.is_zipfile(tmp_path / "c" / "episode_000000.npz")
