"""What the recording of a run says by itself: ends, copies, repeats, returns. Exact, and in need of no model."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from veil.control.diagnosis.findings import (
    COPIES,
    DOUBT,
    FAULT,
    FINE,
    NOISE_REPORTED,
    REPEAT_LOST,
    RETURNS_DIFFER,
    TRUNCATION,
    UNKNOWN,
    Finding,
)
from veil.data import Episode, Recording

COPIED = 0.02  # of the steps: more copies than that are a fault
ROW = 3  # steps in a row that are a copy together: single ones may be alike by chance


def taken(episode: Episode) -> int | None:
    """How many of the environment's own steps an episode took; None where it does not say."""
    return int(np.sum(episode.infos["steps"])) if "steps" in episode.infos else None


def ends(recording: Recording, limit: int | None) -> Finding:
    """Whether episodes that a limit of time cut off are said to have ended. ``limit``: in the environment's steps."""
    every = list(recording.episodes)
    lengths = [len(each) if (own := taken(each)) is None else own for each in every]
    known = limit is not None
    bound = limit if limit is not None else max(lengths)
    at = [each for each, length in zip(every, lengths, strict=True) if length >= bound]
    wrong = [each for each in at if each.terminated and not each.truncated]
    cut = sum(each.truncated for each in every)
    words = (
        f"{len(wrong)} of {len(at)} episodes of {bound} steps, {'the limit' if known else 'the longest'}, terminated"
    )
    help = (
        "record what the environment says, terminated and truncated apart: a value goes on behind a limit of time"
        + ("" if known else "; if episodes do end there, it is right")
    )
    if known and wrong and len(wrong) > len(at) / 2:
        return Finding(TRUNCATION, FAULT, words, help)
    if not known and len(wrong) >= 2 and len(wrong) == len(at) and not cut:
        return Finding(TRUNCATION, DOUBT, f"{words}, and none of {len(every)} was truncated", help)
    return Finding(TRUNCATION, FINE, f"{words}; {cut} of {len(every)} were truncated")


def repeats(recording: Recording, repeat: int | None) -> Finding:
    """Whether every action but an episode's last was done as often in all episodes. ``repeat``: how often, if known."""
    every = [np.asarray(each.infos["steps"]) for each in recording.episodes if "steps" in each.infos]
    if len(every) < len(recording):
        return Finding(REPEAT_LOST, UNKNOWN, 'the recording does not say how often actions were done (info "steps")')
    whole = every[0][:-1] if len(every[0]) > 1 else every[0]
    wanted = repeat or int(np.median(whole))
    # the last action of an episode may be cut short
    odd = [number for number, steps in enumerate(every) if np.any(steps[:-1] != wanted) or steps[-1] > wanted]
    help = "wrap the environment so that an action lasts in every episode (veil.control.prepared), and collect again"
    if odd:
        found = Counter(np.concatenate([every[number][:-1] for number in odd]).tolist()).most_common(1)
        times = found[0][0] if found else "?"
        words = (
            f"{len(odd)} of {len(every)} episodes, the first number {odd[0]}, do actions {times} times, not {wanted}"
        )
        return Finding(REPEAT_LOST, FAULT, words, help)
    cut = [int(np.sum(steps)) for steps, each in zip(every, recording.episodes, strict=True) if each.truncated]
    if len(set(cut)) > 1:
        words = f"episodes that were cut off took {min(cut)} to {max(cut)} steps"
        return Finding(REPEAT_LOST, DOUBT, f"{words}, though each action is said to last {wanted}", help)
    return Finding(REPEAT_LOST, FINE, f"every action of {len(every)} episodes was done {wanted} times")


def _steps(episode: Episode) -> list[bytes]:
    """Each step as bytes: what was seen, done, earned, and seen after it."""
    seen = [np.ascontiguousarray(each) for _, each in sorted(episode.observations.items())]
    done = [np.ascontiguousarray(each) for _, each in sorted(episode.actions.items())]
    rewards = np.asarray(episode.rewards)

    def one(t: int) -> bytes:
        parts = [each[t] for each in seen] + [each[t] for each in done] + [rewards[t]] + [each[t + 1] for each in seen]
        return b"|".join(np.asarray(part).tobytes() for part in parts)

    return [one(t) for t in range(len(episode))]


def copies(recording: Recording) -> Finding:
    """Whether steps of one episode are in another, or again in the same one: windows that overlap, an episode twice.

    A step is a copy where it and those after it, three in a row, are elsewhere, too, byte for byte. Where actions are
    choices and observations few, two episodes may be alike by themselves: that is a doubt.
    """
    rows: Counter[int] = Counter()
    count = 0
    for episode in recording.episodes:
        steps = [hash(each) for each in _steps(episode)]
        if len(set(steps)) > 1 or len(steps) == 1:  # nothing moves: all of its steps are alike
            width = min(ROW, len(steps))
            rows.update(hash(tuple(steps[t : t + width])) for t in range(len(steps) - width + 1))
            count += len(steps) - width + 1
    again = sum(number - 1 for number in rows.values())
    share = again / max(count, 1)
    real = all(array.dtype.kind == "f" for array in recording.episodes[0].actions.values())
    words = f"{share:.1%} of {count} rows of {ROW} steps are a copy of another"
    if share <= COPIED:
        return Finding(COPIES, FINE, words)
    help = "add an episode to the replay once, whole, and cut windows when they are drawn: copies count several times"
    if not real:
        help += "; of an environment without chance, whose actions are choices, episodes may be alike"
    return Finding(COPIES, FAULT if real else DOUBT, words, help)


def returns(recording: Recording, said: Any) -> Finding:
    """Whether the returns that the run keeps are the sums of the rewards that it recorded."""
    found, said = sums(recording), np.asarray(said, np.float64)
    count = min(len(found), len(said))
    off = np.abs(found[:count] - said[:count]) > 1e-4 * (1 + np.abs(found[:count]))
    if len(said) > len(found) or np.any(off):
        words = f"{int(np.sum(off))} of {count} differ, and there are {len(said)} of {len(found)} episodes"
        return Finding(RETURNS_DIFFER, FAULT, words, "a return is the sum of all rewards of one episode")
    return Finding(RETURNS_DIFFER, FINE, f"{count} returns are the sums of their episodes' rewards")


def reported(recording: Recording, said: Sequence[float] | np.ndarray | None) -> Finding:
    """Whether returns that are reported of the skill are of the episodes that it learned from, in which it explored."""
    if said is None:
        return Finding(NOISE_REPORTED, UNKNOWN, "no returns were given as those that are reported")
    found, given = sums(recording), np.asarray(said, np.float64)
    near = np.abs(given[:, None] - found[None]) <= 1e-5 * (1 + np.abs(given))[:, None]
    constant = len(np.unique(np.round(found, 5))) < max(2, len(found) // 4)  # of few values returns are alike anyway
    share = float(np.mean(np.any(near, 1)))
    words = f"{share:.0%} of {len(given)} reported returns are of episodes that were played to learn from"
    help = "play episodes of their own, without exploring, and report those (veil play, veil.control.trials)"
    if share > 0.5 and not constant:
        return Finding(NOISE_REPORTED, FAULT, words, help)
    return Finding(NOISE_REPORTED, FINE, words)


def sums(recording: Recording) -> np.ndarray:
    """The return of every episode."""
    return np.array([float(np.sum(each.rewards)) for each in recording.episodes])
