"""Residual codes: modes apart, bounds below the sum over all codes, two stages as good as one fit, no dead codes."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil import Data, Datum, distributions, objective
from veil.evaluation.codes import code_usage
from veil.evaluation.objective import values
from veil.learning.choices import usual_objective
from veil.objective.base import whole
from veil.parts import heads, priors
from veil.posterior import Quantised

KEY = jax.random.key(0)
NET = veil.MLP((32,))
NOISE = 0.05
MODEL = veil.VAE(priors.ResidualCodes(levels=2, codes=4, net=NET), heads.DiagonalGaussian(), NET)


def fork(count=400, seed=0):
    """y is near x (1, 0.5) or near -x (1, 0.5)."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.5, 2.0, (count, 1))
    side = np.where(rng.random((count, 1)) < 0.5, x, -x)
    return Data(side * [[1.0, 0.5]] + NOISE * rng.normal(size=(count, 2)), evidence=x)


def between(model, count=1000):
    """The share of draws that are on neither way."""
    x = fork(count, seed=7).evidence
    y = veil.sample(model, 1, key=KEY, evidence=x).query.reshape(-1, 2)
    return np.mean(np.minimum(np.abs(y[:, 0] - x[:, 0]), np.abs(y[:, 0] + x[:, 0])) > 0.3), np.mean(y[:, 0] > 0)


@pytest.fixture(scope="module")
def one():
    return veil.fit(MODEL, fork(), key=KEY, steps=1000)


@pytest.fixture(scope="module")
def two():
    """First the codes, whatever p(z | x) is, then p(z | x) alone."""
    first = veil.fit(MODEL, fork(), key=KEY, objective=objective.Quantising(kl=objective.Beta(0.0)), steps=500)
    return first, veil.fit(first, fork(), key=KEY, objective=objective.PriorOnly(), steps=500)


def exact(model, data):
    """log p(y | x) by naive sums over all codes."""
    support = jnp.stack([jnp.eye(4)[jnp.array(c)] for c in itertools.product(range(4), repeat=2)])

    def one(y, x):
        return jax.scipy.special.logsumexp(jax.vmap(lambda z: model.log_joint(z, Datum(y, x)))(support))

    return np.asarray(eqx.filter_jit(jax.vmap(one))(jnp.array(data.query), jnp.array(data.evidence)))


def test_draws_are_on_both_ways_and_not_between(one, two):
    for fit in (one, two[1]):
        off, right = between(fit.model)
        assert off < 0.02
        assert 0.4 < right < 0.6
    one_gaussian = veil.fit(veil.density(veil.LinearGaussian()), fork(), key=KEY).model
    assert between(one_gaussian)[0] > 0.3


def test_the_bound_is_below_what_all_codes_say(one):
    test = fork(100, seed=1)
    truth = exact(one.model, test)
    bound = values(whole(objective.Quantising()), one.model, one.posterior, test, key=KEY)
    assert np.all(bound <= truth + 1e-4)
    assert np.mean(truth) - np.mean(bound) > 0.01  # not all is at one code
    np.testing.assert_allclose(veil.log_prob(one.model, test), truth, rtol=1e-4, atol=1e-4)
    found = veil.evaluate(one, test, key=KEY, samples=16)
    assert found.kind == "exact"
    assert found.log_likelihood_per_datum == pytest.approx(truth.mean(), abs=1e-4)
    assert found.approximation.bounds.elbo == pytest.approx(bound, abs=1e-4)
    assert "lower bound" in veil.evaluate(one, test, key=KEY, samples=15).kind  # 16 values: a sum would cost more
    # what the noise leaves: two ways, known noise
    best = -np.log(2) - 2 * (np.log(NOISE) + 0.5 * np.log(2 * np.pi) + 0.5)
    assert best - 1.0 < truth.mean() < best + 0.2


def test_two_stages_are_as_good_as_one(one, two):
    test = fork(400, seed=2)
    together, first, apart = (np.mean(veil.log_prob(fit.model, test)) for fit in (one, *two))
    assert apart > together - 0.25
    assert first < together - 0.5  # the codes alone, whose p(z | x) knows nothing


def test_the_second_stage_moves_p_of_codes_and_nothing_else(two):
    before, after = (fit.model.model for fit in two)
    for name in ("codebooks", "axes"):
        np.testing.assert_array_equal(getattr(before.latent, name), getattr(after.latent, name))
    for part in ("decoder", "output"):
        jax.tree.map(np.testing.assert_array_equal, getattr(before, part), getattr(after, part))
    jax.tree.map(np.testing.assert_array_equal, two[0].posterior, two[1].posterior)
    assert not np.allclose(before.latent.output.weight, after.latent.output.weight)


