"""Densities that are models: stepwise EM beside moments by hand, and any model that a trainer trains."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import multivariate_normal

import veil
from veil.control.exploration.densities import gain
from veil.control.exploration.fitted import StepwiseEM
from veil.control.exploration.trained import Trained
from veil.model import Datum

KEY = jax.random.key(0)
SEEN = np.random.default_rng(0).normal(size=(60, 2)) @ np.array([[2.0, 0.5], [0.0, 0.3]]) + np.array([30.0, -1.0])


def gaussians(means, weights=None):
    """Unit Gaussians at these means, that need no fit."""
    means = jnp.asarray(means, float)
    factors = jnp.broadcast_to(jnp.eye(2), (len(means), 2, 2))
    experts = veil.LinearGaussian(veil.Full(factor=factors), weight=means[:, :, None])
    if weights is None:
        return veil.density(experts)
    return veil.Mixture(experts, len(means), veil.Softmax(weight=jnp.log(jnp.asarray(weights))[:, None]))


@pytest.mark.usefixtures("x64")
def test_one_gaussian_is_the_mean_and_the_covariance_of_all_that_was_seen():
    density = StepwiseEM(gaussians(SEEN[:1]), SEEN[:10])

    @jax.jit
    def learned(rows):
        state = density.update(density.init(rows[0], KEY), rows)
        return state, density.log_prob(state, rows[0])

    state, value = learned(SEEN[10:])
    np.testing.assert_allclose(state.model.means[0], SEEN.mean(0), rtol=1e-10)
    np.testing.assert_allclose(state.model.covariances[0], np.cov(SEEN.T, bias=True), rtol=1e-8)
    exact = multivariate_normal(SEEN.mean(0), np.cov(SEEN.T, bias=True)).logpdf(SEEN[10])
    np.testing.assert_allclose(value, exact, rtol=1e-8)


def by_hand(means, weights, first, rows, power):
    """Cappé & Moulines 2009 with raw moments 1, y, y yᵀ of each component."""
    parameters = [(weight, np.array(mean), np.eye(2)) for weight, mean in zip(weights, means, strict=True)]

    def moments(y, parameters):
        joint = np.array([w * multivariate_normal(m, c).pdf(y) for w, m, c in parameters])
        shares = joint / joint.sum()
        return [np.append(share, share * np.append(y, np.outer(y, y))) for share in shares]

    def maximised(sums):
        found = []
        for each in sums:
            mean = each[1:3] / each[0]
            found.append((each[0], mean, each[3:].reshape(2, 2) / each[0] - np.outer(mean, mean)))
        return found

    sums = np.mean([moments(y, parameters) for y in first], 0)
    parameters = maximised(sums)
    for n, y in enumerate(rows, len(first) + 1):
        size = n**-power
        sums = (1 - size) * sums + size * np.array(moments(y, parameters))
        parameters = maximised(sums)
    return parameters


@pytest.mark.usefixtures("x64")
def test_a_mixture_goes_on_as_stepwise_em_does_by_hand():
    means, weights = [[28.0, -1.0], [32.0, -1.0]], [0.3, 0.7]
    density = StepwiseEM(gaussians(means, weights), SEEN[:20], power=0.7)
    state = jax.jit(density.update)(jax.jit(density.init)(SEEN[0], KEY), SEEN[20:])
    exact = by_hand(means, weights, SEEN[:20], SEEN[20:], 0.7)
    for found, wanted in zip(
        (state.model.weights, state.model.means, state.model.covariances), zip(*exact, strict=True), strict=True
    ):
        np.testing.assert_allclose(found, np.stack(wanted), rtol=1e-8)


@pytest.mark.usefixtures("x64")
def test_a_tractable_model_has_its_exact_density_and_learns_row_by_row():
    data, model = veil.Data(SEEN), gaussians(SEEN[:1])
    trainer = veil.Trainer(model, optimiser=optax.sgd(0.1), units=veil.Units.of(veil.Data(SEEN), model))
    start = trainer.start(data, KEY)
    density = Trained(trainer, start)

    @jax.jit
    def both(rows):
        state = density.init(rows[0], KEY)
        state, before = density.update(state, rows[:3]), density.log_prob(state, rows[4])
        gains = jax.vmap(lambda x: gain(density, state, x)[1])(jnp.stack([rows[4], rows[4] + 9.0]))
        return before, density.log_prob(state, rows[4]), gains

    before, after, (known, new) = both(SEEN)
    assert 0 < known < new
    np.testing.assert_allclose(before, multivariate_normal(SEEN[0], np.eye(2)).logpdf(SEEN[4]), rtol=1e-10)
    stepped = start
    for row in SEEN[:3]:
        stepped, _ = jax.jit(trainer.step)(stepped, Datum(jnp.asarray(row)[None]))
    found, _ = trainer.result(stepped)
    exact = multivariate_normal(found.means[0], found.covariances[0]).logpdf(SEEN[4])
    np.testing.assert_allclose(after, exact, rtol=1e-8)
    assert abs(exact - before) > 1e-3


def test_a_bound_meets_the_same_noise_before_and_after_so_that_nothing_learned_is_nothing_gained():
    trainer = veil.Trainer(veil.VAE(latent=1, decoder=veil.MLP((4,))), optimiser=optax.sgd(0.0))
    start = trainer.start(veil.Data(SEEN - SEEN.mean(0)), KEY)
    density = Trained(trainer, start)

    @jax.jit
    def learned(x, key):
        return gain(density, density.init(x, key), x)

    one, other = (learned(np.array([0.3, -0.2]), jax.random.key(seed)) for seed in (1, 2))
    assert float(one[1]) == float(other[1]) == 0
    assert float(one[0]) != float(other[0])  # another key is other noise
    with pytest.raises(ValueError, match=r"objective: FlowMatching is in .*, no log-density"):
        Trained(veil.Trainer(trainer.model, objective=veil.FlowMatching()), start)
    with pytest.raises(TypeError, match="model: expected one with a closed-form M-step"):
        StepwiseEM(start.learned.model, SEEN)
