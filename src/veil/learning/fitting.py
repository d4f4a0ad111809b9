"""The verb ``fit``: any model, any data, one call."""

import functools
import os
import warnings
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from veil.data import Data, Stream, windows
from veil.evaluation.likelihood import evaluate
from veil.evaluation.objective import values as objective_values
from veil.host.checkpoints import Checkpoints, Keeper, as_checkpoints, fingerprint
from veil.host.devices import Placement, leads, placement
from veil.host.progress import Progress
from veil.learning import notes
from veil.learning.em import ClosedForm
from veil.learning.gradient import Gradient
from veil.learning.learner import CONVERGED, FELL, NOT_FINITE, ROUNDED
from veil.learning.loop import InMemory, Streamed, shared_out, train
from veil.learning.preprocessing import FAR, Preprocessing, preprocess, starting_responsibilities
from veil.learning.resuming import Resuming
from veil.learning.watch import Watch, likeliest
from veil.model import Datum, Model, checks
from veil.model.batching import as_datum, block_rows, padded
from veil.objective import (
    ELBO,
    FIVO,
    Estimator,
    ExpectedLogLikelihood,
    LocalReparameterisation,
    Marginal,
    Objective,
    Pathwise,
    StraightThrough,
)
from veil.parts.priors import Codes
from veil.posterior import Exact, Posterior, Resampled
from veil.units import Units

COLLAPSE = 256  # data on which a fit looks whether its latent is used
SAFE = 0.05  # nats: the largest rounding of one datum's log-density that the fast sums may make


@dataclass(frozen=True)
class History:
    """What happened at each step of the restart that won, in the user's units.

    ``value``: the objective before the step, nats per datum (with EM the log-likelihood plus ``penalty``, its
    log-prior); ``held_out`` [M, 2]: step and mean log-likelihood of held-out data; ``restarts`` [R]: the final value of
    each restart. Steps of fast float32 sums that had to give way to float64 are not in it.
    """

    value: np.ndarray
    penalty: np.ndarray
    held_out: np.ndarray
    restarts: np.ndarray

    def __len__(self) -> int:
        return len(self.value)


