"""A slow look at flow matching: how one field carries noise to two modes."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import veil
from veil.parts import transport
from veil.report import carrying_plots as carrying
from veil.report import style
from veil.report.page import Film, Picture
from veil.report.station import Findings, Row, Say, Station
from veil.units import unwrapped

LEFT, CENTRES, WIDTH = 0.4, (-1.2, 0.8), 0.25  # the share of the left mode, where the two are, and how wide
GAP = (-0.6, 0.2)  # between the modes
PLACES = (-3.2, 3.4)  # shown
STEPS = (1, 2, 4, 16)


def run(quick: bool, say: Say) -> Findings:
    rng = np.random.default_rng(0)
    training, fresh = two_modes(2000, rng), two_modes(1000 if quick else 10_000, rng)
    say("flow matching")
    fit = veil.fit(
        veil.ContinuousFlow(veil.MLP((64, 64, 64), "silu")),
        veil.Data(training),
        key=jax.random.key(0),
        steps=300 if quick else 4000,
        progress=False,
    )
    say("densities")
    score, best = veil.evaluate(fit, veil.Data(fresh)), log_density(fresh)
    found = carrying.carried(fit.model, times=11 if quick else carrying.TIMES)
    parting = 0.5 * sum(GAP)
    drawn = {steps: draws(fit.model, 2000 if quick else 20_000, steps) for steps in (STEPS[::3] if quick else STEPS)}
    many = drawn[STEPS[-1]]
    rows = [
        Row(
            "held-out log-likelihood, exact by the ODE",
            f"{score.log_likelihood_per_datum:.4f} ± {score.standard_error:.4f}",
            "nats per datum",
            f"{best.mean():.4f}",
            "the true density, of the same data",
        ),
        Row("draws in the left mode, 16 steps", share(many < parting), "%", f"{100 * LEFT:.0f}", "of the truth"),
        *(
            Row(
                f"draws between the modes, {steps} step{'s' * (steps > 1)}",
                share((GAP[0] < some) & (some < GAP[1])),
                "%",
                f"{100 * between():.1f}",
                f"from {GAP[0]} to {GAP[1]}; the truth",
            )
            for steps, some in drawn.items()
        ),
    ]
    say("pictures")
    place = np.linspace(*PLACES, 300)
    ratios = {"width_ratios": (1.0, 1.0, 0.62)}
    with style.figure(3, panel=(3.5, 3.7), sharey=True, gridspec_kw=ratios) as (journey, (left, middle, right)):
        carrying.on_the_way(left, found, PLACES)
        carrying.ways(left, found, parting)
        image = carrying.on_the_way(middle, found, PLACES)
        carrying.arrows(middle, found, PLACES)
        for panel, title in ((left, "24 values of noise, carried"), (middle, "The field that carries them")):
            style.label(panel, x=("time: noise at 1, data at 0", "no unit"), y=("y", "no unit"), title=title)
        style.colour_scale(journey, middle, image, ("density on the way", "no unit"))
        bins = np.linspace(*PLACES, 67)
        right.hist(many, bins, density=True, orientation="horizontal", color=style.PALE, label="20,000 draws")
        exact = np.exp(veil.log_prob(fit, veil.Data(place)))
        right.plot(exact, place, color=style.BLUE, label="flow, exact")
        right.plot(np.exp(log_density(place)), place, color=style.ORANGE, linestyle="--", label="truth")
        right.set_xlim(0, 1.45 * exact.max())
        style.label(right, x=("density at t = 0", "no unit"), y=("y", "no unit"), title="Where they end")
        style.legend(right, loc="upper right")
    with style.figure(len(drawn), panel=(2.6, 2.5), sharex=True, sharey=True) as (few, panels):
        for panel, (steps, some) in zip(panels, drawn.items(), strict=True):
            panel.hist(some, np.linspace(*PLACES, 67), density=True, color=style.SKY)
            panel.plot(place, np.exp(log_density(place)), color=style.ORANGE, linestyle="--")
            panel.set_xlim(-2.5, 2.2)
            panel.set_ylim(0, 1.6)
            title = f"{steps} step{'s' * (steps > 1)}"
            style.label(panel, x=("y", "no unit"), y=("density", "no unit"), title=title)
    say("film")
    moving = carrying.film(found, PLACES, parting, "y", frames=3 if quick else 45)
    return Findings(
        rows=rows,
        pictures=[
            Picture(
                journey,
                "From noise (left edge) to data. Darker: the density of all values at that time. Lines: 24 values of "
                "noise, all equally likely, orange where they end in the lower mode. Arrows: where the field sends a "
                "value that is there then. Right: the exact density at the end, over a histogram of draws, and the "
                "true one.",
                "carrying",
            ),
            Picture(
                few,
                "Draws by Euler's method in 1, 2, 4 and 16 steps, and the true density (dashed). The first step of all "
                "goes towards the mean, which is between the modes; one step alone ends there (bars are cut off).",
                "carrying-steps",
            ),
        ],
        films=[
            Film(
                moving,
                "The same as a film: the density of all values as time goes from 1 to 0, and 72 grains of noise on "
                "their ways; those that end on the left are orange.",
                "carrying-film",
            )
        ],
        text=[
            f"{len(training)} numbers, {100 * LEFT:.0f} % of them near {CENTRES[0]}, the others near {CENTRES[1]}. "
            "The field learns to say, of a value on a straight line between some noise and some datum, in which "
            "direction the line goes. Many lines cross at one place, and the field can only say their mean: at t = 1, "
            "where nothing is known of the datum yet, straight to the mean of all data; later towards one mode or "
            "the other.",
            "Ways do not cross, so the lowest 40 % of the noise become the lower mode: that is where the field "
            "parts. The density follows from how neighbours are pressed together or drawn apart on the way: "
            "d log <i>p<sub>t</sub></i> / d<i>t</i> = −∂<i>u</i> / ∂<i>z</i> along each of them.",
        ],
    )


def two_modes(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws from the truth, of each mode exactly its share."""
    centre = np.where(np.arange(count) < LEFT * count, *CENTRES)
    return np.asarray(centre + WIDTH * rng.normal(size=count), np.float32)


