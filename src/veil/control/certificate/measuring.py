"""Draws of a policy beside demonstrations: shares that are off, between modes, and of modes that are visited."""

from dataclasses import dataclass

import numpy as np

from veil.control.certificate import modes
from veil.control.certificate.modes import Demonstrations, Standard
from veil.control.certificate.result import Acts, Shown
from veil.control.certificate.rows import Drawn, Rows

LOOKED = 200  # observations with several modes
POOLED = 8  # draws of each neighbour
RARE = 0.1  # of a mode's share of the demonstrations: with less it is not visited
ONCE = 0.05  # of the draws at one observation
ALIKE = 0.05  # energy distance, standard deviations: below, two policies are one


@dataclass(frozen=True)
class Measure:
    """Demonstrations to measure draws by: at all of them, and at some with several modes (``chosen``)."""

    known: Demonstrations
    standard: Standard
    chosen: np.ndarray

    @staticmethod
    def of(rows: Rows, neighbours: int, rng: np.random.Generator) -> "Measure":
        """Of rows of data."""
        standard = Standard.of(rows.done)
        known = modes.demonstrations(Standard.of(rows.seen)(rows.seen), standard(rows.done), neighbours)
        several = known.several
        return Measure(known, standard, np.sort(rng.permutation(several)[:LOOKED]))

    @property
    def multimodal(self) -> float:
        """The share of observations where demonstrations have several modes."""
        return len(self.known.several) / len(self.known.counts)

    def acts(self, draws: np.ndarray, nats: float = float("nan")) -> Acts:
        """Of draws [R, S, D] at every row."""
        known, some = self.known, self.chosen
        found = self.standard(draws)
        off = float(np.mean(known.place(np.arange(len(found)), found).off))
        if not len(some):
            return Acts(off, float("nan"), float("nan"), float("nan"), nats)
        here = known.place(some, found[some])
        least = max(2, int(np.ceil(ONCE * found.shape[1])))
        visits = np.array([np.sum(counted(mode, int(known.counts.max())) >= least) for mode in here.mode])
        between, several = float(np.mean(here.between)), float(np.mean(visits > 1))
        return Acts(off, between, self._coverage(found), several, nats)

    def _coverage(self, found: np.ndarray) -> float:
        """Of the modes at an observation the share that draws at its neighbours', of the same number, visit."""
        known, some = self.known, self.chosen
        pooled = found[known.near[some], :POOLED].reshape(len(some), -1, found.shape[-1])
        placed = known.place(some, pooled)
        each = []
        for row, mode in zip(some.tolist(), placed.mode, strict=True):
            share = counted(mode, int(known.counts[row])) / len(mode)
            each.append(np.mean(share > RARE * known.shares(row)))
        return float(np.mean(each))

    def places(self) -> np.ndarray:
        """Where latents are looked at: the observations with several modes, without any all."""
        return self.chosen if len(self.chosen) else np.arange(min(LOOKED, len(self.known.counts)))

    def explained(self, drawn: Drawn) -> float:
        """Var(E[a | o, z]) / Var(a | o), its mean over observations."""
        some = self.places()
        centres, actions = (
            self.standard(np.asarray(each, np.float64)[some]) for each in (drawn.centres, drawn.actions)
        )
        total = np.sum(np.var(actions, axis=1))
        return float(min(1.0, np.sum(np.var(centres, axis=1)) / total)) if total > 0 else float("nan")

    def centre(self, acts: np.ndarray, prior: np.ndarray, centre: np.ndarray) -> float:
        """How far draws are on the way from the prior's to those with its central latent; NaN where these are alike."""
        some = self.places()
        here, one, other = (self.standard(np.asarray(each, np.float64)[some]) for each in (acts, prior, centre))
        if modes.apart(one, other) < ALIKE:
            return float("nan")
        far, near = max(0.0, modes.apart(here, one)), max(0.0, modes.apart(here, other))
        return far / (far + near) if far + near > 0 else 0.0

    def shown(self, rows: Rows, drawn: dict[str, np.ndarray]) -> Shown | None:
        """The observation whose modes are the most equally frequent, and as few as can be."""
        if not len(self.chosen):
            return None

        def balance(row: int) -> tuple[int, float]:
            return -int(self.known.counts[row]), float(np.min(self.known.shares(row)))

        row = max(self.chosen.tolist(), key=balance)
        near = self.known.near[row]
        some = {name: each[row] for name, each in drawn.items()}
        return Shown(rows.seen[row], rows.done[near], self.known.labels[row], some)


def counted(mode: np.ndarray, count: int) -> np.ndarray:
    """How many draws [S] are in each of the modes."""
    return np.bincount(mode[mode >= 0], minlength=count)
