"""Angles that wrap: a policy sees no jump at 2π, in data and when acting; raw angles fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil.data.recorded.recordings import Episode, Recording
from veil.parts import heads

KEY = jax.random.key(0)


def recording(angles, seed=0):
    """A needle, some turns wound up, and its action: back to angle 0 by the sine, as a spring would."""
    rng = np.random.default_rng(seed)
    episodes = []
    for _ in range(20):
        start = 2 * np.pi * rng.integers(-2, 3)  # how a counter of turns happened to begin
        turn = start + rng.uniform(-np.pi, np.pi) + np.cumsum(0.3 * rng.normal(size=21))
        episodes.append(
            Episode({"needle": np.stack([turn, turn * 0 + 1.0], 1)}, {"action": -np.sin(turn[:-1])}, np.ones(20))
        )
    return Recording(episodes, angles=angles)


def policy(angles):
    data = recording(angles).data("action", "needle")
    model = veil.density(veil.Linear(heads.DiagonalGaussian()), trunk=veil.MLP((16,)))
    return veil.Policy(veil.fit(model, data, key=KEY, steps=500), veil.Mean())


def error(policy):
    """The largest error around the circle, at turns that no recording had."""
    turns = np.linspace(0, 2 * np.pi, 40) + 2 * np.pi * 7
    act = jax.jit(lambda turn: policy({"needle": jnp.stack([turn, jnp.ones(())])}, KEY))
    return max(abs(float(np.ravel(act(turn))[0]) + np.sin(turn)) for turn in turns)


def test_a_policy_of_the_angle_works_at_any_turn_and_one_of_the_raw_number_does_not():
    assert error(policy({"needle": [0]})) < 0.15
    assert error(policy({})) > 0.5


def test_the_numbers_are_cosines_and_sines_without_a_jump():
    data = recording({"needle": [0]}).data("action", "needle")
    assert data.evidence_names == ("needle0 cos", "needle0 sin", "needle1")
    raw = recording({}).data("action", "needle").evidence[:, 0]
    np.testing.assert_allclose(data.evidence, np.stack([np.cos(raw), np.sin(raw), np.ones(len(raw))], 1), atol=1e-6)
    view = data.view
    near = [view.seen({"needle": np.array([turn, 1.0])}, np)[0] for turn in (0.001, 2 * np.pi - 0.001)]
    np.testing.assert_allclose(*near, atol=0.0021)


def test_an_angle_that_is_an_action_comes_back():
    one = Episode({"observation": np.zeros((3, 1))}, {"action": np.array([[3.0, 0.5], [-3.0, 0.7]])}, np.ones(2))
    data = Recording([one], angles={"action": [0]}).data("action", "observation")
    assert data.query.shape == (2, 3)
    np.testing.assert_allclose(data.view.action(np.asarray(data.query[1]), np), [-3.0, 0.7], atol=1e-6)


@pytest.mark.parametrize("angles", [{"elbow": True}, {"reward": True}])
def test_unknown_parts_are_named(angles):
    with pytest.raises(ValueError, match=r"angles: .* is no part of the recording that has angles"):
        recording(angles)


@pytest.mark.parametrize("which", [[2], [0, 0], "0", False, [-1]])
def test_unknown_entries_are_named(which):
    with pytest.raises(ValueError, match="angles: expected True, or the numbers of entries of 'needle'"):
        recording({"needle": which}).data("action", "needle")


def test_a_saved_policy_still_knows_its_angles(tmp_path):
    data = recording({"needle": [0]}).data("action", "needle")
    fit = veil.fit(veil.density(veil.Linear(heads.DiagonalGaussian())), data, key=KEY, steps=2)
    assert veil.load(veil.save(tmp_path, fit)).view == data.view
