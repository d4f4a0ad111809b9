"""The one training loop: stretches of steps compiled when the data are on the device, block by block when streamed.

Every number is a function of the seed and the step, never of the clock: where a stretch ends, when a checkpoint is
written and how often a fit was stopped and went on change nothing.
"""

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from veil.host.checkpoints import Interrupted
from veil.host.devices import Placement
from veil.host.garbage import uncollected
from veil.host.signals import Ear, listening
from veil.learning.learner import Info, Learner
from veil.learning.windows import WindowOrder
from veil.model import Datum
from veil.model.batching import few_sizes, padded

STRETCH = 256  # the most steps in one compiled call
_ONE = Placement()


class InMemory:
    """Data on the device: all of them each step, in blocks [B, rows, ...], or minibatches of shuffled rows.

    With a mesh the rows of blocks are shared out. For minibatches every device holds all data and takes its share of
    each batch, so that the batches are the same on any number of devices.

    With ``windows`` the rows are windows of long sequences in order, reset where one begins: a batch is of as many
    sequences, and the next batch goes on with them.
    """

    def __init__(
        self,
        datum: Datum,
        batch_size: int | None,
        rows: int,
        seed: np.ndarray,
        placement: Placement = _ONE,
        windows: bool = False,
    ) -> None:
        self.count = len(datum)
        self.total = float(np.sum(np.asarray(datum.weight, np.float64)))
        self.rows = self.count if datum.index is None else int(np.max(datum.index)) + 1  # that the data may point at
        whole = batch_size is None or (batch_size >= self.count and not windows)
        self.batch_size = None if whole else batch_size
        self._seed, self.placement = seed.tolist(), placement
        if self.batch_size is None:
            parts = max(1, -(-self.count // (rows * placement.count)))
            most = few_sizes(self.count) if parts == 1 else self.count
            size = _aligned(-(-most // (parts * placement.count)), parts) * placement.count
            blocked = lambda leaf: leaf.reshape(parts, size, *leaf.shape[1:])  # noqa: E731
            self.blocks = placement.by_rows(jax.tree.map(blocked, padded(datum, parts * size)), 1)
        else:
            shared_out(self.batch_size, placement)
            self.blocks = placement.everywhere(padded(datum, few_sizes(self.count)))  # no batch takes a row of padding
        self._epoch: tuple[int, np.ndarray] = -1, np.zeros(0, np.int32)
        self._lanes = None
        if windows:
            assert datum.reset is not None
            assert batch_size is not None
            self._lanes = WindowOrder(np.asarray(datum.reset[:, 0]), batch_size, self._seed)

    def example(self) -> Datum:
        """The shapes of one batch."""
        rows = () if self.batch_size is None else (self.batch_size,)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*rows, *leaf.shape[1:]), leaf.dtype), self.blocks)

    def plan(self, first: int, steps: int) -> Array | None:
        """Which rows ``steps`` from ``first`` on see: shuffled anew each epoch, every row once before any twice.

        A function of the seed and the step alone: a fit that goes on from a checkpoint sees what it would have seen.
        """
        if self.batch_size is None:
            return None
        plan = np.zeros((STRETCH, self.batch_size), np.int32)  # always the same shape, so that it compiles once
        if self._lanes is not None:
            plan[:steps] = self._lanes.rows(first, steps)
            return self.placement.by_rows(plan, 1)
        begin, end, parts = first * self.batch_size, (first + steps) * self.batch_size, []
        while begin < end:
            epoch, offset = divmod(begin, self.count)
            parts.append(self._order(epoch)[offset : offset + end - begin])
            begin += len(parts[-1])
        plan[:steps] = np.concatenate(parts).reshape(steps, self.batch_size)
        return self.placement.by_rows(plan, 1)

    def _order(self, epoch: int) -> np.ndarray:
        if self._epoch[0] != epoch:
            rng = np.random.default_rng([*self._seed, epoch])
            self._epoch = epoch, rng.permutation(self.count).astype(np.int32)
        return self._epoch[1]


class Streamed:
    """Data that pass by: a step is one pass over all blocks (``passes``), or one batch of an endless order.

    ``batches`` makes that order, from a position in it or from the beginning; its items are host data of one process's
    share, and ``.state()`` tells the position. ``convert`` makes the datum of them that the device takes.
    """

    def __init__(
        self,
        passes: Callable[[], Iterable[Datum]] | None,
        batches: Callable[[Any], Any] | None,
        convert: Callable[[Any], Datum],
        example: Datum,
        total: float,
        placement: Placement = _ONE,
    ) -> None:
        self._passes, self._batches, self._convert = passes, batches, convert
        self._example, self.total, self.placement = example, total, placement
        self._order: Any = None

    def example(self) -> Datum:
        """The shapes of one batch."""
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), self._example)

    def restore(self, position: Any) -> None:
        """Go on behind the batches that were taken when ``position()`` said so."""
        if self._batches is not None:
            self._order = self._batches(position)

    def position(self) -> Any:
        """Where the order of batches is; None for passes, which always begin at the beginning."""
        return None if self._order is None else self._order.state()

    def next_batch(self) -> Iterator[Datum]:
        """The blocks of the next step; in every process equally many."""
        if self._batches is not None:
            if self._order is None:
                self._order = self._batches(None)
            yield self.placement.local_rows(self._convert(next(self._order)))
            return
        assert self._passes is not None
        blocks = iter(self._passes())
        while True:
            block = next(blocks, None)
            if self.placement.processes > 1 and not self.placement.agreed(block is not None)[0]:
                return
            if block is None:
                if self.placement.processes == 1:
                    return
                block = jax.tree.map(np.zeros_like, self._example)  # weight zero: others still have data
            yield self.placement.local_rows(block)


