"""What comes of a policy in a world: how often it succeeds, in which ways, and whether it changes its mind on the way.

Changing one's mind is told by the world's scripted demonstrators, of whom it is known how they ended. At each step of a
drive the ``NEAR`` demonstrated steps with the nearest observation and action are found; the step is committed to an
outcome where at least ``SURE`` of them ended in it. A switch is a committed step after one that was committed to
another outcome. Demonstrators, who never change their minds, are measured likewise: what they score is the method's
own error.
"""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from veil.control.certificate.modes import BLOCK
from veil.control.worlds.frame import Drives, World, demonstrate, drives
from veil.host.showing import Shown

NEAR, SURE = 16, 0.9


@dataclass(frozen=True, repr=False)
class Driven(Shown):
    """N drives: ``success``, a share; ``entropy`` of the outcomes of those that succeed, 1 if all are equally often;

    ``switching``: the share of drives with a switch, and ``switches`` a drive; each with its standard error.
    ``demonstrators``: the same of the world's own. ``drives``: the drives themselves.
    """

    success: tuple[float, float]
    entropy: tuple[float, float]
    switching: tuple[float, float]
    switches: float
    drives: Drives
    demonstrators: "Driven | None" = None

    def as_dict(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        found: dict[str, Any] = {"episodes": len(self.drives), "switches": self.switches}
        for name in ("success", "entropy", "switching"):
            value, error = vars(self)[name]
            found |= {name: value, f"{name}_standard_error": error}
        every = self.drives.rewards.sum(1)
        found["return_mean"] = float(np.mean(every))
        found["return_standard_error"] = float(np.std(every) / np.sqrt(len(every)))
        return found | ({} if self.demonstrators is None else {"demonstrators": self.demonstrators.as_dict()})


def driven(world: World, actor: Any, count: int, key: PRNGKeyArray) -> Driven:
    """``count`` drives of an actor, and of as many demonstrators, measured by as many others."""
    key_known, key_more, key_drive = jax.random.split(key, 3)
    known, more = demonstrate(world, count, key_known), demonstrate(world, count, key_more)
    return _measured(drives(world, actor, count, key_drive), known, _measured(more, known))


def _measured(found: Drives, known: Drives, demonstrators: Driven | None = None) -> Driven:
    each = switches(found, known)
    share = float(np.mean(each > 0))
    error = float(np.sqrt(share * (1 - share) / len(found)))
    return Driven(found.rate(), found.entropy(), (share, error), float(np.mean(each)), found, demonstrators)


def _steps(some: Drives) -> tuple[np.ndarray, np.ndarray]:
    """Observation and action of every step [N, T, P + A], and which steps came before the end [N, T]."""
    seen = np.asarray(jax.vmap(jax.vmap(some.world.observe))(jax.numpy.asarray(some.states)))
    there = np.arange(seen.shape[1])[None] < some.lengths[:, None]
    return np.concatenate([seen, some.actions], -1).astype(np.float64), there


def switches(found: Drives, known: Drives) -> np.ndarray:
    """How often each drive changes the outcome that it is committed to [N], by ``known`` successful drives."""
    points, there = _steps(known)
    there &= known.success[:, None]
    outcome = np.broadcast_to(known.outcome[:, None], there.shape)[there]
    low, spread = np.mean(points[there], 0), np.std(points[there], 0) + 1e-12
    points = (points[there] - low[None]) / spread[None]
    asked, going = _steps(found)
    committed = np.full(going.shape, -1)
    committed[going] = _committed((asked[going] - low[None]) / spread[None], points, outcome)
    count = np.zeros(len(found), np.int64)
    last = np.full(len(found), -1)
    for now in committed.T:
        count += (now >= 0) & (last >= 0) & (now != last)
        last = np.where(now >= 0, now, last)
    return count


def _committed(asked: np.ndarray, points: np.ndarray, outcome: np.ndarray) -> np.ndarray:
    """The outcome that nearly all of the nearest demonstrated steps ended in, -1 where there is none [M]."""
    near, found = min(NEAR, len(points)), np.full(len(asked), -1)
    step = max(1, BLOCK // len(points))
    for at in range(0, len(asked), step):
        some = asked[at : at + step]
        apart = np.sum(points**2, 1)[None] - 2 * some @ points.T
        ends = np.sort(outcome[np.argpartition(apart, near - 1, axis=1)[:, :near]], axis=1)
        middle = ends[:, near // 2]  # what more than half of them are, if anything is
        found[at : at + step] = np.where(np.mean(ends == middle[:, None], 1) >= SURE, middle, -1)
    return found
