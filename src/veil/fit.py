"""The verb ``fit``: any model, any data, one call."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from veil import learners, standardise
from veil.batching import as_datum, block_rows
from veil.data import Data, Stream
from veil.learners import ClosedForm, Gradient, Learner
from veil.loop import InMemory, Records, Streamed, train
from veil.model import Datum, Model
from veil.nets import Units
from veil.objective import ExpectedLogLikelihood, Marginal, Objective
from veil.posterior import Exact, Posterior
from veil.progress import Progress

SAMPLE = 20_000  # rows that set units and starting points
SAFE = 0.05  # nats: the largest rounding of one datum's log-density that the fast sums may make


@dataclass(frozen=True)
class History:
    """What happened at each step of the restart that won, in the user's units.

    ``value``: the objective before the step, nats per datum (with EM the log-likelihood plus ``penalty``, its log-prior);
    ``held_out`` [M, 2]: step and mean objective on held-out data; ``restarts`` [R]: the final value of each restart.
    """

    value: np.ndarray
    penalty: np.ndarray
    held_out: np.ndarray
    restarts: np.ndarray

    def __len__(self) -> int:
        return len(self.value)


@dataclass(frozen=True)
class Status:
    """How a fit ended: ``reason`` in words, ``steps`` taken, ``skipped`` steps, and ``notes`` on what was out of the ordinary."""

    converged: bool
    reason: str
    steps: int
    skipped: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fit:
    """What ``fit`` returns: the fitted model, its posterior, the history and how it ended."""

    model: Any
    posterior: Posterior
    history: History
    status: Status = field(repr=True)

    def __repr__(self) -> str:
        value = f"{self.history.value[-1]:.6g}" if len(self.history) else "nothing"
        notes = "".join(f"\n  note: {note}" for note in self.status.notes)
        return f"Fit({self.status.reason} after {self.status.steps} steps, {value} nats per datum){notes}"


def fit(
    model: Model,
    data: Data | Stream,
    *,
    key: PRNGKeyArray,
    posterior: Posterior | None = None,
    objective: Objective | None = None,
    optimiser: Any = None,
    steps: int | None = None,
    batch_size: int | None = None,
    restarts: int = 1,
    tolerance: float = 1e-6,
    held_out: Data | float | None = None,
    patience: int = 10,
    progress: bool | None = None,
    record: Callable[[dict[str, float]], None] | None = None,
) -> Fit:
    """Fit a model to data; returns ``Fit(model, posterior, history, status)``.

    With the defaults a model whose M-step is closed-form learns by expectation maximisation (``ExpectedLogLikelihood``),
    any other by gradient ascent on the exact log-likelihood (``Marginal``). Model, posterior and objective are chosen
    independently. Data are standardised inside, robustly, and the model comes back in the user's units.

    Arguments:
        model: with or without parameters; one with parameters starts from them, unless ``restarts`` asks for new ones.
        data: ``Data``, an array [N, ...] (which becomes one), or a ``Stream`` larger than memory.
        key: a ``jax.random`` key; the same key gives the same fit.
        objective: ``Marginal()``, ``ExpectedLogLikelihood(samples=None)``.
        optimiser: an optax optimiser; choosing one means learning by gradients. Default Adam, 0.01 decaying to zero.
        steps: at most this many (default: 1000 of EM, 2000 of gradients). One step of full-batch EM sees all data.
        batch_size: rows a step sees (default: all for EM, up to 256 for gradients); with EM it makes it stepwise EM.
        restarts: this many starts, run as one batch; the best final value wins.
        tolerance: EM stops when less than this many nats per datum are still to be gained, by extrapolation.
        held_out: other data, or the fraction of ``data`` to hold out; gradients keep the best model on them and stop
            after ``patience`` checks without improvement.
        progress: show a bar (default: when a terminal is there and it takes longer than two seconds).
        record: called with a dictionary of numbers for every step.

    Raises:
        TypeError, ValueError: an argument is not what it should be; the message names it.

    >>> import jax, veil
    >>> result = fit(veil.Mixture(components=2), veil.load_data("faithful"), key=jax.random.key(0))
    >>> result.status.converged
    True
    """
    data = data if isinstance(data, Stream) else as_data(data)
    _check_arguments(model, data, steps, batch_size, restarts, tolerance, held_out)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).astype(np.uint32).tolist())
    if isinstance(held_out, float) and isinstance(data, Data):
        held_out, data = data.split(held_out, rng)
    survey = Survey.of(model, data, rng)
    posterior = posterior or Exact()
    closed = model.closed_form if model.ready else _closed_when_ready(model, survey)
    objective = objective or (ExpectedLogLikelihood() if closed and optimiser is None else Marginal())
    by_sums = closed and isinstance(objective, ExpectedLogLikelihood) and optimiser is None
    if steps is None:
        steps = 1000 if by_sums else 2000
    if batch_size is None and not by_sums and isinstance(data, Data):
        batch_size = min(len(data), 256)
    learner: Learner
    if by_sums:
        stepwise = batch_size is not None and not (isinstance(data, Data) and batch_size >= len(data))
        stochastic = stepwise or objective.samples is not None  # type: ignore[attr-defined]
        learner = ClosedForm(objective, posterior, tolerance, stochastic, stepwise)  # type: ignore[arg-type]
    else:
        learner = Gradient(objective, posterior, optimiser or default_optimiser(steps))
    run = _Run(
        model, data, survey, learner, steps, batch_size, restarts, held_out, patience, progress, record, key, rng
    )
    return run.fit()


def default_optimiser(steps: int) -> Any:
    """Adam with a learning rate from 0.01 to zero along a cosine, gradients clipped to norm 10."""
    import optax

    return optax.chain(optax.clip_by_global_norm(10.0), optax.adam(optax.cosine_decay_schedule(1e-2, steps)))


def as_data(data: Any) -> Data:
    """``Data``, or whatever its constructor takes as a query."""
    return data if isinstance(data, Data) else Data(data)


def _check_arguments(
    model: Any, data: Any, steps: Any, batch_size: Any, restarts: Any, tolerance: Any, held_out: Any
) -> None:
    if not isinstance(model, Model):
        raise TypeError(f"model: expected a veil.Model, such as veil.Mixture(components=3); got {type(model).__name__}")
    for name, value in (("steps", steps), ("batch_size", batch_size), ("restarts", restarts)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1):
            raise ValueError(f"{name}: expected a positive integer; got {value!r}")
    if not tolerance > 0:
        raise ValueError(f"tolerance: expected a positive number of nats per datum, such as 1e-6; got {tolerance!r}")
    if isinstance(held_out, int) or (isinstance(held_out, float) and not 0 < held_out < 1):
        raise ValueError(f"held_out: expected Data, or a fraction between 0 and 1; got {held_out!r}")
    if isinstance(held_out, float) and isinstance(data, Stream):
        raise ValueError("held_out: a stream cannot be split; give the held-out Data themselves")


@dataclass(frozen=True)
class Survey:
    """What a fit knows of the data before it starts: a sample in memory, the total weight, and the units."""

    sample: Data
    total: float
    query: Units | None
    evidence: Units | None
    log_scale: float
    largest: float

    @staticmethod
    def of(model: Model, data: Data | Stream, rng: np.random.Generator) -> "Survey":
        if isinstance(data, Stream):
            sample, count, total, largest_raw = _reservoir(data, rng)
        else:
            sample = data if len(data) <= SAMPLE else data[np.sort(rng.choice(len(data), SAMPLE, replace=False))]
            total = data.total_weight
        standardise.refuse_huge(sample if isinstance(data, Stream) else data)
        model.check(sample.query, sample.query_names)
        query = evidence = None
        if model.standardised:
            weights = np.ones(len(sample)) if sample.weight is None else np.asarray(sample.weight, np.float64)
            if model.real:
                query = standardise.table_units(sample.query, weights, sample.observed, model.isotropic)
            if sample.evidence is not None:
                evidence = standardise.table_units(sample.evidence, weights, None, False)
        whole = sample if isinstance(data, Stream) else data
        log_scale = standardise.log_scale_per_datum(query, whole)
        largest = max(
            float(np.max(np.abs(array)))
            for array in (standardise.apply(query, whole.query), standardise.apply(evidence, whole.evidence))
            if array is not None
        )
        return Survey(sample, total, query, evidence, log_scale, largest)


def _reservoir(stream: Stream, rng: np.random.Generator) -> tuple[Data, int, float, float]:
    """A uniform sample of a stream in one pass, its number of rows, total weight and largest number."""
    from veil.data.arrays import concatenate

    kept: list[Data] = []
    tickets = np.zeros(0)
    count, total, largest = 0, 0.0, 0.0
    for block in stream:
        count, total = count + len(block), total + block.total_weight
        largest = max(largest, float(np.max(np.abs(block.query))))
        kept.append(block)
        tickets = np.concatenate([tickets, rng.random(len(block))])
        if len(tickets) > 2 * SAMPLE or True:
            merged = concatenate(kept)
            if len(merged) > SAMPLE:
                best = np.sort(np.argpartition(tickets, SAMPLE)[:SAMPLE])
                merged, tickets = merged[best], tickets[best]
            kept = [merged]
    return kept[0], count, total, largest


def _closed_when_ready(model: Model, survey: Survey) -> bool:
    """Whether the model will have a closed-form M-step once it has parameters (with no evidence, gates are constant)."""
    shapes = eqx.filter_eval_shape(
        _initialise, model, _example(survey), _responsibilities(model, survey, None), jax.random.key(0)
    )
    return bool(shapes.closed_form)


def _example(survey: Survey) -> Datum:
    return as_datum(survey.sample[:2], survey.query, survey.evidence, np.dtype(jnp.result_type(float)))


def _responsibilities(model: Model, survey: Survey, rng: np.random.Generator | None) -> Any:
    """Starting responsibilities of the sample, or (without a generator) two rows for their shape."""
    sample = survey.sample[:2] if rng is None else survey.sample
    parts = [standardise.apply(survey.query, sample.query).reshape(len(sample), -1)]  # type: ignore[union-attr]
    if sample.evidence is not None:
        parts.append(standardise.apply(survey.evidence, sample.evidence).reshape(len(sample), -1))  # type: ignore[union-attr]
    if sample.observed is not None:
        parts[0] = np.where(sample.observed.reshape(len(sample), -1), parts[0], 0.0)
    weights = np.ones(len(sample)) if sample.weight is None else np.asarray(sample.weight, np.float64)
    # beyond this a coordinate says "far away" and no more; squares must stay finite
    points = np.clip(np.concatenate(parts, 1), -1e12, 1e12)
    return model.responsibilities(points, weights, rng or np.random.default_rng(0))


def _initialise(model: Any, data: Datum, responsibilities: Any, key: PRNGKeyArray) -> Any:
    return model.initialise(data, responsibilities, key)


@eqx.filter_jit
def _initialise_all(model: Any, data: Datum, responsibilities: Any, keys: PRNGKeyArray) -> Any:
    return jax.vmap(lambda r, key: model.initialise(data, r, key))(responsibilities, keys)


def _cast(tree: Any, dtype: Any) -> Any:
    """Floating leaves as numpy of another precision (numpy, because it is done between two precisions of JAX)."""
    change = lambda leaf: np.asarray(leaf).astype(dtype) if eqx.is_inexact_array(leaf) else leaf  # noqa: E731
    return jax.tree.map(change, tree)


@dataclass
class _Run:
    """One call of ``fit``."""

    model: Any
    data: Data | Stream
    survey: Survey
    learner: Learner
    steps: int
    batch_size: int | None
    restarts: int
    held_out: Data | None | float
    patience: int
    progress: bool | None
    record: Callable[[dict[str, float]], None] | None
    key: PRNGKeyArray
    rng: np.random.Generator
    records: list[Records] = field(default_factory=list)
    checks: list[tuple[int, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    best: tuple[float, Any] | None = None
    careful: bool = False

    @property
    def by_sums(self) -> bool:
        return isinstance(self.learner, ClosedForm)

    def fit(self) -> Fit:
        key_start, key_train = jax.random.split(self.key)
        models = self._starts(key_start)
        default = jnp.result_type(float)
        eps = float(jnp.finfo(default).eps)
        with Progress(self.progress, self.steps, "fit") as self.bar:
            missing = self.survey.sample.observed is not None
            huge = self.survey.largest > 1e15
            if self.by_sums and (missing or huge):
                state = self._carefully(models, key_train)
            else:
                models = models.arithmetic(True) if self.by_sums else models
                watch = self._watch_fast(eps) if self.by_sums else self._watch
                state, records = train(self.learner, models, self._source(default), self.steps, key_train, watch)
                self.records = records
                if self.by_sums and self._unsafe(records[-1], eps):
                    safe = records[:-1] or []
                    models = jax.tree.map(lambda leaf: leaf, state.previous if _dubious(state) else state.model)
                    self.records = safe
                    if not _all_finite(models):
                        models, self.records = self._starts(key_start), []
                    state = self._carefully(models, key_train)
        return self._finish(state)

    # -- where it starts

    def _starts(self, key: PRNGKeyArray) -> Any:
        if self.model.ready and self.restarts == 1:
            model = self.model
            if model.standardised and not self._identity():
                query = self.survey.query.inverse() if self.survey.query else _no_units(self.survey.sample.query_shape)
                evidence = self.survey.evidence.inverse() if self.survey.evidence else None
                model = model.rescaled(query, evidence)
            return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], model)
        sample = as_datum(
            self.survey.sample, self.survey.query, self.survey.evidence, np.dtype(jnp.result_type(float)), 1e12
        )
        starts = [_responsibilities(self.model, self.survey, self.rng) for _ in range(self.restarts)]
        stacked = None if starts[0] is None else jnp.asarray(np.stack(starts), jnp.result_type(float))
        return _initialise_all(self.model, sample, stacked, jax.random.split(key, self.restarts))

    def _identity(self) -> bool:
        return self.survey.query is None and self.survey.evidence is None

    # -- training

    def _source(self, dtype: Any) -> InMemory | Streamed:
        survey = self.survey
        convert = lambda block: as_datum(block, survey.query, survey.evidence, np.dtype(dtype))  # noqa: E731
        rows = block_rows(survey.sample, self.model, np.dtype(dtype))
        if isinstance(self.data, Data):
            return InMemory(convert(self.data), self.batch_size, rows, self.rng)
        stream = self.data
        rows = min(rows, self.batch_size) if self.batch_size else min(8 * rows, 65536)
        blocks = lambda: (_padded(convert(block), rows) for block in stream.blocks(rows))  # noqa: E731
        return Streamed(blocks, survey.total, self.batch_size is not None)

    def _carefully(self, models: Any, key: PRNGKeyArray) -> Any:
        """EM in float64 with sums about each expert's own mean: slower, and right where fast sums would cancel."""
        self.careful = True
        with jax.enable_x64(True):
            start = jax.tree.map(jnp.asarray, _cast(models.arithmetic(False), np.float64))
            left = max(1, self.steps - sum(len(record["code"]) for record in self.records))
            state, records = train(self.learner, start, self._source(np.float64), left, key, self._watch)
        self.records += records
        return state

    def _unsafe(self, record: Records, eps: float) -> bool:
        radius = np.sqrt(np.prod(self.survey.sample.query_shape)) * min(self.survey.largest, 1e18)
        error = eps * np.max(record["sharpness"], initial=0.0) * min(radius, 1e18) ** 2
        codes = record["code"][-1]
        return bool(not error < SAFE or np.any(codes == learners.FELL) or np.any(codes == learners.NOT_FINITE))

    def _watch_fast(self, eps: float) -> Callable[[Any, int, Records], bool]:
        def watch(state: Any, step: int, record: Records) -> bool:
            return self._watch(state, step, record) or self._unsafe(record, eps)

        return watch

    def _watch(self, state: Any, step: int, record: Records) -> bool:
        value = float(np.max(record["value"][-1])) - self.survey.log_scale
        self.bar.update(step, f"{value:.5g} nats per datum")
        if self.record is not None:
            first = step - len(record["value"])
            for i, (values, skipped) in enumerate(zip(record["value"], record["skipped"], strict=True)):
                self.record(
                    {
                        "step": first + i,
                        "value": float(np.max(values)) - self.survey.log_scale,
                        "skipped": int(np.sum(skipped)),
                    }
                )
        if isinstance(self.held_out, Data):
            return self._check_held_out(state, step)
        return False

    def _check_held_out(self, state: Any, step: int) -> bool:
        from veil.evaluate.likelihood import log_prob

        winner = self._winner(state)
        value = float(np.mean(log_prob(self._in_user_units(state, winner), self.held_out)))
        self.checks.append((step, value))
        if self.record is not None:
            self.record({"step": step, "held_out": value})
        if self.best is None or value > self.best[0]:
            self.best = (value, jax.tree.map(lambda leaf: leaf, state))
        since = len(self.checks) - 1 - int(np.argmax([check[1] for check in self.checks]))
        return not self.by_sums and since >= self.patience

    # -- how it ends

    def _winner(self, state: Any) -> int:
        if self.by_sums:
            values = np.asarray(state.value)
            return int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))
        recent = (
            np.concatenate([record["value"] for record in self.records])[-100:] if self.records else np.zeros((1, 1))
        )
        return int(np.nanargmax(np.mean(recent, 0))) if np.any(np.isfinite(recent)) else 0

    def _in_user_units(self, state: Any, winner: int) -> Any:
        model = _cast(
            jax.tree.map(lambda leaf: np.asarray(leaf)[winner], state.model), np.dtype(jnp.result_type(float))
        )
        model = model.arithmetic(False)
        if model.standardised and not self._identity():
            return model.rescaled(self.survey.query or _no_units(self.survey.sample.query_shape), self.survey.evidence)
        return jax.tree.map(jnp.asarray, model)

    def _finish(self, state: Any) -> Fit:
        if self.best is not None and not self.by_sums:
            state = self.best[1]
        winner = self._winner(state)
        model = self._in_user_units(state, winner)
        values = np.concatenate([record["value"][:, winner] for record in self.records])
        penalties = np.concatenate([record["penalty"][:, winner] for record in self.records])
        skipped = int(sum(np.sum(record["skipped"][:, winner]) for record in self.records))
        final = np.asarray(self.records[-1]["value"][-1]) - self.survey.log_scale
        code = int(self.records[-1]["code"][-1][winner])
        history = History(values - self.survey.log_scale, penalties, np.array(self.checks).reshape(-1, 2), final)
        status = self._status(code, len(values), skipped)
        notes = tuple(self.notes) + tuple(diagnose(self.model, state, winner, self.survey, self.by_sums))
        for note in notes:
            warnings.warn(note, UserWarning, stacklevel=5)
        return Fit(model, self.learner.posterior, history, Status(*status, notes))  # type: ignore[attr-defined]

    def _status(self, code: int, steps: int, skipped: int) -> tuple[bool, str, int, int]:
        if code == learners.CONVERGED:
            return True, "converged", steps, skipped
        if code == learners.FELL:
            return False, "stopped: the likelihood fell; the step was undone", steps, skipped
        if code == learners.NOT_FINITE:
            return False, "stopped: the objective was not finite; the last finite model is kept", steps, skipped
        if steps < self.steps:
            return True, f"stopped: no improvement on held-out data in {self.patience} checks", steps, skipped
        return False, "all steps taken", steps, skipped


