"""The replay beside the episodes it was made of, step by step, in the slowest and plainest way."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from veil.control.agent.replay import Replay, Sampling, numbers
from veil.control.diagnosis.findings import (
    ACTION_SHIFTED,
    COPIES,
    FAULT,
    FINE,
    LEAKED,
    REPLAY_DIFFERS,
    RESET_MISSING,
    TRUNCATION,
    Finding,
)
from veil.data import Episode
from veil.data.core import trees
from veil.data.recorded.views import ACTED, OBSERVED, View

WINDOW = 4  # steps


class Each(Sampling):
    """Every place once, in turn."""

    def begins(self, rng: np.random.Generator, size: int, places: int) -> np.ndarray:
        return np.arange(size) % places


def replay_checks(episodes: list[Episode], view: View, make: Callable[[View], Any] = Replay) -> list[Finding]:
    """Whether the windows of a replay are steps in a row, each with the action, reward and end that led to it."""
    replay = make(view)
    for each in episodes:
        replay.add(each)
    length = min(WINDOW, sum(len(each) + 1 for each in episodes))
    places = len(replay) - length + 1
    windows = replay.windows(np.random.default_rng(0), places, length, Each())
    found = jax.tree.map(np.asarray, numbers({"query": windows.query, "evidence": windows.evidence}))
    steps = [step for each in episodes for step in _plain(each, view)]
    out = [_counted(len(replay), len(steps))]
    total = min(places, len(steps) - length + 1)
    rows = np.arange(total)[:, None] + np.arange(length)[None]
    wanted = {name: np.stack([step[name] for step in steps])[rows] for name in ("seen", "reset", *RESULTS)}
    # what is seen must be there: by it the windows are told
    got = {name: _side(found, view, name)[:total] for name in ("seen", *RESULTS)}
    got["reset"] = np.zeros(rows.shape, bool) if windows.reset is None else np.asarray(windows.reset)[:total]
    out.append(_seen(got["seen"], wanted["seen"], steps, rows))
    out.append(_acted(got["done"], wanted["done"], steps, rows))
    same = bool(np.array_equal(got["reset"], wanted["reset"]))
    missed = int(np.sum(wanted["reset"] & ~got["reset"]))
    words = f"{missed} of {int(np.sum(wanted['reset']))} starts in windows are not marked"
    help = "say reset at every step that starts an episode: what is remembered would go on into the next one"
    out.append(Finding(RESET_MISSING, FINE if same else FAULT, f"replay: {words}", help))
    cut = {id(each): each.truncated and not each.terminated for each in episodes}
    if "terminated" in [part.name for part in view.parts]:
        off = np.any(np.abs(got["terminated"] - wanted["terminated"]) > 0.5, -1)
        words = f"{int(np.sum(off))} steps of windows are marked as ends otherwise than recorded"
        help = f"only a terminated episode ends; {sum(cut.values())} of these were cut off"
        out.append(Finding(TRUNCATION, FAULT if np.any(off) else FINE, f"replay: {words}", help))
    if "reward" in [part.name for part in view.parts]:
        off = ~np.isclose(got["reward"], wanted["reward"], rtol=1e-4, atol=1e-5)
        words = f"{int(np.sum(off))} of {off.size} rewards in windows are not those that led to their steps"
        out.append(Finding(REPLAY_DIFFERS, FAULT if np.any(off) else FINE, words, "r_t-1 stands beside o_t"))
    return out


RESULTS = ("done", "reward", "terminated")


def _plain(episode: Episode, view: View) -> list[dict[str, np.ndarray]]:
    """Every step of an episode: what is seen, u_t-1, r_t-1, whether it ended the episode, whether it starts one."""
    parts = {part.name: part for part in view.parts}
    seen = [_flat(part.numbers(np.asarray(episode.observations[name]), True)) for name, part in _of(parts, OBSERVED)]
    done = [_flat(part.numbers(np.asarray(episode.actions[name]), True)) for name, part in _of(parts, ACTED)]
    found = []
    for t in range(len(episode) + 1):
        before = [each[t - 1] if t else np.zeros_like(each[0]) for each in done]
        found.append(
            {
                "seen": np.concatenate([each[t] for each in seen]).astype(np.float32),
                "done": np.concatenate(before).astype(np.float32),
                "reward": np.array([episode.rewards[t - 1] if t else 0.0], np.float32),
                "terminated": np.array([float(episode.terminated and t == len(episode))], np.float32),
                "reset": np.array(t == 0),
            }
        )
    return found


def _of(parts: dict[str, Any], kind: str) -> list[tuple[str, Any]]:
    return sorted((name, part) for name, part in parts.items() if part.kind == kind)


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1)


def _side(found: Any, view: View, name: str) -> np.ndarray:
    """What windows have of the observation, the action, or a result, side by side [N, T, D]."""
    kinds = {"seen": OBSERVED, "done": ACTED}
    pieces: dict[str, np.ndarray] = {}
    for role in ("query", "evidence"):
        leaves = dict(trees.leaves(found[role])) if found[role] is not None else {}
        for path, names in vars(view)[role]:
            leaf, at = leaves[path], 0
            leaf = leaf.reshape(*leaf.shape[:2], -1)
            for part in map(view.part, names):
                if part.kind == kinds.get(name) or part.name == name:
                    pieces[part.name] = leaf[..., at : at + part.size]
                at += part.size
    if not pieces:
        return np.zeros((*trees.first(found["query"]).shape[:2], 1), np.float32)
    return np.concatenate([pieces[each] for each in sorted(pieces)], -1)


def _counted(held: int, recorded: int) -> Finding:
    words = f"replay: it holds {held} steps of {recorded} that were recorded"
    help = "add an episode once; a window is cut when it is drawn"
    return Finding(COPIES, FINE if held <= recorded else FAULT, words, help)


def _share(a: np.ndarray, b: np.ndarray) -> float:
    """Of steps, how many are alike."""
    return float(np.mean(np.all(np.isclose(a, b, rtol=1e-4, atol=1e-5), -1))) if a.size else 1.0


def _at(steps: list[dict[str, np.ndarray]], rows: np.ndarray, name: str, ahead: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of steps before or after, and which of them are of the same episode."""
    starts = np.cumsum([bool(step["reset"]) for step in steps])
    other = np.clip(rows + ahead, 0, len(steps) - 1)
    values = np.stack([step[name] for step in steps])
    return values[other], (starts[other] == starts[rows]) & (other == rows + ahead)


