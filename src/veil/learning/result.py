"""What a fit returns: frozen and named."""

from dataclasses import dataclass

import numpy as np

from veil.data.recorded.views import View
from veil.posterior.arguments import Fitted


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


@dataclass(frozen=True, repr=False)
class Fit(Fitted):
    """What ``fit`` returns: the fitted model, its posterior, the history and how it ended.

    ``view``: how its data were made of what an environment shows (``Recording.data``), which actors see by; else None.
    """

    history: History
    status: Status
    view: View | None = None

    def __repr__(self) -> str:
        value = f"{self.history.value[-1]:.6g}" if len(self.history) else "nothing"
        notes = "".join(f"\n  note: {note}" for note in self.status.notes)
        return f"Fit({self.status.reason} after {self.status.steps} steps, {value} nats per datum){notes}"
