"""A mixture whose choice remembers: a hidden Markov model of Old Faithful's waiting times, in order."""

import jax
import numpy as np

import veil
from veil.report import style
from veil.report.page import Picture
from veil.report.station import Findings, Row, Say, Station

SHOWN = 90  # eruptions in the picture


def run(quick: bool, say: Say) -> Findings:
    waiting = veil.data.load("faithful").select(["waiting"])
    sequence = veil.data.episodes([waiting.query], query_names=["waiting"], name="faithful")
    key = jax.random.key(0)
    say("a mixture, which forgets")
    mixture = veil.fit(veil.Mixture(components=2), waiting, key=key, restarts=3, progress=False)
    say("a hidden Markov model")
    result = veil.fit(veil.HMM(states=2), sequence, key=key, restarts=3, progress=False)
    forgetful = veil.evaluate(mixture.model, waiting).log_likelihood
    found = veil.evaluate(result.model, sequence)
    inferred = veil.infer(result.model, sequence)
    assert inferred.probabilities is not None
    assert inferred.path is not None
    assert inferred.most_likely is not None
    means = np.asarray(result.model.experts.mean)[:, 0]
    order = np.argsort(means)
    matrix = np.asarray(result.model.transition_matrix)[np.ix_(order, order)]
    path, sure = inferred.path[0], inferred.probabilities[0][:, order[1]]
    agree = float(np.mean(inferred.most_likely[0] == path))

    with style.figure(2, panel=(6.2, 3.0)) as (picture, (above, below)):
        x = np.arange(SHOWN)
        above.plot(x, waiting.query[:SHOWN, 0], color=style.COLOURS[0], linewidth=0.8, marker="o", markersize=2.5)
        above.step(x, means[path[:SHOWN]], where="mid", color=style.COLOURS[1], label="mean of the best path's state")
        style.label(above, x=("eruption", "number"), y=("waiting time", "min"), title="Viterbi path")
        style.legend(above, room=0.15)
        below.fill_between(x, 0, sure[:SHOWN], step="mid", color=style.COLOURS[1], alpha=0.6, linewidth=0)
        style.label(
            below, x=("eruption", "number"), y=("probability", "share"), title="p(long wait | all of the sequence)"
        )
    (short_short, short_long), (long_short, long_long) = matrix
    return Findings(
        rows=[
            Row("log-likelihood, mixture", f"{forgetful:.4f}", "nats", "-1034.0017", "maximum, independent eruptions"),
            Row("log-likelihood, hidden Markov model", f"{found.log_likelihood:.4f}", "nats", "", "exact"),
            Row("gained by remembering", f"{found.log_likelihood - forgetful:.2f}", "nats"),
            Row("p(long | short before)", f"{short_long:.3f}", "probability", "", f"short again: {short_short:.3f}"),
            Row("p(long | long before)", f"{long_long:.3f}", "probability", "", f"short next: {long_short:.3f}"),
            Row("steps where path and marginals agree", f"{100 * agree:.1f}", "%"),
            Row("EM steps to convergence", f"{result.status.steps}", "count"),
        ],
        pictures=[
            Picture(
                picture,
                f"The first {SHOWN} waiting times in the order in which they came. Left: the data and the mean of the "
                "state that the most likely path is in. Right: how probable the state of long waits is, given the "
                "whole sequence.",
                "sequence-path",
            )
        ],
        text=[
            "A mixture treats the eruptions as if they came in any order. Here the choice of the component is a Markov "
            "chain: after a short wait there is almost always a long one. All of it is exact: the likelihood by the "
            "forward recursion, the posterior by forward-backward, the path by Viterbi, the fit by EM."
        ],
    )


STATION = Station(
    name="sequence",
    order=71,
    title="A mixture that remembers",
    question="Does the geyser know what it did last time?",
    equation="<i>p</i>(<i>y</i>, <i>z</i>) = ∏<sub><i>t</i></sub> <i>p</i>(<i>z</i><sub><i>t</i></sub> | "
    "<i>z</i><sub><i>t</i>−1</sub>) <i>p</i>(<i>y</i><sub><i>t</i></sub> | <i>z</i><sub><i>t</i></sub>)",
    run=run,
    packages=("matplotlib",),
)
