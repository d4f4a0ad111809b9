"""A certificate: what was measured of a policy, and what is to be said of it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from veil.control.certificate.driven import Driven
from veil.evaluation.average import Average
from veil.evaluation.latents import Latents
from veil.evaluation.likelihood import Evaluation
from veil.evaluation.paths import PathLatents
from veil.host.files import plain


@dataclass(frozen=True)
class Acts:
    """How draws of actions lie beside demonstrated ones, shares of one.

    ``off``: draws that no demonstration is near to (the true policy: 0.01). Where demonstrations have several modes:
    ``between``: draws that are off and between two modes (the true policy: 0.01 at most); ``coverage``: of the modes of
    neighbouring demonstrations, those that draws at the same observations visit, mean (the true policy: 1);
    ``several``: of single observations, those at which draws visit several modes. NaN where there is none.
    ``nats``: -log 1/S Σ_s p(a | o, z_s) of the demonstrated action a with the draws' latents, mean.
    ``success``: of drives, where there are any.
    """

    off: float
    between: float
    coverage: float
    several: float
    nats: float = float("nan")
    success: float = float("nan")


@dataclass(frozen=True)
class Verdict:
    """A sentence on a policy: its ``name``, whether it holds (``said``), the ``value`` and ``threshold`` it rests on.

    ``bad``: whether it is a fault.
    """

    name: str
    said: bool
    value: float
    threshold: float
    words: str
    bad: bool = True

    def __str__(self) -> str:
        mark = "FAULT" if self.said and self.bad else "yes" if self.said else "no"
        return f"{self.name}: {mark} ({self.words})"


@dataclass(frozen=True)
class Shown:
    """One observation where demonstrations have several modes, to look at: neighbours' actions [K, D] and their

    ``modes`` [K], draws [S, D] by the name of what draws them; in the data's units.
    """

    observation: np.ndarray
    demonstrated: np.ndarray
    modes: np.ndarray
    drawn: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Certificate:
    """What ``certify`` found of a policy; all shares are of one, ``evaluation`` is in nats.

    ``evaluation``: log p(action | observation) of the data, exact or a bound, as its ``kind`` says; None of an actor.
    ``modes``: how many modes demonstrations have at an observation (mean), and ``multimodal`` the share of
    observations where it is more than one. ``acts``: what the policy does; ``ablation``: the same with the latent from
    the "prior", the "centre" of the prior, "own" (the posterior of the demonstrated action) and "other" (of another
    datum). ``explained``: the share of the variance of actions that the latent explains,
    Var(E[a | o, z]) / Var(a | o). ``centre``: how near the policy's draws are to those with the prior's central
    latent, D_prior / (D_prior + D_centre) of energy distances D: 1 if it acts by that, 0 if by the prior.
    ``latents``: which units of the latent are active; ``codes``: of discrete ones, for each how many values are used,
    their perplexity, how many there are. ``driven``: what came of it in a world. ``verdicts``: all of it in words.
    """

    policy: str
    data: str
    rows: int
    evaluation: Evaluation | None
    modes: float
    multimodal: float
    acts: Acts | None
    ablation: dict[str, Acts]
    explained: float
    centre: float
    latents: Latents | PathLatents | None
    codes: tuple[tuple[int, float, int], ...]
    driven: Driven | None
    verdicts: tuple[Verdict, ...]
    shown: Shown | None
    notes: tuple[str, ...]

    @property
    def nll(self) -> Average | None:
        """-log p(action | observation), nats per datum."""
        found = self.evaluation
        if found is None:
            return None
        return Average(-found.log_likelihood_per_datum, found.standard_error, found.monte_carlo_error)

    @property
    def faults(self) -> tuple[str, ...]:
        """The names of the verdicts that are faults."""
        return tuple(each.name for each in self.verdicts if each.said and each.bad)

    @property
    def multimodal_policy(self) -> bool | None:
        """Whether the policy is multimodal where demonstrations are; None where they are not."""
        found = [each.said for each in self.verdicts if each.name == "multimodal"]
        return found[0] if found else None

    def table(self) -> list[tuple[str, str, str]]:
        """Name, value and what it is, for a table."""
        found: list[tuple[str, str, str]] = []
        if self.nll is not None and self.evaluation is not None:
            found.append(("NLL", f"{self.nll.value:.4f} ± {self.nll.standard_error:.2g}", self._kind()))
        if self.acts is not None:
            found += [
                ("modes of demonstrations", f"{self.modes:.2f}", "mean over observations"),
                ("  several", _share(self.multimodal), f"of {self.rows} observations"),
                ("off the demonstrations", _share(self.acts.off), "of draws; the truth: 1 %"),
                (
                    "between modes",
                    _share(self.acts.between),
                    "of draws where there are several; the truth: 1 % at most",
                ),
                ("coverage of modes", _share(self.acts.coverage), "of the demonstrations' modes are visited"),
                ("several modes visited", _share(self.acts.several), "of single observations where there are several"),
            ]
            if np.isfinite(self.explained):
                found.append(("z explains", _share(self.explained), "of the variance of actions"))
        if self.latents is not None:
            units = f"{self.latents.active_units} of {len(self.latents.active)}"
            found.append(("active units of z", units, f"variance above {self.latents.threshold:g} of the prior's"))
        for used, perplexity, count in self.codes:
            found.append(("values of z in use", f"{used} of {count}", f"perplexity {perplexity:.2f}"))
        if self.driven is not None:
            theirs = self.driven.demonstrators
            for name, words in (("success", "of drives"), ("entropy", "of outcomes"), ("switching", "of drives")):
                value, error = vars(self.driven)[name]
                other = "" if theirs is None else f"; demonstrators: {vars(theirs)[name][0]:.3f}"
                found.append((name, f"{value:.3f} ± {error:.2g}", words + other))
        return found

    def _kind(self) -> str:
        assert self.evaluation is not None
        kind = self.evaluation.kind
        upper = kind.replace("lower bound", "upper bound", 1)  # of the negative of it
        return f"nats per datum, {upper}"

    def __repr__(self) -> str:
        rows = [f"  {name:<24} {value:>18}  {what}".rstrip() for name, value, what in self.table()]
        rows += [f"  {verdict}" for verdict in self.verdicts]
        return "\n".join([f"Certificate of {self.policy} on {self.data}", *rows])

    def as_dict(self) -> dict[str, Any]:
        """A dictionary for JSON: no arrays."""
        ablation = {name: vars(each) for name, each in self.ablation.items()}
        found: dict[str, Any] = {
            "policy": self.policy,
            "data": self.data,
            "unit": "nats",
            "rows": self.rows,
            "nll": None if self.nll is None else self.nll.value,
            "standard_error": None if self.nll is None else self.nll.standard_error,
            "kind": None if self.evaluation is None else self._kind().partition(", ")[2],
            "modes": self.modes,
            "multimodal_observations": self.multimodal,
            **(
                {}
                if self.acts is None
                else {name: vars(self.acts)[name] for name in vars(self.acts) if name != "success"}
            ),
            "ablation": ablation,
            "explained_by_latent": self.explained,
            "centre": self.centre,
            "latents": None if self.latents is None else self.latents.as_dict(),
            "codes": [{"used": used, "perplexity": each, "values": count} for used, each, count in self.codes],
            **({} if self.driven is None else self.driven.as_dict()),
            "verdicts": [
                {
                    "name": v.name,
                    "said": v.said,
                    "fault": v.said and v.bad,
                    "value": v.value,
                    "threshold": v.threshold,
                    "words": v.words,
                }
                for v in self.verdicts
            ],
            "faults": list(self.faults),
            "notes": list(self.notes),
        }
        made: dict[str, Any] = plain(found)
        return made


def _share(value: float) -> str:
    return f"{value:.1%}" if np.isfinite(value) else "none"
