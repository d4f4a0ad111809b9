"""Factor analysis and probabilistic PCA against dense Gaussians, scikit-learn and oracle 3."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from sklearn.datasets import load_digits

import veil
from sklearn import decomposition
from veil import Data, FactorAnalysis
from veil.model import Datum
from veil.model.abilities import free_parameters

KEY = jax.random.key(0)


def made(latent=2, evidence=0, noise=None, seed=0, size=5):
    """A random model in float64."""
    rng = np.random.default_rng(seed)
    scale = jnp.array(rng.uniform(0.3, 1.0, size=(1, size)))
    noise = veil.Diagonal(scale=scale) if noise is None else noise
    loadings, offset = rng.normal(size=(size, latent)), rng.normal(size=(size, 1 + evidence))
    return FactorAnalysis(latent, noise, jnp.array(loadings), jnp.array(offset))


def drawn(model, count, evidence=None, missing=0.0):
    x = None if not evidence else np.random.default_rng(3).normal(size=(count, evidence))
    if x is None:
        y = veil.sample(model, count, key=KEY).query
    else:
        y = veil.sample(model, 1, key=KEY, evidence=x).query[:, 0]
    y = np.where(np.random.default_rng(4).random(y.shape) < missing, np.nan, y)
    return Data(y, evidence=x)


def dense(model, x=None):
    loadings, offset = np.asarray(model.loadings), np.asarray(model.offset)
    mean = offset @ np.concatenate([[1.0], [] if x is None else x])
    return mean, loadings @ loadings.T + np.diag(1.0 / np.asarray(model.noise.precision())[0])


@eqx.filter_jit
def _identity(model, datum):
    """With the exact posterior log p(y, z) - log q(z) = log p(y) for every z."""
    z = jnp.array([0.3, -1.2])
    value = model.log_joint(z, datum) - veil.Exact()(model, datum).log_prob(z)
    return value, veil.ELBO()(model, veil.Exact(), datum, KEY).metrics["kl"]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("evidence", [0, 2])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_likelihood_and_posterior_are_the_dense_gaussian_s(evidence, missing):
    model = made(evidence=evidence)
    data = drawn(model, 6, evidence, missing)
    found = veil.log_prob(model, data)
    for n in range(len(data)):
        x = None if data.evidence is None else data.evidence[n]
        mean, covariance = dense(model, x)
        seen = np.ones(5, bool) if data.observed is None else data.observed[n]
        expected = (
            scipy.stats.multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)]).logpdf(data.query[n][seen])
            if seen.any()
            else 0.0
        )
        np.testing.assert_allclose(found[n], expected, rtol=1e-10)
        datum = Datum(
            jnp.array(data.query[n]),
            None if x is None else jnp.array(x),
            observed=None if data.observed is None else jnp.array(seen),
        )
        identity, kl = _identity(model, datum)
        np.testing.assert_allclose(identity, expected, rtol=1e-9)
        assert kl >= 0


def test_digits_reach_the_known_maximum():
    """Oracle 3: 17.45195 nats an image, noise variance .022751."""
    images = load_digits().data / 16
    fit = veil.fit(veil.PPCA(10), images, key=KEY)
    assert fit.status.converged
    assert veil.evaluate(fit.model, images).log_likelihood_per_datum == pytest.approx(17.45195, abs=1e-4)
    assert 1.0 / float(fit.model.noise.precision()[0, 0]) == pytest.approx(0.022751, rel=1e-4)
    assert veil.evaluate(fit.model, images).parameters == 64 * 10 - 45 + 64 + 1


def test_factor_analysis_is_scikit_learn_s():
    with jax.enable_x64(True):
        data = drawn(made(size=8), 400)
        fit = veil.fit(FactorAnalysis(2), data, key=KEY, tolerance=1e-9, steps=3000)
        found = veil.evaluate(fit.model, data).log_likelihood_per_datum
    peer = decomposition.FactorAnalysis(2, svd_method="lapack", max_iter=5000, tol=1e-10).fit(data.query)
    assert found == pytest.approx(peer.score(data.query), abs=1e-4)
    assert np.all(np.diff(fit.history.value) > -1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("noise", [veil.Diagonal(), veil.Spherical()], ids=["diagonal", "spherical"])
def test_em_climbs_with_gaps_evidence_and_weights(noise):
    data = drawn(made(evidence=2), 150, 2, 0.25)
    weighted = Data(data.query, evidence=data.evidence, observed=data.observed, weight=1.0 + np.arange(150) % 3)
    repeated = data[np.repeat(np.arange(150), 1 + np.arange(150) % 3)]
    fits = [
        veil.fit(FactorAnalysis(2, noise), each, key=KEY, steps=30, tolerance=1e-12) for each in (weighted, repeated)
    ]
    for fit in fits:
        assert np.all(np.diff(fit.history.value) > -1e-9)
        # EM's gain of the last step is small beside that of the first, and the loadings are not collapsed
        assert fit.history.value[-1] > fit.history.value[0]
    np.testing.assert_allclose(fits[0].history.value, fits[1].history.value, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_one_step_is_the_gradient_s_fixed_point():
    """At EM's optimum the gradient of the exact log-likelihood is zero: the M-step is right, gaps included."""
    data = drawn(made(evidence=1), 300, 1, 0.2)
    fit = veil.fit(FactorAnalysis(2), data, key=KEY, steps=4000, tolerance=1e-13)

    def total(parts):
        loadings, offset, log_scale = parts
        noise = veil.Diagonal(fit.model.noise.floor, jnp.exp(log_scale))
        model = FactorAnalysis(2, noise, loadings, offset)
        each = lambda y, x, seen: model.log_marginal(Datum(y, x, observed=seen))  # noqa: E731
        return jnp.mean(jax.vmap(each)(jnp.array(data.query), jnp.array(data.evidence), jnp.array(data.observed)))

    parts = fit.model.loadings, fit.model.offset, jnp.log(fit.model.noise.scale)
    for part in jax.grad(total)(parts):
        np.testing.assert_allclose(part, 0.0, atol=1e-4)