@dataclass(frozen=True)
class Status:
    """How a fit ended: ``reason`` in words, ``steps`` taken, of them ``skipped``, ``notes`` on what was unusual."""

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
    data: Any,
    *,
    key: PRNGKeyArray,
    posterior: Posterior | None = None,
    objective: Objective | None = None,
    optimiser: Any = None,
    steps: int | None = None,
    batch_size: int | None = None,
    window: int | None = None,
    restarts: int = 1,
    tolerance: float = 1e-6,
    held_out: Data | float | None = None,
    patience: int = 10,
    fixed: bool = False,
    mesh: Any = None,
    mixed_precision: bool = False,
    checkpoints: Checkpoints | str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    record: Callable[[dict[str, float]], None] | None = None,
) -> Fit:
    """Fit a model to data; returns ``Fit(model, posterior, history, status)``.

    With the defaults a model whose M-step is closed-form learns by expectation maximisation
    (``ExpectedLogLikelihood``), any other with a latent that can be summed out by gradient ascent on the exact
    log-likelihood (``Marginal``), and the rest on a lower bound of it (``ELBO``), together with the model's usual
    posterior. Model, posterior and objective are chosen independently. Data are standardised inside, robustly, and
    the model comes back in the user's units.

    Arguments:
        model: with or without parameters; one with parameters starts from them, unless ``restarts`` asks for new ones.
        data: ``Data``, an array [N, ...] (which becomes one), or a ``Stream`` larger than memory.
        key: a ``jax.random`` key; the same key gives the same fit.
        posterior: ``Exact()``, ``Amortized(...)``, ``Table(...)``, ``Refined(...)``; one without parameters gets some.
        objective: ``Marginal()``, ``ExpectedLogLikelihood(samples=None)``, ``ELBO(...)``, ``ImportanceWeighted(...)``,
            ``objective.WakeSleep(...)``.
        optimiser: an optax optimiser; choosing one means learning by gradients. Default Adam, its rate decaying to zero
            from 0.01 (0.003 for bounds).
        steps: at most this many (default: 1000 of EM, 2000 of gradients). One step of full-batch EM sees all data.
        batch_size: rows a step sees (default: all for EM, up to 256 for gradients); with EM it makes it stepwise EM.
        window: train on windows of so many steps of long sequences, each going on from where the posterior was at the
            end of the one before it (truncated backpropagation through time): the sum of a sequence's windows is its
            bound, only gradients stop at the cuts. A batch is ``batch_size`` sequences side by side (default: up to
            16), and values in the history are of windows. For ``StateSpace`` models with ``Sequential`` posteriors.
        restarts: this many starts, run as one batch; the best final value wins.
        tolerance: EM stops when less than this many nats per datum are still to be gained, by extrapolation.
        held_out: other data, or the fraction of ``data`` to hold out, scored from time to time. Gradients keep the
            model that was best on them and stop after ``patience`` checks without improvement; EM does neither.
        fixed: leave the model as it is and learn the posterior only.
        mesh: share the rows out over devices: ``veil.mesh()`` for all (of all processes, after
            ``jax.distributed.initialize``), a number of them, or a mesh of yours. Same result, to rounding.
        mixed_precision: networks multiply in bfloat16 and add in float32; parameters and likelihoods stay float32.
        checkpoints: ``Checkpoints(folder, every=30.0)``, or the folder: the whole state is written now and then, and
            the same call goes on from there, to the same bytes as if it had not been stopped. Ctrl-C writes one first.
        progress: show a bar (default: when a terminal is there and it takes longer than two seconds).
        record: called with a dictionary of numbers for every step; see ``veil.JsonLines`` and ``veil.TensorBoard``.

    Raises:
        TypeError, ValueError: an argument is not what it should be; the message names it.
        Interrupted: Ctrl-C or SIGTERM ended a fit that has checkpoints (a KeyboardInterrupt).
        CheckpointError: a checkpoint could not be written; those before it are whole.

    >>> import jax, veil
    >>> result = fit(veil.Mixture(components=2), veil.data.load("faithful"), key=jax.random.key(0))
    >>> result.status.converged
    True
    """
    data = data if isinstance(data, Stream) else as_data(data)
    _check_arguments(model, data, steps, batch_size, restarts, tolerance, held_out, patience)
    _check_parts(key, posterior, objective, optimiser)
    place = placement(mesh)
    asked = dict(
        model=model,
        key=np.asarray(jax.random.key_data(key)),
        posterior=posterior,
        objective=objective,
        optimiser=optimiser,
        steps=steps,
        batch_size=batch_size,
        window=window,
        restarts=restarts,
        tolerance=tolerance,
        held_out=held_out,
        patience=patience,
        fixed=fixed,
        mixed_precision=mixed_precision,
    )
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).astype(np.uint32).tolist())
    if isinstance(held_out, float) and isinstance(data, Data):
        held_out, data = data.split(held_out, rng)
    posterior = posterior or getattr(model, "usual_posterior", None) or Exact()
    if window is not None:
        data = _windows(model, data, window, posterior, objective)
        batch_size = batch_size or min(int(np.sum(data.fields()["reset"][:, 0])), 16)
    seen = preprocess(model, data, rng)
    starts = _starts(model, seen, restarts, rng)
    seed = seeds(rng, 1)[0]
    exact = isinstance(posterior, Exact)
    by_sums = starts.closed_form and optimiser is None and posterior.closed and not fixed
    objective = objective or _usual_objective(starts, by_sums, exact)
    if exact and not model.tractable:
        raise TypeError(
            f"posterior: {type(model).__name__} has no exact one; leave it out, or use Amortized() or Table()"
        )
    if exact and fixed:
        raise ValueError("fixed: with an exact posterior and a fixed model there is nothing to learn")
    if isinstance(objective, Marginal) and not model.tractable:
        raise TypeError(
            f"objective: {type(model).__name__} has no exact likelihood; use ELBO() or ImportanceWeighted()"
        )
    if posterior.per_datum:
        data = _numbered(data, held_out)
    asked["precision"] = str(jnp.result_type(float))  # here: the first checkpoint may be written amid sums in float64
    identity = functools.partial(_identity, asked, data, seen)
    keeper = None if checkpoints is None else Keeper(as_checkpoints(checkpoints), identity)
    leader = leads()
    with Progress(progress if leader else False, "fit") as bar, closing(keeper) if keeper else nullcontext():
        watch = Watch(bar, record if leader else None, seen.log_scale)
        memory = None if keeper is None else Resuming(keeper, watch, place)
        if isinstance(held_out, Data):
            watch.hold_out(_scorer(held_out, seen, posterior, objective, watch, seeds(rng, 1)[0]), patience)
        if by_sums and isinstance(objective, ExpectedLogLikelihood):
            steps = steps or 1000
            stepwise = batch_size is not None and (isinstance(data, Stream) or batch_size < len(data))
            stochastic = stepwise or objective.samples is not None
            watch.may_stop = False  # EM goes on to its optimum; held-out data are scored on the way
            learner = ClosedForm(objective, posterior, tolerance, stochastic, stepwise)
            state = _by_sums(learner, starts, data, seen, steps, batch_size, seed, watch, memory, place)
        else:
            steps = steps or 2000
            batch_size = batch_size or (min(len(data), 256) if isinstance(data, Data) else 256)
            optimiser = optimiser or default_optimiser(steps, 1e-2 if model.tractable else 3e-3)
            source = _source(data, seen, starts, batch_size, seed, place, window is not None)
            watch.limit = steps
            pairs = _carefully(starts), _guesses(posterior, starts, seen, source, restarts, rng)
            ascent = Gradient(objective, optimiser, fixed, mixed_precision, window is not None)
            state = train(ascent, pairs, source, steps, seed, watch, watch.period(steps), memory)
            state = watch.best_state if watch.best_state is not None else state
    return _finish(state, posterior, seen, watch, steps, data)


