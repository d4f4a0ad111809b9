"""The end of a fit: the best restart in the user's units, and notes on what was unusual."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from veil.data import Data, Stream
from veil.evaluation.likelihood import evaluate
from veil.evaluation.objective import values as objective_values
from veil.learning import notes
from veil.learning.em import EMState
from veil.learning.learner import CONVERGED, FELL, NOT_FINITE, ROUNDED, STUCK, UNBOUNDED, Learner, told
from veil.learning.preprocessing import Preprocessing
from veil.learning.result import Fit, History, Status
from veil.learning.starting import cast, chosen
from veil.learning.watch import Watch, joined, likeliest
from veil.model import Model, Plate, Startable, Stepwise, Tractable
from veil.model.names import names
from veil.objective import Objective
from veil.objective.base import whole
from veil.parts.experts import Experts, with_expanded_sums
from veil.posterior import Exact, Posterior, Resampled
from veil.units import in_user_units, standardised_posterior

COLLAPSE = 256  # data on which a fit looks whether its latent is used


def users_model(models: Any, winner: int, seen: Preprocessing) -> Any:
    """One restart's model in the user's units."""
    return in_user_units(with_expanded_sums(chosen(models, winner), False), seen.units)


@eqx.filter_jit  # outside of it every leaf's shape is a compilation
def _learned(learner: Learner, state: Any) -> tuple[Any, Any]:
    """The models and posteriors of a state with a leading axis of restarts."""
    return eqx.filter_vmap(learner.learned)(state)


def _experts(model: Any) -> Any:
    known = lambda node: isinstance(node, Experts)  # noqa: E731
    return next((node for node in jax.tree.leaves(model, is_leaf=known) if known(node)), None)


def scorer(
    held_out: Data,
    seen: Preprocessing,
    posterior: Posterior,
    objective: Objective,
    watch: Watch,
    learner: Learner,
    seed: np.ndarray,
) -> Callable[[Any], float]:
    """The mean log-likelihood of held-out data, or the objective, with its whole KL, where that is out of reach."""
    objective = whole(objective)

    def score(state: Any) -> float:
        winner = likeliest(watch.records)
        models, posteriors = _learned(learner, state)
        model = users_model(models, winner, seen)
        if isinstance(model, Tractable) and objective.unit is None:
            return evaluate(model, held_out).log_likelihood_per_datum
        learned = posterior
        if posteriors is not None:
            learned = standardised_posterior(chosen(posteriors, winner), seen.units)
        key = jax.random.wrap_key_data(jax.device_put(seed))
        found = objective_values(objective, model, learned, held_out, key=key)
        weight = np.ones(len(found)) if held_out.weight is None else held_out.weight
        return float(np.average(found, weights=weight))

    return score


def looking(
    look: Callable[[Fit], dict[str, float]],
    seen: Preprocessing,
    posterior: Posterior,
    watch: Watch,
    learner: Learner,
    data: Data | Stream,
) -> Callable[[Any], dict[str, float]]:
    """``look`` of a state: what the fit would return if it ended there."""
    known, view = names(data), data.view if isinstance(data, Data) else None
    none = np.zeros(0)

    def look_at(state: Any) -> dict[str, float]:
        winner = likeliest(watch.records)
        models, posteriors = _learned(learner, state)
        learned = posterior
        if posteriors is not None and not isinstance(posterior, Exact):
            learned = standardised_posterior(chosen(posteriors, winner), seen.units)
        history = History(none, none, np.zeros((0, 2)), none, unit=watch.unit)
        status = Status(False, "it goes on", watch.steps)
        model = users_model(models, winner, seen)
        return look(Fit(model, learned, history, status, view, known.query, known.evidence))

    return look_at


def finished(
    learner: Learner,
    state: Any,
    posterior: Posterior,
    seen: Preprocessing,
    watch: Watch,
    steps: int,
    data: Data | Stream,
) -> Fit:
    """What the fit returns: the best restart, in the user's units, and notes on what was unusual."""
    winner = (
        likeliest(watch.records) if watch.best_restart is None or watch.best_state is not state else watch.best_restart
    )
    all_ = joined(watch.records)
    skipped, last = int(np.sum(all_["skipped"][:, winner])), watch.records[-1]
    remarks = notes.columns(seen, isinstance(state.model, Startable) and state.model.space.isotropic)
    experts = _experts(state.model)
    if isinstance(state, EMState) and experts is not None:
        with jax.enable_x64(True):
            experts = cast(jax.tree.map(lambda leaf: np.asarray(leaf)[winner], experts), np.float64)
            largest_precision = float(last["largest_precision"][-1][winner])
            remarks += notes.components(experts, np.asarray(state.counts)[winner], largest_precision, seen)
    converged, reason = _ending(int(last["code"][-1][winner]), watch.steps, steps)
    history = History(
        all_["value"][:, winner] - watch.log_scale,
        all_["penalty"][:, winner],
        np.array(watch.checks).reshape(-1, 2),
        last["value"][-1] - watch.log_scale,
        told({name: each[:, winner] for name, each in all_["metrics"].items()}, -watch.log_scale),
        watch.unit,
    )
    models, posteriors = _learned(learner, state)
    model = users_model(models, winner, seen)
    remarks += notes.noise(chosen(models, winner), seen) if isinstance(state, EMState) else []
    if posteriors is not None and not isinstance(posterior, Exact):
        posterior = standardised_posterior(chosen(posteriors, winner), seen.units)
        remarks += _unused(model, posterior, data)
    if int(last["code"][-1][winner]) == UNBOUNDED:
        remarks += [notes.UNBOUNDED]
    if skipped:
        remarks += [
            f"{skipped} steps were skipped because a value, gradient or update was not finite: lower learning rates "
            "help"
        ]
    if remarks:
        warnings.warn("; ".join(remarks), UserWarning, stacklevel=3)
    status = Status(converged, reason, watch.steps, skipped, tuple(remarks))
    known, view = names(data), data.view if isinstance(data, Data) else None
    return Fit(model, posterior, history, status, view, known.query, known.evidence)