def test_monte_carlo_em_comes_near():
    data = drawn(made(), 500)
    exact = veil.fit(FactorAnalysis(2), data, key=KEY)
    sampled = veil.fit(FactorAnalysis(2), data, key=KEY, objective=veil.ExpectedLogLikelihood(samples=20), steps=60)
    best = veil.evaluate(exact.model, data).log_likelihood_per_datum
    assert veil.evaluate(sampled.model, data).log_likelihood_per_datum == pytest.approx(best, abs=0.02)


def test_streams_are_arrays(tmp_path):
    data = drawn(made(), 700)
    np.save(tmp_path / "y.npy", data.query)
    stream = veil.data.stream(tmp_path / "y.npy", rows=128)
    one, two = (veil.fit(FactorAnalysis(2), each, key=KEY, steps=20) for each in (data, stream))
    assert one.history.value[-1] == pytest.approx(two.history.value[-1], abs=2e-4)


def test_save_and_load(tmp_path):
    model = made()
    again = veil.load(veil.save(tmp_path / "model", model))
    data = drawn(model, 5)
    np.testing.assert_array_equal(veil.log_prob(model, data), veil.log_prob(again, data))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("size", [1, 2, 3, 5, 6])
def test_free_parameters_are_the_dimensions_in_which_the_covariance_moves(size):
    """The rank of the derivative of W Wᵀ + Ψ by W and Ψ, at random ones; PPCA has fewer factors than columns."""
    rng = np.random.default_rng(size)
    for latent in range(1, size + 3):
        for spherical in [False, True][: 1 + (latent < size)]:
            loadings, scale = rng.normal(size=(size, latent)), rng.uniform(0.5, 2, 1 if spherical else size)
            rows = []
            for d in range(size):
                for k in range(latent):
                    change = np.zeros((size, latent))
                    change[d, k] = 1
                    rows.append(change @ loadings.T + loadings @ change.T)
            rows += [np.eye(size)] if spherical else [np.diag(row) for row in np.eye(size)]
            rank = np.linalg.matrix_rank(np.array(rows).reshape(len(rows), -1), tol=1e-9)
            noise = veil.Diagonal(scale=jnp.array(np.broadcast_to(scale, (1, size))))
            noise = veil.Spherical(diagonal=noise) if spherical else noise
            model = FactorAnalysis(latent, noise, jnp.array(loadings), jnp.zeros((size, 2)))
            assert free_parameters(model) == 2 * size + rank, (size, latent, spherical)
            kept = min(size, latent)
            numbers = size * kept - kept * (kept - 1) // 2 + (1 if spherical else size)
            assert model.determined == (numbers <= size * (size + 1) // 2)


@pytest.mark.parametrize("latent", [2, 5])
@pytest.mark.parametrize("spread", [1.0, 1e-4])
def test_ppca_of_few_rows_and_many_columns(latent, spread):
    """Tipping & Bishop 1999, eq. 8, by numpy's eigenvalues; without a bound where nothing is left, and it is said."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(6, 2)) @ rng.normal(size=(2, 40)) + spread * rng.normal(size=(6, 40))
    if latent == 5:
        with pytest.warns(UserWarning, match="5 factors leave nothing of the data"):
            fit = veil.fit(veil.PPCA(latent), y, key=KEY)
        assert len(fit.status.notes) == 1
        assert np.all(np.isfinite(veil.log_prob(fit.model, y)))
        return
    fit = veil.fit(veil.PPCA(latent), y, key=KEY)
    values = np.linalg.svd(y - y.mean(0))[1] ** 2 / 6
    rest = np.sum(values[latent:]) / (40 - latent)
    logs = np.sum(np.log(values[:latent])) + (40 - latent) * np.log(rest) + 40 * (1 + np.log(2 * np.pi))
    assert fit.status.converged
    assert fit.status.notes == ()
    assert veil.evaluate(fit.model, y).log_likelihood == pytest.approx(-3 * logs, rel=1e-4)


def test_columns_that_the_factors_explain_are_told():
    """Five factors of six rows: nothing is left of any column."""
    y = np.random.default_rng(0).normal(size=(6, 7))
    with pytest.warns(UserWarning, match=r"leave nothing of y0, y1, .* \(a Heywood case\)"):
        fit = veil.fit(FactorAnalysis(5), y, key=KEY, steps=40)
    assert np.all(np.isfinite(veil.log_prob(fit.model, y)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FactorAnalysis(0), "latent: expected a positive whole number; got 0"),
        (lambda: FactorAnalysis(2, veil.Full()), r"noise: expected veil.Diagonal\(\) or veil.Spherical\(\)"),
        (lambda: veil.fit(veil.PPCA(7), np.eye(5), key=KEY), "latent: expected fewer than the query's 5 dimensions"),
    ],
)
def test_bad_choices_are_named(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
