"""The verb ``fit``: any model, any data, one call."""

import functools
import os
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from veil.data import Data, Stream
from veil.host.checkpoints import Checkpoints, Keeper, as_checkpoints, fingerprint
from veil.host.devices import Placement, leads, placement
from veil.host.keys import generator
from veil.host.progress import Progress
from veil.learning.choices import (
    as_data,
    as_optimiser,
    check_arguments,
    check_parts,
    check_search,
    in_windows,
    numbered,
    usual_curvature,
    usual_objective,
    usual_optimiser,
)
from veil.learning.em import ExpectationMaximisation
from veil.learning.finishing import finished, looking, scorer
from veil.learning.gradient import Gradient
from veil.learning.learner import FELL
from veil.learning.loop import train
from veil.learning.preprocessing import Preprocessing
from veil.learning.result import Fit, unit_of
from veil.learning.resuming import Resuming
from veil.learning.search import Curvature, LineSearch
from veil.learning.starting import begin, careful, cast, finite, first_of, frozen_units, guesses, seeds, source_of
from veil.learning.watch import Watch
from veil.model import ClosedForm, SecondOrder, Tractable, checks
from veil.model.abilities import name_of, started
from veil.objective import ExpectedLogLikelihood, Marginal, Objective
from veil.posterior import Exact, Expecting, Posterior
from veil.posterior.arguments import Fitted
from veil.posterior.base import per_datum
from veil.posterior.choice import usual

SAFE = 0.05  # nats: the largest rounding of one datum's log-density that the fast sums may make


