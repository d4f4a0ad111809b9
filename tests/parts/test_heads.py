"""Heads: scipy's densities, the moments they start from, and their supports."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special

import veil
from cases import EVERY_HEAD as HEADS
from cases import head_log_prob, make_data
from veil import distributions
from veil.parts import heads

pytestmark = pytest.mark.usefixtures("x64")
SHAPE = (2,)


def ready(name):
    return HEADS[name].blank(SHAPE)


@pytest.mark.parametrize("name", HEADS)
def test_log_density_is_scipys(name):
    head, rng = ready(name), np.random.default_rng(0)
    for row in make_data(name, 6).query:
        vector = 0.7 * rng.normal(size=head.size(SHAPE))
        found = distributions.log_prob(head(jnp.array(vector), SHAPE), jnp.array(row))
        np.testing.assert_allclose(found, head_log_prob(head, vector, row), rtol=1e-10)


@pytest.mark.parametrize("name", HEADS)
def test_missing_entries_are_integrated_out(name):
    head, rng = ready(name), np.random.default_rng(1)
    vector, row = 0.7 * rng.normal(size=head.size(SHAPE)), make_data(name, 1).query[0]
    distribution = head(jnp.array(vector), SHAPE)
    for observed in ([True, False], [False, True], [False, False]):
        found = distributions.log_prob(distribution, jnp.array(row), jnp.array(observed))
        np.testing.assert_allclose(found, head_log_prob(head, vector, row, np.array(observed)), atol=1e-10)


@pytest.mark.parametrize("name", HEADS)
def test_samples_have_the_moments(name):
    head, rng, draws = ready(name), np.random.default_rng(2), 20_000
    vector = 0.5 * rng.normal(size=head.size(SHAPE))
    if name == "student":
        vector[:2] = np.log(6.0)  # seven degrees of freedom: variances whose estimates have a variance
    distribution = head(jnp.array(vector), SHAPE)
    if not distributions.has(distribution, distributions.Moments):
        return  # of angles: see below
    y = np.asarray(jax.vmap(distribution.sample)(jax.random.split(jax.random.key(0), draws)), np.float64)
    mean, variance = map(np.asarray, distributions.moments(distribution))
    assert y.shape == (draws, 2)
    np.testing.assert_array_less(np.abs(y.mean(0) - mean), 5 * y.std(0) / np.sqrt(draws))
    spread = (y - mean) ** 2
    np.testing.assert_array_less(np.abs(spread.mean(0) - variance), 6 * spread.std(0) / np.sqrt(draws))


@pytest.mark.parametrize("name", HEADS)
def test_from_sums_gives_the_data_s_moments(name):
    """The start of a gradient fit; the maximum-likelihood answer where the head is closed-form."""
    head, data = ready(name), make_data(name, 400, seed=3).query
    observed = np.random.default_rng(0).random(data.shape) < (0.8 if name != "multinomial" else 2)
    given = (lambda seen: seen) if name != "multinomial" else lambda seen: None
    sums = jnp.sum(jax.vmap(head.features)(jnp.array(data), given(jnp.array(observed))), 0)
    vector = head.from_sums(sums)
    if name == "von-mises":  # the mean direction, and nearly the mean resultant length
        distribution, spin = head(vector, SHAPE), [np.mean(np.exp(1j * data[observed[:, j], j])) for j in range(2)]
        np.testing.assert_allclose(distribution.central(), np.angle(spin), atol=1e-10)
        strength = np.asarray(distribution.concentration)
        np.testing.assert_allclose(
            scipy.special.ive(1, strength) / scipy.special.ive(0, strength), np.abs(spin), atol=0.02
        )
        return
    if name == "squashed":
        places = scipy.special.logit((data + 1) / 3)
        wanted = [np.mean(places[o, j]) for j, o in enumerate(observed.T)]
        np.testing.assert_allclose(vector[:2], wanted, atol=1e-10)
        return
    if name in ("zeros", "more-zeros", "truncated", "positive", "symlog", "two-hot"):
        return  # a start only: how good the fit becomes is asked below, and in test_sizes.py
    mean, variance = map(np.asarray, distributions.moments(head(vector, SHAPE)))
    wanted = np.array([[f(data[observed[:, j], j]) for j in range(2)] for f in (np.mean, np.var)])
    # a floor is added to scales, and a logistic is rounded and clipped to its grid
    if name == "log-normal":
        wanted = np.array([[np.exp(np.mean(np.log(data[o, j]))) for j, o in enumerate(observed.T)]] * 2)
        mean = variance = np.exp(np.asarray(vector[:2]))
    np.testing.assert_allclose(mean, wanted[0], atol=0.15 if name == "logistic" else 1e-6)
    if name in ("diagonal", "full", "bounded", "beta", "beta-between", "student", "logistic", "negative"):
        np.testing.assert_allclose(np.sqrt(variance), np.sqrt(wanted[1]), rtol=0.15)
    if head.closed_form:
        rows = [(jnp.array(y), given(jnp.array(o))) for y, o in zip(data[:40], observed[:40], strict=True)]

        def value(v):
            return sum(distributions.log_prob(head(v, SHAPE), y, o) for y, o in rows)

        best = head.from_sums(sum(head.features(y, o) for y, o in rows))
        np.testing.assert_allclose(jax.grad(value)(best), 0, atol=1e-9)


@pytest.mark.parametrize("name", ["bernoulli", "categorical", "poisson", "multinomial"])
def test_exponential_family_form(name):
    head, rng = ready(name), np.random.default_rng(4)
    vector = jnp.array(rng.normal(size=head.size(SHAPE)))
    for row in make_data(name, 5).query:
        for observed in (None, jnp.array([True, False]))[: 1 if name == "multinomial" else 2]:
            features, seen = (
                head.features(jnp.array(row), observed),
                None if observed is None else np.asarray(observed),
            )
            form = jnp.sum(features * head.coefficients(vector, SHAPE))
            rest = [head_log_prob(head, v, row, seen) for v in (vector, 0 * vector)]  # what does not depend on it
            other = jnp.sum(features * head.coefficients(0 * vector, SHAPE))
            np.testing.assert_allclose(form - other, rest[0] - rest[1], rtol=1e-10, atol=1e-12)
            found = head.log_probs(jnp.stack([vector, 0 * vector]), SHAPE, jnp.array(row), observed)
            np.testing.assert_allclose(found, rest, rtol=1e-10)


@pytest.mark.parametrize("mean", [-3.0, 0.4, 2.0])
@pytest.mark.parametrize("log_scale", [-30.0, -2.0, 3.0])
def test_discretised_logistic_sums_to_one_tails_included(mean, log_scale):
    head = heads.DiscretisedLogistic(-1.0, 1.0, 9)
    distribution = head(jnp.array([mean, log_scale]), (1,))
    grid = np.linspace(-1, 1, 9)
    log_p = np.array([distribution.log_prob(jnp.array([y])) for y in grid])
    assert np.all(np.isfinite(log_p))
    np.testing.assert_allclose(np.sum(np.exp(log_p)), 1.0, rtol=1e-12)
    np.testing.assert_allclose(distribution.mean, [grid @ np.exp(log_p)], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        distribution.variance, [grid**2 @ np.exp(log_p) - (grid @ np.exp(log_p)) ** 2], rtol=1e-6, atol=1e-12
    )
    draws = jax.vmap(distribution.sample)(jax.random.split(jax.random.key(0), 500))
    assert set(np.unique(np.round(draws, 9))) <= set(np.round(grid, 9))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("beta", 1.0, "strictly between 0 and 1"),
        ("beta", 0.0, "strictly between 0 and 1"),
        ("squashed", 2.0, "strictly between -1 and 2"),
        ("beta-between", -1.0, "strictly between -1 and 2"),
        ("bernoulli", 0.5, "values 0 or 1"),
        ("categorical", 3.0, "whole numbers from 0 to 2"),
        ("categorical", 0.5, "whole numbers from 0 to 2"),
        ("poisson", -1.0, "counts"),
        ("poisson", 1.5, "counts"),
        ("logistic", 7.0, "7 levels from 0 to 6"),
        ("logistic", 0.5, "7 levels from 0 to 6"),
    ],
)
def test_values_outside_the_support_are_refused_by_column_and_row(name, value, words):
    query = make_data(name, 4).query.copy()
    query[2, 1] = value
    data = veil.Data(query, query_names=("fine", "wrong"))
    with pytest.raises(ValueError, match=rf"query: .*{words}.*; column wrong has {value:g} in row 2"):
        veil.fit(veil.Mixture(veil.Linear(HEADS[name]), 2), data, key=jax.random.key(0))


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: heads.Categorical(1), "categories"),
        (lambda: heads.DiscretisedLogistic(0.0, 1.0, 1), "levels"),
        (lambda: heads.DiscretisedLogistic(1.0, 1.0, 4), "levels"),
        (lambda: heads.Squashed(low=1.0, high=1.0), "low"),
        (lambda: heads.Beta(margin=0.5), "margin"),
        (lambda: heads.Squashed(heads.Poisson()), "head: expected one on the real line"),
        (lambda: veil.MLP(()), "widths"),
        (lambda: veil.MLP((3, 0)), "widths"),
        (lambda: veil.Mixture(components=0), "components"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(make, argument):
    with pytest.raises(ValueError, match=argument):
        make()


def test_a_distribution_without_known_marginals_refuses_missing_entries():
    class Strange:
        def log_prob(self, value):
            return jnp.zeros(())

    with pytest.raises(TypeError, match="observed"):
        distributions.log_prob(Strange(), jnp.zeros(2), jnp.array([True, False]))


RECOVERED = {
    "negative": ([1.2, np.log(0.5)], 0.15),
    "zeros": ([-0.5, 1.0], 0.15),
    "more-zeros": ([-1.0, 1.5, np.log(0.3)], 0.35),
    "log-normal": ([2.0, -0.5], 0.1),
    "truncated": ([0.5, 0.3], 0.6),
    "von-mises": ([1.0, -2.0], 0.2),
    "squashed": ([0.5, -0.3], 0.1),
    "beta-between": ([0.5, 0.7], 0.1),
    "symlog": ([1.5, -0.3], 0.1),
}


@pytest.mark.parametrize("name", RECOVERED)
def test_parameters_of_a_big_sample_are_found_again(name):
    """Newton's method from the head's own start: the maximum is near the truth and the start is in its basin."""
    head, (truth, near) = HEADS[name], RECOVERED[name]
    draws = jax.vmap(head(jnp.array(truth), (1,)).sample)(jax.random.split(jax.random.key(0), 4000))
    y = draws.astype(float)

    def value(vector):
        return -jnp.mean(jax.vmap(lambda row: distributions.log_prob(head(vector, (1,)), row))(y))

    start = head.from_sums(jnp.sum(jax.vmap(lambda row: head.features(row, None))(y), 0))
    found = scipy.optimize.minimize(jax.jit(value), start, jac=jax.jit(jax.grad(value)), method="BFGS")
    np.testing.assert_allclose(found.x, truth, atol=near)
