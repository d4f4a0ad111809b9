"""GaussianMixture in the place of scikit-learn's."""

import inspect
import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import GaussianMixture as Reference
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import veil
from veil.sklearn import GaussianMixture

TYPES = ("full", "tied", "diag", "spherical")


def iris():
    return load_iris().data


def wine():
    return PCA(4, random_state=0).fit_transform(StandardScaler().fit_transform(load_wine().data))


def blobs():
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0], [40, 300], [-40, 100]])
    return np.concatenate([c + rng.normal(size=(150, 2)) * [10.0, 60.0] for c in centres])


DATA = {"iris": iris, "wine": wine, "blobs": blobs}


def given(X, covariance_type):
    """The same starting values for both."""
    variances = np.var(X, axis=0)
    precisions = {
        "full": np.tile(np.diag(1 / variances), (3, 1, 1)),
        "tied": np.diag(1 / variances),
        "diag": np.tile(1 / variances, (3, 1)),
        "spherical": np.full(3, 1 / variances.mean()),
    }[covariance_type]
    rows = np.linspace(0, len(X) - 1, 3).astype(int)
    return {"weights_init": np.full(3, 1 / 3), "means_init": X[rows], "precisions_init": precisions}


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("name", DATA)
def test_same_optimum_from_the_same_start(name, covariance_type):
    X = DATA[name]()
    options = {"covariance_type": covariance_type, "tol": 1e-9, "max_iter": 5000, **given(X, covariance_type)}
    reference = Reference(3, **options).fit(X)
    ours = GaussianMixture(3, **options).fit(X)
    assert abs(ours.score(X) - reference.score(X)) < 1e-3
    for attribute in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        theirs = getattr(reference, attribute)
        np.testing.assert_allclose(getattr(ours, attribute), theirs, rtol=0.05, atol=0.02 * np.max(np.abs(theirs)))


@pytest.mark.parametrize("covariance_type", TYPES)
def test_same_numbers_from_the_same_parameters(covariance_type):
    X = iris()
    reference = Reference(3, covariance_type=covariance_type, random_state=0).fit(X)
    parameters = {f"{name}_init": getattr(reference, f"{name}_") for name in ("weights", "means", "precisions")}
    ours = GaussianMixture(3, covariance_type=covariance_type, max_iter=0, **parameters).fit(X)
    assert (ours.n_iter_, ours.converged_) == (0, False)
    for method in ("score_samples", "predict_proba", "predict", "score", "bic", "aic"):
        theirs = getattr(reference, method)(X)
        np.testing.assert_allclose(getattr(ours, method)(X), theirs, rtol=1e-6, atol=1e-6)
    for attribute in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        np.testing.assert_allclose(getattr(ours, attribute), getattr(reference, attribute), rtol=1e-6, atol=1e-9)


def test_same_signature_and_defaults():
    assert GaussianMixture().get_params() == Reference().get_params()
    for method in ("fit", "fit_predict", "predict", "predict_proba", "score", "score_samples", "sample", "bic", "aic"):
        theirs = list(inspect.signature(getattr(Reference, method)).parameters)
        assert list(inspect.signature(getattr(GaussianMixture, method)).parameters)[: len(theirs)] == theirs


def test_a_script_written_for_scikit_learn():
    X = np.random.default_rng(0).permutation(iris())
    pipeline = make_pipeline(StandardScaler(), GaussianMixture(3, n_init=2, random_state=0))
    search = GridSearchCV(pipeline, {"gaussianmixture__n_components": [1, 2]}, cv=3)
    assert search.fit(X).best_params_["gaussianmixture__n_components"] == 2
    labels = pipeline.fit_predict(X)
    restored = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(restored.predict(X), labels)
    np.testing.assert_array_equal(restored.score_samples(X), pipeline.score_samples(X))
    again = clone(pipeline).fit(X)
    np.testing.assert_array_equal(again.predict_proba(X), pipeline.predict_proba(X))


def test_at_least_as_converged_as_scikit_learn():
    """On a plateau scikit-learn's rule stops early; ours never stops before it would."""
    X = blobs()
    options = {"tol": 1e-3, **given(X, "full")}
    assert GaussianMixture(3, **options).fit(X).score(X) >= Reference(3, **options).fit(X).score(X) - 1e-6


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random_from_data"])
def test_every_start_finds_two_blobs(init_params):
    X = np.concatenate([np.random.default_rng(0).normal(m, 1, (100, 2)) for m in (0, 8)])
    mixture = GaussianMixture(2, init_params=init_params, random_state=3, max_iter=3000).fit(X)
    assert np.sort(mixture.means_[:, 0]) == pytest.approx([0, 8], abs=0.5)


def test_random_starts_in_the_middle():
    X = np.concatenate([np.random.default_rng(0).normal(m, 1, (100, 2)) for m in (0, 8)])
    start = GaussianMixture(2, init_params="random", random_state=0, max_iter=0).fit(X)
    assert start.means_ == pytest.approx(4.0, abs=1.5)


def test_some_starting_values():
    X = np.concatenate([np.random.default_rng(0).normal(m, 1, (100, 2)) for m in (0, 8)])
    means = np.array([[8.0, 8], [0, 0]])
    assert GaussianMixture(2, means_init=means).fit(X).means_ == pytest.approx(means, abs=0.4)
    start = GaussianMixture(2, weights_init=[0.3, 0.7], random_state=0, max_iter=0).fit(X)
    assert start.weights_ == pytest.approx([0.3, 0.7])


