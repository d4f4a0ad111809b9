"""The replay: windows of what was seen, each step once, with the action that led to it."""

import numpy as np
import pytest

from veil.control.agent.replay import Recent, Replay, Uniform, numbers
from veil.data import Episode, Recording


def episode(begin: int, steps: int) -> Episode:
    """Observation t says begin + t, action t begin + t + .5, reward t ten times that."""
    seen = begin + np.arange(steps + 1.0)[:, None]
    acted = begin + np.arange(steps)[:, None] + 0.5
    frame = np.full((steps + 1, 2, 2, 1), begin, np.uint8)
    return Episode({"observation": seen, "frame": frame}, {"action": acted}, 10 * acted[:, 0], terminated=steps == 3)


EPISODES = [episode(0, 5), episode(100, 3), episode(200, 4)]
QUERY = {"frame": "frame", "observation": "observation", "reward": "reward", "terminated": "terminated"}


def replay() -> Replay:
    found = Replay(Recording(EPISODES).seen_as(QUERY, "action"))
    for each in EPISODES:
        found.add(each)
    return found


def test_windows_are_steps_in_a_row_each_with_what_led_to_it() -> None:
    found = replay()
    assert (len(found), found.episodes) == (15, 3)
    windows = found.windows(np.random.default_rng(0), 200, 4, Uniform())
    seen, reward = windows.query["observation"][..., 0], windows.query["reward"][..., 0]
    begins = set()
    for row in range(200):
        for t in range(4):
            if windows.reset[row, t]:
                assert seen[row, t] in (0, 100, 200)
                assert (windows.evidence[row, t, 0], reward[row, t]) == (0, 0)
            else:
                assert windows.evidence[row, t, 0] == seen[row, t] - 0.5
                assert reward[row, t] == 10 * (seen[row, t] - 0.5)
                assert t == 0 or seen[row, t] == seen[row, t - 1] + 1
            assert windows.query["terminated"][row, t, 0] == (seen[row, t] == 103)
            assert windows.query["frame"][row, t, 0, 0, 0] == seen[row, t] // 100 * 100
        begins.add(float(seen[row, 0]))
    assert begins == {0, 1, 2, 3, 4, 5, 100, 101, 102, 103, 200, 201}  # all that have four steps from there on


def test_they_are_the_data_of_the_recording() -> None:
    """A window as long as all there is holds every step once, as ``Recording.data`` has it."""
    data = Recording(EPISODES).data(QUERY, "action")
    whole = numbers(replay().windows(np.random.default_rng(0), 1, 15, Uniform()))
    there = np.ones((3, 6), bool) if data.mask is None else data.mask
    for name in QUERY:
        np.testing.assert_allclose(whole.query[name][0], data.query[name][there], rtol=1e-6)
    np.testing.assert_allclose(whole.evidence[0], data.evidence[there])
    assert whole.reset[0].nonzero()[0].tolist() == [0, 6, 10]
    assert whole.query["frame"].dtype == np.float32


def test_recent_steps_come_more_often() -> None:
    rng = np.random.default_rng(0)
    begins = Recent(0.5, 10).begins(rng, 20_000, 100)
    assert begins.min() >= 0
    assert begins.max() == 99
    assert abs(np.mean(begins >= 90) - (0.5 + 0.5 * 0.1)) < 0.015
    assert abs(np.mean(Uniform().begins(rng, 20_000, 100) >= 90) - 0.1) < 0.015
    with pytest.raises(ValueError, match="share: expected a share"):
        Recent(1.5)
    with pytest.raises(ValueError, match="window: expected at most the 15 steps"):
        replay().windows(rng, 1, 16, Uniform())
