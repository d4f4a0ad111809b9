"""What a fit leaves behind while it goes: records, the progress bar, checks on held-out data."""

from collections.abc import Callable
from typing import Any

import numpy as np

from veil.host.progress import Progress
from veil.learning.learner import RUNNING
from veil.learning.loop import Records


class Watch:
    """Looks on after each stretch of steps, and says when held-out data ask for the end."""

    def __init__(self, bar: Progress, record: Callable[[dict[str, float]], None] | None, log_scale: float) -> None:
        self.bar, self.record, self.log_scale = bar, record, log_scale
        self.limit = 0
        self.steps = 0  # taken, including those whose records were dropped
        self.records: list[Records] = []
        self.checks: list[tuple[int, float]] = []
        self.best_state: Any = None
        self.best_restart: int | None = None
        self._period = 0
        self.may_stop = True
        self.stage, self.taken_before = 0, 0  # of EM: 1 in float64, and how many steps came before it
        self._held_out: tuple[Callable[[Any], float], int] | None = None

    def hold_out(self, score: Callable[[Any], float], patience: int) -> None:
        """Score the state on held-out data now and then; keep the best, stop after ``patience`` worse ones."""
        self._held_out = score, patience

    def begin_again(self) -> None:
        """Drop what was recorded: the steps so far were not good enough to be part of the history."""
        self.records.clear()
        self.taken_before = self.steps

    def __call__(self, state: Any, record: Records) -> bool:
        first = self.steps
        self.steps += len(record["value"])
        self.records.append(record)
        values = np.max(record["value"], axis=1) - self.log_scale
        self.bar.update(self.steps, self.limit, f"{float(values[-1]):.5g} nats per datum")
        if self.record is not None:
            skipped = np.sum(record["skipped"], axis=1).tolist()
            for i, (value, missed) in enumerate(zip(values.tolist(), skipped, strict=True)):
                self.record({"step": first + i, "value": value, "skipped": missed})
        return self._held_out is not None and self._due() and self._check(state, *self._held_out)

    def period(self, steps: int) -> int | None:
        """Held-out data are scored fifty times in a run, at steps that do not depend on the clock."""
        self._period = max(1, steps // 50)
        return None if self._held_out is None else self._period

    def _due(self) -> bool:
        return not self.may_stop or self.steps % self._period == 0 or self.steps >= self.limit

    def _check(self, state: Any, score: Callable[[Any], float], patience: int) -> bool:
        value = score(state)
        self.checks.append((self.steps, value))
        if self.record is not None:
            self.record({"step": self.steps, "held_out": value})
        scores = np.array([check[1] for check in self.checks])
        best = int(np.argmax(np.where(np.isfinite(scores), scores, -np.inf)))
        if best == len(self.checks) - 1:
            self.best_state, self.best_restart = state, likeliest(self.records)
        return self.may_stop and len(self.checks) - 1 - best >= patience


def likeliest(records: list[Records]) -> int:
    """The restart with the highest value, averaged over the last steps where those are noisy."""
    values = np.concatenate([record["value"] for record in records])
    codes = records[-1]["code"][-1]
    last = values[-1] if np.any(codes != RUNNING) else np.mean(values[-20:], axis=0)
    return int(np.argmax(np.where(np.isfinite(last), last, -np.inf)))
