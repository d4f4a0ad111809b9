"""The inference gap of a linear-Gaussian model, whose parts are known."""

import jax.numpy as jnp
import numpy as np
import pytest

import cases
import veil
from linear_gaussian import Known, Linear, draws, log_likelihood, mean_field_gap, random_model
from veil.evaluation.gap import gap
from veil.parts.heads import DiagonalGaussian, FullGaussian

pytestmark = pytest.mark.usefixtures("x64")


def correlated():
    """Two latents that say nearly the same."""
    return Linear(jnp.array([[1.0, 0.8], [0.5, 0.6], [0.3, 0.2]]), jnp.zeros(3), 0.7)


OPTIONS = {"samples": 300, "steps": 200, "draws": 8}


def test_the_full_family_has_no_gap(key):
    model = random_model()
    y = draws(model, 6)
    found = gap(model, Known(), y, key=key, family=FullGaussian(), **OPTIONS)
    np.testing.assert_allclose(found.log_likelihood, log_likelihood(model, y), atol=1e-4)
    for part in (found.approximation, found.amortization, found.total):
        assert abs(part.value) < 1e-4


def test_a_poor_guess_is_all_amortization_for_the_full_family(key):
    """KL(N(m + d, S) || N(m, S)) = dᵀ S⁻¹ d / 2, whatever the datum."""
    model = random_model()
    y = draws(model, 6)
    posterior = Known(moved=0.4)
    found = gap(model, posterior, y, key=key, family=FullGaussian(), **OPTIONS)
    W, d = np.asarray(model.W), np.full(2, 0.4)
    exact = 0.5 * d @ (np.eye(2) + W.T @ W / model.s**2) @ d
    np.testing.assert_allclose(found.log_likelihood, log_likelihood(model, y), atol=0.01)
    assert abs(found.approximation.value) < 0.005
    assert abs(found.amortization.value - exact) < 4 * found.amortization.monte_carlo_error
    np.testing.assert_allclose(found.total.value, found.approximation.value + found.amortization.value)


def test_independent_entries_cost_what_they_must(key):
    model = correlated()
    y = draws(model, 8)
    exact = mean_field_gap(model)
    assert exact > 0.05
    found = gap(model, Known(width=1.5, moved=0.2), y, key=key, log_likelihood=log_likelihood(model, y), **OPTIONS)
    assert abs(found.approximation.value - exact) < 4 * found.approximation.monte_carlo_error
    assert found.approximation.monte_carlo_error < 0.05
    assert found.amortization.value > 0.1
    best = gap(model, Known(independent=True), y, key=key, log_likelihood=log_likelihood(model, y), **OPTIONS)
    assert abs(best.amortization.value) < 0.01
    assert abs(best.approximation.value - exact) < 4 * best.approximation.monte_carlo_error


def test_the_best_is_never_worse_than_the_guess(key):
    """The exact posterior is out of reach of independent entries; and a search that goes astray does no harm."""
    model = random_model()
    y = draws(model, 5)
    for rate in (0.05, 100.0):
        found = gap(model, Known(), y, key=key, rate=rate, samples=20, steps=5, draws=2)
        assert (found.best >= found.amortised).all()
        np.testing.assert_allclose(found.amortization.value, 0, atol=1e-9)
        np.testing.assert_allclose(found.best, log_likelihood(model, y), atol=1e-8)


def test_one_compilation_for_all_blocks(key, monkeypatch, compilations):
    model = random_model()
    y = draws(model, 5)
    options = {"key": key, "samples": 20, "steps": 4, "draws": 2}
    whole = gap(model, Known(moved=0.3), y, **options)
    monkeypatch.setattr("veil.evaluation.gap.grouping", lambda entries, samples: (2, 6))
    compilations.clear()
    parts = gap(model, Known(moved=0.3), veil.Data(y, weight=np.ones(5)), **options)
    assert (compilations.of("_climb"), compilations.of("_pairs")) == (1, 1)
    np.testing.assert_allclose(parts.best, whole.best, rtol=1e-9)


def test_wrong_arguments(key):
    model = random_model()
    y = draws(model, 2)
    with pytest.raises(ValueError, match="family: expected a head on the real line"):
        gap(model, Known(), y, key=key, family=veil.heads.Bernoulli())
    with pytest.raises(ValueError, match="rate: expected a positive number"):
        gap(model, Known(), y, key=key, rate=0.0)
    with pytest.raises(ValueError, match=r"log_likelihood: expected one for each datum, \[2\]"):
        gap(model, Known(), y, key=key, log_likelihood=jnp.zeros(3), samples=4, steps=1, family=DiagonalGaussian())
    data = cases.make_data("real", 30)
    mixture = cases.random_model("mixture-full", data)
    with pytest.raises(TypeError, match="model: the gap is measured for real latents"):
        gap(mixture, veil.Exact(), data, key=key)
