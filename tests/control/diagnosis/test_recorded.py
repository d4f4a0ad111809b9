"""Faults that a recording shows by itself, planted and named; and replays that are not what was recorded."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from veil.control.agent.models import query
from veil.control.agent.replay import Replay
from veil.control.diagnosis import recorded
from veil.control.diagnosis.findings import (
    ACTION_SHIFTED,
    COPIES,
    DOUBT,
    FAULT,
    FINE,
    LEAKED,
    NOISE_REPORTED,
    REPEAT_LOST,
    REPLAY_DIFFERS,
    RESET_MISSING,
    RETURNS_DIFFER,
    TRUNCATION,
    UNKNOWN,
)
from veil.control.diagnosis.lagged import shifted
from veil.control.diagnosis.replayed import replay_checks
from veil.data import Episode, Recording
from veil.model import Datum

LIMIT = 60


def said(found: Any) -> tuple[str, str]:
    return found.name, found.severity


def changed(recording: Recording, **options: Any) -> Recording:
    """The recording with other fields in each episode: functions of it."""
    every = [replace(each, **{name: one(each) for name, one in options.items()}) for each in recording.episodes]
    return replace(recording, episodes=every)


def cut(episode: Episode, begin: int, steps: int) -> Episode:
    """A stretch of an episode."""
    seen = {name: each[begin : begin + steps + 1] for name, each in episode.observations.items()}
    done = {name: each[begin : begin + steps] for name, each in episode.actions.items()}
    return Episode(seen, done, episode.rewards[begin : begin + steps], truncated=True)


@pytest.mark.parametrize("by", [-1, 0, 1])
def test_actions_one_step_off(recording: Recording, by: int) -> None:
    """Recorded a step late or early, of which random actions leave no doubt."""
    view = recording.seen_as(query({"observation": (3,)}), "action")
    rolled = changed(recording, actions=lambda each: {"action": np.roll(each.actions["action"], by, 0)})
    assert said(shifted(rolled, view, random=6)) == (ACTION_SHIFTED, FAULT if by else FINE)
    if by == 1:  # what a policy does next tells what it saw
        assert said(shifted(rolled, view)) == (ACTION_SHIFTED, DOUBT)
    few = replace(rolled, episodes=rolled.episodes[:2])
    assert said(shifted(few, view)) == (ACTION_SHIFTED, UNKNOWN)


def test_a_limit_of_time_is_no_end(recording: Recording) -> None:
    wrong = changed(recording, terminated=lambda each: True, truncated=lambda each: False)
    for limit, severity in ((LIMIT, FAULT), (None, DOUBT)):  # where no limit is known, episodes may end there
        assert said(recorded.ends(wrong, limit)) == (TRUNCATION, severity)
        assert said(recorded.ends(recording, limit)) == (TRUNCATION, FINE)
    lengths = iter((3, 9, 14, 30, 30, 30))  # most come to the limit, some fall before
    mixed = replace(recording, episodes=[cut(each, 0, next(lengths)) for each in recording.episodes])
    some = changed(mixed, terminated=lambda each: len(each) < 30, truncated=lambda each: len(each) == 30)
    assert said(recorded.ends(some, None)) == (TRUNCATION, FINE)


def test_windows_that_overlap_are_copies(recording: Recording) -> None:
    windows = [cut(each, begin, 10) for each in recording.episodes for begin in (0, 5, 10)]
    assert said(recorded.copies(replace(recording, episodes=windows))) == (COPIES, FAULT)
    twice = replace(recording, episodes=[*recording.episodes, recording.episodes[2]])
    assert said(recorded.copies(twice)) == (COPIES, FAULT)
    assert said(recorded.copies(recording)) == (COPIES, FINE)
    still = [Episode({"observation": np.zeros((9, 2))}, {"action": np.zeros((8, 1))}, np.zeros(8))] * 2
    assert said(recorded.copies(Recording(still))) == (COPIES, FINE)  # nothing moves: nothing can be told


def test_repeats_that_are_lost(recording: Recording) -> None:
    """Told by the steps that each action took, and where that is not known by nobody."""
    first = recording.episodes[0]
    infos = lambda each: {"steps": np.full(len(each), 2 if each is first else 1)}  # noqa: E731
    lost = changed(recording, infos=infos)
    assert said(recorded.repeats(lost, None)) == (REPEAT_LOST, FAULT)
    assert "5 of 6 episodes, the first number 1, do actions 1 times, not 2" in recorded.repeats(lost, 2).evidence
    assert said(recorded.repeats(recording, 2)) == (REPEAT_LOST, FINE)
    assert said(recorded.repeats(recording, 4)) == (REPEAT_LOST, FAULT)
    short = changed(recording, infos=lambda each: {"steps": np.array([2] * (len(each) - 1) + [1])})
    assert said(recorded.repeats(short, None)) == (REPEAT_LOST, FINE)  # an end within an action
    assert said(recorded.repeats(changed(recording, infos=lambda each: {}), None)) == (REPEAT_LOST, UNKNOWN)


def test_returns_of_learning_are_none_of_the_skill(recording: Recording, fresh: Recording) -> None:
    own, other = recorded.sums(recording), recorded.sums(fresh)
    assert said(recorded.reported(recording, own[-3:])) == (NOISE_REPORTED, FAULT)
    assert said(recorded.reported(recording, other)) == (NOISE_REPORTED, FINE)
    assert said(recorded.reported(recording, None)) == (NOISE_REPORTED, UNKNOWN)
    assert said(recorded.returns(recording, own)) == (RETURNS_DIFFER, FINE)
    assert said(recorded.returns(recording, own + np.eye(6)[4])) == (RETURNS_DIFFER, FAULT)
    assert said(recorded.returns(recording, np.append(own, 1.0))) == (RETURNS_DIFFER, FAULT)


# -- replays as somebody might write them ------------------------------------------------------------------------------


def moved(tree: Any, by: int) -> Any:
    return tree if tree is None else {name: np.roll(each, by, 1) for name, each in tree.items()}


class Late(Replay):
    def windows(self, *args: Any) -> Datum:
        found = super().windows(*args)
        return replace(found, evidence=np.roll(found.evidence, 1, 1))


class Leaking(Replay):
    """It shows the frame that is to come."""

    def windows(self, rng: Any, size: int, length: int, sampling: Any) -> Datum:
        found = super().windows(rng, size, length + 1, sampling)
        query = {**found.query, "observation": found.query["observation"][:, 1:]}
        query = {name: each[:, :length] for name, each in query.items()}
        return Datum(query, found.evidence[:, :length], reset=found.reset[:, :length])


class Unmarked(Replay):
    def windows(self, *args: Any) -> Datum:
        found = super().windows(*args)
        return replace(found, reset=np.zeros_like(found.reset))


class Ending(Replay):
    """A limit of time is an end."""

    def add(self, episode: Episode) -> None:
        super().add(replace(episode, terminated=episode.terminated or episode.truncated))


class Twice(Replay):
    def add(self, episode: Episode) -> None:
        for begin in range(0, len(episode) - 9, 5):
            super().add(cut(episode, begin, 10))


class Unpaid(Replay):
    def windows(self, *args: Any) -> Datum:
        found = super().windows(*args)
        return replace(found, query={**found.query, "reward": 0 * found.query["reward"]})


FAULTY = {
    Late: ACTION_SHIFTED,
    Leaking: LEAKED,
    Unmarked: RESET_MISSING,
    Ending: TRUNCATION,
    Twice: COPIES,
    Unpaid: REPLAY_DIFFERS,
    Replay: None,
}


@pytest.mark.parametrize("replay", list(FAULTY))
def test_replays(recording: Recording, replay: Any) -> None:
    view = recording.seen_as(query({"observation": (3,)}), "action")
    found = replay_checks(recording.episodes[:3], view, replay)
    names = {each.name for each in found if each.severity == FAULT}
    wanted = FAULTY[replay]
    assert wanted in names if wanted else not names
    if replay not in (Twice, Leaking):  # of which other things are wrong, too
        assert len(names) == (wanted is not None)
