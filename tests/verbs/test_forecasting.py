"""Forecasts against the exact predictive distributions: Kalman prediction, and powers of the transition matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil.data import Data, episodes
from veil.parts.covariance import Diagonal

SAMPLES, HORIZON = 4000, 5


def level(inputs: int = 1) -> veil.LDS:
    """Two states that turn, one of which is seen."""
    return veil.LDS(
        2,
        Diagonal(scale=jnp.array([[0.3]])),
        mean=jnp.array([1.0, -1.0]),
        factor=jnp.eye(2) * 0.5,
        transition=jnp.array([[0.9, 0.2], [-0.3, 0.8]]),
        drift=jnp.array([[0.1, 0.7], [0.0, -0.4]])[:, : 1 + inputs],
        process=jnp.array([[0.4, 0.0], [0.1, 0.3]]),
        emission=jnp.array([[1.0, 0.5]]),
        offset=jnp.array([2.0]),
    )


def kalman(model: veil.LDS, query: np.ndarray, evidence: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of y_T+1..T+H given y_1..T (NaN: not seen), by the textbook recursions in float64."""
    f, b, q, h = (np.asarray(part, float) for part in (model.transition, model.drift, model.process, model.emission))
    q, r, d = q @ q.T, 0.3**2, 2.0
    mean, cov = np.asarray(model.mean, float), np.asarray(model.factor @ model.factor.T, float)
    means, variances = [], []
    for t in range(len(query) + horizon):
        if t:
            mean, cov = f @ mean + b @ np.r_[1.0, evidence[t]], f @ cov @ f.T + q
        if t >= len(query):
            means.append(float((h @ mean)[0] + d))
            variances.append(float((h @ cov @ h.T)[0, 0] + r))
        elif not np.isnan(query[t]):
            s = float((h @ cov @ h.T)[0, 0] + r)
            gain = cov @ h.T / s
            mean, cov = mean + gain[:, 0] * (query[t] - d - (h @ mean)[0]), cov - gain @ h @ cov
    return np.array(means), np.array(variances)


def close(found: veil.Forecast, mean: np.ndarray, variance: np.ndarray, n: int = 0, wide: float = 1.0) -> None:
    """Within what so many draws allow, or ``wide`` times as much."""
    error = wide * 4.5 * np.sqrt(variance / SAMPLES)
    assert np.all(np.abs(found.mean[n, :, 0] - mean) < error)
    assert np.all(np.abs(found.paths[n].mean(0)[:, 0] - mean) < error)
    np.testing.assert_allclose(found.standard_deviation[n, :, 0] ** 2, variance, rtol=0.12)
    np.testing.assert_allclose(found.paths[n].var(0)[:, 0], variance, rtol=0.12)
    low, high = found.interval(0.9)
    inside = np.mean((found.paths[n] > low[n]) & (found.paths[n] < high[n]))
    assert inside == pytest.approx(0.9, abs=0.01)


def test_of_an_lds_the_predictive_gaussian(key) -> None:
    rng = np.random.default_rng(0)
    query = [rng.normal(2.0, 2.0, 6), rng.normal(2.0, 2.0, 3)]
    query[0][3] = np.nan
    evidence = [rng.normal(size=6), rng.normal(size=3)]
    future = rng.normal(size=(2, HORIZON, 1))
    found = veil.forecast(level(), episodes(query, evidence), HORIZON, SAMPLES, key=key, evidence_future=future)
    assert found.paths.shape == (2, SAMPLES, HORIZON, 1)
    for n in range(2):
        close(found, *kalman(level(), query[n], np.r_[evidence[n], future[n, :, 0]], HORIZON), n)
    # a path is one future, not one draw a step: successive steps move together as the model says
    exact = np.corrcoef(found.paths[0, :, 3, 0], found.paths[0, :, 4, 0])[0, 1]
    assert exact > 0.5


def test_what_is_behind_is_the_truth_and_its_evidence_is_used() -> None:
    # the log of so many draws' average is off by 0.055 at the first step, one standard deviation
    key = jax.random.key(7)
    rng = np.random.default_rng(1)
    query, evidence = rng.normal(2.0, 2.0, (1, 12, 1)), rng.normal(size=(1, 12, 1))
    query[0, 8] = np.nan
    found = veil.forecast(level(), Data(query, evidence), HORIZON, SAMPLES, key=key, after=6)
    mean, variance = kalman(level(), query[0, :6, 0], evidence[0, :, 0], HORIZON)
    close(found, mean, variance)
    exact = np.nan_to_num(-0.5 * ((query[0, 6:11, 0] - mean) ** 2 / variance + np.log(2 * np.pi * variance)))
    np.testing.assert_allclose(found.log_likelihood[0], exact, atol=0.1)
    assert found.log_likelihood[0, 2] == 0  # nothing is known there
    np.testing.assert_array_equal(found.truth, query[:, 6:11].astype(found.truth.dtype))
    assert np.isnan(found.truth[0, 2, 0])
    held = veil.forecast(level(), Data(query, evidence), HORIZON, SAMPLES, key=key, after=6, evidence_future=[3.0])
    close(held, *kalman(level(), query[0, :6, 0], np.r_[evidence[0, :6, 0], np.full(HORIZON, 3.0)], HORIZON))
    again = veil.forecast(level(), Data(query, evidence), HORIZON, SAMPLES, key=key, after=6)
    np.testing.assert_array_equal(again.paths, found.paths)
    # the truth of a sequence that ends earlier is not known
    ragged = episodes([query[0, :7], query[0, :11]], [evidence[0, :7], evidence[0, :11]])
    truth = veil.forecast(level(), ragged, 3, 2, key=key, after=6, evidence_future=[0.0]).truth
    np.testing.assert_array_equal(np.isnan(truth[:, :, 0]), [[False, True, True], [False, False, True]])


