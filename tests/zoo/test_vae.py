"""VAEs: every prior, likelihood and posterior through the same fit; the linear one against exact PPCA."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

import toys
import veil
from veil import ELBO, Data, objective
from veil.evaluation.objective import values
from veil.learning.choices import default_optimiser
from veil.model.abilities import free_parameters
from veil.parts import heads, nets, priors

KEY = jax.random.key(0)
SMALL = veil.MLP((8,))


def binary(count=200, seed=0):
    """Two kinds of six-bit words with noise: a one-dimensional latent explains them."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(2, size=count)
    words = np.where(kind[:, None] == 0, [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1])
    return Data(np.where(rng.random(words.shape) < 0.1, 1 - words, words).astype(np.float32))


def independent(data):
    """The mean log-likelihood of the best model without a latent, independent coins."""
    p = data.query.mean(0)
    return float(np.sum(p * np.log(p) + (1 - p) * np.log(1 - p)))


PRIORS = {
    "normal": (priors.StandardNormal(2), ELBO()),
    "mixture": (priors.MixtureOfNormals(2, 4), ELBO()),
    "vamp": (priors.VampPrior(2, 5, SMALL), ELBO()),
    "levels": (priors.TwoLevels(1, 2, SMALL), ELBO()),
    "gumbel": (priors.Codes(2, 3), ELBO(objective.GumbelSoftmax())),
    "straight": (priors.Codes(2, 3, learned=True), ELBO(objective.StraightThrough())),
    "enumerated": (priors.Codes(1, 3, learned=True), ELBO(objective.Enumerated())),
    "score": (priors.Codes(2, 3), ELBO(objective.ScoreFunction(), samples=4)),
    "wake-sleep": (priors.Codes(2, 3), objective.WakeSleep(8)),
    "weighted": (priors.StandardNormal(2), veil.ImportanceWeighted(5)),
}


@pytest.mark.parametrize("name", PRIORS)
def test_every_latent_learns_what_is_there(name, tmp_path):
    """The held-out bound beats the best model without a latent, and a saved model gives the same numbers."""
    latent, trained = PRIORS[name]
    data, test = binary(), binary(seed=1)
    model = veil.VAE(latent, heads.Bernoulli(), SMALL)
    fit = veil.fit(model, data, key=KEY, objective=trained, steps=400, batch_size=100, optimiser=default_optimiser(400))
    bound = veil.ImportanceWeighted(20, objective.ScoreFunction())
    found = values(bound, fit.model, fit.posterior, test, key=KEY)
    assert found.mean() > independent(data) + 0.4
    saved = veil.load(veil.save(tmp_path / "model", fit.model))
    posterior = veil.load(veil.save(tmp_path / "posterior", fit.posterior))
    np.testing.assert_array_equal(found, values(bound, saved, posterior, test, key=KEY))
    drawn = veil.sample(fit.model, 500, key=KEY).query
    np.testing.assert_allclose(drawn.mean(0), data.query.mean(0), atol=0.15)


def test_a_flow_as_prior_and_on_top_of_the_posterior():
    pytest.importorskip("flowjax")
    data = binary()
    model = veil.VAE(priors.FlowPrior(2, veil.flows.Flow(2, 8)), heads.Bernoulli(), SMALL)
    posterior = veil.Amortized(SMALL, flow=veil.flows.Flow(2, 8))
    fit = veil.fit(model, data, key=KEY, posterior=posterior, steps=300, batch_size=100)
    assert values(ELBO(samples=10), fit.model, fit.posterior, data, key=KEY).mean() > independent(data) + 0.3


POSTERIORS = {
    "amortized-full": veil.Amortized(SMALL, heads.FullGaussian()),
    "table": veil.Table(),
    "table-full": veil.Table(heads.FullGaussian()),
    "refined": veil.Refined(veil.Amortized(SMALL), steps=2),
}


@pytest.mark.parametrize("name", POSTERIORS)
def test_posteriors_are_interchangeable(name):
    data = binary(100)
    fit = veil.fit(
        veil.VAE(2, heads.Bernoulli(), SMALL),
        data,
        key=KEY,
        posterior=POSTERIORS[name],
        steps=400,
        batch_size=100,
        optimiser=default_optimiser(400, 3e-2),
    )
    numbered = Data(data.query, index=np.arange(100))
    assert values(ELBO(samples=10), fit.model, fit.posterior, numbered, key=KEY).mean() > independent(data) + 0.4


def test_a_linear_vae_is_ppca():
    """Oracle 3 at a size for tests: the bound of a linear encoder comes to the exact likelihood, and never above."""
    images = load_digits().data[:, 10:22] / 16
    exact = veil.evaluate(veil.fit(veil.PPCA(3), images, key=KEY).model, images).log_likelihood_per_datum
    model = veil.VAE(3, heads.HomoscedasticGaussian(shared=True), nets.Identity())
    trained = ELBO(objective.StickingTheLanding())
    fit = veil.fit(model, images, key=KEY, objective=trained, steps=2000, optimiser=default_optimiser(2000))
    found = values(ELBO(objective.StickingTheLanding(), samples=50), fit.model, fit.posterior, images, key=KEY)
    assert exact - 0.05 < found.mean() < exact + 3 * found.std() / np.sqrt(len(found) * 50)


