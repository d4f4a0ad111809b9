"""A diagnosis: what was found, and the numbers behind it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from veil.control.diagnosis.covered import Coverage
from veil.control.diagnosis.findings import DOUBT, FAULT, Finding
from veil.control.diagnosis.judged import explained, sensitivity
from veil.control.diagnosis.predictions import Predictions, by_horizon
from veil.evaluation.average import Average, text
from veil.evaluation.average import plain as both
from veil.evaluation.paths import PathLatents
from veil.host.files import plain
from veil.host.showing import Shown


@dataclass(frozen=True, repr=False)
class Diagnosis(Shown):
    """What ``diagnose`` found of an agent that learns a world model. Likelihoods in nats a step.

    ``episodes``: which ones were predicted, in words. ``findings``: every check by its name, with its evidence;
    ``faults`` and ``doubts`` are the names of those that are not fine. ``log_likelihood``: of each part of the query
    and of "all", log p(y_t+h | y_1..t, u_1..t+h) at h = 1..H, open loop, so that h = 1 is the one-step prediction;
    ``shuffled``: of all, with the actions of another start. ``bias`` and ``r_squared`` of predicted rewards at
    h = 1..H. ``sensitivity``: how much less likely what came is with other actions. ``latents``: KL of the posterior
    from the prior, and which are in use; None where it is not known. ``coverage``: see ``Coverage``. ``returns``: of
    the recording; ``judged``: of episodes of the skill without exploring (None: none were given).
    """

    name: str
    episodes: str
    findings: tuple[Finding, ...]
    predictions: Predictions
    latents: PathLatents | None
    coverage: Coverage
    returns: np.ndarray
    judged: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        """The names of what is wrong."""
        return tuple(each.name for each in self.findings if each.severity == FAULT)

    @property
    def doubts(self) -> tuple[str, ...]:
        """The names of what may be wrong."""
        return tuple(each.name for each in self.findings if each.severity == DOUBT)

    def finding(self, name: str) -> Finding:
        """The finding of a name. Raises KeyError where that was not looked at."""
        found = {each.name: each for each in self.findings}
        return found[name]

    @property
    def log_likelihood(self) -> dict[str, list[Average]]:
        """Of each part and of "all", by horizon."""
        return {name: by_horizon(each) for name, each in self.predictions.scores.items()}

    @property
    def shuffled(self) -> list[Average]:
        """Of all, with the actions of another start."""
        return by_horizon(self.predictions.shuffled)

    @property
    def bias(self) -> list[Average]:
        """Predicted less obtained reward, by horizon."""
        return by_horizon(self.predictions.reward - self.predictions.obtained)

    @property
    def r_squared(self) -> list[float]:
        """The share of the variance of rewards that is predicted, by horizon."""
        found = self.predictions
        return [explained(found.reward[:, :, h], found.obtained[:, :, h]) for h in range(found.horizon)]

    @property
    def sensitivity(self) -> Average:
        """How far the log-likelihood falls with other actions, nats a step."""
        return sensitivity(self.predictions)

    def table(self) -> list[tuple[str, str, str]]:
        """Name, value and what it is, for a table."""
        found: list[tuple[str, str, str]] = []
        horizon = self.predictions.horizon
        shown = sorted({1, 2, 5, 10, 15, 20, 30, 50, horizon} & set(range(1, horizon + 1)))
        for name, each in self.log_likelihood.items():
            if name != "all" or len(self.log_likelihood) > 2:
                values = ", ".join(f"{each[h - 1].value:.3g}" for h in shown)
                found.append((f"log p of {name}", values, f"nats, {', '.join(map(str, shown))} steps ahead"))
        found += [
            ("sensitivity to actions", text(self.sensitivity), "nats a step, lost with other actions"),
            ("reward, bias", text(self.bias[0]), f"one step ahead; R² {self.r_squared[0]:.2f}"),
            ("  open loop", text(self.bias[-1]), f"{horizon} steps ahead; R² {self.r_squared[-1]:.2f}"),
            ("ends", f"{self._ends()[0]:.3g}", f"expected one step ahead, where {self._ends()[1]:g} came"),
            ("actions tried", f"{np.mean(self.coverage.tried):.0%}", "of their range"),
            ("  at a bound", f"{np.mean(self.coverage.bound):.0%}", "of them"),
            ("directions of states", f"{self.coverage.directions:.1f}", "in which inferred states spread"),
            (
                "dreams that are off",
                f"{self.coverage.off[-1]:.1%}",
                f"of states {horizon} steps ahead; 1 % of those inferred",
            ),
        ]
        if self.latents is not None:
            kl = f"{float(np.sum(self.latents.kl)):.3f}"
            found.append(("KL, posterior from prior", kl, "nats a step"))
            found.append(
                ("latents in use", f"{self.latents.active_units} of {len(self.latents.active)}", "above 0.01 nats")
            )
        found.append(("return while learning", f"{np.mean(self.returns[-10:]):.4g}", "mean of the last 10, exploring"))
        if self.judged is not None:
            error = np.std(self.judged) / np.sqrt(len(self.judged))
            found.append(
                (
                    "return without exploring",
                    f"{np.mean(self.judged):.4g} ± {error:.2g}",
                    f"{len(self.judged)} episodes",
                )
            )
        return found

    def _ends(self) -> tuple[float, float]:
        found = self.predictions
        return float(np.nansum(found.ending[:, :, 0])), float(np.nansum(found.ended[:, :, 0]))

    def __repr__(self) -> str:
        rows = [f"  {name:<26} {value:>18}  {what}".rstrip() for name, value, what in self.table()]
        rows += [f"  {each}" for each in self.findings]
        return "\n".join([f"Diagnosis of {self.name}, {self.episodes}", *rows, *(f"  note: {n}" for n in self.notes)])

    def as_dict(self) -> dict[str, Any]:
        """A dictionary for JSON: no arrays of data."""
        expected, came = self._ends()
        found: dict[str, Any] = {
            "name": self.name,
            "episodes": self.episodes,
            "unit": "nats",
            "faults": list(self.faults),
            "doubts": list(self.doubts),
            "findings": {each.name: {k: v for k, v in vars(each).items() if k != "name"} for each in self.findings},
            "horizon": self.predictions.horizon,
            "log_likelihood": {name: [both(one) for one in each] for name, each in self.log_likelihood.items()},
            "log_likelihood_other_actions": [both(one) for one in self.shuffled],
            "sensitivity": both(self.sensitivity),
            "reward_bias": [both(one) for one in self.bias],
            "reward_r_squared": self.r_squared,
            "ends": {"expected": expected, "came": came},
            "coverage": {name: plain(np.asarray(each).tolist()) for name, each in vars(self.coverage).items()},
            "latents": None if self.latents is None else self.latents.as_dict(),
            "kl_a_step": None if self.latents is None else float(np.sum(self.latents.kl)),
            "return_while_learning": float(np.mean(self.returns[-10:])),
            "return_mean": None if self.judged is None else float(np.mean(self.judged)),
            "notes": list(self.notes),
        }
        made: dict[str, Any] = plain(found)
        return made