def test_a_reset_forgets_what_was_before(key) -> None:
    rng = np.random.default_rng(2)
    query = rng.normal(2.0, 2.0, (1, 5, 1))
    reset = np.array([[False, False, False, True, False]])
    found = veil.forecast(level(0), Data(query, reset=reset), HORIZON, SAMPLES, key=key)
    close(found, *kalman(level(0), query[0, 3:, 0], np.zeros((10, 0)), HORIZON))


def test_of_an_hmm_powers_of_the_transition_matrix(key) -> None:
    rng = np.random.default_rng(3)
    path = np.cumsum(rng.random((3, 60)) < 0.15, 1) % 2
    data = Data((4.0 * path + rng.normal(size=path.shape))[..., None])
    model = veil.fit(veil.HMM(states=2), data, key=key).model
    found = veil.forecast(model, data, HORIZON, SAMPLES, key=key)
    moves = np.asarray(model.transition_matrix, float)
    means = np.asarray(model.experts.mean, float)[:, 0]
    variances = np.array([float(np.asarray(model.experts.covariance.dense_covariance())[k, 0, 0]) for k in range(2)])
    for n in range(3):
        belief = veil.infer(model, data).probabilities[n, -1].astype(float)
        expected, spread = [], []
        for _ in range(HORIZON):
            belief = belief @ moves
            expected.append(belief @ means)
            spread.append(belief @ (variances + means**2) - (belief @ means) ** 2)
        close(found, np.array(expected), np.array(spread), n)


def test_quantiles_are_those_of_the_paths(key) -> None:
    found = veil.forecast(level(0), Data(np.ones((1, 4, 1))), 2, 101, key=key)
    np.testing.assert_allclose(found.quantile(0.5)[0], np.sort(found.paths[0], 0)[50], rtol=1e-6)
    with pytest.raises(ValueError, match="share: expected a number between 0 and 1"):
        found.quantile(1.5)


def test_a_second_forecast_compiles_nothing(key, compilations) -> None:
    data = Data(np.ones((2, 4, 1)))
    veil.forecast(level(0), data, 2, 3, key=key)
    compilations.clear()
    veil.forecast(level(0), data, 2, 3, key=jax.random.key(1))
    assert compilations.of("_all") == 0