@pytest.mark.parametrize("sees", ["both", "decoder", "prior"])
def test_conditional_vaes_in_every_decomposition(sees):
    """Two branches y = ±x: a latent that chooses the branch beats one Gaussian given x."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.5, 2.0, size=(400, 1))
    y = np.where(rng.random((400, 1)) < 0.5, x, -x) + 0.1 * rng.normal(size=(400, 1))
    data = Data(y, evidence=x)
    latent = priors.StandardNormal(2) if sees == "decoder" else priors.ConditionalNormal(2, SMALL)
    model = veil.VAE(latent, heads.DiagonalGaussian(), veil.MLP((16,), "relu"), evidence=sees != "prior")
    trained = veil.ImportanceWeighted(10)
    fit = veil.fit(model, data, key=KEY, objective=trained, steps=1000, optimiser=default_optimiser(1000))
    found = values(veil.ImportanceWeighted(50), fit.model, fit.posterior, data, key=KEY).mean()
    gaussian = veil.fit(veil.density(veil.LinearGaussian()), data, key=KEY).model
    assert found > veil.evaluate(gaussian, data).log_likelihood_per_datum + 0.3
    with pytest.raises(ValueError, match="evidence: this model is p"):
        veil.sample(fit.model, 3, key=KEY)


def test_missing_entries_train_and_count_for_what_is_there():
    data = binary(300)
    seen = np.random.default_rng(5).random(data.query.shape) > 0.3
    gapped = Data(data.query, observed=seen)
    fit = veil.fit(veil.VAE(1, heads.Bernoulli(), SMALL), gapped, key=KEY, steps=600, batch_size=100)
    found = values(ELBO(samples=20), fit.model, fit.posterior, gapped, key=KEY)
    p = data.query.mean(0)
    base = np.where(seen, np.where(data.query == 1, np.log(p), np.log(1 - p)), 0.0).sum(1)
    assert found.mean() > base.mean() + 0.1


def test_a_model_goes_on_from_where_it_was():
    data = veil.data.load("faithful")
    model = veil.VAE(1, heads.DiagonalGaussian(), SMALL)
    one = veil.fit(model, data, key=KEY, steps=300)
    two = veil.fit(one.model, data, key=KEY, posterior=one.posterior, steps=5, optimiser=default_optimiser(5, 1e-5))
    assert two.history.value[0] == pytest.approx(one.history.value[-20:].mean(), abs=0.3)


def test_a_fixed_model_stays_and_its_posterior_learns():
    data = binary()
    fit = veil.fit(veil.VAE(2, heads.Bernoulli(), SMALL), data, key=KEY, steps=300, batch_size=100)
    fresh = veil.fit(fit.model, data, key=KEY, posterior=veil.Amortized(SMALL), fixed=True, steps=300, batch_size=100)
    for before, after in zip(jax.tree.leaves(fit.model), jax.tree.leaves(fresh.model), strict=True):
        np.testing.assert_allclose(before, after, rtol=1e-6)
    one, two = (values(ELBO(samples=20), fit.model, each.posterior, data, key=KEY).mean() for each in (fit, fresh))
    assert two == pytest.approx(one, abs=0.2)


def test_held_out_data_are_scored_by_the_bound():
    fit = veil.fit(veil.VAE(1, heads.Bernoulli(), SMALL), binary(), key=KEY, steps=100, held_out=0.3)
    assert len(fit.history.held_out) > 3
    assert np.all(np.isfinite(fit.history.held_out))


@pytest.mark.filterwarnings("ignore:collapse")
def test_parameters_are_the_model_s():
    fit = veil.fit(veil.VAE(2, heads.Bernoulli(), SMALL), binary(), key=KEY, steps=2)
    assert free_parameters(fit.model) == (2 * 8 + 8) + (8 * 6 + 6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: veil.VAE("three"), "latent: expected a prior, such as StandardNormal"),
        (lambda: priors.StandardNormal(0), "dimensions: expected a positive whole number; got 0"),
        (
            lambda: veil.fit(veil.VAE(2), np.eye(5), key=KEY, posterior=veil.Exact()),
            "posterior: VAE has no exact one",
        ),
        (lambda: veil.fit(veil.VAE(2), np.eye(5), key=KEY, objective=veil.Marginal()), "VAE has no exact likelihood"),
        (
            lambda: veil.fit(veil.Mixture(), np.eye(5), key=KEY, posterior=veil.Amortized()),
            r"its posterior is exact: use veil.Exact\(\)",
        ),
        (
            lambda: veil.fit(veil.VAE(2), np.eye(5), key=KEY, posterior=veil.Table(), held_out=0.3),
            "held_out: a posterior with one row per datum knows no other data",
        ),
        (lambda: veil.fit(veil.PPCA(2), np.eye(5), key=KEY, fixed=True), "fixed: with an exact posterior"),
        (
            lambda: veil.fit(veil.VAE(priors.Codes()), np.eye(5), key=KEY, steps=1, objective=ELBO()),
            "use GumbelSoftmax",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:collapse")
def test_bad_choices_are_named(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_refinement_never_lowers_the_bound():
    """Semi-amortized inference: the exact ELBO of a linear-Gaussian model does not fall with the number of steps."""
    with jax.enable_x64(True):
        model, _, datum = toys.linear()
        example = veil.Datum(datum.query)
        guess = veil.Amortized(SMALL, heads.FullGaussian()).initialise(model, example, 1, KEY)
        bound = ELBO(objective.StickingTheLanding(), samples=4000)
        value = eqx.filter_jit(lambda posterior: bound(model, posterior, datum, KEY).value)
        found = [value(veil.Refined(guess, k)) for k in (0, 3, 100)]
        assert np.all(np.diff(jnp.array(found)) > 0)
        assert found[-1] == pytest.approx(toys.log_likelihood(model, datum), abs=0.02)


def test_resampling_comes_to_the_posterior():
    with jax.enable_x64(True):
        model, exact, datum = toys.linear()
        wrong = toys.Free(0.7 * exact.gain, exact.shift, 1.5 * exact.factor)
        q = veil.posterior.Resampled(wrong, 200)(model, datum)
        draws = np.asarray(jax.vmap(q.sample)(jax.random.split(KEY, 4000)))
        truth = exact(model, datum)
        np.testing.assert_allclose(draws.mean(0), truth.mean, atol=0.06)
        np.testing.assert_allclose(np.cov(draws.T), truth.factor @ truth.factor.T, atol=0.06)
        with pytest.raises(TypeError, match="its density has no closed form"):
            q.log_prob(jnp.array(draws[0]))


def test_grey_values_are_tossed_anew_or_refused():
    data = binary(50)
    model = veil.VAE(1, heads.Bernoulli(soft=True), SMALL)
    grey = Data(0.05 + 0.9 * data.query)
    with pytest.raises(ValueError, match="the Bernoulli head expects values 0 or 1"):
        veil.fit(veil.VAE(1, heads.Bernoulli(), SMALL), grey, key=KEY, steps=1)
    with pytest.raises(ValueError, match="the Bernoulli head expects values from 0 to 1"):
        veil.fit(model, Data(2.0 * data.query), key=KEY, steps=1)
    fit = veil.fit(model, grey, key=KEY, objective=objective.Binarised(ELBO(objective.StickingTheLanding())), steps=300)
    datum = veil.Datum(jnp.array(data.query[0]))
    plain, tossed = ELBO(), objective.Binarised(ELBO())
    one = tossed(fit.model, fit.posterior, datum, KEY).value
    # black and white stay what they are
    assert one == plain(fit.model, fit.posterior, datum, jax.random.split(KEY)[1]).value
    # the fitted coins are those of the grey values: neither black nor white
    drawn = veil.sample(fit.model, 2000, key=KEY).query
    np.testing.assert_allclose(drawn.mean(0), grey.query.mean(0), atol=0.08)


@pytest.mark.parametrize("kind", ["mixture", "conditional"])
def test_evidence_may_be_pictures_and_numbers(kind):
    """A camera and joints: each part by a network of its own."""
    rng = np.random.default_rng(0)
    evidence = {"camera": rng.random((32, 8, 8, 1), np.float32), "joints": rng.normal(size=(32, 3)).astype(np.float32)}
    readers = veil.joint.Readers({"camera": veil.images.Pyramid((8, 8, 1), (8, 8), 16)})
    model = {
        "mixture": veil.Mixture(veil.Linear(heads.DiagonalGaussian()), 2, trunk=readers),
        "conditional": veil.VAE(priors.ConditionalNormal(2, SMALL), decoder=SMALL, trunk=readers),
    }[kind]
    net = {"posterior": veil.Amortized(SMALL)} if kind == "conditional" else {}
    fit = veil.fit(model, Data(rng.normal(size=(32, 2)), evidence=evidence), key=KEY, steps=3, **net)
    first = jax.tree.map(lambda leaf: leaf[:1], evidence)
    other = {**first, "camera": 1.0 - first["camera"]}
    drawn = [veil.sample(fit, 2, key=KEY, evidence=each).query for each in (first, other)]
    assert not np.allclose(*drawn)
    with pytest.raises(TypeError, match="Readers are for evidence that is a dictionary"):
        veil.fit(model, Data(rng.normal(size=(32, 2)), evidence=evidence["joints"]), key=KEY, steps=3, **net)