def _dubious(state: Any) -> bool:
    codes = np.asarray(state.code)
    return bool(np.any((codes == learners.FELL) | (codes == learners.NOT_FINITE)))


def _all_finite(tree: Any) -> bool:
    return all(np.all(np.isfinite(np.asarray(leaf))) for leaf in jax.tree.leaves(tree) if eqx.is_inexact_array(leaf))


def _no_units(shape: tuple[int, ...]) -> Units:
    return Units(np.zeros(shape), np.ones(shape))


def _padded(datum: Datum, rows: int) -> Datum:
    """A short last block, filled up with data of weight zero so that every block has one shape."""
    missing = rows - len(datum.query)
    if missing == 0:
        return datum
    return jax.tree.map(lambda leaf: np.pad(leaf, [(0, missing)] + [(0, 0)] * (leaf.ndim - 1)), datum)


def diagnose(model: Any, state: Any, winner: int, survey: Survey, by_sums: bool) -> list[str]:
    """Components that are empty, collapsed or twice there, and columns that say nothing, each in one line."""
    notes = constant_columns(survey)
    if not by_sums or not hasattr(state.model, "experts"):
        return notes
    counts = np.asarray(state.counts)[winner]
    components = len(counts)
    if components < 2:
        return notes
    experts = jax.tree.map(lambda leaf: np.asarray(leaf)[winner], state.model.experts)
    for k in np.flatnonzero(counts < 1e-3):
        notes.append(
            f"component {k} is empty ({counts[k]:.2g} data): it keeps its last parameters; use fewer components"
        )
    covariance = getattr(experts, "covariance", None)
    if covariance is not None and not any("constant" in note for note in notes):
        with jax.enable_x64(True):
            smallest = np.broadcast_to(np.asarray(covariance.smallest()), components)
        floor = getattr(covariance, "floor", None) or getattr(getattr(covariance, "shared", None), "floor", 1e-6)
        held = np.sqrt(floor / np.maximum(counts, 1e-3))
        for k in np.flatnonzero((smallest < 2 * held) & (counts >= 1e-3)):
            notes.append(
                f"component {k} collapsed onto {counts[k]:.3g} data: its variance is held at the floor of its prior; "
                f"use fewer components, a tied covariance or a larger floor"
            )
    rows = np.concatenate(
        [
            np.asarray(leaf).reshape(components, -1)
            for leaf in jax.tree.leaves(experts)
            if np.shape(leaf)[:1] == (components,)
        ]
        or [np.arange(components)[:, None]],
        axis=1,
    )
    if components <= 300:
        for k in range(1, components):
            same = np.flatnonzero(
                np.max(np.abs(rows[:k] - rows[k]), axis=1) < 1e-3 * np.max(np.abs(rows[k]), initial=1e-30)
            )
            if len(same):
                notes.append(f"component {k} is a duplicate of component {same[0]}: use fewer components, or restarts")
    return notes


def constant_columns(survey: Survey) -> list[str]:
    """Columns whose observed values are all equal, or all missing."""
    notes = []
    flat = survey.sample.query.reshape(len(survey.sample), -1)
    observed = survey.sample.observed
    for j in range(flat.shape[1] if survey.query is not None else 0):
        seen = flat[:, j] if observed is None else flat[observed.reshape(len(flat), -1)[:, j], j]
        name = survey.sample.query_names[j] if len(survey.sample.query_names) == flat.shape[1] else str(j)
        if len(seen) == 0:
            notes.append(f"column {name} is missing in every row: its parameters are those it started with")
        elif np.ptp(seen) == 0 and len(flat) > 1:
            notes.append(f"column {name} is constant ({seen[0]:g}): its variance is held at the floor of the prior")
    return notes