def _seen(got: np.ndarray, wanted: np.ndarray, steps: list[dict[str, np.ndarray]], rows: np.ndarray) -> Finding:
    share = _share(got, wanted)
    if share == 1.0:
        return Finding(LEAKED, FINE, "replay: windows show what was seen at their steps")
    later, real = _at(steps, rows, "seen", 1)
    ahead = _share(got[real], later[real])
    if ahead > max(share, 0.5):
        words = f"replay: {ahead:.0%} of the steps of windows show the observation of the next step"
        return Finding(LEAKED, FAULT, words, "at step t stand o_t, u_t-1 and r_t-1")
    words = f"{1 - share:.0%} of the steps of windows do not show what was seen at them"
    return Finding(REPLAY_DIFFERS, FAULT, words, "windows are steps in a row")


def _acted(got: np.ndarray, wanted: np.ndarray, steps: list[dict[str, np.ndarray]], rows: np.ndarray) -> Finding:
    inside = ~np.stack([step["reset"] for step in steps])[rows]  # none led to a first step
    share = _share(got[inside], wanted[inside])
    if share == 1.0:
        return Finding(ACTION_SHIFTED, FINE, "replay: the evidence of every step is the action that led to it")
    words = [f"{share:.0%} of the steps have the action that led to them"]
    for ahead, name in ((1, "the one taken there"), (-1, "the one before it")):
        later, real = _at(steps, rows, "done", ahead)
        chosen = real & inside
        words.append(f"{_share(got[chosen], later[chosen]):.0%} {name}")
    help = "the evidence of step t is u_t-1: what is seen at t, and the action that led there"
    return Finding(ACTION_SHIFTED, FAULT, f"replay: {', '.join(words)}", help)
