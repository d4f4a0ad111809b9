"""Annealed importance sampling between bounds that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cases
from linear_gaussian import Known, draws, log_likelihood, random_model
from veil import distributions
from veil.evaluation.annealing import annealed_bound, sandwich, sigmoidal
from veil.maths import hamiltonian
from veil.model import Model

pytestmark = pytest.mark.usefixtures("x64")


def test_the_schedule_goes_from_zero_to_one():
    betas = sigmoidal(100)
    assert (betas[0], betas[-1], len(betas)) == (0, 1, 101)
    steps = np.diff(betas)
    assert (steps > 0).all()
    assert steps[0] < 0.3 * steps[50]
    np.testing.assert_allclose(steps, steps[::-1])


def test_transitions_leave_a_skewed_density_unchanged(key):
    """log f = -z⁴/4 + z: moments by quadrature; 4000 chains from exact draws stay where they are."""
    grid = np.linspace(-5, 5, 200_001)
    density = np.exp(-(grid**4) / 4 + grid)
    cumulative = np.cumsum(density) / density.sum()
    z = jnp.array(grid[np.searchsorted(cumulative, np.random.default_rng(0).uniform(size=4000))])

    def move(z, key):
        found = hamiltonian.transition(lambda z: (-(z**4) / 4 + z, None), z, key, jnp.array(0.9), 3, jnp.ones(()))
        return found[0], found[2]

    def several(z, keys):
        return jax.lax.scan(lambda z, key: move(z, key), z, keys)

    end, chances = jax.jit(jax.vmap(several))(z, jax.random.split(key, (4000, 10)))
    assert 0.3 < chances.mean() < 0.9  # Metropolis' rule had something to do
    for power in (1, 2, 3):
        exact = np.sum(grid**power * density) / density.sum()
        spread = np.std(np.asarray(end) ** power) / np.sqrt(4000)
        assert abs(np.mean(np.asarray(end) ** power) - exact) < 3.5 * spread
    assert np.corrcoef(z, end)[0, 1] < 0.2


def test_the_likelihood_is_between_the_bounds(key):
    """Six latents, 32 entries: the width is 0 ± 0.05 nats, that of one datum up to 1; a sign astray costs hundreds."""
    model = random_model(6, 32, 1.0)
    found = sandwich(model, None, key, 32, temperatures=1000)
    exact = log_likelihood(model, found.query)
    lower, upper = found.lower - exact, found.upper - exact
    assert abs(found.width.value) < 0.3
    assert found.width.standard_error < 0.15
    assert lower.mean() < 4 * lower.std() / np.sqrt(32)
    assert upper.mean() > -4 * upper.std() / np.sqrt(32)
    assert max(np.abs(lower).max(), np.abs(upper).max()) < 2.0
    np.testing.assert_allclose(found.width.value, np.mean(found.upper - found.lower))


def test_few_temperatures_are_honest_bounds(key):
    """A short path has a wide gap, on both sides of the truth."""
    model = random_model(3, 8, 0.5)
    found = sandwich(model, None, key, 200, temperatures=6, chains=2, leaps=2)
    exact = log_likelihood(model, found.query)
    lower, upper = found.lower - exact, found.upper - exact
    assert lower.mean() < -3 * lower.std() / np.sqrt(200)
    assert upper.mean() > 3 * upper.std() / np.sqrt(200)


@pytest.mark.parametrize(("noise", "temperatures"), [(0.02, 6), (0.3, 6), (0.3, 60)])
def test_the_error_of_short_paths_is_as_large_as_what_they_lack(key, noise, temperatures):
    model = random_model(3, 8, noise)
    y = draws(model, 40)
    found = annealed_bound(model, y, key=key, temperatures=temperatures, chains=8)
    short = log_likelihood(model, y) - found.lower
    assert np.mean(short > 4 * found.error) < 0.05
    assert np.mean(short) < 4 * found.lower_average.monte_carlo_error
    assert found.kind == f"lower bound, {temperatures} temperatures: perhaps far off"


@pytest.mark.parametrize(
    ("noise", "width", "moved"),
    [(0.3, 0.05, 5.0), (0.3, 0.3, 5.0), (0.3, 1.0, 5.0), (0.3, 3.0, 5.0), (0.1, 0.02, 1.0), (0.1, 0.5, -2.0)],
)
def test_the_error_from_a_misplaced_start_is_as_large_as_what_it_lacks(key, noise, width, moved):
    """Where the chains know nothing of what they lack: twenty times too narrow, they agree with each other."""
    model = random_model(3, 8, noise)
    y = draws(model, 12)
    found = annealed_bound(model, y, key=key, start=Known(width, moved), temperatures=100, chains=8)
    short = log_likelihood(model, y) - found.lower
    assert np.mean(short) > 1.0
    assert np.mean(short > 4 * found.error) < 0.1
    assert np.mean(short) < 4 * found.lower_average.monte_carlo_error


def test_starting_from_a_posterior_needs_fewer_temperatures(key):
    model = random_model(3, 8, 0.5)
    x = np.random.default_rng(0).normal(size=(4, 8))
    exact = sandwich(model, Known(), key, 9, x, temperatures=30, chains=8)
    truth = log_likelihood(model, exact.query - exact.evidence)
    np.testing.assert_allclose(exact.lower, truth, atol=1e-8)
    np.testing.assert_allclose(exact.upper, truth, atol=1e-8)
    np.testing.assert_array_equal(exact.evidence[4:8], x)
    near = sandwich(model, Known(width=1.4, moved=0.1), key, 9, x, temperatures=30, chains=8)
    assert np.abs(near.lower - truth).max() < 0.3
    assert abs(near.width.value) < 0.15


def test_blocks_do_not_change_the_numbers(key, monkeypatch, compilations):
    model = random_model()
    y = draws(model, 5)
    options = {"key": key, "temperatures": 10, "chains": 3}
    whole = annealed_bound(model, y, **options)
    monkeypatch.setattr("veil.evaluation.annealing._row_count", lambda entries, chains: 2)
    compilations.clear()
    parts = annealed_bound(model, y, **options)
    np.testing.assert_allclose(parts.lower, whole.lower, rtol=1e-9)
    assert compilations.of("_segment") == 1
    assert (whole.effective_samples <= 3).all()


class Cubic(Model):
    """z ~ N(0, 1), y ~ N(z³, 1/2)."""

    def prior(self, evidence):
        return distributions.normal(jnp.zeros(1), jnp.ones(1))

    def likelihood(self, latent, evidence):
        return distributions.normal(latent**3, jnp.full(1, 0.5))


def test_a_posterior_that_is_not_normal_against_quadrature(key):
    y = np.array([[-1.0], [0.4], [2.0]])
    z = np.linspace(-8, 8, 20_001)
    exact = [np.log(np.trapezoid(np.exp(-0.5 * z**2 - 2 * (v - z**3) ** 2) / np.pi, z)) for v in y[:, 0]]
    found = annealed_bound(Cubic(), y, key=key, temperatures=200, chains=100)
    assert (np.abs(found.lower - exact) < 4 * found.error).all()
    assert (found.error < 0.1).all()
    assert abs(found.lower_average.value - np.mean(exact)) < 4 * found.lower_average.monte_carlo_error


def test_wrong_arguments(key):
    mixture = cases.random_model("mixture-full", cases.make_data("real", 30))
    with pytest.raises(TypeError, match="model: annealing moves a real latent"):
        sandwich(mixture, None, key, 3)
    for name in ("temperatures", "chains", "leaps"):
        with pytest.raises(ValueError, match=f"{name}: expected a positive integer"):
            sandwich(random_model(), None, key, 2, **{name: 0})
    with pytest.raises(ValueError, match="count: expected a positive integer"):
        sandwich(random_model(), None, key, 0)
