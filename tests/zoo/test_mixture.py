"""Published and computed optima: Old Faithful, Bishop's inverse problem, two equal modes."""

import jax
import numpy as np
import pytest
import scipy.stats
from sklearn.mixture import GaussianMixture

import oracles
import veil
from cases import MODELS, STRUCTURES, make_data, mixture_parameters, random_model
from veil import Data, Linear, LinearGaussian, Mixture
from veil.data import bishop_inverse
from veil.model.abilities import free_parameters
from veil.parts import heads

FAITHFUL = veil.data.load("faithful")
TOTAL = len(FAITHFUL)


@pytest.fixture(scope="module")
def faithful():
    return veil.fit(Mixture(components=2), FAITHFUL, key=jax.random.key(0), tolerance=1e-9)


def test_old_faithful_two_components(faithful):
    """scikit-learn's optimum; the floor of the prior moves the sixth digit."""
    weights, means, covariances = mixture_parameters(faithful.model)
    assert faithful.status.converged
    assert abs(veil.evaluate(faithful.model, FAITHFUL).log_likelihood - -1130.2640) < 2e-3
    np.testing.assert_allclose(weights, [0.35587, 0.64413], atol=2e-4)
    np.testing.assert_allclose(means, [[2.03639, 54.47852], [4.28966, 79.96812]], rtol=2e-4)
    expected = [[[0.06917, 0.43517], [0.43517, 33.69729]], [[0.16997, 0.94061], [0.94061, 36.04619]]]
    np.testing.assert_allclose(covariances, expected, rtol=2e-3)


def test_history_ends_at_the_penalised_likelihood_in_the_user_s_units(faithful):
    plain = veil.evaluate(faithful.model, FAITHFUL).log_likelihood_per_datum
    np.testing.assert_allclose(faithful.history.value[-1] - faithful.history.penalty[-1], plain, atol=1e-5)
    assert np.all(np.diff(faithful.history.value) > -1e-5)
    assert len(faithful.history) == faithful.status.steps


def test_old_faithful_one_component():
    model = veil.fit(Mixture(components=1), FAITHFUL, key=jax.random.key(0)).model
    assert abs(veil.evaluate(model, FAITHFUL).log_likelihood - -1289.7967) < 1e-3
    _, means, covariances = mixture_parameters(model)
    np.testing.assert_allclose(means[0], FAITHFUL.query.mean(0), rtol=1e-5)
    np.testing.assert_allclose(covariances[0], np.cov(FAITHFUL.query.T, bias=True), rtol=1e-4)


@pytest.mark.usefixtures("x64")
def test_old_faithful_waiting_time_alone():
    data = FAITHFUL.select("waiting")
    model = veil.fit(Mixture(components=2), data, key=jax.random.key(0), tolerance=1e-9).model
    weights, means, covariances = mixture_parameters(model)
    assert abs(veil.evaluate(model, data).log_likelihood - -1034.00175) < 1e-3
    np.testing.assert_allclose(weights, [0.36088, 0.63912], atol=1e-4)
    np.testing.assert_allclose(means[:, 0], [54.61473, 80.09099], rtol=1e-4)
    np.testing.assert_allclose(np.sqrt(covariances[:, 0, 0]), [5.87111, 5.86782], rtol=1e-3)


@pytest.mark.parametrize("structure", ["full", "diagonal", "tied-full", "spherical"])
@pytest.mark.usefixtures("x64")
def test_the_optimum_is_scikit_learns(structure):
    """Both from the same good start, on standardised data, to convergence; the penalty is negligible in both."""
    y = (FAITHFUL.query - FAITHFUL.query.mean(0)) / FAITHFUL.query.std(0)
    kind = {"tied-full": "tied", "diagonal": "diag"}.get(structure, structure)
    peer = GaussianMixture(2, covariance_type=kind, reg_covar=0, tol=1e-12, max_iter=2000, random_state=0).fit(y)
    model = Mixture(LinearGaussian(STRUCTURES[structure]), 2)
    model = veil.fit(model, Data(y), key=jax.random.key(0), tolerance=1e-10).model
    np.testing.assert_allclose(veil.evaluate(model, y).log_likelihood_per_datum, peer.score(y), atol=1e-6)
    weights, means, _ = mixture_parameters(model)
    order = np.argsort(peer.means_[:, 0])
    np.testing.assert_allclose(weights, peer.weights_[order], atol=1e-4)
    np.testing.assert_allclose(means, peer.means_[order], atol=1e-4)


