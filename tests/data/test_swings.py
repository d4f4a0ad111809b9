"""The bundled pendulum: its states obey the equations of motion under its actions, its pictures show the angle."""

import numpy as np

from veil.data import pendulum


def test_states_follow_from_actions():
    data = pendulum().data("observation", "action")
    state, torque = np.asarray(data.query, float), np.clip(np.asarray(data.evidence, float)[..., 0], -2, 2)
    angle, speed = np.arctan2(state[..., 1], state[..., 0]), state[..., 2]
    faster = np.clip(speed[:, :-1] + 0.05 * (15.0 * np.sin(angle[:, :-1]) + 3.0 * torque[:, 1:]), -8, 8)
    np.testing.assert_allclose(speed[:, 1:], faster, atol=1e-4)
    further = angle[:, :-1] + 0.05 * faster
    np.testing.assert_allclose(state[:, 1:, 0], np.cos(further), atol=1e-4)
    np.testing.assert_allclose(state[:, 1:, 1], np.sin(further), atol=1e-4)


def test_pictures_show_the_angle():
    recording = pendulum()
    dark = 1 - recording.data("frame").query.mean(-1)
    state = recording.data("observation").query
    place = np.arange(16) - 7.5
    up = -(dark * place[:, None]).sum((2, 3)) / dark.sum((2, 3))
    left = -(dark * place).sum((2, 3)) / dark.sum((2, 3))
    for seen, true in ((up, state[..., 0]), (left, state[..., 1])):
        assert np.corrcoef(seen.ravel(), true.ravel())[0, 1] > 0.98
