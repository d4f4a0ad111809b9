"""Regressors that predict a whole density p(y | x), with scikit-learn's interface."""

from abc import abstractmethod
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from veil.data import Data
from veil.evaluation.likelihood import log_prob
from veil.learning.choices import default_optimiser
from veil.learning.result import Fit
from veil.parts.experts import Linear, LinearGaussian
from veil.parts.gates import Softmax
from veil.parts.heads import DiagonalGaussian, FullGaussian
from veil.parts.nets import MLP
from veil.sklearn import common
from veil.units import unwrapped
from veil.verbs.prediction import predict, sample
from veil.zoo.mixture import Mixture


class DensityRegressor(RegressorMixin, BaseEstimator):
    """What both regressors do with a fitted p(y | x), a mixture: ``model_``."""

    @abstractmethod
    def _learn(self, X: np.ndarray, y: np.ndarray, weight: np.ndarray, seed: common.Seed) -> Fit:
        """Fit to X [N, P], y [N, D] and weights [N], all of one float type."""

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to ``X`` [N, P] and ``y`` [N] or [N, D], of weights [N].

        Raises ValueError for data that are not complete and finite.
        """
        X, y = validate_data(self, X, y, dtype=common.FLOATS, multi_output=True, y_numeric=True)
        weight = _check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True)
        self._one_output = y.ndim == 1
        with common.precision(X):
            columns = y.astype(X.dtype).reshape(len(y), -1)
            result = self._learn(X, columns, weight, common.Seed.draw(self.random_state))
        self.model_ = result.model
        self.n_iter_ = result.status.steps
        self.converged_ = self._converged(result)
        self.lower_bounds_ = result.history.value.tolist()
        common.tell(result, self.converged_)
        return self

    @abstractmethod
    def _converged(self, result: Fit) -> bool:
        """Whether it ended as it should."""

    def _seen(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=common.FLOATS)
        return X.astype(self._dtype())

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "model_" in state:  # numpy keeps float64 whatever JAX's precision is where it is read
            state["model_"] = jax.tree.map(np.asarray, state["model_"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "model_" in vars(self):
            with common.precision(self._weight()):
                self.model_ = jax.tree.map(jnp.asarray, self.model_)

    def _dtype(self) -> np.dtype:
        return np.dtype(self._weight().dtype)

    def _weight(self) -> Any:
        return unwrapped(self.model_)[0].experts.weight

    def _shaped(self, columns: np.ndarray) -> np.ndarray:
        return columns[:, 0] if self._one_output else columns

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The mean E[y | x] of each row, [N] or [N, D]; with ``return_std`` also the standard deviation, a pair.

        Where p(y | x) has several modes the mean may be where y never is: ``sample_y`` and ``log_prob`` know them.
        """
        X = self._seen(X)
        with common.precision(X):
            found = predict(self.model_, common.filled(X, common.rows_compiled(len(X))))
        mean, deviation = found.mean[: len(X)], found.standard_deviation[: len(X)]
        return (self._shaped(mean), self._shaped(deviation)) if return_std else self._shaped(mean)

    def sample_y(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
        """Draw y from p(y | x) ``n_samples`` times for each row: [N, n_samples] or [N, D, n_samples]."""
        X = self._seen(X)
        with common.precision(X):
            rows = common.filled(X, common.rows_compiled(len(X)))
            key = common.Seed.draw(random_state).key()
            drawn = np.swapaxes(sample(self.model_, n_samples, key=key, evidence=rows).query[: len(X)], 1, 2)
        return self._shaped(drawn)

    def log_prob(self, X: Any, y: Any) -> np.ndarray:
        """log p(y | x) of each row [N] (nats)."""
        X = self._seen(X)
        columns = np.asarray(y, X.dtype).reshape(len(X), -1)
        with common.precision(X):
            return log_prob(self.model_, common.as_data(columns, X))[: len(X)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class MixtureOfExpertsRegressor(DensityRegressor):
    """p(y | x) = Σ_k p(k | x) N(y; W_k [1, x], Σ_k): linear experts and a gate, fitted by expectation maximisation.

    Parameters: ``gate`` "linear" (a softmax of x) or "constant" (the same everywhere); ``covariance_type`` of Σ_k over
    the outputs, ``reg_covar``, ``tol``, ``max_iter``, ``n_init`` and ``init_params`` as in ``GaussianMixture``.

    Attributes: ``model_`` (the veil model), ``converged_``, ``n_iter_`` and ``lower_bounds_`` (log-likelihood plus
    log-prior per datum before each step, nats).

    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> y = np.abs(X[:, 0]) + 0.01 * np.sin(1000 * X[:, 0])
    >>> MixtureOfExpertsRegressor(2, random_state=0).fit(X, y).predict([[-0.5], [0.5]]).round(2)
    array([0.5, 0.5])
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "gate": [StrOptions({"linear", "constant"})],
        "covariance_type": [StrOptions(set(common.COVARIANCES))],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init_params": [StrOptions(set(common.STARTS))],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: Any = 2,
        *,
        gate: Any = "linear",
        covariance_type: Any = "full",
        tol: Any = 1e-3,
        reg_covar: Any = 1e-6,
        max_iter: Any = 1000,
        n_init: Any = 1,
        init_params: Any = "kmeans",
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.gate = gate
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.random_state = random_state

    def _learn(self, X: np.ndarray, y: np.ndarray, weight: np.ndarray, seed: common.Seed) -> Fit:
        data = common.as_data(*common.distinct(y, X, weight))
        covariance = common.covariance(self.covariance_type, self.reg_covar, data.total_weight, self.n_components)
        gate = Softmax(evidence=self.gate == "linear")
        model = Mixture(LinearGaussian(covariance), self.n_components, gate, start=common.start(self.init_params))
        options = {"steps": self.max_iter, "tolerance": common.tolerance(self.tol), "restarts": self.n_init}
        return common.fit_quietly(model, data, key=seed.key(), progress=False, **options)

    def _converged(self, result: Fit) -> bool:
        return common.converged(result, self.tol)


class MixtureDensityRegressor(DensityRegressor):
    """p(y | x) = Σ_k p(k | x) N(y; m_k(x), Σ_k(x)), all from one neural network: a mixture density network.

    Fitted by Adam on the exact log-likelihood. Bishop 1994.

    Parameters: ``hidden_layer_sizes``, ``activation``, ``learning_rate_init``, ``batch_size`` and ``early_stopping``
    with its ``validation_fraction`` as in ``sklearn.neural_network.MLPRegressor``, but ``max_iter`` counts steps of the
    optimiser, not epochs, and the learning rate falls to zero along a cosine. ``covariance_type`` is "diag" or "full"
    (over the outputs, of each component). ``early_stopping`` keeps the network that was best on the held-out rows.

    Attributes: ``model_`` (the veil model), ``converged_`` (false if the objective stopped being finite), ``n_iter_``
    (steps) and ``lower_bounds_`` (the log-likelihood per datum of each step's batch, nats).

    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> regressor = MixtureDensityRegressor(2, random_state=0).fit(X, X[:, 0] ** 2)
    >>> regressor.predict([[0.5]]).round(1)
    array([0.2])
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions({"tanh", "relu", "silu", "gelu", "elu", "softplus"})],
        "covariance_type": [StrOptions({"diag", "full"})],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate_init": [Interval(Real, 0.0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0.0, 1.0, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: Any = 5,
        hidden_layer_sizes: Any = (64, 64),
        activation: Any = "tanh",
        *,
        covariance_type: Any = "diag",
        batch_size: Any = "auto",
        learning_rate_init: Any = 0.01,
        max_iter: Any = 2000,
        early_stopping: Any = False,
        validation_fraction: Any = 0.1,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.covariance_type = covariance_type
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def _learn(self, X: np.ndarray, y: np.ndarray, weight: np.ndarray, seed: common.Seed) -> Fit:
        batch = 256 if self.batch_size == "auto" else int(self.batch_size)
        widths = tuple(int(width) for width in np.atleast_1d(self.hidden_layer_sizes))
        head = FullGaussian() if self.covariance_type == "full" else DiagonalGaussian()
        model = Mixture(Linear(head), self.n_components, trunk=MLP(widths, self.activation))
        held_out = float(self.validation_fraction) if self.early_stopping else None
        rows = common.distinct(y, X, weight)
        whole = len(rows[0]) <= batch and not self.early_stopping  # every step sees all data
        data = common.as_data(*rows) if whole else Data(y, X, weight)
        return common.fit_quietly(
            model,
            data,
            key=seed.key(),
            optimiser=default_optimiser(int(self.max_iter), float(self.learning_rate_init)),
            steps=int(self.max_iter),
            batch_size=max(batch, len(data)) if whole else batch,
            held_out=held_out,
            progress=False,
        )

    def _converged(self, result: Fit) -> bool:
        return result.status.converged or result.status.reason == "all steps taken"
