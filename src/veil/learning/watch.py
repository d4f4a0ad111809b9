"""What a fit leaves behind while it goes: records, the progress bar, checks on held-out data."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from veil.host.metrics import tell_resumed
from veil.host.progress import Progress
from veil.learning.learner import RUNNING, told
from veil.learning.loop import Records


class Watch:
    """Looks on after each stretch of steps, and says when held-out data ask for the end."""

    def __init__(
        self, bar: Progress, record: Callable[[dict[str, float]], None] | None, log_scale: float, unit: str
    ) -> None:
        self.bar, self.record, self.log_scale, self.unit = bar, record, log_scale, unit
        self.limit = 0
        self.steps = 0  # taken, in all stages
        self.records: list[Records] = []
        self.checks: list[tuple[int, float]] = []
        self.best_state: Any = None
        self.best_restart: int | None = None
        self._period = self._look_period = 0
        self.may_stop = True
        self.stage, self.taken_before = 0, 0  # of EM: 1 with exact sums, and how many steps came before it
        self._held_out: tuple[Callable[[Any], float], int] | None = None
        self._look: Callable[[Any], dict[str, float]] | None = None
        self._seen = ""  # what the last look said

    def hold_out(self, score: Callable[[Any], float], patience: int) -> None:
        """Score the state on held-out data now and then; keep the best, stop after ``patience`` worse ones."""
        self._held_out = score, patience

    def look(self, look: Callable[[Any], dict[str, float]]) -> None:
        """Ask ``look`` of the state now and then, and record what it says."""
        self._look = look

    def exactly(self, go_on: bool) -> None:
        """From here on EM's sums are exact; unless they ``go_on``, they begin where the fast ones began."""
        if not go_on:
            self.records.clear()
            self.steps = 0
            tell_resumed(self.record, 0)
        exact = lambda leaf: leaf.astype(np.int64 if leaf.dtype.kind == "i" else np.float64)  # noqa: E731
        self.records[:] = jax.tree.map(exact, self.records)
        self.stage, self.taken_before = 1, self.steps

    def never_fell(self) -> None:
        """EM never falls: what fast sums said above the first exact value was their rounding."""
        self.records[:] = [joined(self.records)]
        values, before = self.records[0]["value"], self.taken_before
        values[:before] = np.minimum(values[:before], values[before])

    def __call__(self, state: Any, record: Records) -> bool:
        first = self.steps
        self.steps += len(record["value"])
        self.records.append(record)
        best = np.argmax(record["value"], axis=1)[:, None]
        ahead = lambda numbers: np.take_along_axis(numbers, best, 1)[:, 0]  # noqa: E731
        values = ahead(record["value"]) - self.log_scale
        self.bar.update(self.steps, self.limit, f"{float(values[-1]):.5g} {self.unit}{self._seen}")
        if self.record is not None:
            metrics = told({name: ahead(each) for name, each in record["metrics"].items()}, -self.log_scale)
            own = {"value": values, "skipped": np.sum(record["skipped"], axis=1)}
            columns = own | metrics | own  # its own names come first, and are its own
            rows = zip(*(column.tolist() for column in columns.values()), strict=True)
            for i, row in enumerate(rows):
                self.record({"step": first + i} | dict(zip(columns, row, strict=True)))
        if self._look is not None and (self.steps % self._look_period == 0 or self.steps >= self.limit):
            said = self._look(state)
            self._seen = "".join(f", {name} {value:.3g}" for name, value in said.items())
            if self.record is not None:
                self.record({"step": self.steps, **said})
        return self._held_out is not None and self._due() and self._check(state, *self._held_out)

    def period(self, steps: int) -> int | None:
        """Held-out data are scored fifty times in a run, looks are ten, at steps that do not depend on the clock."""
        self._period = max(1, steps // 50)
        whole = self._period if self._held_out is not None else 1
        self._look_period = whole * max(1, -(-steps // (10 * whole)))
        if self._held_out is not None:
            return self._period
        return None if self._look is None else self._look_period

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


def joined(records: list[Records]) -> Records:
    """All records as those of one stretch of steps."""
    return jax.tree.map(lambda *parts: np.concatenate(parts), *records)


def likeliest(records: list[Records]) -> int:
    """The restart with the highest value, averaged over the last steps where those are noisy."""
    values = np.concatenate([record["value"] for record in records])
    codes = records[-1]["code"][-1]
    last = values[-1] if np.any(codes != RUNNING) else np.mean(values[-20:], axis=0)
    return int(np.argmax(np.where(np.isfinite(last), last, -np.inf)))