@pytest.mark.usefixtures("x64")
def test_regression_is_weighted_least_squares():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(60, 3)) * [1, 10, 0.1] + 5, rng.integers(1, 4, 60)
    y = x @ rng.normal(size=(3, 2)) + rng.normal(size=(60, 2))
    model = veil.fit(veil.density(LinearGaussian()), Data(y, evidence=x, weight=w), key=jax.random.key(0)).model
    phi = np.concatenate([np.ones((60, 1)), x], 1)
    solution = np.linalg.lstsq(phi * np.sqrt(w)[:, None], y * np.sqrt(w)[:, None], rcond=None)[0]
    residual = y - phi @ solution
    np.testing.assert_allclose(model.experts.weight[0], solution.T, rtol=1e-5)
    np.testing.assert_allclose(
        model.experts.covariance.dense_covariance()[0], (residual * w[:, None]).T @ residual / w.sum(), rtol=1e-5
    )
    assert free_parameters(model) == 2 * 4 + 3


@pytest.mark.parametrize(
    ("head", "floor", "least"),
    [(heads.DiagonalGaussian(), -0.6554, 0.05), (heads.HomoscedasticGaussian(), -0.2122, 0.03)],
    ids=["heteroscedastic", "homoscedastic"],
)
def test_bishop_s_inverse_problem_with_one_gaussian(head, floor, least):
    """No density of this kind can be better on average; a short fit comes close."""
    rng = np.random.default_rng(0)
    train, test = bishop_inverse(2000, rng), bishop_inverse(4000, rng)
    model = veil.density(Linear(head), veil.MLP((24, 24)))
    result = veil.fit(model, train, key=jax.random.key(0), steps=1500)
    evaluation = veil.evaluate(result.model, test)
    loss, error = -evaluation.log_likelihood_per_datum, evaluation.standard_error
    assert floor - 4 * error < loss < floor + least + 4 * error
    assert veil.evaluate(result.model, test).kind == "exact"