def _usual_objective(model: Model, by_sums: bool, exact: bool) -> Objective:
    if by_sums:
        return ExpectedLogLikelihood()
    if exact:
        return Marginal()
    return ELBO(usual_gradient(model))


def usual_gradient(model: Model) -> Estimator:
    """The gradient estimator that suits a model's latent: pathwise, unless it is of codes or shared by all data."""
    if model.shared_by > 1:
        return LocalReparameterisation()
    return StraightThrough() if isinstance(getattr(model, "latent", None), Codes) else Pathwise()


def seeds(rng: np.random.Generator, count: int) -> np.ndarray:
    """Data of ``count`` random keys, uint32 [count, 2]: made on the host, where it compiles nothing."""
    return rng.integers(0, 2**32, (count, 2), dtype=np.uint32)


@functools.lru_cache(maxsize=32)  # one object for one length: optimisers are compared by identity when jit looks back
def default_optimiser(steps: int, rate: float = 1e-2) -> Any:
    """Adam with a learning rate from ``rate`` to zero along a cosine, gradients clipped to norm 10."""
    import optax

    return optax.chain(optax.clip_by_global_norm(10.0), optax.adam(optax.cosine_decay_schedule(rate, steps)))


def as_data(data: Any) -> Data:
    """``Data``, or whatever its constructor takes as a query."""
    return data if isinstance(data, Data) else Data(data)


def _check_arguments(
    model: Any, data: Any, steps: Any, batch_size: Any, restarts: Any, tolerance: Any, held_out: Any, patience: Any
) -> None:
    checks.a_model(model)
    counts = {"steps": steps, "batch_size": batch_size, "restarts": restarts, "patience": patience}
    for name, value in counts.items():
        if value is not None or name in ("restarts", "patience"):
            checks.whole(name, value)
    checks.sequences(model, data)
    if model.ready and restarts == 1:
        checks.shapes(model, data)
    if not (isinstance(tolerance, int | float | np.number) and tolerance > 0):
        raise ValueError(f"tolerance: expected a positive number of nats per datum, such as 1e-6; got {tolerance!r}")
    fraction = isinstance(held_out, float) and 0 < held_out < 1
    if held_out is not None and not isinstance(held_out, Data) and not fraction:
        came = held_out if isinstance(held_out, int | float) else type(held_out).__name__
        raise ValueError(f"held_out: expected Data, or a fraction between 0 and 1; got {came}")
    if isinstance(held_out, float) and isinstance(data, Stream):
        raise ValueError("held_out: a stream cannot be split; give the held-out Data themselves")


def _check_parts(key: Any, posterior: Any, objective: Any, optimiser: Any) -> None:
    checks.random_key(key)
    if posterior is not None and not isinstance(posterior, Posterior):
        raise TypeError(f"posterior: expected a posterior, such as veil.Exact(); got {posterior!r}")
    if objective is not None and not isinstance(objective, Objective):
        raise TypeError(f"objective: expected an objective, such as veil.Marginal(); got {objective!r}")
    if optimiser is not None and not (hasattr(optimiser, "init") and hasattr(optimiser, "update")):
        raise TypeError(f"optimiser: expected an optax optimiser, such as optax.adam(1e-3); got {optimiser!r}")


