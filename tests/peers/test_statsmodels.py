"""Linear-Gaussian chains against statsmodels' state-space models: filter, smoother, likelihood and score, in float64.

Its state is known at the first observation, as ours is: m_0 and P_0 are of z_1. Its drift leads OUT of a step and ours
INTO it, so that theirs is ours of the next step.
"""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil.model import Datum
from veil.model.filter import beliefs
from veil.parts.covariance import Diagonal, Full
from veil.zoo.lds import LDS, local_level

structural = pytest.importorskip("statsmodels.tsa.statespace.structural")
mlemodel = pytest.importorskip("statsmodels.tsa.statespace.mlemodel")
pytestmark = pytest.mark.usefixtures("x64")

STATES, SIZE, COUNT = 3, 2, 30
CASES = ("plain", "full noise", "missing and controls", "first state known")


def pair(case: str) -> tuple[LDS, Datum, Any]:
    """Ours, its datum, and statsmodels' model of the same numbers."""
    rng = np.random.default_rng(0)
    normal = rng.normal
    lower = lambda n: 0.4 * np.tril(normal(size=(n, n)), -1) + np.diag(0.5 + rng.random(n))  # noqa: E731
    inputs = 2 if "controls" in case else 0
    transition = np.linalg.qr(normal(size=(STATES, STATES)))[0] * 0.95
    drift, process = normal(size=(STATES, 1 + inputs)), lower(STATES)
    emission, offset = normal(size=(SIZE, STATES)), normal(size=SIZE)
    noise = lower(SIZE) if case == "full noise" else np.diag(0.3 + rng.random(SIZE))
    mean, first = normal(size=STATES), lower(STATES)
    if case == "first state known":
        first = np.zeros((STATES, STATES))
    query, evidence = 2.0 * normal(size=(COUNT, SIZE)), normal(size=(COUNT, inputs))
    observed = np.ones((COUNT, SIZE), bool)
    if "missing" in case:
        observed = rng.random((COUNT, SIZE)) < 0.6
        observed[[4, 5]] = False
    place = jnp.asarray
    ours = LDS(
        STATES,
        Full(factor=place(noise[None])) if case == "full noise" else Diagonal(scale=place(np.diag(noise)[None])),
        mean=place(mean),
        factor=place(first),
        transition=place(transition),
        drift=place(drift),
        process=place(process),
        emission=place(emission),
        offset=place(offset),
    )
    datum = Datum(
        place(query), place(evidence) if inputs else None, observed=place(observed) if "missing" in case else None
    )
    theirs = mlemodel.MLEModel(np.where(observed, query, np.nan), k_states=STATES, k_posdef=STATES)
    pushed = np.concatenate([np.ones((COUNT, 1)), evidence], 1) @ drift.T  # into each step
    theirs["design"], theirs["obs_intercept"], theirs["obs_cov"] = emission, offset[:, None], noise @ noise.T
    theirs["transition"], theirs["selection"], theirs["state_cov"] = transition, np.eye(STATES), process @ process.T
    theirs["state_intercept"] = np.concatenate([pushed[1:], pushed[:1]]).T  # out of each step; the last is not used
    theirs.ssm.initialize_known(mean, first @ first.T)
    return ours, datum, theirs


@pytest.mark.parametrize("case", CASES)
def test_filter_smoother_and_likelihood(case: str) -> None:
    ours, one, theirs = pair(case)

    @eqx.filter_jit
    def all_of(one: Datum) -> Any:
        filtered = beliefs(ours.filter(), one, jax.random.key(0))[1].state
        (mean, covariance, lagged), value = ours.expectations(one)
        return value, filtered, (mean, covariance, lagged)

    value, filtered, (mean, covariance, lagged) = all_of(one)
    found = theirs.ssm.smooth()
    np.testing.assert_allclose(value, found.llf, rtol=1e-12)
    np.testing.assert_allclose(filtered[0], found.filtered_state.T, atol=1e-11)
    np.testing.assert_allclose(filtered[1], np.moveaxis(found.filtered_state_cov, 2, 0), atol=1e-11)
    np.testing.assert_allclose(mean, found.smoothed_state.T, atol=1e-10)
    np.testing.assert_allclose(covariance, np.moveaxis(found.smoothed_state_cov, 2, 0), atol=1e-10)
    across = np.moveaxis(found.smoothed_state_autocov, 2, 0)  # Cov[z_t+1, z_t | y]
    np.testing.assert_allclose(lagged[1:], across[:-1], atol=1e-10)


def test_several_ragged_sequences() -> None:
    """Padded and scored at once; statsmodels has them one after the other."""
    ours, one, theirs = pair("plain")
    rows, expected = [np.asarray(one.query)[:length] for length in (30, 1, 12)], []
    for row in rows:
        other = mlemodel.MLEModel(row, k_states=STATES, k_posdef=STATES)
        for name in ("design", "obs_intercept", "obs_cov", "transition", "selection", "state_cov"):
            other[name] = theirs[name]
        other["state_intercept"] = theirs["state_intercept"][:, :1]
        other.ssm.initialize_known(np.asarray(ours.mean), np.asarray(ours.factor @ ours.factor.T))
        expected.append(other.ssm.loglike())
    np.testing.assert_allclose(veil.log_prob(ours, veil.data.episodes(rows)), expected, rtol=1e-12)


def nile(observed: np.ndarray | None = None) -> tuple[Any, np.ndarray]:
    """statsmodels' local level model, its level N(0, 1e7) at the first year, and the flow [years, 1]."""
    flow = np.asarray(veil.data.load("nile").query, float)
    theirs = structural.UnobservedComponents(
        flow[:, 0] if observed is None else np.where(observed, flow, np.nan), "llevel"
    )
    theirs.ssm.initialize_known(np.zeros(1), np.full((1, 1), 1e7))
    theirs.ssm.loglikelihood_burn = 0  # by default its likelihood is without the first year, of a diffuse level
    return theirs, flow


def test_the_level_of_the_nile() -> None:
    """At Durbin and Koopman's variances, with years missing as well: likelihood, level and its variance."""
    gaps = np.ones((100, 1), bool)
    gaps[20:40] = gaps[60:80] = False
    for observed in (np.ones_like(gaps), gaps):
        theirs, flow = nile(observed)
        found = theirs.smooth([15099.0, 1469.1])
        model = local_level(15099.0, 1469.1)
        one = Datum(jnp.array(flow), observed=jnp.array(observed))
        ours = model.marginals(one)
        mean, variance = ours.mean, ours.variance
        np.testing.assert_allclose(model.log_marginal(one), found.llf, rtol=1e-10)
        np.testing.assert_allclose(mean, found.smoothed_state.T, rtol=1e-9)
        np.testing.assert_allclose(variance[:, 0], found.smoothed_state_cov[0, 0], rtol=1e-8)


def test_the_gradient_in_the_variances_is_their_score() -> None:
    """theirs by complex steps, ours by differentiation through the filter."""
    theirs, flow = nile()
    one = Datum(jnp.array(flow))

    @jax.jit
    @jax.grad
    def score(variances: jnp.ndarray) -> jnp.ndarray:
        blank = local_level(1.0, 1.0)
        scale, process = jnp.sqrt(variances)
        return replace(blank, noise=Diagonal(scale=scale[None, None]), process=process[None, None]).log_marginal(one)

    at = np.array([9000.0, 3000.0])
    expected = theirs.score(at, approx_complex_step=True, method="approx")
    np.testing.assert_allclose(score(jnp.array(at)), expected, rtol=1e-8)