@pytest.mark.parametrize(
    "bad",
    [
        {"weights_init": [0.5, 0.6]},
        {"weights_init": [1.0]},
        {"means_init": [[0.0, 0.0]]},
        {"precisions_init": [np.eye(2), -np.eye(2)]},
        {"precisions_init": np.eye(2)},
        {"n_components": 0},
        {"covariance_type": "round"},
        {"n_components": 500},
    ],
)
def test_bad_parameters_are_refused(bad):
    with pytest.raises(ValueError, match=r"parameter|precision|n_components"):
        GaussianMixture(**{"n_components": 2, **bad}).fit(blobs()[:, :2])


def test_missing_entries_are_integrated_out():
    rng = np.random.default_rng(1)
    X = rng.multivariate_normal([1.0, -2.0], [[2.0, 1.2], [1.2, 1.0]], size=2000)
    holes = X.copy()
    holes[X[:, 0] > 1.0, 1] = np.nan  # missing at random: it depends on what is seen
    mixture = GaussianMixture(1, tol=1e-6, max_iter=500).fit(holes)
    assert mixture.means_[0] == pytest.approx([1.0, -2.0], abs=0.12)  # the mean of what is seen is off by 0.6
    assert mixture.covariances_[0] == pytest.approx(np.array([[2.0, 1.2], [1.2, 1.0]]), abs=0.15)
    seen = mixture.score_samples([[0.5, np.nan]])
    deviation = np.sqrt(mixture.covariances_[0, 0, 0])
    expected = -0.5 * ((0.5 - mixture.means_[0, 0]) / deviation) ** 2 - np.log(deviation * np.sqrt(2 * np.pi))
    assert seen[0] == pytest.approx(expected)
    assert mixture.predict_proba(holes) == pytest.approx(1.0)


def test_sample_is_sorted_by_component_and_has_the_moments():
    mixture = GaussianMixture(2, random_state=0).fit(blobs()[:300])
    X, labels = mixture.sample(4000)
    assert X.shape == (4000, 2)
    assert np.all(np.diff(labels) >= 0)
    assert np.bincount(labels) / 4000 == pytest.approx(mixture.weights_, abs=0.03)
    assert X[labels == 0].mean(0) == pytest.approx(mixture.means_[0], abs=10.0)


def test_weights_are_repeated_rows():
    X = iris()
    weight = np.random.default_rng(0).integers(0, 3, len(X))
    weighted = GaussianMixture(2, random_state=0).fit(X, sample_weight=weight)
    repeated = GaussianMixture(2, random_state=0).fit(np.repeat(X, weight, axis=0))
    np.testing.assert_array_equal(weighted.means_, repeated.means_)


def test_warm_start_goes_on():
    X = blobs()
    mixture = GaussianMixture(3, random_state=0, max_iter=2, tol=1e-9, warm_start=True)
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        first = mixture.fit(X).lower_bound_
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        assert mixture.fit(X).lower_bounds_[0] > first
    with pytest.raises(ValueError, match="warm_start"):
        mixture.set_params(n_components=2).fit(X)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_what_only_regularisation_could_save_is_refused(covariance_type):
    rows = np.random.default_rng(0).normal(size=(4, 3))
    X = np.repeat(rows, 5, axis=0)
    mixture = GaussianMixture(4, covariance_type=covariance_type, reg_covar=0, random_state=0)
    with pytest.raises(ValueError, match="Fitting the mixture model failed because some components have ill-defined"):
        mixture.fit(X)


def test_one_step_at_a_time_converges():
    X = np.concatenate([np.random.default_rng(0).normal(m, 1, (100, 2)) for m in (0, 6)])
    mixture = GaussianMixture(2, warm_start=True, max_iter=1, random_state=0)
    done = []
    for _ in range(30):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            done.append(mixture.fit(X).converged_)
        if done[-1]:
            break
    assert done[-1]
    assert not done[0]


def test_collapse_is_told():
    X = np.concatenate([np.random.default_rng(0).normal(size=(50, 1)), np.full((50, 1), 9.0)])
    with pytest.warns(ConvergenceWarning, match="collapsed"):
        GaussianMixture(2, random_state=0).fit(X)


def test_verbose_prints(capsys):
    GaussianMixture(3, random_state=0, verbose=2, verbose_interval=2).fit(iris())
    out = capsys.readouterr().out
    assert "Initialization 0" in out
    assert "  Iteration 2\t" in out


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_follows_the_data(dtype):
    X = iris().astype(dtype)
    mixture = GaussianMixture(2, random_state=0).fit(X)
    for array in (mixture.means_, mixture.covariances_, mixture.score_samples(X), mixture.predict_proba(X)):
        assert array.dtype == dtype


def test_parameters_may_be_changed_by_hand_and_the_model_used():
    mixture = GaussianMixture(2, random_state=0).fit(iris())
    with pytest.raises(NotFittedError):
        _ = GaussianMixture().model_
    values = mixture.score_samples(iris())
    assert veil.log_prob(mixture.model_, iris()) == pytest.approx(values, abs=1e-2)
    mixture.means_ = mixture.means_ + 1.0
    assert mixture.score_samples(iris() + 1.0) == pytest.approx(values)


def test_repeated_calls_compile_once(compilations):
    X = np.random.default_rng(0).normal(size=(90, 3))
    mixture = GaussianMixture(2, random_state=0).fit(X)
    mixture.predict(X)
    mixture.score_samples(X)
    compilations.clear()
    for rows in (90, 89, 70):  # all are filled up to 128 rows
        mixture.predict(X[:rows])
        mixture.score_samples(X[:rows])
    GaussianMixture(2, random_state=0).fit(X[:85]).predict(X)
    assert not [name for name in compilations if any(part in name for part in ("_stretch", "_posterior", "_log_prob"))]
