"""Regressors of a whole density."""

import pickle

import jax
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_score

from veil.sklearn import MixtureDensityRegressor, MixtureOfExpertsRegressor

REGRESSORS = [
    MixtureOfExpertsRegressor(2, random_state=0, n_init=2),
    MixtureOfExpertsRegressor(2, gate="constant", covariance_type="diag", random_state=0, n_init=2),
    MixtureDensityRegressor(2, (16,), random_state=0, max_iter=600),
    MixtureDensityRegressor(2, 16, "relu", covariance_type="full", batch_size=64, random_state=0, max_iter=600),
]


def two_branches(count, seed=0):
    """y = ±(1 + x) with equal probability, and noise of 0.1: the mean says nothing."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(0, 1, (count, 1))
    sign = rng.choice([-1.0, 1.0], count)
    return X, sign * (1 + X[:, 0]) + 0.1 * rng.normal(size=count)


@pytest.fixture(scope="module", params=range(len(REGRESSORS)), ids=["linear", "constant", "network", "network-full"])
def fitted(request):
    return clone(REGRESSORS[request.param]).fit(*two_branches(400))


def test_beats_linear_regression(fitted):
    X, y = two_branches(400)
    X_new, y_new = two_branches(400, seed=1)
    line = LinearRegression().fit(X, y)
    scale = np.std(y - line.predict(X))
    baseline = np.mean(-0.5 * ((y_new - line.predict(X_new)) / scale) ** 2 - np.log(scale * np.sqrt(2 * np.pi)))
    truth = -np.log(2) - np.log(0.1 * np.sqrt(2 * np.pi)) - 0.5
    score = np.mean(fitted.log_prob(X_new, y_new))
    assert score > baseline + 1.0
    assert score == pytest.approx(truth, abs=0.15)


def test_density_integrates_to_one_with_the_moments_of_predict(fitted):
    grid = np.linspace(-4, 4, 4001)
    density = np.exp(fitted.log_prob(np.full((4001, 1), 0.5), grid))
    mean, deviation = fitted.predict([[0.5]], return_std=True)
    assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=1e-6)
    assert np.trapezoid(density * grid, grid) == pytest.approx(mean[0], abs=1e-6)
    assert np.trapezoid(density * (grid - mean[0]) ** 2, grid) == pytest.approx(deviation[0] ** 2, abs=1e-5)


def test_samples_have_both_branches(fitted):
    drawn = fitted.sample_y([[0.2], [0.8]], 500, random_state=0)
    assert drawn.shape == (2, 500)
    assert np.mean(drawn > 0, axis=1) == pytest.approx(0.5, abs=0.12)
    assert np.mean(np.abs(drawn), axis=1) == pytest.approx([1.2, 1.8], abs=0.1)
    np.testing.assert_array_equal(drawn, fitted.sample_y([[0.2], [0.8]], 500, random_state=0))


def test_pickle_keeps_every_digit(fitted):
    X, y = two_branches(50)
    restored = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(restored.log_prob(X, y), fitted.log_prob(X, y))


@pytest.mark.parametrize("regressor", [REGRESSORS[0], REGRESSORS[3]], ids=["experts", "network"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_several_outputs(regressor, dtype):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2)).astype(dtype)
    y = (X @ [[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]] + 0.1 * rng.normal(size=(200, 3))).astype(dtype)
    fitted = clone(regressor).fit(X, y)
    mean, deviation = fitted.predict(X, return_std=True)
    assert mean.shape == deviation.shape == y.shape
    assert mean.dtype == fitted.log_prob(X, y).dtype == dtype
    assert fitted.sample_y(X[:7], 4).shape == (7, 3, 4)
    assert fitted.log_prob(X, y).shape == (200,)
    assert fitted.score(X, y) > 0.9


def test_early_stopping_keeps_the_best():
    X, y = two_branches(60)
    long = MixtureDensityRegressor(5, 32, max_iter=800, random_state=0)
    stopped = clone(long).set_params(early_stopping=True, validation_fraction=0.3).fit(X, y)
    X_new, y_new = two_branches(500, seed=2)
    assert np.mean(stopped.log_prob(X_new, y_new)) > np.mean(long.fit(X, y).log_prob(X_new, y_new))


def test_weights_are_repeated_rows():
    X, y = two_branches(60)
    weight = np.random.default_rng(0).integers(0, 3, 60)
    for regressor in (REGRESSORS[0], REGRESSORS[2]):
        weighted = clone(regressor).fit(X, y, sample_weight=weight)
        repeated = clone(regressor).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
        np.testing.assert_array_equal(weighted.predict(X), repeated.predict(X))


def test_cross_validation_compiles_once(compilations):
    X, y = two_branches(100)
    for regressor in (REGRESSORS[0], REGRESSORS[2]):
        fitted = clone(regressor).fit(X, y)
        fitted.predict(X)
        compilations.clear()
        cross_val_score(clone(regressor), X, y, cv=4)  # 75 rows and 100 rows are both filled up to 128
        fitted.predict(X[:80])
        assert "jit(_stretch)" not in compilations
    assert not jax.config.jax_enable_x64
