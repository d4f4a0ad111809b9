"""Missing entries: integrated out, or worked around."""

import warnings

import jax
import numpy as np

import veil
from veil.report import style
from veil.report.page import Picture
from veil.report.station import Findings, Row, Say, Station


def run(quick: bool, say: Say) -> Findings:
    flowers = veil.data.load("iris")
    rng = np.random.default_rng(0)
    test, train = flowers.split(1 / 3, rng)
    if len(test) > len(train):
        test, train = train, test
    shares = (0.3,) if quick else (0.1, 0.2, 0.3, 0.4)
    model = veil.Mixture(veil.LinearGaussian(veil.Tied()), components=3)
    ways = ("integrated out", "filled with the mean", "rows dropped")
    scores: dict[str, list[float]] = {way: [] for way in ways}
    complete = veil.fit(model, train, key=jax.random.key(0), restarts=5, progress=False)
    best = veil.evaluate(complete.model, test).log_likelihood_per_datum
    patterns = 1 if quick else 4
    for share in shares:
        say(f"{share:.0%} missing")
        found: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(patterns):
            holes = rng.random(train.query.shape) < share
            holes[np.all(holes, 1), 0] = False
            holed = np.where(holes, np.nan, train.query)
            whole = (~holes.any(1)).astype(float)  # rows that are dropped keep their place, with no weight
            tables = (
                veil.Data(holed),
                veil.Data(np.where(holes, np.nanmean(holed, 0), train.query)),
                veil.Data(train.query, weight=whole),
            )
            for way, table in zip(ways, tables, strict=True):
                with warnings.catch_warnings():  # few whole rows: components collapse, which is the point
                    warnings.simplefilter("ignore", UserWarning)
                    result = veil.fit(model, table, key=jax.random.key(0), restarts=5, progress=False)
                found[way].append(veil.evaluate(result.model, test).log_likelihood_per_datum)
        for way in ways:
            scores[way].append(float(np.mean(found[way])))
    with style.figure(panel=(5.4, 3.4)) as (picture, (panel,)):
        percent = 100 * np.asarray(shares)
        panel.axhline(best, color=style.GREY, linewidth=1, label="nothing missing")
        for i, (way, values) in enumerate(scores.items()):
            panel.plot(
                percent, values, color=style.COLOURS[i], marker=style.MARKERS[i], linestyle=style.DASHES[i], label=way
            )
        panel.set_ylim(best - 2.5, best + 0.4)
        style.legend(panel, loc="lower left")
        style.label(panel, x=("entries missing", "%"), y=("held-out log-likelihood", "nats per datum"))
    at = shares.index(0.3)
    rows = [Row("held-out log-likelihood, nothing missing", f"{best:.3f}", "nats per datum")]
    for way in ways:
        rows.append(
            Row(
                f"the same with 30 % missing, {way}",
                f"{scores[way][at]:.3f}",
                "nats per datum",
                f"{best:.3f}",
                "complete",
            )
        )
    caption = (
        f"Iris, {len(train)} flowers to learn from, {len(test)} complete ones held out: three ways to treat missing "
        f"entries, each the mean of {patterns} random patterns of holes. Values far below are not drawn."
    )
    return Findings(
        rows=rows,
        pictures=[Picture(picture, caption, "missing")],
        text=[
            "An entry that is missing is one more thing that is not seen, and is integrated out with the rest, in the "
            "likelihood and in EM's statistics. Filling gaps with the mean shrinks the variances; dropping rows throws "
            "most of the data away."
        ],
    )


STATION = Station(
    name="missing",
    order=60,
    title="Missing entries",
    question="Some measurements are missing. What is lost, and what is lost needlessly?",
    equation="<i>p</i>(<i>y</i><sub>seen</sub>) = Σ<sub><i>z</i></sub> π<sub><i>z</i></sub> ∫ "
    "<i>p</i>(<i>y</i><sub>seen</sub>, <i>y</i><sub>missing</sub> | <i>z</i>) d<i>y</i><sub>missing</sub>, in closed "
    "form for Gaussians.",
    run=run,
)
