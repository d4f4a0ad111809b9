"""What of a fit goes into its checkpoints, and how it goes on from one."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from veil.host.checkpoints import Keeper, filled, named_leaves
from veil.host.devices import Placement
from veil.host.metrics import tell_resumed
from veil.learning.learner import Info
from veil.learning.loop import InMemory, Streamed
from veil.learning.watch import Watch, joined


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
        step, steps, best = (saved.number(name) for name in ("step", "steps", "best"))
        checks = saved.pairs("checks")
        metrics = saved.meta.get("metrics")
        known = isinstance(metrics, list) and all(isinstance(name, str) for name in metrics)
        if not step <= steps or best not in (0, 1) or not known:
            raise saved.damaged("its numbers contradict each other")
        restarts = jax.tree.leaves(eqx.filter(state, eqx.is_array))[0].shape[0]
        number, whole = (jax.ShapeDtypeStruct((steps, restarts), jnp.result_type(kind)) for kind in (float, int))
        history: Any = {name: whole if name in ("code", "skipped") else number for name in Info.__dataclass_fields__}
        history["metrics"] = dict.fromkeys(metrics or (), number)
        arrays = named_leaves(state, "state") | (named_leaves(state, "best") if best else {})
        expected = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in arrays.items()}
        expected |= _by_name(history) if steps else {}
        found = saved.arrays(expected)
        state = self._place.everywhere(filled(state, "state", found))
        if steps:
            leaves = [found[name] for name in _by_name(history)]
            watch.records[:] = [jax.tree.unflatten(jax.tree.structure(history), leaves)]
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
        if len(watch.records) > 1:  # joined once, so that the next checkpoint need not join it all again
            watch.records[:] = [joined(watch.records)]
        arrays = named_leaves(state, "state") | (_by_name(watch.records[0]) if watch.records else {})
        if watch.best_state is not None:
            arrays |= named_leaves(watch.best_state, "best")
        meta = {
            "stage": watch.stage,
            "step": step,
            "steps": watch.steps,
            "metrics": sorted(watch.records[0]["metrics"]) if watch.records else [],
            "checks": [[taken, value] for taken, value in watch.checks],
            "best": int(watch.best_state is not None),
            "best_restart": watch.best_restart or 0,
            "position": source.position() if isinstance(source, Streamed) else None,
        }
        self._keeper.save(watch.steps, arrays, meta, wait)


def _by_name(history: Any) -> dict[str, Any]:
    """The arrays of a history by the names that they have in a checkpoint, in the order of its leaves."""
    leaves = jax.tree_util.tree_leaves_with_path(history)
    return {f"history{jax.tree_util.keystr(path)}": leaf for path, leaf in leaves}
