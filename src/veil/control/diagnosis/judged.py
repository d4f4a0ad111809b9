"""What predictions amount to, in words: of actions, rewards and ends. Every threshold is here."""

import numpy as np

from veil.control.diagnosis.findings import (
    CONTINUATION,
    DEAD,
    DOUBT,
    ENDS_OFF,
    FAULT,
    FINE,
    NO_ACTIONS,
    REWARD_OFF,
    UNKNOWN,
    Finding,
)
from veil.control.diagnosis.predictions import Predictions, by_horizon
from veil.evaluation.average import Average, average
from veil.evaluation.latents import collapse
from veil.evaluation.paths import PathLatents

SURE = 3.0  # standard errors
BIAS = 0.1  # of the rewards' deviation
EXPLAINED = 0.3  # of the rewards' variance, one step ahead


def sensitivity(found: Predictions) -> Average:
    """How far log p of what came, mean over the steps ahead, falls with the actions of another start; nats a step."""
    drop = found.scores["all"] - found.shuffled
    each = [float(np.mean(row[np.isfinite(row)])) for row in drop if np.any(np.isfinite(row))]
    return average(np.array(each))


def explained(predicted: np.ndarray, obtained: np.ndarray) -> float:
    """R² = 1 - Σ (predicted - obtained)² / Σ (obtained - mean)²; NaN where nothing varies."""
    there = np.isfinite(obtained) & np.isfinite(predicted)
    total = float(np.sum((obtained[there] - np.mean(obtained[there])) ** 2)) if np.any(there) else 0.0
    return 1.0 - float(np.sum((predicted[there] - obtained[there]) ** 2)) / total if total > 1e-12 else float("nan")


def prediction_checks(found: Predictions, latents: PathLatents | None) -> list[Finding]:
    """What is to be said of actions, rewards, ends and latents."""
    return [_actions(found), _rewards(found), *_ends(found), _latents(latents)]


def _actions(found: Predictions) -> Finding:
    drop = sensitivity(found)
    words = f"with the actions of another time, what came is {drop} nats a step less likely, open loop"
    help = "longer windows, more learning; is the evidence the action, one step off, or always the same?"
    little = not drop.value > max(2.0 * drop.standard_error, 0.0)
    return Finding(NO_ACTIONS, DOUBT if little else FINE, words, help)


def _rewards(found: Predictions) -> Finding:
    bias = by_horizon(found.reward - found.obtained)[0]
    spread = float(np.nanstd(found.obtained))
    share = explained(found.reward[:, :, 0], found.obtained[:, :, 0])
    words = f"one step ahead: bias {bias}, R² {share:.2f}, rewards vary by {spread:.3g}"
    off = abs(bias.value) > max(SURE * bias.standard_error, BIAS * spread)
    poor = np.isfinite(share) and share < EXPLAINED
    help = "learn longer, weigh the reward's likelihood more, or see more of what earns it"
    return Finding(REWARD_OFF, DOUBT if off or poor else FINE, words, help)


def _ends(found: Predictions) -> list[Finding]:
    one, ended = found.ending[:, :, 0], found.ended[:, :, 0]
    there = np.isfinite(one)
    expected, came = float(np.sum(one[there])), float(np.sum(ended[there]))
    chance = float(np.sqrt(np.sum(one[there] * (1 - one[there])) + 0.25))
    words = f"of {int(there.sum())} steps {came:g} ended an episode, and {expected:.2g} were predicted to"
    out = []
    if np.nansum(found.ended) > 0 and np.nansum(np.abs(found.ending)) == 0.0:
        help = 'let the outcomes say it: Predicted(terminated="terminated"), with that in the query'
        out.append(Finding(CONTINUATION, FAULT, f"outcomes: no step ends an episode, and {words}", help))
    elif np.nansum(found.ended) > 0:
        at, elsewhere = found.ending[found.ended == 1], found.ending[found.ended == 0]
        apart = f"{np.mean(at):.2g}, elsewhere {np.mean(elsewhere):.2g}" if elsewhere.size else f"{np.mean(at):.2g}"
        words += f"; chance of an end where there was one {apart}"
    off = abs(expected - came) > SURE * chance
    help = "dreams go on behind an end, or stop before it: learn longer, or see more of what ends an episode"
    return [*out, Finding(ENDS_OFF, DOUBT if off else FINE, words, help)]


def _latents(found: PathLatents | None) -> Finding:
    if found is None:
        return Finding(DEAD, UNKNOWN, "the divergence of posterior from prior is not known in closed form")
    count, used = len(found.active), found.active_units
    kl = float(np.sum(found.kl))
    words = f"{used} of {count} latents carry more than {found.threshold:g} nats a step; KL {kl:.2f} nats a step"
    line = collapse(found)
    bad = used == 0 or (line is not None and line.startswith("collapse"))
    return Finding(DEAD, DOUBT if bad else FINE, words, line or "")
