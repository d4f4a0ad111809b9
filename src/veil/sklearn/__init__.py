"""Estimators with scikit-learn's interface.

Names are scikit-learn's where the meaning is the same; each class says where it differs.
"""

try:
    import sklearn as _scikit_learn
except ModuleNotFoundError as error:  # pragma: no cover
    raise ImportError("veil.sklearn needs scikit-learn; install it with: pip install 'veil[sklearn]'") from error

from veil.sklearn.mixture import GaussianMixture
from veil.sklearn.regression import MixtureDensityRegressor, MixtureOfExpertsRegressor

__all__ = ["GaussianMixture", "MixtureDensityRegressor", "MixtureOfExpertsRegressor"]