SEEN = Data(np.ones((2, 4, 1)), np.ones((2, 4, 1)))


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda k: veil.forecast(level(), SEEN, 2, 3, key=k), ValueError, "there is none behind them"),
        (lambda k: veil.forecast(level(), SEEN, 2, 3, key=k, after=3), ValueError, "there are 1 steps of it behind"),
        (lambda k: veil.forecast(level(), SEEN, 2, 3, key=k, after=5), ValueError, r"after: sequence 0 .* has 4 steps"),
        (
            lambda k: veil.forecast(level(), SEEN, 2, 3, key=k, evidence_future=np.ones((3, 1))),
            ValueError,
            r"evidence_future: expected numbers \[2, 2, 1\], \[2, 1\] .* or \[1\]",
        ),
        (
            lambda k: veil.forecast(level(), SEEN, 2, 3, key=k, evidence_future=[np.nan]),
            ValueError,
            "evidence_future: it must be complete",
        ),
        (
            lambda k: veil.forecast(level(0), Data(np.ones((2, 4, 1))), 2, 3, key=k, evidence_future=[1.0]),
            ValueError,
            "evidence_future: the data have no evidence",
        ),
        (lambda k: veil.forecast(level(), SEEN, 0, 3, key=k), ValueError, "horizon: expected a positive integer"),
        (lambda k: veil.forecast(level(), SEEN, 1, 0, key=k), ValueError, "samples: expected a positive integer"),
        (lambda k: veil.forecast(level(), veil.Stream(lambda: SEEN.blocks(1)), 1, 1, key=k), TypeError, "in memory"),
        (lambda k: veil.forecast(level(0), SEEN, 1, 1, key=k), ValueError, "fitted without evidence"),
        (lambda k: veil.forecast(veil.LDS(), SEEN, 1, 1, key=k), ValueError, "no parameters yet"),
    ],
)
def test_what_is_wrong_is_named(key, make, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        make(key)


def test_single_rows_have_no_future(key) -> None:
    rows = Data(np.random.default_rng(0).normal(size=(30, 1)))
    model = veil.fit(veil.Mixture(components=1), rows, key=key).model
    with pytest.raises(ValueError, match="only sequences have a future"):
        veil.forecast(model, rows, 1, 1, key=key)


def test_states_are_those_that_the_futures_came_from(key) -> None:
    data = veil.data.episodes([np.sin(0.5 * np.arange(12.0))[:, None] for _ in range(2)])
    model = veil.StateSpace(veil.dynamics.Recurrent(2, 3, veil.MLP((3,))), decoder=veil.MLP((3,)))
    found = veil.fit(model, data, key=key, steps=2, progress=False)
    ahead = veil.forecast(found, data, 4, 5, key=key, after=6, states=True)
    assert ahead.states.memory.shape == (2, 5, 4, 3)
    world, units = found.model.model, found.model.units
    one = lambda memory, latent: units.distribution(world.emission(memory, latent)).mean  # noqa: E731
    means = jax.vmap(jax.vmap(jax.vmap(one)))(ahead.states.memory, ahead.states.latent)
    np.testing.assert_allclose(ahead.mean, np.mean(means, 1), rtol=1e-5, atol=1e-6)
    assert veil.forecast(found, data, 4, 5, key=key, after=6).states is None


# -- through particles -------------------------------------------------------------------------------------------------


def functions(m: veil.LDS) -> veil.NonlinearGaussian:
    """The same model, not known to be linear."""
    move = lambda z, x: m.transition @ z + m.drift @ jnp.concatenate([jnp.ones(1), x])  # noqa: E731
    look = lambda z, x: m.emission @ z + m.offset  # noqa: E731
    return veil.NonlinearGaussian(move, look, m.process, m.noise, m.mean, m.factor)


@pytest.mark.parametrize("proposal", [None, veil.Optimal(), veil.Bootstrap()], ids=["usual", "optimal", "bootstrap"])
def test_of_a_linear_model_by_particles_the_predictive_gaussian(key, proposal) -> None:
    rng = np.random.default_rng(4)
    pushed = rng.normal(size=(2, 6, 1))
    drawn = np.array(veil.sample(level(), 1, key=jax.random.key(6), evidence=pushed).query[:, 0, :, 0])
    query, evidence = [drawn[0], drawn[1, :3]], [pushed[0, :, 0], pushed[1, :3, 0]]
    query[0][3] = np.nan
    future = rng.normal(size=(2, HORIZON, 1))
    data = episodes(query, evidence)
    found = veil.forecast(
        functions(level()), data, HORIZON, SAMPLES, key=key, evidence_future=future, posterior=proposal
    )
    for n in range(2):
        close(
            found, *kalman(level(), query[n], np.r_[evidence[n], future[n, :, 0]], HORIZON), n, wide=2.0
        )  # weights differ


def test_few_futures_go_on_from_many_particles(key) -> None:
    """Seen only at the first step, and almost exactly: ten particles from the prior would all be far from it."""
    sharp = veil.LDS(
        1,
        Diagonal(scale=jnp.array([[0.01]])),
        mean=jnp.zeros(1),
        factor=jnp.eye(1) * 3.0,
        transition=jnp.eye(1),
        drift=jnp.zeros((1, 2)),
        process=jnp.eye(1) * 0.01,
        emission=jnp.eye(1),
        offset=jnp.zeros(1),
    )
    data = Data(np.full((1, 1, 1), 4.0), np.zeros((1, 1, 1)))
    found = veil.forecast(
        functions(sharp), data, 1, 10, key=key, posterior=veil.Bootstrap(), evidence_future=np.zeros(1)
    )
    assert abs(found.mean.item() - 4.0) < 0.05


def test_regimes_are_forecast_by_particles(key) -> None:
    """A SwitchingLDS of two equal regimes is the LDS; given only the model, particles carry its Kalman filter."""
    one = level(0)
    gate = veil.Softmax(evidence=False, weight=jnp.zeros((2, 1)))
    gates = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), gate)
    twice = veil.SwitchingLDS(2, 2, one.noise, transition=gates, initial=gate, regimes=(one, one))
    query = np.random.default_rng(5).normal(2.0, 1.0, (1, 6, 1))
    found = veil.forecast(twice, Data(query), HORIZON, SAMPLES, key=key)
    mean, variance = kalman(one, query[0, :, 0], np.zeros((20, 0)), HORIZON)
    close(found, mean, variance)
    # no particle has lost anything: the mean of the first step is the same Kalman prediction in each
    np.testing.assert_allclose(found.mean[0, 0, 0], mean[0], rtol=1e-5)


def test_a_model_that_has_learned_its_posterior_asks_for_it(key) -> None:
    data = Data(np.sin(np.arange(4.0))[None, :, None])
    model = veil.fit(veil.dmm(2, decoder=veil.MLP((3,)), width=3), data, key=key, steps=1, progress=False).model
    with pytest.raises(ValueError, match=r"posterior: that of StateSpace has no closed form; give the Fit"):
        veil.forecast(model, data, 1, 2, key=key)
    assert veil.forecast(model, data, 1, 2, key=key, posterior=veil.Bootstrap()).paths.shape == (1, 2, 1, 1)
