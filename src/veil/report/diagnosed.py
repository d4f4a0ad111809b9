"""The picture of a diagnosis: how likely what came was, step by step ahead, and rewards as predicted and obtained."""

from typing import Any

import numpy as np

from veil.control.diagnosis import Diagnosis
from veil.report import style


def picture(found: Diagnosis) -> Any:
    """A figure of two panels: likelihood by horizon, and rewards.

    Raises ModuleNotFoundError if matplotlib is not installed.
    """
    horizon = found.predictions.horizon
    ahead = np.arange(1, horizon + 1)
    with style.figure(2) as (drawn, (likely, earned)):
        lines = {**found.log_likelihood, "all, other actions": found.shuffled}
        if len(lines) == 3:  # one part, which is all
            del lines["all"]
        for number, (name, each) in enumerate(lines.items()):
            value, error = np.array([(one.value, one.standard_error) for one in each]).T
            colour, dash = style.COLOURS[number % len(style.COLOURS)], "--" if number == len(lines) - 1 else "-"
            likely.plot(ahead, value, dash, color=colour, label=name)
            likely.fill_between(ahead, value - error, value + error, color=colour, alpha=0.15, linewidth=0)
        style.label(likely, x=("steps ahead, open loop", "count"), y=("log-likelihood", "nats"), title="What came")
        style.legend(likely)
        rewards = found.predictions
        ends = np.nanmin(rewards.obtained), np.nanmax(rewards.obtained)
        earned.plot(ends, ends, color=style.GREY, linewidth=1.0)
        for number, h in enumerate(dict.fromkeys((0, horizon - 1))):
            share = found.r_squared[h]
            words = f"{h + 1} ahead, R² {share:.2f}" if np.isfinite(share) else f"{h + 1} ahead"
            pair = rewards.obtained[:, :, h].ravel(), rewards.reward[:, :, h].ravel()
            earned.plot(*pair, style.MARKERS[number], color=style.COLOURS[number], alpha=0.6, label=words)
        style.label(earned, x=("obtained", "reward"), y=("predicted", "reward"), title="Rewards")
        style.legend(earned)
    return drawn