def _identity(asked: dict[str, Any], data: Data | Stream, seen: Preprocessing) -> dict[str, str]:
    """What must be the same for a fit to go on from a checkpoint, each as a digest."""
    whole = data.fields() if isinstance(data, Data) else (seen.sample.fields(), seen.total, data.count)
    held_out = asked["held_out"]
    asked = asked | {"held_out": held_out.fields() if isinstance(held_out, Data) else held_out}
    named = {name: fingerprint(value) for name, value in asked.items()}
    return named | {"data": fingerprint(whole)}


@eqx.filter_jit
def _initialise(model: Any, data: Any, responsibilities: Any, seeds: Any) -> Any:
    keys = jax.random.wrap_key_data(seeds)
    return eqx.filter_vmap(lambda r, key: model.initialise(data, r, key).with_expanded_sums(True))(
        responsibilities, keys
    )


def _starts(model: Any, seen: Preprocessing, restarts: int, rng: np.random.Generator) -> Any:
    """Models in standardised units with a leading axis of restarts, summing the fast way."""
    if model.ready and restarts == 1:
        if model.standardised and (seen.query or seen.evidence):
            query = seen.query.inverse() if seen.query else _no_units(seen)
            model = model.rescaled(query, seen.evidence.inverse() if seen.evidence else None)
        return _one(model.with_expanded_sums(True))
    each = [starting_responsibilities(model, seen, rng) for _ in range(restarts)]
    default = np.dtype(jnp.result_type(float))
    with jax.enable_x64(True):  # a start from all data at once, outliers included, needs the digits
        sample = as_datum(seen.sample, seen.query, seen.evidence, seen.missing, FAR)
        stacked = None if each[0] is None else np.stack(each)
        models = _initialise(model, sample, stacked, seeds(rng, restarts)).counted(seen.total)
    return _on_device(_cast(models, default))


def _numbered(data: Data | Stream, held_out: Any) -> Data:
    """Data with an index, for posteriors with a row for each datum."""
    if not isinstance(data, Data):
        raise TypeError("posterior: one row per datum needs data in memory, and these are a stream; use Amortized()")
    if held_out is not None:
        raise ValueError("held_out: a posterior with one row per datum knows no other data; use Amortized()")
    return data.numbered()


@eqx.filter_jit
def _guess(posterior: Posterior, models: Any, example: Datum, count: int, seeds: Any) -> Any:
    keys = jax.random.wrap_key_data(seeds)
    return eqx.filter_vmap(lambda model, key: posterior.initialise(model, example, count, key))(models, keys)


def _guesses(
    posterior: Posterior, models: Any, seen: Preprocessing, source: InMemory | Streamed, restarts: int, rng: Any
) -> Any:
    """Posteriors of standardised data with a leading axis of restarts."""
    if isinstance(posterior, Exact):
        return posterior
    if posterior.ready and restarts == 1:
        inverse = [None if units is None else units.inverse() for units in (seen.query, seen.evidence)]
        return _one(posterior.rescaled(*inverse))
    example = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), source.example())
    count = 0
    if isinstance(source, InMemory):
        count = source.rows if posterior.per_datum else source.count
    return _guess(posterior, models, example, count, seeds(rng, restarts))


def _scorer(
    held_out: Data, seen: Preprocessing, posterior: Posterior, objective: Objective, watch: "Watch", seed: np.ndarray
) -> Callable[[Any], float]:
    """The mean log-likelihood of held-out data, or the objective where that is out of reach."""

    def score(state: Any) -> float:
        model = _in_user_units(state.model, likeliest(watch.records), seen)
        if model.tractable:
            return evaluate(model, held_out).log_likelihood_per_datum
        learned = posterior
        if hasattr(state, "posterior"):
            learned = _posterior_in_user_units(state.posterior, likeliest(watch.records), seen)
        found = objective_values(objective, model, learned, held_out, key=jax.random.wrap_key_data(jnp.asarray(seed)))
        weight = np.ones(len(found)) if held_out.weight is None else held_out.weight
        return float(np.average(found, weights=weight))

    return score