def fit(
    model: Any,
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
    units: Any = None,
    mesh: Any = None,
    checkpoints: Checkpoints | str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    record: Callable[[dict[str, float]], None] | None = None,
    look: Callable[[Fit], dict[str, float]] | None = None,
) -> Fit:
    """Fit a model to data; returns ``Fit(model, posterior, history, status)``.

    With the defaults a model whose M-step is closed-form learns by expectation maximisation
    (``ExpectedLogLikelihood``), a ``SecondOrder`` one by Newton's or quasi-Newton steps on the exact log-likelihood
    (``Marginal``), any other with a latent that can be summed out by gradient ascent on it, and the rest on a lower
    bound of it (``ELBO``; of a conditional VAE ``ImportanceWeighted(5)``), together with the model's usual posterior.
    Model, posterior and objective are chosen independently. Data are standardised inside, robustly, and the model comes
    back in the user's units (see ``veil.units``). A model or posterior that was learned before goes on in the units it
    began with.

    Arguments:
        model: with or without parameters; one with parameters starts from them, unless ``restarts`` asks for new ones.
            Of a ``Fit`` learning goes on, with its posterior unless another is given.
        data: ``Data``, an array [N, ...] (which becomes one), or a ``Stream`` larger than memory.
        key: a ``jax.random`` key; the same key gives the same fit.
        posterior: ``Exact()``, ``Amortized(...)``, ``Table(...)``, ``Refined(...)``; one without parameters gets some.
        objective: ``Marginal()``, ``ExpectedLogLikelihood(samples=None)``, ``ELBO(...)``, ``ImportanceWeighted(...)``,
            ``objective.WakeSleep(...)``.
        optimiser: an optax optimiser, or ``veil.Optimiser(optax.adam(1e-3), clip=10.0, average=0.999)``;
            choosing one means learning by gradients. Default Adam, its rate decaying to zero from 0.01 (0.003 for
            bounds, 0.03 for a conditional VAE's). Or ``veil.Newton()``, ``veil.QuasiNewton()``: steps along the
            curvature of the exact log-likelihood of all data, in float64.
        steps: at most this many (default: 2000 of gradients, 1000 of others). One step of full-batch EM, and one along
            the curvature, sees all data.
        batch_size: rows a step sees (default: all for EM, up to 256 for gradients); with EM it makes it stepwise EM.
        window: train on windows of so many steps of long sequences, each going on from where the posterior was at the
            end of the one before it (truncated backpropagation through time): the sum of a sequence's windows is its
            bound, only gradients stop at the cuts. A batch is ``batch_size`` sequences side by side (default: up to
            16), and values in the history are of windows. For ``StateSpace`` models with ``Sequential`` posteriors.
        restarts: this many starts, run as one batch; the best final value wins.
        tolerance: EM stops when less than this many nats per datum are still to be gained, by extrapolation; steps
            along the curvature when no entry of the gradient is larger, in nats per datum.
        held_out: other data, or the fraction of ``data`` to hold out, scored from time to time. Gradients keep the
            model that was best on them and stop after ``patience`` checks without improvement; others do neither.
        fixed: leave the model as it is and learn the posterior only.
        units: ``veil.Units.of(data, model, by=veil.units.Deviation())``, made once and kept, in the place of those that
            are measured here, robustly. A model that was learned before keeps its own, which these must be.
        mesh: share the rows out over devices: ``veil.mesh()`` for all (of all processes, after
            ``jax.distributed.initialize``), a number of them, or a mesh of yours. Same result, to rounding.
        checkpoints: ``Checkpoints(folder, every=30.0)``, or the folder: the whole state is written now and then, and
            the same call goes on from there, to the same bytes as if it had not been stopped. Ctrl-C writes one first.
            ``steps`` may be others: with more a fit becomes longer, its learning rate on the longer curve from there
            on; with no more than were taken it ends where it is.
        progress: show a bar (default: when a terminal is there and it takes longer than two seconds).
        record: called with a dictionary of numbers for every step; see ``veil.JsonLines`` and ``veil.TensorBoard``.
        look: called ten times in a fit by gradients with what it would return there, such as to let it act in an
            environment; the numbers that it gives by name go to ``record`` and beside the bar.

    Raises:
        TypeError, ValueError: an argument is not what it should be; the message names it.
        Interrupted: Ctrl-C or SIGTERM ended a fit that has checkpoints (a KeyboardInterrupt).
        CheckpointError: a checkpoint could not be written; those before it are whole.

    >>> import jax, veil
    >>> result = fit(veil.Mixture(components=2), veil.data.load("faithful"), key=jax.random.key(0))
    >>> result.status.converged
    True
    """
    if isinstance(model, Fitted):
        model, posterior = model.model, posterior or model.posterior
    checks.a_model(model)
    data = data if isinstance(data, Stream) else as_data(data)
    check_arguments(model, data, steps, batch_size, restarts, tolerance, held_out, patience)
    check_parts(key, posterior, objective)
    curvature = optimiser if isinstance(optimiser, Curvature) else None
    optimiser = None if optimiser is None or curvature is not None else as_optimiser(optimiser)
    place = placement(mesh)
    asked = dict(
        model=model,
        key=np.asarray(jax.random.key_data(key)),
        posterior=posterior,
        objective=objective,
        optimiser=curvature or (optimiser and replace(optimiser, horizon=None)),
        batch_size=batch_size,
        window=window,
        restarts=restarts,
        tolerance=tolerance,
        held_out=held_out,
        patience=patience,
        fixed=fixed,
    )
    asked |= {} if units is None else {"units": units}
    rng = generator(key)
    if isinstance(held_out, float) and isinstance(data, Data):
        held_out, data = data.split(held_out, rng)
    anew = not started(model) or restarts > 1
    model, posterior, units = frozen_units(model, posterior, anew, units)
    posterior = posterior or usual(model)
    if isinstance(posterior, Exact) and not isinstance(model, Tractable):
        raise TypeError(f"posterior: {name_of(model)} has no exact one; leave it out, or use Amortized() or Table()")
    if isinstance(posterior, Exact) and fixed:
        raise ValueError("fixed: with an exact posterior and a fixed model there is nothing to learn")
    if isinstance(objective, Marginal) and not isinstance(model, Tractable):
        raise TypeError(f"objective: {name_of(model)} has no exact likelihood; use ELBO() or ImportanceWeighted()")
    if window is not None:
        data = in_windows(model, data, window, posterior, objective)
        batch_size = batch_size or min(int(np.sum(data.fields()["reset"][:, 0])), 16)
    begun, seen = begin(model, data, units, restarts, rng)
    seed = seeds(rng, 1)[0]
    if curvature is not None:
        check_search(posterior, objective, batch_size, window, look)
        objective = objective or Marginal()
    closed = isinstance(begun, ClosedForm) and begun.closed_form and isinstance(posterior, Expecting)
    objective = objective or usual_objective(begun, posterior, closed and optimiser is None and not fixed)
    if curvature is None and optimiser is None and isinstance(objective, Marginal) and look is None:
        curvature = usual_curvature(first_of(begun), batch_size is not None)
    if per_datum(posterior) is not None:
        data = numbered(data, held_out)
    asked["precision"] = str(jnp.result_type(float))  # here: the first checkpoint may be written amid sums in float64
    identity = functools.partial(_identity, asked, data, seen)
    keeper = None if checkpoints is None else Keeper(as_checkpoints(checkpoints), identity)
    leader = leads()
    by_sums = closed and optimiser is None and not fixed and isinstance(objective, ExpectedLogLikelihood)
    if by_sums and look is not None:
        raise ValueError("look: it is of fits by gradients, and this one is EM; leave it out, or choose an optimiser")
    steps = steps or (2000 if not by_sums and curvature is None else 1000)
    learner: Any
    if curvature is not None:
        learner = LineSearch(curvature, float(tolerance))
    elif by_sums:
        stepwise = batch_size is not None and (isinstance(data, Stream) or batch_size < len(data))
        stochastic = stepwise or objective.samples is not None  # type: ignore[attr-defined]
        learner = ExpectationMaximisation(objective, posterior, tolerance, stochastic, stepwise)  # type: ignore[arg-type]
    else:
        optimiser = optimiser or usual_optimiser(begun, steps, objective)
        learner = Gradient(objective, optimiser, fixed, window is not None)
    with Progress(progress if leader else False, "fit") as bar, closing(keeper) if keeper else nullcontext():
        scale = seen.log_scale if objective.unit is None else 0.0
        watch = Watch(bar, record if leader else None, scale, unit_of(model, objective))
        memory = None if keeper is None else Resuming(keeper, watch, place)
        if isinstance(held_out, Data):
            score = scorer(held_out, seen, posterior, objective, watch, learner, seeds(rng, 1)[0])
            watch.hold_out(score, patience)
        if look is not None:
            watch.look(looking(look, seen, posterior, watch, learner, data))
        if curvature is not None:
            watch.may_stop = False
            state = _searched(learner, begun, data, seen, steps, seed, watch, memory, place)
        elif by_sums:
            watch.may_stop = False  # EM goes on to its optimum; held-out data are scored on the way
            state = _by_sums(learner, begun, data, seen, steps, batch_size, seed, watch, memory, place)
        else:
            batch_size = batch_size or (min(len(data), 256) if isinstance(data, Data) else 256)
            source = source_of(data, seen, batch_size, seed, place, window is not None)
            watch.limit = steps
            pairs = careful(begun), guesses(posterior, begun, source, restarts, rng)
            state = train(learner, pairs, source, steps, seed, watch, watch.period(steps), memory)
            state = watch.best_state if watch.best_state is not None else state
    return finished(learner, state, posterior, seen, watch, steps, data)


