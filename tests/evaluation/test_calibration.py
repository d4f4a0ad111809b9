"""Simulation-based calibration: uniform ranks for the exact posterior, and what is wrong with others."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import cases
import veil
from linear_gaussian import Known, random_model
from veil.evaluation.calibration import calibration, reliability
from veil.maths.uniformity import chi_square_p

pytestmark = pytest.mark.usefixtures("x64")


def test_p_values_are_scipys():
    counts = np.array([13.0, 7.0, 20.0, 9.0])
    np.testing.assert_allclose(chi_square_p(jnp.array(counts)), scipy.stats.chisquare(counts).pvalue, rtol=1e-10)


def test_the_exact_posterior_is_calibrated(key, monkeypatch):
    model = random_model(3, 4)
    evidence = np.random.default_rng(0).normal(size=(7, 4))
    found = calibration(model, Known(), key, 1000, evidence)
    assert found.ranks.shape == (1000, 3)
    assert found.counts.sum(1).tolist() == [1000] * 3
    assert not found.flagged().any()
    assert found.p_values.min() > 0.01
    np.testing.assert_allclose(found.width, 1, atol=0.12)
    np.testing.assert_allclose(found.shift, 0, atol=0.06)
    assert str(found).startswith("calibrated")
    monkeypatch.setattr("veil.evaluation.calibration.grouping", lambda entries, samples: (300, 1))
    np.testing.assert_array_equal(calibration(model, Known(), key, 1000, evidence).ranks, found.ranks)


@pytest.mark.parametrize(
    ("posterior", "words"),
    [
        (Known(width=0.7), "too narrow"),
        (Known(width=1.5), "too wide"),
        (Known(moved=0.2), "misplaced"),
        (Known(moved=0.5), "misplaced"),
    ],
)
def test_other_posteriors_are_flagged(key, posterior, words):
    found = calibration(random_model(), posterior, key, 1000)
    assert found.flagged().all()
    assert str(found).startswith("2 of 2 entries are not calibrated")
    assert str(found).endswith(words)
    np.testing.assert_allclose(found.width, np.var(found.ranks, axis=0) / (99 * 101 / 12))
    if words == "misplaced":
        assert (found.shift < -0.1).all()


def test_discrete_latents_share_their_ranks(key):
    model = cases.random_model("mixture-full", cases.make_data("real", 50))
    assert not calibration(model, veil.Exact(), key, 500).flagged().any()


def test_wrong_arguments(key):
    model = random_model()
    with pytest.raises(ValueError, match="bins: expected 2 or more that divide samples"):
        calibration(model, Known(), key, bins=7)
    with pytest.raises(ValueError, match="count: expected 5 for each of 20 bins"):
        calibration(model, Known(), key, 99)
    with pytest.raises(ValueError, match="samples: expected a positive integer"):
        calibration(model, Known(), key, samples=0)


def test_reliability_of_probabilities() -> None:
    """The expected calibration error by hand, nearly none of true probabilities, and much of sharpened ones."""
    table = np.array([[0.9, 0.1], [0.85, 0.15], [0.3, 0.7], [0.45, 0.55]])
    found = reliability(table, [0, 1, 1, 1], bins=5)
    np.testing.assert_allclose(found.share, [0, 0, 0.25, 0.25, 0.5])
    np.testing.assert_allclose(found.accuracy[2:], [1, 1, 0.5])
    assert found.error == pytest.approx(0.25 * 0.45 + 0.25 * 0.3 + 0.5 * 0.375)
    rng = np.random.default_rng(0)
    known = rng.dirichlet(np.ones(4), 20000)
    truths = (rng.random(20000)[:, None] > known.cumsum(1)).sum(1)
    assert reliability(known, truths).error < 0.012
    sharp = known**3 / (known**3).sum(1, keepdims=True)
    assert reliability(sharp, truths).error > 0.1
    with pytest.raises(ValueError, match=r"probabilities: expected \[N, K\] for \(2,\) truths"):
        reliability(known, [0, 1])
