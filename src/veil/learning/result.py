"""What a fit returns: frozen and named."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from veil.data.recorded.views import View
from veil.host.showing import Shown, shown, spark, table
from veil.model import OfSequences, PerEpisode
from veil.model.names import Names, remember
from veil.posterior.arguments import Fitted
from veil.units import unwrapped, unwrapped_posterior

NOTES = 3  # shown of many


def unit_of(model: Any, objective: Any = None) -> str:
    """What an objective's values are counted in."""
    if objective is not None and objective.unit is not None:
        return str(objective.unit)
    if isinstance(model, PerEpisode):
        return "nats per episode"
    return "nats per sequence or window" if isinstance(model, OfSequences) else "nats per datum"


@dataclass(frozen=True, repr=False)
class History(Shown):
    """What happened at each step of the restart that won, in the user's units.

    ``value``: the objective before the step, nats per datum (with EM the log-likelihood plus ``penalty``, its
    log-prior); ``held_out`` [M, 2]: step and mean log-likelihood of held-out data, or its whole bound, whatever
    warms up in training; ``restarts`` [R]: the final value of each restart; ``metrics``: what else the objective's
    ``Estimate`` says, by name, of an ELBO ``elbo``, ``reconstruction`` and ``kl``. ``unit``: what ``value``,
    ``held_out`` and ``restarts`` are counted in, of an objective that is no likelihood not nats.
    """

    value: np.ndarray
    penalty: np.ndarray
    held_out: np.ndarray
    restarts: np.ndarray
    metrics: dict[str, np.ndarray] = field(default_factory=dict)
    unit: str = "nats per datum"

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


def in_a_row(first: "Fit", then: "Fit") -> "Fit":
    """The second of two fits, which went on from the first, with the history of both."""
    one, two, steps = first.history, then.history, first.status.steps
    series = {name: np.concatenate([vars(one)[name], vars(two)[name]]) for name in ("value", "penalty")}
    metrics = {
        name: np.concatenate([one.metrics[name], two.metrics[name]]) for name in one.metrics if name in two.metrics
    }
    checks = np.concatenate([one.held_out, two.held_out + np.array([[steps, 0.0]])])
    history = History(**series, held_out=checks, restarts=two.restarts, metrics=metrics, unit=two.unit)
    taken, skipped = steps + then.status.steps, first.status.skipped + then.status.skipped
    return replace(then, history=history, status=replace(then.status, steps=taken, skipped=skipped))


@dataclass(frozen=True, repr=False)
class Fit(Fitted):
    """What ``fit`` returns: the fitted model, its posterior, the history and how it ended.

    ``view``: how its data were made of what an environment shows (``Recording.data``), which actors see by; else None.
    ``query_names``, ``evidence_names``: the columns it was fitted to, () where they had no names. Data that the fit, or
    its ``model``, is given later go by these names.
    """

    history: History
    status: Status
    view: View | None = None
    query_names: tuple[str, ...] = ()
    evidence_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        remember(self.model, Names(self.query_names, self.evidence_names))

    def _rows(self) -> list[tuple[str, str]]:
        unit = self.history.unit
        value = f"; {self.history.value[-1]:.6g} {unit}" if len(self.history) else ""
        held_out = self.history.held_out
        top = np.max(held_out[:, 1], initial=-np.inf, where=np.isfinite(held_out[:, 1]))
        best = [("held out", f"{top:.6g} {unit} at best")] if len(held_out) else []
        notes = self.status.notes
        more = [("note", f"and {len(notes) - NOTES} more in status.notes")] if len(notes) > NOTES else []
        return [
            ("model", _inside(*unwrapped(self.model))),
            ("posterior", _inside(*unwrapped_posterior(self.posterior))),
            ("ended", f"{self.status.reason} after {self.status.steps} steps{value}"),
            *best,
            *(("note", note) for note in notes[:NOTES]),
            *more,
        ]

    def __repr__(self) -> str:
        return "\n".join(["Fit", *(f"  {name}: {text}" for name, text in self._rows())])

    def _repr_html_(self) -> str:
        return table("Fit", self._rows(), spark(self.history.value))


def _inside(part: Any, units: Any) -> str:
    return shown(part, 2) + ("" if units is None else ", of standardised data")