def _windows(model: Model, data: Data | Stream, window: int, posterior: Posterior, objective: Objective | None) -> Data:
    """Sequences cut into windows, marked where one begins a sequence. Raises TypeError, ValueError."""
    checks.whole("window", window)
    if not model.sequential or not hasattr(posterior, "ended"):
        raise TypeError(
            f"window: {type(model).__name__} with {type(posterior).__name__} cannot go on from one window to the next; "
            "StateSpace models (veil.rssm, veil.dmm, veil.vrnn) with Sequential posteriors can. Exact models take "
            "sequences of any length whole; others can be given veil.data.windows(data, length)"
        )
    if isinstance(objective, FIVO):
        raise TypeError("window: FIVO's particles cannot go on from one window to the next; use ELBO()")
    if not isinstance(data, Data):
        raise TypeError("window: windows are cut from data in memory, and these are a stream")
    return windows(data, window, marked=True)


def _source(
    data: Data | Stream,
    seen: Preprocessing,
    model: Any,
    batch_size: int | None,
    seed: np.ndarray,
    place: Placement,
    lanes: bool = False,
) -> InMemory | Streamed:
    """The data as the loop wants them, standardised, at JAX's present precision."""
    rows = block_rows(seen.sample, model)
    if isinstance(data, Data):
        return InMemory(as_datum(data, seen.query, seen.evidence, seen.missing), batch_size, rows, seed, place, lanes)
    if batch_size is not None:
        shared_out(batch_size, place)
    rows = batch_size or min(8 * rows, 65536) * place.count
    mine, stream = rows // place.processes, data
    convert = lambda block: padded(as_datum(block, seen.query, seen.evidence, seen.missing), mine)  # noqa: E731
    share = jax.process_index(), place.processes
    passes = batches = None
    if batch_size is None:
        part = stream.share(*share) if place.processes > 1 else stream
        passes = lambda: map(convert, part.blocks(mine))  # noqa: E731
    else:
        order = int(np.random.default_rng(seed).integers(2**31))
        batches = lambda at: stream.batches(mine, seed=order, process=share[0], processes=share[1], state=at)  # noqa: E731
    return Streamed(passes, batches, convert, convert(seen.sample[:1]), seen.total, place)


def _by_sums(
    learner: ClosedForm,
    starts: Any,
    data: Data | Stream,
    seen: Preprocessing,
    steps: int,
    batch_size: int | None,
    seed: np.ndarray,
    watch: Watch,
    memory: Resuming | None,
    place: Placement,
) -> Any:
    """EM: fast sums while they are safe, else float64 and sums about each expert's own mean.

    Fast sums cancel when a variance is small beside the data's range: eps · precision · radius² bounds the rounding of
    one datum's log-density. Missing entries and numbers that float32 cannot square need the careful way from the start.
    """
    eps = float(jnp.finfo(jnp.result_type(float)).eps)
    radius = min(seen.largest, 1e18) * float(np.sqrt(seen.points().shape[1]))
    watch.limit = steps
    models = starts
    if not seen.missing and seen.largest < 1e15 and not (memory is not None and memory.stage() == 1):
        source = _source(data, seen, starts, batch_size, seed, place)
        precision_limit = np.asarray(SAFE / (eps * max(radius, 1e-9) ** 2), jnp.result_type(float))
        fast = replace(learner, precision_limit=precision_limit)
        state = train(fast, starts, source, steps, seed, watch, None, memory)
        if not np.any(watch.records[-1]["code"][-1] >= FELL):
            return state
        models = state.model if _all_finite(state.model) else starts
        watch.begin_again()
    watch.stage = 1
    with jax.enable_x64(True):
        exact = _carefully(_cast(models, np.float64))
        source = _source(data, seen, starts, batch_size, seed, place)
        return train(learner, exact, source, max(1, steps - watch.taken_before), seed, watch, None, memory)


