"""What a fit returns: frozen and named."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from veil.host.showing import Shown, shown, spark, table
from veil.model import Stepwise
from veil.posterior.arguments import Fitted
from veil.units import unwrapped, unwrapped_posterior

NOTES = 3  # shown of many


@dataclass(frozen=True, repr=False)
class History(Shown):
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


@dataclass(frozen=True, repr=False)
class Fit(Fitted):
    """What ``fit`` returns: the fitted model, its posterior, the history and how it ended."""

    history: History
    status: Status

    def _rows(self) -> list[tuple[str, str]]:
        unit = "nats per sequence or window" if isinstance(self.model, Stepwise) else "nats per datum"
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