def test_codes_are_used(one):
    usage = code_usage(one.model, one.posterior, fork())
    assert usage.dead.tolist() == [0, 0]
    assert np.all(usage.perplexity > 2.5)
    np.testing.assert_allclose(usage.share.sum(1), 1, rtol=1e-6)
    # a code that is far from all data is dead, and counted
    books = one.model.model.latent.codebooks.at[0, 1].set(100.0)
    far = eqx.tree_at(lambda m: m.model.latent.codebooks, one.model, books)
    assert code_usage(far, one.posterior, fork()).dead.tolist()[0] == 1
    normal = veil.fit(veil.VAE(1, decoder=veil.MLP((4,))), fork(50), key=KEY, steps=3)
    with pytest.raises(TypeError, match="expected one with a latent of codes"):
        code_usage(normal.model, normal.posterior, fork(50))


def test_the_gradient_is_straight_through(one):
    """That of log p(y | x, z) reaches the encoder as if the codes' sum were its output; the codes get none of it."""
    model, posterior = one.model.model, one.posterior.posterior
    datum = Datum(jnp.array([0.4, 0.1]), jnp.array([0.3]))
    loss = objective.Quantising(commitment=0.0)
    slopes = jax.grad(lambda bias: loss(model, with_bias(posterior, bias), datum, KEY).value)(posterior.output.bias)
    codes = posterior(model, datum).value

    def at(point):
        features = jnp.concatenate([point, datum.evidence])
        head = model.output.distribution(jnp.array(0), jnp.concatenate([jnp.ones(1), model.decoder(features)]))
        return distributions.log_prob(head, datum.query)

    wanted = jax.grad(at)(model.latent.read(codes))
    np.testing.assert_allclose(slopes, wanted, rtol=1e-4)

    def of(books):
        return loss(eqx.tree_at(lambda m: m.latent.codebooks, model, books), posterior, datum, KEY).value

    chosen = jax.grad(of)(model.latent.codebooks)
    np.testing.assert_array_equal(np.any(chosen != 0, -1), codes > 0)  # only what was chosen, to what it stands for


def with_bias(posterior, bias):
    return eqx.tree_at(lambda q: q.output.bias, posterior, bias)


def test_p_of_codes_sums_to_one_and_draws_by_it(one):
    prior = one.model.prior(jnp.array([1.2]))
    support = distributions.support(prior)
    p = np.exp(np.asarray(jax.vmap(prior.log_prob)(support)))
    assert p.sum() == pytest.approx(1.0, abs=1e-5)
    draws = np.asarray(jax.vmap(prior.sample)(jax.random.split(KEY, 4000)))
    number = draws.argmax(-1) @ [4, 1]
    np.testing.assert_allclose(np.bincount(number, minlength=16) / 4000, p, atol=5 * np.sqrt(0.25 / 4000))
    assert prior.log_prob(jnp.full((2, 4), 0.5)) == -np.inf
    # the second code depends on the first: not a product of marginals
    table = p.reshape(4, 4)
    assert np.max(np.abs(table - table.sum(1)[:, None] * table.sum(0)[None])) > 0.02


def test_choices_that_are_made_for_it(one):
    assert isinstance(MODEL.usual_posterior, Quantised)
    assert isinstance(usual_objective(MODEL, MODEL.usual_posterior, False), objective.Quantising)
    assert isinstance(one.posterior.posterior, Quantised)
    with pytest.raises(TypeError, match="Quantising is for codes that posterior"):
        veil.fit(MODEL, fork(50), key=KEY, posterior=veil.Amortized(NET), objective=objective.Quantising(), steps=1)
    with pytest.raises(TypeError, match="this one is for models with a ResidualCodes"):
        veil.fit(veil.VAE(1, decoder=NET), fork(50), key=KEY, posterior=Quantised(NET), steps=1)
    with pytest.raises(ValueError, match="codes: expected a positive whole number"):
        priors.ResidualCodes(2, 0)


def test_a_wide_query_is_coded_by_its_principal_axes():
    """Without evidence, twelve numbers on a plane: two axes find it."""
    rng = np.random.default_rng(0)
    plane = np.linalg.qr(rng.normal(size=(12, 2)))[0]
    y = rng.choice([-3.0, 3.0], size=(300, 2)) @ plane.T + 0.05 * rng.normal(size=(300, 12))
    model = veil.VAE(priors.ResidualCodes(1, 4, width=2, net=NET), decoder=NET)
    fit = veil.fit(model, y, key=KEY, steps=300)
    signs = np.sign(y @ plane)
    codes = veil.infer(fit, y).mean.argmax(-1).ravel()
    assert all(len({tuple(s) for s in signs[codes == k]}) == 1 for k in range(4))
