"""What a fit leaves behind while it goes, and what of it goes into checkpoints."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from veil.checkpoints import Keeper, filled, named_leaves
from veil.devices import Placement
from veil.learners import RUNNING, Info
from veil.loop import InMemory, Records, Streamed
from veil.metrics import tell_resumed
from veil.progress import Progress


class Watch:
    """What a run leaves behind while it goes: records, the progress bar, checks on held-out data."""

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


class Memory:
    """What a fit writes into its checkpoints, and how it goes on from one (see ``loop.Memory``).

    The state, the history, the best model on held-out data, and the numbers that say where it was. Everything else
    follows again from data and key.
    """

    def __init__(self, keeper: Keeper, watch: Watch, place: Placement) -> None:
        self._keeper, self._watch, self._place = keeper, watch, place
        self._saved = keeper.latest()

    def stage(self) -> int:
        """In which stage of EM the last checkpoint was made; 0 without one."""
        return 0 if self._saved is None else self._saved.number("stage")

    def due(self) -> bool:
        return self._keeper.due()

    def where(self) -> str:
        return str(self._keeper.folder)

    def restore(self, state: Any, source: InMemory | Streamed) -> tuple[Any, int]:
        saved, watch = self._saved, self._watch
        if saved is None or saved.number("stage") != watch.stage:
            return state, 0
        step, steps, recorded, best = (saved.number(name) for name in ("step", "steps", "recorded", "best"))
        checks = saved.pairs("checks")
        if not recorded <= step <= steps <= max(watch.limit, 1) or best not in (0, 1):
            raise saved.damaged("its numbers contradict each other")
        restarts = jax.tree.leaves(eqx.filter(state, eqx.is_array))[0].shape[0]
        kinds = {name: int if name in ("code", "skipped") else float for name in Info.__dataclass_fields__}
        arrays = named_leaves(state, "state") | (named_leaves(state, "best") if best else {})
        expected = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in arrays.items()}
        for name, kind in kinds.items():
            expected[f"history.{name}"] = jax.ShapeDtypeStruct((recorded, restarts), jnp.result_type(kind))
        found = saved.arrays(expected)
        state = self._place.everywhere(filled(state, "state", found))
        watch.records[:] = [{name: found[f"history.{name}"] for name in kinds}] if recorded else []
        watch.steps, watch.taken_before, watch.checks = steps, steps - step, checks
        if best:
            watch.best_state = self._place.everywhere(filled(state, "best", found))
            watch.best_restart = saved.number("best_restart")
        if isinstance(source, Streamed):
            source.restore(saved.meta.get("position"))
        tell_resumed(watch.record, steps)
        return state, step

    def save(self, state: Any, step: int, source: InMemory | Streamed, wait: bool = False) -> None:
        watch = self._watch
        names = Info.__dataclass_fields__
        if len(watch.records) > 1:  # joined once, so that the next checkpoint need not join it all again
            watch.records[:] = [{name: np.concatenate([part[name] for part in watch.records]) for name in names}]
        arrays = named_leaves(state, "state")
        recorded = sum(len(part["value"]) for part in watch.records)
        if recorded:
            arrays |= {f"history.{name}": watch.records[0][name] for name in names}
        if watch.best_state is not None:
            arrays |= named_leaves(watch.best_state, "best")
        meta = {
            "stage": watch.stage,
            "step": step,
            "steps": watch.steps,
            "recorded": recorded,
            "checks": [[taken, value] for taken, value in watch.checks],
            "best": int(watch.best_state is not None),
            "best_restart": watch.best_restart or 0,
            "position": source.position() if isinstance(source, Streamed) else None,
        }
        self._keeper.save(watch.steps, arrays, meta, wait)


def likeliest(records: list[Records]) -> int:
    """The restart with the highest value, averaged over the last steps where those are noisy."""
    values = np.concatenate([record["value"] for record in records])
    codes = records[-1]["code"][-1]
    last = values[-1] if np.any(codes != RUNNING) else np.mean(values[-20:], axis=0)
    return int(np.argmax(np.where(np.isfinite(last), last, -np.inf)))
