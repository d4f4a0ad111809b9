"""PushT: the human data's layout, its keypoints in the environment, the protocol's beginnings, and scores."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil import RandomActor
from veil.data import available, load, recording
from veil.data.bundled.pusht import FILE, read_pusht

pytest.importorskip("gymnasium")
from veil.control.worlds import pusht

HUMAN = Path(os.environ.get("VEIL_DATA", "nowhere"), FILE)
human = pytest.mark.skipif(not HUMAN.is_file(), reason="needs pusht_human.npz in the folder that VEIL_DATA names")


@pytest.fixture
def game():
    pytest.importorskip("gym_pusht")
    return pusht.PushT(render_mode="rgb_array")


def small(folder: Path, **other) -> Path:
    """Two episodes of 3 and 4 steps in the layout of the human data."""
    rng = np.random.default_rng(0)
    state = rng.uniform(0, 500, (7, 5)).astype(np.float32)
    parts = {
        "state": state,
        "action": rng.uniform(0, 500, (7, 2)).astype(np.float32),
        "keypoint": pusht.keypoints(state[:, 2:]).astype(np.float32),
        "n_contacts": np.zeros((7, 1), np.int16),
        "episode_ends": np.array([3, 7]),
    }
    np.savez(folder / FILE, **{**parts, **other})
    return folder / FILE


class TestReading:
    def test_steps_are_where_they_belong(self, tmp_path, monkeypatch):
        file = small(tmp_path)
        with np.load(file) as opened:
            raw = dict(opened)
        found = read_pusht(file)
        assert [len(episode) for episode in found.episodes] == [2, 3]
        second = found.episodes[1]
        np.testing.assert_array_equal(second.actions["action"], raw["action"][3:6])
        np.testing.assert_array_equal(second.observations["state"], raw["state"][3:])
        for step in range(4):
            seen = second.observations["observation"][step]
            np.testing.assert_array_equal(seen[:18].reshape(9, 2), raw["keypoint"][3 + step])
            np.testing.assert_array_equal(seen[18:], raw["state"][3 + step, :2])
        data = found.data("action", "observation")
        assert (len(data), data.evidence_shape, data.query_shape) == (5, (20,), (2,))
        monkeypatch.setenv("VEIL_DATA", str(tmp_path))
        np.testing.assert_array_equal(load("pusht").query, data.query)
        assert recording("pusht").name == "pusht"
        assert next(each for each in available() if each.name == "pusht").present

    def test_what_is_missing_is_said_with_the_command(self, tmp_path, monkeypatch):
        monkeypatch.delenv("VEIL_DATA", raising=False)
        for ask in (lambda: recording("pusht"), lambda: load("pusht", folder=tmp_path)):
            with pytest.raises(FileNotFoundError, match=r"pusht.*get it with: curl .*pusht_human\.npz"):
                ask()

    @pytest.mark.parametrize(
        ("other", "words"),
        [({"state": np.zeros((7, 4))}, r"state: expected finite numbers \[7, 5\]"),
         ({"keypoint": np.full((7, 9, 2), np.nan)}, "keypoint: expected finite"),
         ({"episode_ends": np.array([3, 8])}, "episode_ends: expected increasing numbers up to 7"),
         ({"episode_ends": np.array([6, 7])}, "at least 2 apart")],
    )  # fmt: skip
    def test_other_files_are_refused(self, tmp_path, other, words):
        with pytest.raises(ValueError, match=words):
            read_pusht(small(tmp_path, **other))

    def test_no_archive(self, tmp_path):
        (tmp_path / FILE).write_bytes(b"nothing")
        with pytest.raises(ValueError, match="expected the arrays state, action, keypoint"):
            read_pusht(tmp_path / FILE)


@human
def test_keypoints_of_the_human_data_are_those_of_its_poses():
    found = recording("pusht")
    assert len(found) == 206
    seen = np.concatenate([episode.observations["observation"] for episode in found.episodes])
    state = np.concatenate([episode.observations["state"] for episode in found.episodes])
    apart = np.abs(pusht.keypoints(state[:, 2:]).reshape(-1, 18) - seen[:, :18]).max(1)
    assert np.median(apart) < 1e-3
    assert np.quantile(apart, 0.98) < 0.05  # the others were recorded as the T was moved


@human
def test_human_actions_lead_where_they_did(game):
    """What people did in an episode moves agent and T as it was recorded, to rounding of the file."""
    for number in (0, 7):
        episode = recording("pusht").episodes[number]
        game.reset(seed=0)
        place(game, episode.observations["state"][0])
        for step, action in enumerate(episode.actions["action"][:60]):
            seen = game.step(action)[0]
            np.testing.assert_allclose(seen, episode.observations["observation"][step + 1], atol=0.05)


def place(game, state) -> None:
    """Agent and T exactly there, the angle first."""
    inside = game.game
    inside.block.angle = float(state[4])
    inside.block.position = tuple(map(float, state[2:4]))
    inside.agent.position = tuple(map(float, state[:2]))
    inside.space.reindex_shapes_for_body(inside.block)


def test_a_turned_point_by_pencil():
    still, turned = pusht.keypoints(np.array([[10.0, 20.0, 0.0], [10.0, 20.0, np.pi / 2]]))
    np.testing.assert_allclose(still, pusht.POINTS + np.array([[10, 20]]))
    np.testing.assert_allclose(turned, np.stack([10 - pusht.POINTS[:, 1], 20 + pusht.POINTS[:, 0]], 1))


def test_keypoints_lie_on_the_t_of_the_environment(game):
    """Where gym-pusht has its own corners of the T at the same pose."""
    from shapely.geometry import Point, Polygon

    for state in ((100.0, 100.0, 200.0, 250.0, 0.7), (50.0, 300.0, 300.0, 200.0, 4.0)):
        game.reset(seed=0)
        place(game, state)
        inside = game.game
        corners = inside.get_keypoints(inside._block_shapes)
        shapes = [Polygon(corners[:4]), Polygon(corners[4:])]
        apart = [
            min(shape.distance(Point(point)) for shape in shapes) for point in pusht.keypoints(np.array(state[2:]))
        ]
        assert max(apart) < 3.5  # they were chosen among pixels of a picture, at its edges


def test_an_episode_begins_as_those_of_the_protocol(game):
    state = pusht.beginning(100000)
    assert ((state[:2] >= 50) & (state[:2] < 450) & (state[2:4] >= 100) & (state[2:4] < 400)).all()
    seen, info = game.reset(seed=100000)
    assert (seen.shape, seen.dtype, info) == ((20,), np.float32, {})
    np.testing.assert_allclose(seen[18:], state[:2])
    # the T is turned about its centre of mass, at (0, 45) of it, and so its place is moved
    angle, centre = state[4], np.array([0.0, 45.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    pose = np.append(state[2:4] + centre - turn @ centre, angle)
    np.testing.assert_allclose(seen[:18].reshape(9, 2), pusht.keypoints(pose), atol=1e-3)
    np.testing.assert_array_equal(game.reset(seed=100000)[0], seen)
    assert not np.array_equal(game.reset(seed=100001)[0], seen)


def test_gymnasium_finds_no_fault(game):
    from gymnasium.utils.env_checker import check_env

    made = pusht.gymnasium.make("veil.control.worlds:veil/PushT-v0", render_mode="rgb_array")
    assert made.spec.max_episode_steps == pusht.STEPS
    with pytest.warns(UserWarning, match="symmetric"):
        check_env(made.unwrapped)
    game.reset(seed=0)
    before = game.render()
    game.step(np.array([500.0, 500.0]))
    assert before.shape == (680, 680, 3)
    assert (game.render() != before).any()


def test_scores_are_the_best_reward_of_each_episode(game):
    seeds, steps = (100000, 100003, 7), 12
    actor = RandomActor(jnp.zeros(2), jnp.full(2, 512.0))
    found = pusht.pusht_scores(actor, jax.random.key(0), seeds, steps)
    _, key_act = jax.random.split(jax.random.key(0))
    for i, seed in enumerate(seeds):
        seen, _ = game.reset(seed=seed)
        best = 0.0
        for step in range(steps):
            key = jax.random.split(jax.random.fold_in(key_act, np.uint32(step)), 3)[i]
            seen, reward, *_ = game.step(np.asarray(actor.act((), seen, key)[0]))
            best = max(best, reward)
        assert found[i] == pytest.approx(best, abs=1e-4)


def test_an_actor_without_an_action_is_refused(game):
    for bad in (jnp.full(2, jnp.nan), jnp.zeros(3)):
        with pytest.raises(ValueError, match=r"actor: expected finite actions of shape \(2,\)"):
            pusht.pusht_scores(RandomActor(bad, bad), jax.random.key(0), (1, 2), 2)
