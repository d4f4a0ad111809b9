"""Nonlinear state-space models: the linear case against the Kalman filter, others against a filter on a dense grid."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import norm

import veil
from compiled import called
from state_space import lds, sequence, unbiased
from veil.maths import assumed
from veil.model import Datum
from veil.objective import ELBO, FIVO
from veil.parts.covariance import Diagonal, Full
from veil.posterior import Bootstrap, Extended, Optimal, ParticleFilter, Unscented
from veil.zoo.lds import LDS
from veil.zoo.nonlinear import NonlinearGaussian


def nonlinear(m: LDS) -> NonlinearGaussian:
    """A linear model as one of functions."""

    def f(z, x):
        return m.transition @ z + m.drift @ (jnp.ones(1) if x is None else jnp.concatenate([jnp.ones(1), x]))

    return NonlinearGaussian(f, lambda z, x: m.emission @ z + m.offset, m.process, m.noise, m.mean, m.factor)


EVERYTHING = "controls missing padding reset"
EXACT = {
    "extended": (Extended(), "diagonal", "plain"),
    "extended, everything": (Extended(), "full", EVERYTHING),
    "unscented": (Unscented(), "diagonal", "plain"),
    "unscented, everything": (Unscented(), "full", EVERYTHING),
    "wide": (Unscented(1.0, 2.0, 0.5), "full", EVERYTHING),
    "narrow": (Unscented(0.5, 2.0), "diagonal", EVERYTHING),
}


@pytest.mark.parametrize("name", EXACT)
def test_on_a_linear_model_they_are_the_kalman_filter(x64: None, name: str) -> None:
    strategy, noise, case = EXACT[name]
    m, one = lds(noise, 2 if "controls" in case else 0), sequence(case, 6)

    def approximate(m, one):
        model = nonlinear(m)
        q = strategy(model, one)
        path = q.sample(jax.random.key(0))
        joint = model.log_joint(path, one)
        return strategy.filtered(model, one), strategy.smoothed(model, one), path, joint, joint - q.log_prob(path)

    def exactly(m, one, path):
        return m._filter(one)[1], m._smooth(one)[0], m.log_marginal(one), m.log_joint(path, one)

    filtered, smoothed, path, joint, difference = called(approximate, m, one)
    kalman, exact, value, known = called(exactly, m, one, path)
    np.testing.assert_allclose(filtered.log_likelihood, value, atol=1e-10)
    there = np.ones(6, bool) if one.mask is None else np.asarray(one.mask)
    for left, right in ((filtered, kalman), (smoothed, exact)):
        np.testing.assert_allclose(left.mean[there], right.mean[there], atol=1e-10)
        np.testing.assert_allclose(left.covariance[there], right.covariance[there], atol=1e-10)
    # as a posterior it is exact: the identity
    np.testing.assert_allclose(difference, value, atol=1e-8)
    np.testing.assert_allclose(joint, known, atol=1e-9)


def test_the_rules_are_exact_of_what_they_say(x64: None) -> None:
    """Sigma points of a quadratic: its mean exactly, and with kappa = 3 - L its variance in one dimension, too."""
    mean, covariance = jnp.array([0.7]), jnp.array([[0.3]])
    centre, spread, cross = assumed.sigma_points(lambda z: z**2, mean, covariance)
    np.testing.assert_allclose(centre, [0.7**2 + 0.3], atol=1e-12)
    np.testing.assert_allclose(spread, [[2 * 0.3**2 + 4 * 0.7**2 * 0.3]], atol=1e-12)
    np.testing.assert_allclose(cross, [[2 * 0.7 * 0.3]], atol=1e-12)
    centre, spread, cross = assumed.tangent(lambda z: z**2, mean, covariance)
    np.testing.assert_allclose([centre[0], spread[0, 0], cross[0, 0]], [0.49, 1.4**2 * 0.3, 1.4 * 0.3], atol=1e-12)


@pytest.mark.parametrize("proposal", [Bootstrap(), Optimal(), Unscented()])
def test_particles_on_a_linear_model(x64: None, proposal: veil.posterior.Posterior) -> None:
    m, one = lds("diagonal"), sequence("missing padding reset", 6)
    model = nonlinear(m)
    strategy = ParticleFilter(1024 if isinstance(proposal, Bootstrap) else 256, proposal)
    keys = jax.random.split(jax.random.key(0), 200)
    found = eqx.filter_jit(eqx.filter_vmap(lambda key: strategy.filtered(model, one, key)))(keys)
    kalman, value, marginal = called(lambda m: (m._filter(one)[1], m.log_marginal(one), m.marginals(one)), m)
    mean, variance = marginal.mean, marginal.variance
    unbiased(found.log_likelihood, value)
    there = np.asarray(one.mask)
    # the mean over runs, not itself unbiased, is within a few hundredths of a standard deviation
    scale = np.sqrt(np.asarray(jnp.diagonal(kalman.covariance, axis1=1, axis2=2)))
    assert np.all(np.abs(found.mean.mean(0) - kalman.mean)[there] / scale[there] < 0.05)
    smooth = eqx.filter_jit(eqx.filter_vmap(lambda key: strategy.smoothed(model, one, key)))(keys[:30])
    assert np.all(np.abs(smooth.mean.mean(0) - mean)[there] / np.sqrt(variance[there]) < 0.15)
    found = jnp.diagonal(smooth.covariance, axis1=2, axis2=3).mean(0)
    np.testing.assert_allclose(found[there] / variance[there], 1.0, atol=0.2)


def growth(strength: float = 25.0, noise: float = 1.0) -> NonlinearGaussian:
    """The univariate nonlinear growth model (Kitagawa 1987; Gordon et al. 1993): the sign of z is hardly seen."""
    f = lambda z, x: z / 2 + strength * z / (1 + z**2) + 8 * jnp.cos(1.2 * x)  # noqa: E731
    one = jnp.ones((1, 1))
    return NonlinearGaussian(
        f, lambda z, x: z**2 / 20, one * 10**0.5, Diagonal(scale=noise * one), jnp.zeros(1), one * 2
    )


def swing() -> NonlinearGaussian:
    """A mild one: a slow overdamped pendulum of which the sine is seen."""
    f = lambda z, x: z + 0.3 - 0.6 * jnp.sin(z)  # noqa: E731
    one = jnp.ones((1, 1))
    return NonlinearGaussian(
        f, lambda z, x: jnp.sin(z), 0.3 * one, Diagonal(scale=0.2 * one), 0.3 * jnp.ones(1), 0.5 * one
    )


def grid(model: NonlinearGaussian, one: Datum, low: float, high: float, points: int = 1500):
    """log p(y), and mean and standard deviation of p(z_t | y_1..t), by quadrature on a grid (an independent filter)."""
    z = np.linspace(low, high, points)
    width = z[1] - z[0]
    q, r, p = float(model.process[0, 0]), float(model.noise.scale[0, 0]), float(model.factor[0, 0])
    run = eqx.filter_jit(lambda g, x: jax.vmap(lambda v: g(v[None], x)[0])(jnp.array(z)))
    evaluate = lambda g, x: np.asarray(run(g, x))  # noqa: E731
    total, means, deviations, belief = 0.0, [], [], None
    for t in range(len(one.query)):
        x = None if one.evidence is None else one.evidence[t]
        if belief is None or (one.reset is not None and one.reset[t]):
            predicted = norm.pdf(z, float(model.mean[0]), p)
        else:
            predicted = norm.pdf(z[:, None], evaluate(model.transition, x)[None], q) @ belief * width
        if one.observed is None or one.observed[t, 0]:
            predicted = predicted * norm.pdf(float(one.query[t, 0]), evaluate(model.emission, x), r)
        mass = predicted.sum() * width
        belief = predicted / mass
        total += np.log(mass)
        means.append((z * belief).sum() * width)
        deviations.append(np.sqrt(((z - means[-1]) ** 2 * belief).sum() * width))
    return total, np.array(means), np.array(deviations)


def drawn(model: NonlinearGaussian, count: int, seed: int, timed: bool) -> Datum:
    time = jnp.arange(count, dtype=float)[:, None] if timed else None
    _, query = called(model.sample, jax.random.key(seed), time, None if timed else count)
    observed = (jnp.arange(count) % 7 != 3)[:, None]
    return Datum(query, time, observed=observed, reset=jnp.arange(count) == count // 2)


def test_particles_against_a_dense_grid_where_gaussians_fail(x64: None) -> None:
    model = growth()
    one = drawn(model, 20, 1, True)
    exact, means, deviations = grid(model, one, -50, 50)
    strategy = ParticleFilter(1000, Bootstrap())
    found = eqx.filter_jit(eqx.filter_vmap(lambda key: strategy.filtered(model, one, key)))(
        jax.random.split(jax.random.key(0), 50)
    )
    unbiased(found.log_likelihood, exact)
    off = np.abs(found.mean.mean(0)[:, 0] - means) / deviations
    assert off.max() < 0.1
    rough = [called(strategy.filtered, model, one).log_likelihood for strategy in (Extended(), Unscented())]
    assert np.all(np.isfinite(rough))
    assert np.min(np.abs(np.array(rough) - exact)) > 1  # said to be approximate


def test_gaussian_filters_against_a_dense_grid_where_they_do_well(x64: None) -> None:
    model = swing()
    one = drawn(model, 40, 3, False)
    exact, means, deviations = grid(model, one, -4, 8)
    errors = []
    for strategy in (Extended(), Unscented()):
        found = called(strategy.filtered, model, one)
        errors.append((abs(found.log_likelihood - exact) / 40, np.mean(np.abs(found.mean[:, 0] - means) / deviations)))
    assert errors[0][0] < 0.1
    assert errors[1][0] < 0.05
    assert errors[1][1] < errors[0][1] < 0.3
    # whatever the approximation, the ELBO of its chain is a bound
    bound = eqx.filter_jit(eqx.filter_vmap(lambda key: ELBO()(model, Unscented(), one, key).value))(
        jax.random.split(jax.random.key(0), 200)
    )
    assert exact - 40 < float(bound.mean()) < exact


class Pull(eqx.Module):
    """A parameter inside f."""

    strength: jax.Array

    def __call__(self, z, x):
        return z + 0.3 - self.strength * jnp.sin(z)


@pytest.mark.parametrize("by", ["elbo", "particles"])
def test_a_parameter_inside_the_dynamics_is_learned(by: str) -> None:
    truth = swing()
    drawn = veil.sample(truth, 40, key=jax.random.key(0), steps=40)
    start = eqx.tree_at(
        lambda m: m.transition, truth, Pull(jnp.array(0.2)), is_leaf=lambda node: node is truth.transition
    )
    options = {} if by == "elbo" else {"objective": FIVO(16), "posterior": Optimal()}
    found = veil.fit(start, drawn.query, key=jax.random.key(1), steps=60, optimiser=optax.adam(0.03), **options).model
    assert abs(float(found.transition.strength) - 0.6) < 0.1


def test_verbs(tmp_path: object) -> None:
    model = growth()
    time = np.broadcast_to(np.arange(10.0)[None, :, None], (3, 10, 1))
    drawn = veil.sample(model, 1, key=jax.random.key(0), evidence=time)
    data = veil.Data(drawn.query[:, 0], time)
    found = veil.evaluate(model, data, key=jax.random.key(1), samples=200)
    assert found.kind == "lower bound, particle filter with 200 particles"
    assert np.isfinite(found.log_likelihood)
    assert found.monte_carlo_error > 0
    bound = veil.log_prob(model, data, key=jax.random.key(1), samples=200)
    np.testing.assert_allclose(bound.sum(), found.log_likelihood, rtol=1e-4)
    inferred = veil.infer(model, data, posterior=Unscented())
    assert inferred.mean.shape == (3, 10, 1)
    assert inferred.kind == "approximate"


def test_errors() -> None:
    with pytest.raises(TypeError, match="expected a function of"):
        NonlinearGaussian(3, lambda z, x: z, jnp.eye(1), Full(factor=jnp.ones((1, 1, 1))), jnp.zeros(1), jnp.eye(1))
    with pytest.raises(TypeError, match="Extended\\(\\) is for models with known dynamics"):
        Extended()(lds(), sequence())
    with pytest.raises(ValueError, match="alpha: expected a positive"):
        Unscented(alpha=0.0)
    with pytest.raises(ValueError, match="count"):
        ParticleFilter(0)
