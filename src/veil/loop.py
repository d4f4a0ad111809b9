"""The one training loop: stretches of steps compiled when the data are on the device, block by block when streamed."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from veil.learners import RUNNING, Info, Learner
from veil.model import Datum

STRETCH = 256  # the most steps in one compiled call


class InMemory:
    """Data on the device: all of them each step, in blocks [B, rows, ...], or minibatches of shuffled rows."""

    def __init__(self, datum: Datum, batch_size: int | None, rows: int, rng: np.random.Generator) -> None:
        self.count = len(datum.query)
        self.total = float(np.sum(np.asarray(datum.weight, np.float64)))
        self.batch_size = None if batch_size is None or batch_size >= self.count else batch_size
        self._rng, self._order = rng, np.zeros(0, np.int32)
        if self.batch_size is None:
            parts = max(1, -(-self.count // rows))
            self.blocks = jax.device_put(jax.tree.map(lambda leaf: _blocked(np.asarray(leaf), parts), datum))
        else:
            self.blocks = jax.device_put(datum)

    def example(self) -> Datum:
        """The shapes of one batch."""
        rows = () if self.batch_size is None else (self.batch_size,)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*rows, *leaf.shape[1:]), leaf.dtype), self.blocks)

    def plan(self, steps: int) -> Array | None:
        """Which rows the next ``steps`` see: shuffled anew each epoch, every row once before any twice."""
        if self.batch_size is None:
            return None
        needed = steps * self.batch_size
        while len(self._order) < needed:
            self._order = np.concatenate([self._order, self._rng.permutation(self.count).astype(np.int32)])
        rows, self._order = self._order[:needed], self._order[needed:]
        plan = np.zeros((STRETCH, self.batch_size), np.int32)  # always the same shape, so that it compiles once
        plan[:steps] = rows.reshape(steps, self.batch_size)
        return jax.device_put(plan)


class Streamed:
    """Data that pass by in blocks: a step is one pass over all of them, or with ``by_block`` one block."""

    def __init__(self, blocks: Callable[[], Iterable[Datum]], total: float, by_block: bool) -> None:
        self.blocks, self.total, self.by_block = blocks, total, by_block
        self._passing: Iterator[Datum] = iter(())

    def example(self) -> Datum:
        """The shapes of one batch."""
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), next(iter(self.blocks())))

    def next_batch(self) -> Iterable[Datum]:
        """The blocks of the next step."""
        if not self.by_block:
            return self.blocks()
        block = next(self._passing, None)
        if block is None:
            self._passing = iter(self.blocks())
            block = next(self._passing)
        return [block]


def _blocked(array: np.ndarray, parts: int) -> np.ndarray:
    """[N, ...] -> [parts, rows, ...], padded with zeros (whose weight is zero)."""
    rows = -(-len(array) // parts)
    padding = [(0, parts * rows - len(array))] + [(0, 0)] * (array.ndim - 1)
    return np.pad(array, padding).reshape(parts, rows, *array.shape[1:])


@eqx.filter_jit
def _stretch(
    learner: Learner, state: Any, blocks: Datum, plan: Any, total: Any, first: Any, count: Any, seed: Any
) -> tuple[Any, Info, Array]:
    """Up to ``count`` steps, fewer when every restart is done; states carry a leading axis of restarts.

    Random numbers depend on the number of the step, never on where a stretch began: that is a matter of the clock.
    """
    key = jax.random.wrap_key_data(seed)
    state, rest = eqx.partition(state, eqx.is_array)  # a user's model may hold functions
    restarts = jax.tree.leaves(state)[0].shape[0]
    many = restarts > 1  # one restart runs without a batch axis: it is the common case and the faster one

    def accumulate_one(state: Any, batch: Datum, key: PRNGKeyArray) -> Any:
        return learner.accumulate(eqx.combine(state, rest), batch, key)

    def update_one(state: Any, sums: Any, total: Array) -> tuple[Any, Info]:
        state, info = learner.update(eqx.combine(state, rest), sums, total)
        return eqx.filter(state, eqx.is_array), info

    # jit inside jit, so that the first block and the scan over the others share one trace
    accumulate = jax.jit(jax.vmap(accumulate_one, (0, None, 0)) if many else accumulate_one)
    update = jax.vmap(update_one, (0, 0, None)) if many else update_one
    if not many:
        state = jax.tree.map(lambda leaf: leaf[0], state)

    def block(part: Array | int) -> Datum:  # by its number: a scan over all but the first would copy them at each step
        return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, part, keepdims=False), blocks)

    def step(state: Any, i: Array) -> tuple[Any, Info]:
        key_step = jax.random.fold_in(key, first + i)
        if plan is not None:
            batch = jax.tree.map(lambda leaf: leaf[plan[i]], blocks)
            keys = jax.random.split(key_step, restarts) if many else key_step
            return update(state, accumulate(state, batch, keys), total)

        def add(sums: Any, part: Array) -> tuple[Any, None]:
            key_block = jax.random.fold_in(key_step, part)
            keys = jax.random.split(key_block, restarts) if many else key_block
            return jax.tree.map(jnp.add, sums, accumulate(state, block(part), keys)), None

        parts = jax.tree.leaves(blocks)[0].shape[0]
        keys = jax.random.split(key_step, restarts) if many else key_step
        sums = accumulate(state, block(0), keys)
        if parts > 1:
            sums, _ = jax.lax.scan(add, sums, jnp.arange(1, parts))
        return update(state, sums, total)

    # every entry of Info is one number: written down here, because asking a trace for it costs as much as the trace
    shape = (STRETCH, restarts) if many else (STRETCH,)
    numbers, whole = jnp.zeros(shape), jnp.zeros(shape, int)
    infos = Info(value=numbers, penalty=numbers, code=whole, skipped=whole, sharpness=numbers)

    def more(carry: tuple[Array, Any, Info]) -> Array:
        return (carry[0] < count) & jnp.any(carry[1].code == RUNNING)

    def advance(carry: tuple[Array, Any, Info]) -> tuple[Array, Any, Info]:
        i, state, infos = carry
        state, info = step(state, i)
        return i + 1, state, jax.tree.map(lambda all_, one: all_.at[i].set(one), infos, info)

    done, state, infos = jax.lax.while_loop(more, advance, (jnp.zeros((), int), state, infos))
    if not many:
        state = jax.tree.map(lambda leaf: leaf[None], state)
        infos = jax.tree.map(lambda leaf: leaf[:, None], infos)
    return eqx.combine(state, rest), infos, done


@eqx.filter_jit
def _start(learner: Learner, models: Any, example: Datum) -> Any:
    return eqx.filter_vmap(lambda model: learner.init(model, example))(models)


@eqx.filter_jit
def _accumulate(learner: Learner, state: Any, block: Datum, step: Any, part: Any, seed: Any, sums: Any) -> Any:
    key = jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(seed), step), part)
    keys = jax.random.split(key, jax.tree.leaves(eqx.filter(state, eqx.is_array))[0].shape[0])
    new = eqx.filter_vmap(learner.accumulate, in_axes=(eqx.if_array(0), None, 0))(state, block, keys)
    return new if sums is None else jax.tree.map(jnp.add, sums, new)


@eqx.filter_jit
def _update(learner: Learner, state: Any, sums: Any, total: Any) -> tuple[Any, Info]:
    return eqx.filter_vmap(learner.update, in_axes=(eqx.if_array(0), 0, None))(state, sums, total)


Records = dict[str, np.ndarray]


def train(
    learner: Learner,
    models: Any,
    source: InMemory | Streamed,
    steps: int,
    seed: np.ndarray,
    watch: Callable[[Any, Records], bool],
    period: int | None = None,
) -> Any:
    """The state after ``steps``, or when every restart is done, or when ``watch(state, records)`` says stop.

    ``models`` and the state have a leading axis of restarts. ``records`` are those of one stretch of steps: arrays
    [steps, restarts] of value, penalty, code, skipped and sharpness. With ``period`` no stretch goes beyond a multiple
    of it, so that what is done between stretches can be done at known steps. ``seed``: the data of a key, uint32 [2].
    """
    state = _start(learner, models, source.example())
    total = np.asarray(source.total, jnp.result_type(float))
    step, stretch = 0, 4
    while step < steps:
        begin = time.perf_counter()
        if isinstance(source, InMemory):
            count = min(stretch, steps - step, STRETCH, period - step % period if period else STRETCH)
            numbers = np.asarray(step), np.asarray(count)  # arrays: a Python number would be compiled in
            plan = source.plan(count)
            state, infos, done_steps = _stretch(learner, state, source.blocks, plan, total, *numbers, seed)
            done = int(done_steps)
            named = {name: np.asarray(getattr(infos, name))[:done] for name in infos.__dataclass_fields__}
        else:
            sums = None
            for i, block in enumerate(source.next_batch()):
                sums = _accumulate(learner, state, block, np.asarray(step), np.asarray(i), seed, sums)
            state, info = _update(learner, state, sums, total)
            named = {name: np.asarray(getattr(info, name))[None] for name in info.__dataclass_fields__}
            done = 1
        step += done
        stop = watch(state, named)
        if stop or np.all(named["code"][-1] != RUNNING):
            break
        # stretches of about a third of a second: long enough to hide the dispatch, short enough to watch
        pace = (time.perf_counter() - begin) / max(done, 1)
        stretch = int(np.clip(0.3 / max(pace, 1e-9), 1, 8 * stretch))
    return state