def _searched(
    learner: LineSearch,
    models: Any,
    data: Data | Stream,
    seen: Preprocessing,
    steps: int,
    seed: np.ndarray,
    watch: Watch,
    memory: Resuming | None,
    place: Placement,
) -> Any:
    """Steps along the curvature, in float64: a gradient of 1e-6 of what data differ by is beyond float32.

    What is worked out once for all data is worked out once for each block: all are one.
    """
    watch.limit, watch.stage = steps, 1
    model = first_of(models)
    once = isinstance(model, SecondOrder) and model.work > 0
    with jax.enable_x64(True):
        exact = careful(cast(models, np.float64))
        source = source_of(data, seen, None, seed, place, rows=len(data) if once and isinstance(data, Data) else None)
        return train(learner, exact, source, steps, seed, watch, None, memory)


def _by_sums(
    learner: ExpectationMaximisation,
    models: Any,
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
    if not seen.missing and seen.largest < 1e15 and not (memory is not None and memory.stage() == 1):
        source = source_of(data, seen, batch_size, seed, place)
        precision_limit = np.asarray(SAFE / (eps * max(radius, 1e-9) ** 2), jnp.result_type(float))
        fast = replace(learner, precision_limit=precision_limit)
        state = train(fast, models, source, steps, seed, watch, None, memory)
        if not np.any(watch.records[-1]["code"][-1] >= FELL):
            return state
        go_on = finite((state.model, watch.records[-1]["value"]))
        models = state.model if go_on else models
        watch.exactly(go_on)
    watch.stage = 1
    with jax.enable_x64(True):
        exact = careful(cast(models, np.float64))
        source = source_of(data, seen, batch_size, seed, place)
        state = train(learner, exact, source, max(1, steps - watch.taken_before), seed, watch, None, memory)
    if not learner.stochastic:
        watch.never_fell()
    return state


def _identity(asked: dict[str, Any], data: Data | Stream, seen: Preprocessing) -> dict[str, str]:
    """What must be the same for a fit to go on from a checkpoint, each as a digest."""
    whole = data.fields() if isinstance(data, Data) else (seen.sample.fields(), seen.total, data.count)
    held_out = asked["held_out"]
    asked = asked | {"held_out": held_out.fields() if isinstance(held_out, Data) else held_out}
    named = {name: fingerprint(value) for name, value in asked.items()}
    return named | {"data": fingerprint(whole)}
