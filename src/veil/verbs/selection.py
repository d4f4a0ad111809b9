"""Model selection: fit several models, compare them by one criterion."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from veil.data import Data, Stream
from veil.evaluation.likelihood import Evaluation, evaluate
from veil.host.keys import generator
from veil.learning.choices import as_data
from veil.learning.fitting import fit
from veil.learning.result import Fit
from veil.model import Model, Tractable, checks
from veil.model.abilities import name_of
from veil.zoo.factor import FactorAnalysis

Criterion = Literal["bic", "aic", "held_out"]


@dataclass(frozen=True)
class Selection:
    """The outcome of ``select``: the best name, its fit, and every candidate's fit, evaluation and score.

    ``scores`` are to be minimised: BIC, AIC, or minus the held-out log-likelihood per datum (nats).
    """

    best: str
    fit: Fit
    criterion: Criterion
    scores: dict[str, float]
    fits: dict[str, Fit]
    evaluations: dict[str, Evaluation]

    def __repr__(self) -> str:
        rows = [
            f"  {'*' if name == self.best else ' '} {name:<24} {self.criterion} {score:12.3f}   "
            f"log-likelihood {self.evaluations[name].log_likelihood:12.3f}   "
            f"parameters {self.evaluations[name].parameters}"
            for name, score in sorted(self.scores.items(), key=lambda pair: pair[1])
        ]
        return "\n".join([f"Selection(best={self.best!r})", *rows])


def select(
    models: Mapping[Any, Model],
    data: Any,
    *,
    key: PRNGKeyArray,
    criterion: Criterion = "bic",
    held_out: Data | float = 0.2,
    **options: Any,
) -> Selection:
    """Fit every model and choose the one with the smallest BIC or AIC, or the largest held-out log-likelihood.

    Numbers of components (``Mixture``), of states (``HMM``), latent dimensions (``LDS``, ``PPCA``), covariances, or any
    models with an exact likelihood. BIC and AIC count the free numbers of a model, and BIC of sequences their steps.
    They pass over factor analysis with more factors than a covariance determines (Ledermann 1937) while another
    candidate is left: other factors would explain the data as well.

    Arguments:
        models: candidates by name, such as ``{k: Mixture(components=k) for k in range(1, 9)}``.
        data: as for ``fit``; with ``criterion="held_out"`` a fraction (or given data) is kept for the score.
        options: passed on to ``fit`` (restarts, tolerance, ...).

    Raises:
        TypeError: a candidate that is no model, or a stream.
        ValueError: no candidates, one without an exact likelihood, an unknown criterion, a share out of range.

    >>> import jax, veil
    >>> candidates = {k: veil.Mixture(components=k) for k in (1, 2, 3)}
    >>> select(candidates, veil.data.load("faithful"), key=jax.random.key(0), restarts=3).best
    '2'
    """
    if criterion not in ("bic", "aic", "held_out"):
        raise ValueError(f"criterion: expected bic, aic or held_out; got {criterion!r}")
    if not models:
        raise ValueError("models: expected at least one candidate")
    for name, model in models.items():
        checks.a_model(model)
        if not isinstance(model, Tractable):
            raise ValueError(
                f"models: candidates are compared by exact likelihoods, and {name!r} ({name_of(model)}) has only "
                "bounds, which differ in how tight they are: fit each, and compare veil.evaluate of held-out data"
            )
    checks.random_key(key)
    if not isinstance(held_out, Data) and not (isinstance(held_out, float) and 0 < held_out < 1):
        raise ValueError(f"held_out: expected Data, or a fraction between 0 and 1; got {held_out!r}")
    if isinstance(data, Stream):
        raise TypeError("data: select compares fits to Data in memory; of a stream, fit and evaluate each candidate")
    training = scoring = as_data(data)
    if criterion == "held_out":
        if isinstance(held_out, Data):
            scoring = held_out
        else:
            rng = generator(key)
            scoring, training = training.split(held_out, rng)
    fits, evaluations, scores = {}, {}, {}
    for i, (label, model) in enumerate(models.items()):
        name = str(label)
        fits[name] = fit(model, training, key=jax.random.fold_in(key, i), **options)
        evaluations[name] = evaluate(fits[name].model, scoring)
        result = evaluations[name]
        score = {"bic": result.bic, "aic": result.aic, "held_out": -result.log_likelihood_per_datum}[criterion]
        assert score is not None  # exact, all of them
        scores[name] = score
    kept = [name for name, found in fits.items() if criterion == "held_out" or not _undetermined(found.model)]
    best = min(kept or scores, key=lambda name: scores[name] if np.isfinite(scores[name]) else np.inf)
    return Selection(best, fits[best], criterion, scores, fits, evaluations)


def _undetermined(model: Any) -> bool:
    return isinstance(model, FactorAnalysis) and not model.determined