def test_two_equal_modes_gain():
    """log(sd of the mixture / sd of a mode) - log 2 over one Gaussian; the one Gaussian's mean hits the obstacle."""
    rng = np.random.default_rng(0)
    deviation, count = 0.1, 4000
    y = np.repeat([[-1.0], [1.0]], count // 2, 0) + deviation * rng.normal(size=(count, 1))
    one, two = (veil.evaluate(veil.fit(Mixture(components=k), Data(y), key=jax.random.key(0)).model, y) for k in (1, 2))
    gain = two.log_likelihood_per_datum - one.log_likelihood_per_datum
    assert abs(gain - (np.log(np.sqrt(1 + deviation**2) / deviation) - np.log(2))) < 0.01


@pytest.mark.usefixtures("x64")
def test_missing_entries_against_brute_force_em():
    """A whole fit: naive EM from the fitted model does not move, and its likelihood is no lower than naive EM's own."""
    rng = np.random.default_rng(0)
    y = np.concatenate([rng.normal(size=(30, 3)), 0.5 * rng.normal(size=(30, 3)) + [4, 0, -3]])
    y[rng.random(y.shape) < 0.25] = np.nan
    data = Data(y)
    result = veil.fit(Mixture(components=2), data, key=jax.random.key(0), tolerance=1e-12, steps=3000)
    weights, means, covariances = mixture_parameters(result.model)
    again = oracles.mixture_em(data.query, weights, means, covariances, 1, "full", 0.0, None, data.observed)
    np.testing.assert_allclose(again[0], weights, atol=1e-5)
    np.testing.assert_allclose(again[1], means, atol=1e-4)
    np.testing.assert_allclose(again[2], covariances, atol=1e-4)


@pytest.mark.parametrize(
    ("head", "truth"),
    [
        (heads.Bernoulli(), np.array([[0.9, 0.8, 0.1, 0.2], [0.1, 0.3, 0.8, 0.9]])),
        (heads.Poisson(), np.array([[1.0, 8.0, 2.0, 1.0], [9.0, 1.0, 1.0, 6.0]])),
    ],
    ids=["bernoulli", "poisson"],
)
def test_discrete_mixtures_find_their_parameters(head, truth):
    rng = np.random.default_rng(0)
    z = rng.integers(0, 2, 4000)
    y = (rng.random((4000, 4)) < truth[z]) if isinstance(head, heads.Bernoulli) else rng.poisson(truth[z])
    model = veil.fit(Mixture(Linear(head), 2), Data(y.astype(float)), key=jax.random.key(0), restarts=2).model
    vectors = np.asarray(model.experts.weight)[..., 0]
    found = 1 / (1 + np.exp(-vectors)) if isinstance(head, heads.Bernoulli) else np.exp(vectors)
    found = found if abs(found[0] - truth[0]).sum() < abs(found[1] - truth[0]).sum() else found[::-1]
    np.testing.assert_allclose(found, truth, atol=0.05 if isinstance(head, heads.Bernoulli) else 0.35)


def test_free_parameters():
    """BIC counts what is free: categories' probabilities, like mixture weights, sum to one."""
    expected = {"mixture-full": 2 + 9 + 18, "mixture-diagonal": 2 + 9 + 9, "mixture-spherical": 2 + 9 + 3}
    expected |= {"mixture-tied-full": 2 + 9 + 6, "mixture-tied-diagonal": 2 + 9 + 3, "gaussian": 3 + 6}
    expected |= {"experts-full": 6 + 18 + 9, "experts-only": 2 + 18 + 9, "gate-only": 6 + 6 + 9, "regression": 6 + 3}
    expected |= {"constant-categorical": 2 + 3 * 4, "linear-categorical": 6 + 9 * 4, "constant-poisson": 2 + 6}
    expected |= {"linear-homoscedastic": 6 + 18 + 2, "linear-full": 6 + 9 * 5, "trunk-diagonal": 12 + 10 + 3 * 5 * 4}
    for name, count in expected.items():
        assert free_parameters(random_model(name, make_data(MODELS[name][1]))) == count, name


def test_log_prob_is_the_numpy_density(faithful):
    weights, means, covariances = mixture_parameters(faithful.model)
    expected = oracles.mixture_density(FAITHFUL.query, weights, means, covariances)
    np.testing.assert_allclose(veil.log_prob(faithful.model, FAITHFUL), expected, atol=2e-4)
    frozen = [scipy.stats.multivariate_normal(m, s) for m, s in zip(means, covariances, strict=True)]
    mixture = np.log(sum(p * f.pdf(FAITHFUL.query) for p, f in zip(weights, frozen, strict=True)))
    np.testing.assert_allclose(expected, mixture, atol=1e-9)


def _tight(ratio):
    """Two groups of 40, a hundredth wide in both columns; and wide in the second column only."""
    rng = np.random.default_rng(0)
    both = 0.01 * rng.normal(size=(80, 2)) + ratio * 0.01 * (np.arange(80) < 40)[:, None]
    return both, both * [1.0, 0.0] + np.stack([np.zeros(80), rng.normal(size=80)], 1)


@pytest.mark.parametrize("structure", ["full", "diagonal"])
def test_narrow_groups_keep_their_widths(structure):
    for ratio in (1e4, 1e5):
        for y in _tight(ratio):
            mixture = Mixture(LinearGaussian(STRUCTURES[structure]), 2)
            fit = veil.fit(mixture, y, key=jax.random.key(0), restarts=3)
            groups = y[:40], y[40:]
            made = [np.cov(g.T, bias=True) for g in groups]
            made = [np.diag(np.diag(c)) if structure == "diagonal" else c for c in made]
            pairs = zip(groups, made, strict=True)
            expected = sum(scipy.stats.multivariate_normal.logpdf(g, g.mean(0), c).sum() for g, c in pairs)
            assert fit.status.notes == ()
            assert abs(veil.evaluate(fit.model, y).log_likelihood - (expected - 80 * np.log(2))) < 1
            order = np.argsort(-fit.model.means[:, 0])
            np.testing.assert_allclose(fit.model.covariances[order], made, rtol=0.02, atol=1e-7)


def test_only_what_is_the_same_has_collapsed():
    y = _tight(1e4)[0]
    same = np.where(np.arange(80)[:, None] < 40, y[:1], y)
    for covariance, data, words in (
        (veil.Full(), same, "collapsed onto 40 data that are the same"),
        (veil.Full(1e-4), y, "is narrower than the floor, which widens it: give its covariance a smaller floor"),
    ):
        with pytest.warns(UserWarning, match=words):
            veil.fit(Mixture(LinearGaussian(covariance), 2), data, key=jax.random.key(0), restarts=3)


def test_parameters_have_names(faithful):
    weights, means, covariances = mixture_parameters(faithful.model)
    order = np.argsort(faithful.model.means[:, 0])
    np.testing.assert_allclose(faithful.model.weights[order], weights, rtol=1e-6)
    np.testing.assert_allclose(faithful.model.means[order], means)
    np.testing.assert_allclose(faithful.model.covariances[order], covariances, rtol=1e-5)
    tied = random_model("mixture-tied-diagonal", make_data(MODELS["mixture-tied-diagonal"][1]))
    assert tied.covariances.shape == (3, 3, 3)
    for name, part in (("constant-poisson", "means"), ("experts-full", "weights"), ("experts-full", "covariances")):
        with pytest.raises(ValueError, match=f"^{part}: "):
            getattr(random_model(name, make_data(MODELS[name][1])), part)
