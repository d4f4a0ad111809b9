"""scikit-learn's own checks. (No __init__.py here: `tests` is on the path, and this folder would hide scikit-learn.)"""

import jax
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from veil.sklearn import GaussianMixture, MixtureDensityRegressor, MixtureOfExpertsRegressor

ESTIMATORS = [
    GaussianMixture(),
    MixtureOfExpertsRegressor(),
    MixtureDensityRegressor(hidden_layer_sizes=16, max_iter=200),
]


@pytest.fixture(autouse=True, scope="module")
def quick_to_compile():
    """Many small shapes, each used once: what counts is the time to compile."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(ESTIMATORS)
def test_check_estimator(estimator, check):
    check(estimator)
