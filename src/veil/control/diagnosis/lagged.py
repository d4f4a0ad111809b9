"""Which action leads to what is seen next: the recorded one, or the one before or after it.

A linear map predicts how an observation changes, o_t+1 - o_t, from o_t, o_t - o_t-1 and the actions u_t-1, u_t, u_t+1.
An action counts for as much as the error grows, on episodes that the map has not seen, if it is left out:

    gain_l = (MSE without u_t+l - MSE with all) / MSE without any action,   mean over episodes, with its error.

If actions stand where they belong, u_t counts. A policy that sees o_t+1 chooses u_t+1 by it, which then counts, too: so
episodes of random actions are looked at where there are some. u_t-1 counts where actions take effect a step late, and
of pictures, from which no speed can be told.
"""

from typing import Any

import numpy as np

from veil.control.diagnosis.findings import ACTION_SHIFTED, DOUBT, FAULT, FINE, UNKNOWN, Finding
from veil.data import Episode, Recording
from veil.data.recorded.views import ACTED, OBSERVED, View

LAGS = (-1, 0, 1)
SHOWN = 12  # directions of an observation that are looked at
RIDGE = 1e-3
SURE = 3.0  # standard errors
LEAST = 0.02  # of the error without any action: less does not count
MORE = 4.0  # times as much another action must count for


def shifted(recording: Recording, view: View, random: int = 0, folds: int = 5) -> Finding:
    """Whether actions are recorded one step off. ``random``: how many of the first episodes have random actions."""
    chosen = recording.episodes[:random] if random >= 3 else recording.episodes
    every = [parted(each, view) for each in chosen if len(each) >= 5]
    if len(every) < 3:
        return Finding(ACTION_SHIFTED, UNKNOWN, f"it takes 3 episodes of 5 actions; there are {len(every)}")
    blind = any(part.image for part in view.parts)
    gains = _gains(every, min(folds, len(every)))
    mean, error = gains.mean(0), gains.std(0, ddof=1) / np.sqrt(len(gains))
    counts = (mean > LEAST) & (mean > SURE * error)
    pairs = zip(("u[t-1]", "u[t]", "u[t+1]"), mean, error, strict=True)
    said = ", ".join(f"{name} {value:.3f} ± {each:.2g}" for name, value, each in pairs)
    words = f"of the error of o[t+1] is explained, as a share, by {said}"
    other = 0 if mean[0] >= mean[2] else 2
    apart = mean[other] - mean[1] > SURE * float(np.hypot(error[other], error[1]))
    if counts[other] and apart and mean[other] > MORE * mean[1]:
        help = "record at t the action that was taken at o_t; the evidence of a world model's step t is u_t-1"
        chosen_by = other == 2 and random < 3
        if blind:
            help += "; pictures show what an action did a step late, and then it is right"
        if chosen_by:
            help += "; a policy chooses u_t+1 by o_t+1: say how many of the first episodes had random actions"
        return Finding(ACTION_SHIFTED, DOUBT if blind or chosen_by else FAULT, words, help)
    if not counts[1]:
        return Finding(ACTION_SHIFTED, UNKNOWN, f"no action counts for much in a linear prediction: {words}")
    return Finding(ACTION_SHIFTED, FINE, words)


def parted(episode: Episode, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Observations [T+1, D] and actions [T, U] of an episode as a model's numbers, laid flat."""

    def of(kind: str, arrays: Any) -> np.ndarray:
        chosen = [part for part in view.parts if part.kind == kind]
        each = [part.numbers(np.asarray(arrays[part.name]), True) for part in chosen]
        return np.concatenate([one.reshape(len(one), -1) for one in each], 1).astype(np.float64)

    return of(OBSERVED, episode.observations), of(ACTED, episode.actions)


def _gains(every: list[tuple[np.ndarray, np.ndarray]], folds: int) -> np.ndarray:
    """What each lag counts for in each episode [N, 3]."""
    project = _directions(np.concatenate([seen for seen, _ in every]))
    laid = [_laid(project(seen), done) for seen, done in every]
    scale = np.concatenate([change for _, _, change in laid]).std(0)
    laid = [(state, acts, change / np.where(scale > 1e-12, scale, 1.0)[None]) for state, acts, change in laid]
    found = np.zeros((len(laid), len(LAGS)))
    for fold in range(folds):
        seen = [each for number, each in enumerate(laid) if number % folds != fold]
        for number in range(fold, len(laid), folds):
            without = _error(seen, laid[number], ())
            whole = _error(seen, laid[number], (0, 1, 2))
            for lag in range(len(LAGS)):
                others = tuple(each for each in range(len(LAGS)) if each != lag)
                found[number, lag] = (_error(seen, laid[number], others) - whole) / max(without, 1e-12)
    return found


def _directions(points: np.ndarray) -> Any:
    """A map to the first principal directions, of unit variance where they are few entries."""
    middle, spread = points.mean(0), points.std(0)
    if points.shape[1] <= SHOWN:
        return lambda seen: (seen - middle[None]) / np.where(spread > 1e-12, spread, 1.0)[None]
    some = points[:: max(1, len(points) // 1000)] - middle[None]
    axes = np.linalg.svd(some, full_matrices=False)[2][:SHOWN]
    return lambda seen: (seen - middle[None]) @ axes.T


def _laid(seen: np.ndarray, done: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """At t = 1..T-2: features of what was seen, the actions at t-1, t, t+1, and the change to t+1."""
    t = np.arange(1, len(done) - 1)
    state = np.concatenate([np.ones((len(t), 1)), seen[t], seen[t] - seen[t - 1]], 1)
    return state, [done[t + lag] for lag in LAGS], seen[t + 1] - seen[t]


def _error(seen: list[Any], held: Any, lags: tuple[int, ...]) -> float:
    """The mean squared error of one episode, by a ridge regression on others."""

    def design(one: Any) -> np.ndarray:
        return np.concatenate([one[0], *(one[1][lag] for lag in lags)], 1)

    x, y = np.concatenate([design(each) for each in seen]), np.concatenate([each[2] for each in seen])
    size = np.maximum(x.std(0), 1e-6)
    size[0] = 1.0
    white = x / size[None]
    weights = np.linalg.solve(white.T @ white + RIDGE * len(x) * np.eye(x.shape[1]), white.T @ y)
    return float(np.mean((design(held) / size[None] @ weights - held[2]) ** 2))
