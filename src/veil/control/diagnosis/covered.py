"""Where the agent has been: which actions it tried, and whether what it dreams is like what it inferred."""

from dataclasses import dataclass

import numpy as np

from veil.control.diagnosis.findings import AWAY, DOUBT, FINE, UNKNOWN, UNTRIED, Finding
from veil.control.diagnosis.predictions import Predictions

BINS = 10  # of each number of an action, between its bounds
TRIED = 0.5  # of the bins, at least
OFF = 0.10  # of dreamt states
DIRECTIONS = 16  # of states
LIMIT = 0.99  # of inferred states are within


@dataclass(frozen=True)
class Coverage:
    """``tried`` [U]: the share of ten equal parts of each number's range that actions were in, ``bound`` [U]: how many

    were at an end of it; of choices, one number each: whether it was chosen, and how often. ``new``: of actions of the
    judged episodes, the share in parts that the recording has not (NaN without any). ``directions``: how many
    directions inferred states spread in, (Σ λ)² / Σ λ² of their covariance's eigenvalues λ. ``off`` [H]: of states that
    were dreamt, the share beyond 99 % of the inferred ones, step by step.
    """

    tried: np.ndarray
    bound: np.ndarray
    new: float
    directions: float
    off: np.ndarray


def covered(
    done: np.ndarray, judged: np.ndarray | None, low: np.ndarray, high: np.ndarray, found: Predictions
) -> Coverage:
    """Coverage by actions ``done`` [N, U] of the recording, ``judged`` those of the skill, and what was predicted."""
    cells = _cells(done, low, high)
    used = [np.unique(column) for column in cells.T]
    choices = bool(np.all(np.isin(done, (0.0, 1.0))))
    if choices:
        tried, bound = np.any(done > 0.5, 0).astype(float), done.mean(0)
    else:
        tried = np.array([len(each) / BINS for each in used])
        near = 1e-3 * (high - low)[None]
        bound = np.mean((done <= low[None] + near) | (done >= high[None] - near), 0)
    new = float("nan")
    if judged is not None:
        beyond = [~np.isin(column, each) for column, each in zip(_cells(judged, low, high).T, used, strict=True)]
        new = float(np.mean(np.any(beyond, 0)))
    return Coverage(tried, bound, new, *_states(found))


def _cells(actions: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    share = (actions - low[None]) / np.where(high > low, high - low, 1.0)[None]
    return np.clip((share * BINS).astype(int), 0, BINS - 1)


def _states(found: Predictions) -> tuple[float, np.ndarray]:
    """Directions of the inferred states, and which dreamt ones are off by Mahalanobis' distance."""
    inferred = found.inferred.reshape(-1, found.inferred.shape[-1])
    inferred = inferred[np.all(np.isfinite(inferred), 1)]
    if len(inferred) < 4 or inferred.shape[1] == 0:
        return float("nan"), np.full(found.horizon, np.nan)
    middle = inferred.mean(0)
    _, sizes, axes = np.linalg.svd(inferred - middle[None], full_matrices=False)
    roots = sizes**2 / len(inferred)
    directions = float(np.sum(roots) ** 2 / max(np.sum(roots**2), 1e-30))
    few = min(DIRECTIONS, len(roots), max(1, len(inferred) // 20))
    kept = np.flatnonzero(roots[:few] > 1e-8 * max(roots[0], 1e-30))
    white = axes[kept] / np.sqrt(roots[kept])[:, None]
    far = lambda states: np.sum(((states - middle) @ white.T) ** 2, -1)  # noqa: E731
    limit = np.quantile(far(inferred), LIMIT)
    dreamt = far(found.states)  # [N, K, draws, H]
    there = np.isfinite(dreamt)
    off = np.sum(there & (dreamt > limit), (0, 1, 2)) / np.maximum(there.sum((0, 1, 2)), 1)
    return directions, off


def coverage_checks(found: Coverage) -> list[Finding]:
    """What is to be said of it."""
    out = []
    least = float(np.min(found.tried))
    words = f"{least:.0%} of the range of the action that was tried least"
    help = "explore more (noise, random episodes): a model of what was never done is a guess"
    out.append(Finding(UNTRIED, DOUBT if least < TRIED else FINE, words, help))
    last = float(found.off[-1])
    if not np.isfinite(last):
        return [*out, Finding(AWAY, UNKNOWN, "states have no numbers, or are too few")]
    words = f"{last:.1%} of the states dreamt {len(found.off)} steps ahead are beyond 99 % of those inferred"
    help = "shorter dreams, more data or more learning steps"
    return [*out, Finding(AWAY, DOUBT if last > OFF else FINE, words, help)]
