"""What of a fit goes into its checkpoints, and how it goes on from one."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from veil.host.checkpoints import Keeper, filled, named_leaves
from veil.host.devices import Placement
from veil.host.metrics import tell_resumed
from veil.learning.learner import Info
from veil.learning.loop import InMemory, Streamed
from veil.learning.watch import Watch


class Resuming:
    """What a fit writes into its checkpoints, and how it goes on from one (see ``loop.Resuming``).

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