def log_density(place: np.ndarray) -> np.ndarray:
    """log p of the truth, nats."""
    parts = [
        np.log(share) - 0.5 * ((place - centre) / WIDTH) ** 2 - np.log(WIDTH * np.sqrt(2 * np.pi))
        for share, centre in zip((LEFT, 1 - LEFT), CENTRES, strict=True)
    ]
    return np.logaddexp(*parts)


def between() -> float:
    """The probability of the gap."""
    from scipy.stats import norm

    shares = zip((LEFT, 1 - LEFT), CENTRES, strict=True)
    return float(sum(share * np.diff(norm.cdf(GAP, centre, WIDTH))[0] for share, centre in shares))


def draws(model: Any, count: int, steps: int) -> np.ndarray:
    """Draws in so many steps, from the same noise for all."""
    inner, units = unwrapped(model)
    noise = jax.random.normal(jax.random.key(7), (count, *inner.field.shape))
    ends = _ends(inner.field, noise, steps)
    return np.asarray(ends if units is None else units.back(ends)).ravel()


@eqx.filter_jit
def _ends(field: Any, noise: jax.Array, steps: int) -> jax.Array:
    return jax.vmap(lambda one: transport.carried(field, one, None, steps))(jnp.asarray(noise))


def share(which: np.ndarray) -> str:
    """How often, in percent, with its standard error."""
    rate = float(which.mean())
    return f"{100 * rate:.1f} ± {100 * np.sqrt(rate * (1 - rate) / which.size):.1f}"


STATION = Station(
    name="carrying",
    order=88,
    title="How flow matching carries noise to two modes",
    question="Noise has one mode, the data have two. What does a flow do in between?",
    equation="d<i>z</i> / d<i>t</i> = <i>u</i>(<i>z</i>, <i>t</i>) from <i>z</i><sub>1</sub> ~ N(0, 1) to <i>y</i> = "
    "<i>z</i><sub>0</sub>, log <i>p</i>(<i>y</i>) = log N(<i>z</i><sub>1</sub>) + ∫ ∂<i>u</i> / ∂<i>z</i> d<i>t</i>. "
    "Query: y. Evidence: none. Latent: the noise, which decides everything.",
    run=run,
    packages=("PIL", "diffrax"),
)