def _unused(model: Model, posterior: Posterior, data: Data | Stream) -> list[str]:
    """A line if the latent is not used (posterior collapse), seen on some of the data."""
    from veil.evaluation.latents import collapse, latents  # here, because EM need not wait for it
    from veil.evaluation.paths import path_latents

    learned = jax.tree.leaves(eqx.filter(posterior, eqx.is_inexact_array))  # what has no parameters cannot collapse
    if isinstance(model, Plate) or isinstance(posterior, Resampled) or not learned:
        return []
    some = next(iter(data.blocks(COLLAPSE)))
    if len(some) < 2:
        return []
    rows = 2 ** (len(some).bit_length() - 1)  # of few sizes
    look: Any = path_latents if isinstance(model, Stepwise) else functools.partial(latents, rows=rows)
    line = collapse(look(model, posterior, some, key=jax.random.key(0), samples=1, progress=False))
    return [line] if line is not None and line.startswith("collapse") else []


def _ending(code: int, taken: int, allowed: int) -> tuple[bool, str]:
    if code == CONVERGED:
        return True, "converged"
    if code == ROUNDED:
        return True, "converged to the last digit of its precision"
    if code == UNBOUNDED:
        return False, "stopped: the likelihood has no maximum"
    if code == STUCK:
        return False, "stopped: no step along the curvature raises the likelihood, and the gradient is not zero"
    if code == FELL:
        return False, "stopped: the likelihood fell, and the step was undone"
    if code == NOT_FINITE:
        return False, "stopped: the objective was not finite; the last finite model is kept"
    if taken < allowed:
        return True, "stopped: held-out data no longer improved; the best model is kept"
    return False, "all steps taken"