def _aligned(rows: int, parts: int) -> int:
    """Rows of each of several large blocks, up to an odd number of 16.

    Lines of a block's products then begin with cache lines, and not all in the same few sets: the sums of EM of 16
    Gaussians in 32 dimensions took about 70 ms with 1,785 rows and 51 with 2,000; with 2,048 they took longest.
    """
    if parts == 1 or rows < 512:  # where padding would cost more
        return rows
    lines = -(-rows // 16)
    return 16 * (lines + 1 - lines % 2)


def shared_out(rows: int, placement: Placement) -> None:
    """Raise ValueError if a batch cannot be shared out evenly."""
    if rows % placement.count:
        raise ValueError(
            f"batch_size: {placement.count} devices share a batch evenly, and {rows} is not a multiple of "
            f"{placement.count}; try {max(1, round(rows / placement.count)) * placement.count}"
        )


@eqx.filter_jit
def _stretch(
    learner: Learner,
    state: Any,
    blocks: Datum,
    plan: Any,
    total: Any,
    first: Any,
    count: Any,
    seed: Any,
    place: Placement,
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
            batch = place.shared(jax.tree.map(lambda leaf: leaf[plan[i]], blocks))
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

    # every entry of Info is one number: written down here, because asking a trace for it costs as much as the trace;
    # what the objective has for metrics says that of ``accumulate``, which is kept for the steps
    shape = (STRETCH, restarts) if many else (STRETCH,)
    numbers, whole = jnp.zeros(shape), jnp.zeros(shape, int)
    one = jax.eval_shape(lambda: block(0) if plan is None else jax.tree.map(lambda leaf: leaf[plan[0]], blocks))
    sums = jax.eval_shape(accumulate, state, one, jax.random.split(key, restarts) if many else key)
    metrics = dict.fromkeys(sums.metrics, numbers)
    infos = Info(value=numbers, penalty=numbers, code=whole, skipped=whole, largest_precision=numbers, metrics=metrics)

    def more(carry: tuple[Array, Any, Info]) -> Array:
        return (carry[0] < count) & ~learner.done(jnp.atleast_1d(carry[1].code))

    def advance(carry: tuple[Array, Any, Info]) -> tuple[Array, Any, Info]:
        i, state, infos = carry
        state, info = step(state, i)
        return i + 1, state, jax.tree.map(lambda all_, one: all_.at[i].set(one), infos, info)

    done, state, infos = jax.lax.while_loop(more, advance, (jnp.zeros((), int), state, infos))
    if not many:
        state = jax.tree.map(lambda leaf: leaf[None], state)
        infos = jax.tree.map(lambda leaf: leaf[:, None], infos)
    return eqx.combine(place.same(state), rest), place.same(infos), place.same(done)


@eqx.filter_jit
def _start(learner: Learner, models: Any, example: Datum) -> Any:
    return eqx.filter_vmap(lambda model: learner.init(model, example))(models)


@eqx.filter_jit
def _accumulate(
    learner: Learner, state: Any, block: Datum, step: Any, part: Any, seed: Any, sums: Any, place: Placement
) -> Any:
    key = jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(seed), step), part)
    keys = jax.random.split(key, jax.tree.leaves(eqx.filter(state, eqx.is_array))[0].shape[0])
    new = eqx.filter_vmap(learner.accumulate, in_axes=(eqx.if_array(0), None, 0))(state, block, keys)
    return place.same(new if sums is None else jax.tree.map(jnp.add, sums, new))


