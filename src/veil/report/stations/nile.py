"""The level of the Nile: a local level model by EM, smoothed and forecast with intervals."""

import jax
import jax.numpy as jnp
import numpy as np

import veil
from veil.parts.covariance import Diagonal
from veil.report import style
from veil.report.page import Picture
from veil.report.station import Findings, Row, Say, Station

FIRST, AHEAD, WIDE = 1871, 15, 1.6448536  # year, years of forecast, normal quantile of 90 % intervals
FIXED = ("mean", "factor", "transition", "drift", "emission", "offset")


def local_level(observation: float, level: float) -> veil.LDS:
    """y = z + noise, z a random walk, with N(0, 1e7) for the level AT the first year; two variances to learn."""
    one, zero = jnp.ones((1, 1)), jnp.zeros((1, 1))
    return veil.LDS(
        1,
        Diagonal(scale=jnp.full((1, 1), observation**0.5)),
        FIXED,
        mean=zero[0],
        factor=1e7**0.5 * one,
        transition=one,
        drift=zero,
        process=level**0.5 * one,
        emission=one,
        offset=zero[0],
    )


def run(quick: bool, say: Say) -> Findings:
    flow = veil.data.load("nile")
    sequence = veil.data.episodes([flow.query], query_names=["flow"], name="nile")
    key = jax.random.key(0)
    say("EM")
    with jax.enable_x64(True):
        start, steps = local_level(10_000.0, 3_000.0), 200 if quick else 2000
        result = veil.fit(start, sequence, key=key, steps=steps, tolerance=1e-10, progress=False)
        value = float(veil.log_prob(result.model, sequence)[0])
        say("smoothing")
        level = veil.infer(result.model, sequence)
        say("forecast")
        future = veil.forecast(result.model, sequence, AHEAD, 1000, key=key)
    noise, moves = float(result.model.noise.scale[0, 0] ** 2), float(result.model.process[0, 0] ** 2)
    mean, spread = level.mean[0, :, 0], level.standard_deviation[0, :, 0]
    years = FIRST + np.arange(len(mean))
    later = years[-1] + 1 + np.arange(AHEAD)
    low, high = (edge[0, :, 0] for edge in future.interval(0.9))

    with style.figure(1, panel=(8.6, 3.4)) as (picture, (panel,)):
        panel.plot(years, flow.query[:, 0], "o", color=style.COLOURS[0], markersize=3, label="annual flow")
        panel.plot(years, mean, color=style.COLOURS[1], label="level, smoothed")
        panel.fill_between(
            years, mean - WIDE * spread, mean + WIDE * spread, color=style.COLOURS[1], alpha=0.25, linewidth=0
        )
        panel.plot(later, future.mean[0, :, 0], color=style.COLOURS[2], label="flow, forecast")
        panel.fill_between(later, low, high, color=style.COLOURS[2], alpha=0.25, linewidth=0)
        style.label(panel, x=("year", "CE"), y=("flow at Aswan", "10⁸ m³"), title="Bands hold 90 %")
        style.legend(panel)
    return Findings(
        rows=[
            Row("log-likelihood", f"{value:.5f}", "nats", "-641.58558", "maximum; N(0, 1e7) at the first year"),
            Row("variance of an observation", f"{noise:.0f}", "10¹⁶ m⁶", "15099", "Durbin & Koopman 2012"),
            Row("variance of a year's move", f"{moves:.0f}", "10¹⁶ m⁶", "1469", "Durbin & Koopman 2012"),
            Row("level in 1871", f"{mean[0]:.0f} ± {spread[0]:.0f}", "10⁸ m³"),
            Row("level in 1970", f"{mean[-1]:.0f} ± {spread[-1]:.0f}", "10⁸ m³"),
            Row("EM steps", f"{result.status.steps}", "count"),
        ],
        pictures=[
            Picture(
                picture,
                "Annual flow of the Nile (dots), the smoothed level given all hundred years, and a forecast of the "
                "flow. The level falls within a few years around 1899, when the first Aswan dam was begun.",
                "nile-level",
            )
        ],
        text=[
            "The flow of a year is a level plus noise, and the level moves a little from year to year. The Kalman "
            "filter and smoother are exact here, and EM finds the two variances that are published for these data."
        ],
    )


STATION = Station(
    name="nile",
    order=72,
    title="A level that moves",
    question="What was the river's level, and what will its flow be?",
    equation="<i>z</i><sub><i>t</i></sub> = <i>z</i><sub><i>t</i>−1</sub> + N(0, <i>q</i>²), "
    "<i>y</i><sub><i>t</i></sub> = <i>z</i><sub><i>t</i></sub> + N(0, <i>r</i>²)",
    run=run,
    packages=("matplotlib",),
)
