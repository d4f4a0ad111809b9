"""DAgger: labels of the expert at the learner's states, all rounds together, the same from the same seed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil import ScriptedActor
from veil.control import Predicting, dagger

gymnasium = pytest.importorskip("gymnasium")
STEPS = 6


class Line(gymnasium.Env):
    """x' = x + u from a random place."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-10, 10, (1,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.normal(size=1)
        return self.x.copy(), {}

    def step(self, action):
        self.x = self.x + action
        return self.x.copy(), 0.0, False, False, {}


class Expert:
    """u = -x / 2, in numpy."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return -0.5 * observation, state


EXPERT = Predicting(Expert())


class Learning:
    """u = a x: the least squares of what it is given, but with 1 added the first time, so that it has to learn."""

    def __init__(self):
        self.given = []

    def __call__(self, recording, key):
        data = recording.data("action", "observation")
        self.given.append((len(recording), len(data)))
        slope = float(np.sum(data.query * data.evidence) / np.sum(data.evidence**2)) + (len(recording) == 2)
        return ScriptedActor(lambda seen, key: slope * seen)


def run(out, learn=None, rounds=3, **options):
    return dagger(
        Line, EXPERT, learn or Learning(), rounds=rounds, episodes=2, out=out, seed=0, max_steps=STEPS, **options
    )


def test_the_expert_s_labels_at_the_learner_s_states(tmp_path) -> None:
    learn = Learning()
    found = run(tmp_path / "d", learn)
    assert learn.given == [(2, 12), (4, 24), (6, 36)]
    assert found.recording.parts == ("observation", "action", "played", "expert", "reward", "terminated")
    for row, each in enumerate(found.recording.episodes):
        seen = each.observations["observation"]
        np.testing.assert_allclose(each.actions["action"], -0.5 * seen[:-1])
        np.testing.assert_allclose(np.diff(seen, axis=0), each.actions["played"], atol=1e-12)
        factor = -0.5 + (row in (2, 3))  # the learner after the first round
        np.testing.assert_allclose(each.actions["played"], factor * seen[:-1], rtol=1e-6)
        assert each.actions["expert"].tolist() == [row < 2] * STEPS
    action, _ = found.policy.act((), jnp.ones(1), jax.random.key(0))
    np.testing.assert_allclose(action, [-0.5], rtol=1e-6)


def test_it_goes_on_where_it_was_stopped_and_learns_no_more_than_it_must(tmp_path) -> None:
    whole = run(tmp_path / "whole", beta=lambda number: 0.5)

    class Stopping(Learning):
        def __call__(self, recording, key):
            if len(recording) == 4:
                raise KeyboardInterrupt
            return super().__call__(recording, key)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "part", Stopping(), beta=lambda number: 0.5)
    (tmp_path / "part" / "round_001" / "episode_000001.npz").unlink()
    learn = Learning()
    again = run(tmp_path / "part", learn, beta=lambda number: 0.5)
    assert [count for count, _ in learn.given] == [2, 4, 6]
    for one, other in zip(whole.recording.episodes, again.recording.episodes, strict=True):
        for name in ("action", "played", "expert"):
            np.testing.assert_array_equal(one.actions[name], other.actions[name])
    learn = Learning()
    run(tmp_path / "part", learn, beta=lambda number: 0.5)
    assert [count for count, _ in learn.given] == [6]
    mixed = np.concatenate([each.actions["expert"] for each in list(whole.recording.episodes)[2:]])
    assert 0 < mixed.mean() < 1


def test_gated_by_a_person_only_what_the_expert_did_is_learned(tmp_path) -> None:
    """HG-DAgger: it takes over where the learner would go out of [-1, 1], until that is over."""

    def gate(seen, own, wanted):
        assert isinstance(own, np.ndarray)
        return np.abs(seen + own).item() > 0.3

    found = run(tmp_path / "g", gate=gate, rounds=2)
    folders = [np.load(tmp_path / "g" / "round_001" / f"episode_00000{k}.npz") for k in range(2)]
    over = np.concatenate([each["actions/expert"] for each in folders])
    assert 0 < over.sum() < len(over)
    episodes = list(found.recording.episodes)
    assert [len(each) for each in episodes[:2]] == [STEPS, STEPS]
    assert sum(map(len, episodes[2:])) == over.sum()
    for each in episodes[2:]:
        assert each.actions["expert"].all()
        seen = each.observations["observation"]
        np.testing.assert_allclose(each.actions["action"], -0.5 * seen[:-1])
        np.testing.assert_allclose(np.diff(seen, axis=0), each.actions["action"], atol=1e-12)
    chunks = found.recording.data("action", "observation", horizon=3)  # none goes over a gap
    assert chunks.observed.sum() == sum(sum(min(3, len(each) - t) for t in range(len(each))) for each in episodes)


def test_what_is_no_expert_or_probability(tmp_path) -> None:
    with pytest.raises(TypeError, match="expert: expected an actor"):
        dagger(Line, Expert(), Learning(), rounds=1, episodes=1, out=tmp_path / "x", seed=0)
    with pytest.raises(TypeError, match="learn: expected an actor"):
        run(tmp_path / "y", lambda recording, key: Expert(), rounds=1)
    with pytest.raises(ValueError, match="beta: expected a probability"):
        run(tmp_path / "z", beta=lambda number: 2.0)