@eqx.filter_jit
def _update(learner: Learner, state: Any, sums: Any, total: Any, place: Placement) -> tuple[Any, Info]:
    state, info = eqx.filter_vmap(learner.update, in_axes=(eqx.if_array(0), 0, None))(state, sums, total)
    state, rest = eqx.partition(state, eqx.is_array)
    return eqx.combine(place.same(state), rest), place.same(info)


Records = dict[str, Any]  # the fields of Info, arrays [steps, restarts]


@runtime_checkable
class Resumable(Protocol):
    """What makes a fit survive: checkpoints."""

    def restore(self, state: Any, source: "InMemory | Streamed") -> tuple[Any, int]:
        """The state to start from, and its step: those of a checkpoint, or as given and zero."""

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""

    def save(self, state: Any, step: int, source: "InMemory | Streamed", wait: bool = False) -> None:
        """Write one."""

    def where(self) -> str:
        """Where they are."""


def train(
    learner: Learner,
    models: Any,
    source: InMemory | Streamed,
    steps: int,
    seed: np.ndarray,
    watch: Callable[[Any, Records], bool],
    period: int | None = None,
    memory: Resumable | None = None,
) -> Any:
    """The state after ``steps``, or when every restart is done, or when ``watch(state, records)`` says stop.

    ``models`` and the state have a leading axis of restarts. ``records`` are those of one stretch of steps: arrays
    [steps, restarts] of the fields of ``Info``. With ``period`` no stretch goes beyond a
    multiple of it, so that what is done between stretches can be done at known steps. ``seed``: the data of a key,
    uint32 [2].
    With ``memory`` the loop starts from its last checkpoint, writes others when they are due, and one more before it
    raises ``Interrupted`` on Ctrl-C or SIGTERM, or the error of data that cannot be read any more.
    """
    place = source.placement
    with uncollected():
        state, step = place.everywhere(_start(learner, models, source.example())), 0
    if memory is not None:
        state, step = memory.restore(state, source)
    total = np.asarray(source.total, jnp.result_type(float))
    stretch = 4
    with listening(memory is not None) as ear:
        while step < steps:
            begin = time.perf_counter()
            count = min(stretch, steps - step, STRETCH, period - step % period if period else STRETCH)
            try:
                state, records = _advance(learner, state, source, step, count, total, seed, ear)
            except (OSError, ValueError) as error:
                if memory is not None:
                    memory.save(state, step, source, wait=True)
                    error.add_note(
                        f"the fit is kept as it was after step {step} in {memory.where()}: the same call goes on"
                    )
                raise
            done = 0 if records is None else len(records["value"])
            step += done
            if records is not None and (watch(state, records) or learner.done(records["code"][-1])):
                break
            # stretches of about a second: short enough to watch, long enough to hide the dispatch and what the system
            # takes to find memory for the intermediate results, which every call asks for anew
            pace = (time.perf_counter() - begin) / max(done, 1)
            stretch = int(np.clip(1.0 / max(pace, 1e-9), 1, 8 * stretch))
            if memory is None and place.processes == 1:
                continue
            wishes = memory is not None and memory.due(), ear.heard is not None, -stretch
            due, ended, negative = place.agreed(*wishes)
            stretch = -int(negative)
            if memory is not None and (due or ended):
                memory.save(state, step, source, wait=bool(ended))
            if memory is not None and ended:
                cause = ear.heard or signal.SIGTERM
                kept = f"the fit is kept in {memory.where()}: the same call goes on"
                raise Interrupted(f"stopped by {cause.name} after step {step}; {kept}", cause)
    return state


def _advance(
    learner: Learner,
    state: Any,
    source: InMemory | Streamed,
    step: int,
    count: int,
    total: np.ndarray,
    seed: np.ndarray,
    ear: Ear,
) -> tuple[Any, Records | None]:
    """The state some steps further, and their records; no records if a pass was broken off because of a signal."""
    place = source.placement
    if isinstance(source, InMemory):
        numbers = np.asarray(step), np.asarray(count)  # arrays: a Python number would be compiled in
        plan = source.plan(step, count)
        with uncollected():
            state, infos, done = _stretch(learner, state, source.blocks, plan, total, *numbers, seed, place)
        return state, jax.tree.map(lambda leaf: np.asarray(leaf)[: int(done)], vars(infos))
    sums = None
    for i, block in enumerate(source.next_batch()):
        sums = _accumulate(learner, state, block, np.asarray(step), np.asarray(i), seed, sums, place)
        if ear.heard and place.processes == 1 and i:
            return state, None
    state, info = _update(learner, state, sums, total, place)
    return state, jax.tree.map(lambda leaf: np.asarray(leaf)[None], vars(info))