def _finish(
    state: Any, posterior: Posterior, seen: Preprocessing, watch: Watch, steps: int, data: Data | Stream
) -> Fit:
    winner = (
        likeliest(watch.records) if watch.best_restart is None or watch.best_state is not state else watch.best_restart
    )
    values, penalties, skipped, codes = (
        np.concatenate([record[name] for record in watch.records]) for name in ("value", "penalty", "skipped", "code")
    )
    remarks = notes.columns(seen, state.model.isotropic)
    if hasattr(state, "counts") and hasattr(state.model, "experts"):
        with jax.enable_x64(True):
            chosen = jax.tree.map(lambda leaf: np.asarray(leaf)[winner], state.model.experts)
            experts = _cast(chosen, np.float64)
            largest_precision = float(watch.records[-1]["largest_precision"][-1][winner])
            remarks += notes.components(experts, np.asarray(state.counts)[winner], largest_precision, seen)
    converged, reason = _ending(int(codes[-1][winner]), watch.steps, steps)
    history = History(
        values[:, winner] - seen.log_scale,
        penalties[:, winner],
        np.array(watch.checks).reshape(-1, 2),
        values[-1] - seen.log_scale,
    )
    model = _in_user_units(state.model, winner, seen)
    if hasattr(state, "posterior") and not isinstance(posterior, Exact):
        posterior = _posterior_in_user_units(state.posterior, winner, seen)
        remarks += _unused(model, posterior, data)
    missed = int(np.sum(skipped[:, winner]))
    if missed:
        remarks += [
            f"{missed} steps were skipped because a value, gradient or update was not finite: lower learning rates help"
        ]
    if remarks:
        warnings.warn("; ".join(remarks), UserWarning, stacklevel=3)
    status = Status(converged, reason, watch.steps, missed, tuple(remarks))
    return Fit(model, posterior, history, status)


def _unused(model: Model, posterior: Posterior, data: Data | Stream) -> list[str]:
    """A line if the latent is not used (posterior collapse), seen on some of the data."""
    from veil.evaluation.latents import collapse, latents  # here, because EM need not wait for it
    from veil.evaluation.paths import path_latents

    learned = jax.tree.leaves(eqx.filter(posterior, eqx.is_inexact_array))  # what has no parameters cannot collapse
    if model.shared_by > 1 or isinstance(posterior, Resampled) or not learned:
        return []
    some = next(iter(data.blocks(COLLAPSE)))
    if len(some) < 2:
        return []
    look: Any = path_latents if model.sequential else functools.partial(latents, rows=COLLAPSE)
    line = collapse(look(model, posterior, some, key=jax.random.key(0), samples=1, progress=False))
    return [line] if line is not None and line.startswith("collapse") else []


def _ending(code: int, taken: int, allowed: int) -> tuple[bool, str]:
    if code == CONVERGED:
        return True, "converged"
    if code == ROUNDED:
        return True, "converged to the last digit of its precision"
    if code == FELL:
        return False, "stopped: the likelihood fell, and the step was undone"
    if code == NOT_FINITE:
        return False, "stopped: the objective was not finite; the last finite model is kept"
    if taken < allowed:
        return True, "stopped: held-out data no longer improved; the best model is kept"
    return False, "all steps taken"


def _chosen(tree: Any, winner: int) -> Any:
    """One restart's model or posterior, at JAX's present precision, on the device."""
    chosen = jax.tree.map(lambda leaf: np.asarray(leaf)[winner] if eqx.is_array(leaf) else leaf, tree)
    return _on_device(_cast(chosen, np.dtype(jnp.result_type(float))))


def _in_user_units(models: Any, winner: int, seen: Preprocessing) -> Any:
    model = _chosen(models, winner).with_expanded_sums(False)
    if model.standardised and (seen.query or seen.evidence):
        return model.rescaled(seen.query or _no_units(seen), seen.evidence)
    return model


def _posterior_in_user_units(posteriors: Any, winner: int, seen: Preprocessing) -> Any:
    return _chosen(posteriors, winner).rescaled(seen.query, seen.evidence)


def _one(tree: Any) -> Any:
    """A tree with a leading axis of one restart."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None] if eqx.is_array_like(leaf) else leaf, tree)


def _on_device(tree: Any) -> Any:
    """Numbers as JAX arrays, by ``device_put``: ``jnp.asarray`` compiles a program for each new shape."""
    return jax.tree.map(lambda leaf: jax.device_put(leaf) if eqx.is_array_like(leaf) else leaf, tree)


def _carefully(models: Any) -> Any:
    """Models with a leading axis of restarts, summing the careful way."""
    return eqx.filter_vmap(lambda model: model.with_expanded_sums(False))(models)


def _cast(tree: Any, dtype: Any) -> Any:
    """Floating leaves as numpy of another precision: numpy, because it is done between two precisions of JAX."""
    return jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype) if eqx.is_inexact_array(leaf) else leaf, tree)


def _all_finite(tree: Any) -> bool:
    return all(np.all(np.isfinite(np.asarray(leaf))) for leaf in jax.tree.leaves(tree) if eqx.is_inexact_array(leaf))


def _no_units(seen: Preprocessing) -> Units:
    shape = seen.sample.query_shape[1:] if seen.sequential else seen.sample.query_shape
    return Units(np.zeros(shape), np.ones(shape))
