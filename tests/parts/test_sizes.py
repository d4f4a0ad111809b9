"""Numbers of any size: symlog densities and their moments, two-hot bins, and both in a world model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import veil
from cases import started
from veil import distributions
from veil.maths.symlog import symexp, symexp_moments, symlog, symlog_grid, two_hot
from veil.parts import heads
from veil.parts.joint import Joint

KEY = jax.random.key(0)
NUMBERS = np.array([-3e5, -2.0, -1e-4, 0.0, 0.3, 5.0, 1e6])


def numpy_symexp(b):
    return np.sign(b) * np.expm1(np.abs(b))


@pytest.mark.usefixtures("x64")
def test_symlog_is_its_formula_and_goes_back():
    found = symlog(jnp.array(NUMBERS))
    np.testing.assert_allclose(found, np.sign(NUMBERS) * np.log1p(np.abs(NUMBERS)), rtol=1e-14)
    np.testing.assert_allclose(symexp(found), NUMBERS, rtol=1e-12)
    slopes = jax.vmap(jax.grad(symlog))(jnp.array(NUMBERS))
    np.testing.assert_allclose(slopes, 1 / (1 + np.abs(NUMBERS)), rtol=1e-14)  # at zero, too
    np.testing.assert_allclose(jax.vmap(jax.grad(symexp))(found), 1 + np.abs(NUMBERS), rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("scale", [1e-3, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("mean", [-4.0, -0.2, 0.0, 1.0, 7.0])
def test_moments_of_symexp_are_those_of_quadrature(mean, scale):
    places = np.linspace(mean - 14 * scale, mean + 14 * scale, 400_001)
    weights = np.exp(-0.5 * ((places - mean) / scale) ** 2)
    weights, values = weights / weights.sum(), numpy_symexp(places)
    wanted = weights @ values
    found = symexp_moments(jnp.array(mean), jnp.array(scale))
    np.testing.assert_allclose(found[0], wanted, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(found[1], weights @ (values - wanted) ** 2, rtol=1e-6)


def test_moments_of_symexp_keep_their_digits_in_float32():
    """The variance of a narrow normal far out is no difference of large numbers; nothing is NaN anywhere."""
    mean, variance = symexp_moments(jnp.array([7.0, -7.0]), jnp.array([1e-3, 1e-3]))
    np.testing.assert_allclose(mean, [np.expm1(7.0), -np.expm1(7.0)], rtol=1e-5)
    np.testing.assert_allclose(variance, [np.exp(14.0) * 1e-6] * 2, rtol=1e-3)
    grid = [jnp.array(each.ravel(), jnp.float32) for each in np.meshgrid([-60.0, -1, 0, 1, 60], [1e-4, 1.0, 5.0])]
    slopes = jax.vmap(jax.grad(lambda m, s: symexp_moments(m, s)[0], (0, 1)))(*grid)
    assert all(np.all(np.isfinite(each)) for each in (*symexp_moments(*grid)[:1], *slopes))


def test_a_two_hot_code_has_the_value_for_its_mean():
    grid = symlog_grid(-20.0, 20.0, 255)
    assert grid[127] == 0.0
    np.testing.assert_array_equal(grid, -grid[::-1])
    codes = np.asarray(two_hot(jnp.array(NUMBERS, jnp.float32), jnp.array(grid, jnp.float32)), np.float64)
    np.testing.assert_allclose(codes @ grid, NUMBERS, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(codes.sum(1), 1.0, rtol=1e-6)
    assert np.all(codes >= 0)
    assert np.all((codes > 0).sum(1) <= 2)
    beyond = two_hot(jnp.array([-9.0, 9.0]), jnp.array([-1.0, 0.0, 2.0]))
    np.testing.assert_array_equal(beyond, [[1, 0, 0], [0, 0, 1]])


@pytest.mark.usefixtures("x64")
def test_a_symlog_density_integrates_to_one_and_has_the_mean():
    for vector in ([0.3, -0.5], [-1.0, 0.2]):
        y = heads.Symlog()(jnp.array(vector), (1,))
        places = np.linspace(-9, 9, 200_001)  # in the coordinate in which it is narrow
        values, slopes = numpy_symexp(places), 1 + np.abs(numpy_symexp(places))
        density = np.exp(jax.vmap(y.log_prob)(jnp.array(values[:, None]))) * slopes
        assert np.trapezoid(density, places) == pytest.approx(1.0, abs=1e-6)
        assert np.trapezoid(density * values, places) == pytest.approx(float(y.mean[0]), rel=1e-5)
        np.testing.assert_allclose(distributions.central(y), numpy_symexp(np.array(vector[:1])))


@pytest.mark.usefixtures("x64")
def test_two_hot_at_its_best_has_the_mean_of_the_data():
    """Between bins and at them, of sizes that differ; a mean in symlog units would be another."""
    y = jnp.array([[0.0], [0.0], [0.3], [-7.0], [30.0]])
    head = heads.TwoHot(-4.0, 4.0, 21)

    def value(vector):
        return -jnp.mean(jax.vmap(head(vector, (1,)).log_prob)(y))

    start = head.from_sums(jnp.sum(jax.vmap(lambda row: head.features(row, None))(y), 0))
    found = scipy.optimize.minimize(jax.jit(value), start, jac=jax.jit(jax.grad(value)), method="BFGS").x
    for vector, near in ((start, 1e-3), (found, 1e-3)):
        np.testing.assert_allclose(head(jnp.array(vector), (1,)).mean, [np.mean(y)], atol=near)
    best = head(jnp.array(found), (1,))
    # the entropy of the rounded values is the best that can be scored: it is no density, whose score has no such end
    shares = np.asarray(two_hot(y[:, 0], jnp.array(head.grid))).mean(0)
    entropy = -np.sum(shares[shares > 0] * np.log(shares[shares > 0]))
    assert value(jnp.array(found)) == pytest.approx(entropy, abs=1e-3)
    assert np.sum(np.exp(jax.vmap(best.log_prob)(jnp.array(head.grid[:, None])))) == pytest.approx(1.0)


def test_two_hot_starts_at_the_data_and_wide_bins_do_not_drown_it():
    head = heads.TwoHot()
    sums = jnp.sum(jax.vmap(lambda row: head.features(row, None))(jnp.array([[0.0], [0.0], [3.0]])), 0)
    start = head(head.from_sums(sums), (1,))
    np.testing.assert_allclose(start.mean, [1.0], rtol=2e-3)
    np.testing.assert_allclose(start.variance, [2.0], rtol=0.02)
    noise = 0.5 * jax.random.normal(KEY, (255,))
    np.testing.assert_allclose(head(head.from_sums(sums) + noise, (1,)).mean, [1.0], atol=0.8)
    assert head(jnp.zeros(255), (1,)).mean.tolist() == [0.0]  # bins of 5e8, and not a digit is lost
    assert start.log_prob(jnp.array([1e9])) == -jnp.inf


def recorded():
    rng = np.random.default_rng(0)
    rewards = np.where(rng.random((6, 5, 1)) < 0.2, rng.choice([1.0, 500.0], (6, 5, 1)), 0.0)
    frames = rng.normal(size=(6, 5, 3)) + rewards / 100
    ended = np.zeros((6, 5, 1))
    ended[:, -1] = 1.0
    query = [{"frame": f, "reward": r, "terminated": e} for f, r, e in zip(frames, rewards, ended, strict=True)]
    return veil.data.episodes(query, evidence=list(rng.normal(size=(6, 5, 2))))


@pytest.mark.parametrize("head", [heads.TwoHot(-8.0, 8.0, 33), heads.Symlog()])
def test_a_world_model_predicts_rewards_in_their_own_units(head):
    data = recorded()
    parts = {"frame": heads.DiagonalGaussian(), "reward": head, "terminated": heads.Bernoulli()}
    model = veil.rssm(latent=2, head=Joint(parts), decoder=veil.MLP((8,)), memory=4)
    assert veil.Units.of(data, model).query["reward"] is None
    assert veil.Units.of(data, model).query["frame"] is not None
    fit = started(model, data)
    carry = fit.model.carry(None)
    mean, variance = distributions.moments(fit.model.step_likelihood(carry, jnp.zeros(2), jnp.zeros(2)))
    rewards = np.asarray(data.query["reward"])
    if isinstance(head, heads.TwoHot):
        assert np.abs(mean["reward"][0] - rewards.mean()) < 0.5 * rewards.mean()
    assert np.all(np.isfinite(variance["reward"]))
    shown = fit.posterior.reader.view["reward"](jnp.array([500.0]), None)
    assert 1.0 < float(np.max(np.abs(shown))) < 5.0  # what an encoder sees of it varies by about one
    assert np.isfinite(veil.fit(model, data, key=KEY, steps=3).history.value[-1])


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"head: expected a normal one, .*; got StudentT"):
        heads.Symlog(heads.StudentT())
    with pytest.raises(ValueError, match=r"bins: expected a whole number, 2 or more; got 1"):
        heads.TwoHot(bins=1)
    with pytest.raises(ValueError, match=r"low: expected finite numbers, low < high; got 2"):
        heads.TwoHot(2.0, 2.0)
    with pytest.raises(ValueError, match=r"query: the two-hot head expects values from .*; widen low and high"):
        veil.fit(veil.density(veil.Linear(heads.TwoHot(-1.0, 1.0, 5))), veil.Data([[0.0], [9.0]]), key=KEY)
