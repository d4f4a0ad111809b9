"""``GaussianMixture``: scikit-learn's interface to veil's Gaussian mixtures."""

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, DensityMixin, _fit_context
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from veil.data import Data
from veil.evaluation.likelihood import log_prob
from veil.learning.result import Fit
from veil.model.abilities import free_parameters
from veil.sklearn import common
from veil.sklearn.parameters import as_model, factor_of, parameters_of, starting
from veil.verbs.inference import infer
from veil.verbs.prediction import sample
from veil.zoo.mixture import Mixture

NARROW = 1e-7  # of a column's deviation: what rounding leaves of the width of equal rows in float64


class GaussianMixture(DensityMixin, BaseEstimator):
    """p(x) = Σ_k weights_k N(x; means_k, covariances_k), fitted by expectation maximisation.

    It takes the place of ``sklearn.mixture.GaussianMixture``: the same parameters, defaults, methods, attributes and
    shapes. What is different:

    * NaN in ``X`` is a missing entry, integrated out exactly; ``fit`` takes ``sample_weight``, and an integer weight is
      the same as repeated rows.
    * ``tol`` (nats per datum): EM stops when the last step's gain is below ``tol``, as in scikit-learn, and moreover
      the gain still to come, extrapolated from the last steps, is below ``tol`` / 100. So it takes more steps: where
      EM crosses a plateau, scikit-learn's rule stops far from where it was going. ``converged_`` means the same: at
      ``max_iter`` it is true if the last step gained less than ``tol``.
    * ``reg_covar`` is relative: it adds ``reg_covar`` to twice ``reg_covar``, times a column's squared spread (half the
      distance between its 16th and 84th percentiles), to the variances of a component with an average share of the
      data, and more to one with less. On standardised data that is scikit-learn's meaning; in other units, units do
      not matter. It is a prior that EM accounts for, so the likelihood plus log-prior never falls.
    * Components that collapsed, are empty or are duplicates are reported as ``ConvergenceWarning``; with
      ``reg_covar=0``, which leaves a collapsed one no density, collapse is an error as in scikit-learn.
    * ``init_params`` work in standardised columns. With ``means_init`` and without ``precisions_init``, the starting
      weights and covariances are those of the data nearest to each mean.
    * ``lower_bounds_`` are log-likelihoods per datum (nats), without the prior.
    * Computations are float64 for float64 data and float32 for float32 data.

    ``model_`` is the veil model, made from ``weights_``, ``means_`` and ``precisions_cholesky_``: in a session of
    JAX's default precision, veil's own functions use it in float32.

    Raises:
        ValueError, sklearn.utils._param_validation.InvalidParameterError: an argument is not what it should be.

    >>> X = np.concatenate([np.random.default_rng(0).normal(m, 1.0, (100, 2)) for m in (0, 10)])
    >>> mixture = GaussianMixture(n_components=2, random_state=0).fit(X)
    >>> np.sort(mixture.means_[:, 0]).round().astype(int)
    array([ 0, 10])
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "covariance_type": [StrOptions(set(common.COVARIANCES))],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init_params": [StrOptions(set(common.STARTS))],
        "weights_init": ["array-like", None],
        "means_init": ["array-like", None],
        "precisions_init": ["array-like", None],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components: Any = 1,
        *,
        covariance_type: Any = "full",
        tol: Any = 1e-3,
        reg_covar: Any = 1e-6,
        max_iter: Any = 100,
        n_init: Any = 1,
        init_params: Any = "kmeans",
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        random_state: Any = None,
        warm_start: Any = False,
        verbose: Any = 0,
        verbose_interval: Any = 10,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    # -- fitting

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit to ``X`` [N, D] (NaN: missing), of weights [N]; the best of ``n_init`` runs. ``y`` is ignored.

        With ``warm_start``, a second call starts where the first one ended.
        """
        X = validate_data(self, X, dtype=common.FLOATS, ensure_all_finite="allow-nan", ensure_min_samples=2)
        if len(X) < self.n_components:
            raise ValueError(
                f"Expected n_samples >= n_components but got n_components = {self.n_components}, n_samples = {len(X)}"
            )
        weight = _check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True)
        given = self._given(X)
        with common.precision(X):
            data = common.as_data(*common.distinct(X, None, weight))
            seed = common.Seed.draw(self.random_state)
            structure = common.covariance(
                self.covariance_type, float(self.reg_covar), data.total_weight, self.n_components
            )
            before = -np.inf
            if self.warm_start and "converged_" in vars(self):
                starts, before = [self._same_shape(X)], float(vars(self)["lower_bound_"])
            else:
                starts = starting(data, structure, self.n_components, self.init_params, given, self.n_init, seed)
            best: tuple[Fit, dict[str, np.ndarray]] | None = None
            for number, parameters in enumerate(starts):
                if self.max_iter == 0:
                    self._set(parameters, X.dtype)
                    self.converged_, self.n_iter_, self.lower_bound_, self.lower_bounds_ = False, 0, -np.inf, []
                    return self
                result = self._run(as_model(parameters, self.covariance_type, structure), data, number, seed)
                if best is None or result.history.value[-1] > best[0].history.value[-1]:
                    best = result, parameters_of(result.model)
        assert best is not None
        result, parameters = best
        self._refuse_collapse(result, parameters, X)
        self._set(parameters, X.dtype)
        self.converged_, self.n_iter_ = common.converged(result, self.tol, before), result.status.steps
        self.lower_bounds_ = common.bounds(result)
        self.lower_bound_ = self.lower_bounds_[-1]
        common.tell(result, self.converged_)
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """``fit``, and the most probable component of each row [N]."""
        return self.fit(X, y, sample_weight).predict(X)

    def _run(self, model: Mixture, data: Data, number: int, seed: common.Seed) -> Fit:
        if self.verbose:
            print(f"Initialization {number}")

        def record(info: dict[str, Any]) -> None:
            step = int(info["step"]) + 1
            if step % self.verbose_interval == 0:
                value = f"\t log-likelihood per datum {info['value']:.5f}" if self.verbose > 1 else ""
                print(f"  Iteration {step}{value}")

        result = common.fit_quietly(
            model,
            data,
            key=seed.key(),
            steps=self.max_iter,
            tolerance=common.tolerance(self.tol),
            progress=False,
            record=record if self.verbose else None,
        )
        if self.verbose:
            print(f"Initialization {'converged.' if common.converged(result, self.tol) else 'did not converge.'}")
        return result

    def _refuse_collapse(self, result: Fit, parameters: dict[str, np.ndarray], X: np.ndarray) -> None:
        """Raise ValueError, in scikit-learn's words, for a fit that only regularisation could have saved.

        Not for one that ``max_iter`` ended on its way there, which is not converged.
        """
        factor, spread = parameters["factor"], np.nanstd(X, axis=0)
        if self.covariance_type in ("full", "tied"):
            factor = np.abs(np.diagonal(factor, axis1=-2, axis2=-1))
        elif self.covariance_type == "spherical":
            spread = np.sqrt(np.mean(spread**2))
        narrow = self.reg_covar == 0 and np.any((factor < NARROW * spread) | (spread == 0))
        if (narrow and result.status.reason != "all steps taken") or not all(
            np.all(np.isfinite(part)) for part in parameters.values()
        ):
            raise ValueError(
                "Fitting the mixture model failed because some components have ill-defined empirical covariance (for "
                "instance caused by singleton or collapsed samples). Try to decrease the number of components, "
                "increase reg_covar, or scale the input data."
            )

    def _given(self, X: np.ndarray) -> dict[str, np.ndarray]:
        """The starting values that the user gave, checked: weights [K], means [K, D], precisions."""
        components, width = self.n_components, X.shape[1]
        shapes = {
            "weights": (components,),
            "means": (components, width),
            "precisions": {
                "full": (components, width, width),
                "tied": (width, width),
                "diag": (components, width),
                "spherical": (components,),
            }[self.covariance_type],
        }
        given = {}
        kind = self.covariance_type
        for name, shape in shapes.items():
            value = vars(self)[f"{name}_init"]
            if value is None:
                continue
            array = check_array(value, dtype=np.float64, ensure_2d=False, allow_nd=True, input_name=f"{name}_init")
            if array.shape != shape:
                said = f"{kind} precision" if name == "precisions" else name
                raise ValueError(
                    f"The parameter '{said}' should have the shape of {shape}, but got {array.shape} in {name}_init"
                )
            given[name] = array
        weights, precisions = given.get("weights"), given.get("precisions")
        if weights is not None and (np.any(weights < 0) or np.any(weights > 1)):
            raise ValueError(  # the smallest is scikit-learn's "max value", too: scripts may match its words
                "The parameter 'weights' should be in the range [0, 1], but got max value "
                f"{np.min(weights):.5f}, min value {np.max(weights):.5f} in weights_init"
            )
        if weights is not None and abs(np.sum(weights) - 1.0) > 1e-6:
            raise ValueError(
                f"The parameter 'weights' should be normalized, but got sum(weights) = {np.sum(weights):.5f}"
            )
        if precisions is not None:
            dense = kind in ("full", "tied")
            symmetric = not dense or np.allclose(precisions, np.swapaxes(precisions, -1, -2))
            if not symmetric or np.any((np.linalg.eigvalsh(precisions) if dense else precisions) <= 0):
                said = "symmetric, positive-definite" if dense else "positive"
                raise ValueError(f"precisions_init: '{kind} precision' should be {said}")
        return given

    def _same_shape(self, X: np.ndarray) -> dict[str, np.ndarray]:
        expected = (self.n_components, X.shape[1])
        factor = factor_of(np.asarray(self.precisions_cholesky_, np.float64), self.covariance_type)
        fitted = {"full": 3, "tied": 2, "diag": 2, "spherical": 1}[self.covariance_type]
        if self.means_.shape != expected or np.ndim(self.precisions_cholesky_) != fitted:
            raise ValueError(
                f"warm_start needs the n_components, columns and covariance_type of the last fit: means of shape "
                f"{self.means_.shape} cannot start a fit of shape {expected}; set warm_start=False or fit a clone"
            )
        return {"weights": self.weights_, "means": self.means_, "factor": factor}

    def _set(self, parameters: dict[str, np.ndarray], dtype: Any) -> None:
        factor = parameters["factor"]
        self.weights_ = parameters["weights"].astype(dtype)
        self.means_ = parameters["means"].astype(dtype)
        if self.covariance_type in ("full", "tied"):
            covariances, upper = factor @ np.swapaxes(factor, -1, -2), np.swapaxes(np.linalg.inv(factor), -1, -2)
            precisions = upper @ np.swapaxes(upper, -1, -2)
        else:
            covariances, upper, precisions = factor**2, 1.0 / factor, factor**-2.0
        self.covariances_ = covariances.astype(dtype)
        self.precisions_cholesky_ = upper.astype(dtype)
        self.precisions_ = precisions.astype(dtype)

    @property
    def model_(self) -> Mixture:
        """The fitted veil model (raises NotFittedError before ``fit``)."""
        check_is_fitted(self)
        upper = np.asarray(self.precisions_cholesky_, np.float64)
        parameters = {
            "weights": np.asarray(self.weights_, np.float64),
            "means": np.asarray(self.means_, np.float64),
            "factor": factor_of(upper, self.covariance_type),
        }
        return as_model(parameters, self.covariance_type, common.covariance(self.covariance_type, 1e-6, 1.0, 1))

    # -- using

    def _seen(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return validate_data(self, X, reset=False, dtype=common.FLOATS, ensure_all_finite="allow-nan")

    def _posterior(self, X: Any) -> np.ndarray:
        X = self._seen(X)
        with common.precision(X, self.means_):
            return np.asarray(infer(self.model_, common.as_data(X)).probabilities)[: len(X)]

    def predict(self, X: Any) -> np.ndarray:
        """The most probable component of each row [N]."""
        return np.argmax(self._posterior(X), axis=1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """p(component | x) of each row [N, K]."""
        return self._posterior(X)

    def score_samples(self, X: Any) -> np.ndarray:
        """log p(x) of each row [N] (nats); of the entries that are not missing."""
        X = self._seen(X)
        with common.precision(X, self.means_):
            return log_prob(self.model_, common.as_data(X))[: len(X)]

    def score(self, X: Any, y: Any = None) -> float:
        """The average of ``score_samples`` (nats per datum)."""
        return float(np.mean(self.score_samples(X)))

    def sample(self, n_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Draw [n_samples, D] from the mixture, sorted by component, and the components [n_samples]."""
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"Invalid value for 'n_samples': {n_samples}. The sampling requires at least one sample.")
        with common.precision(self.means_):
            key = common.Seed.draw(self.random_state).key()
            drawn = sample(self.model_, common.rows_compiled(n_samples), key=key)
        latent = drawn.latent[:n_samples].astype(np.int64)
        order = np.argsort(latent, kind="stable")
        return drawn.query[:n_samples][order], latent[order]

    def _n_parameters(self) -> int:
        return free_parameters(self.model_)

    def bic(self, X: Any) -> float:
        """Bayesian information criterion, parameters x log N - 2 log L: smaller is better."""
        values = self.score_samples(X)
        return float(self._n_parameters() * np.log(len(values)) - 2.0 * np.sum(values))

    def aic(self, X: Any) -> float:
        """Akaike's information criterion, 2 x parameters - 2 log L: smaller is better."""
        return float(2.0 * self._n_parameters() - 2.0 * np.sum(self.score_samples(X)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


# -- parameters: weights [K], means [K, D] and the factor of the covariances, Cholesky factors [K, D, D] or [D, D], or
# -- standard deviations [K, D] or [K]
