"""Scales of columns and tables: weights are duplicates, constants and outliers do no harm."""

import jax.numpy as jnp
import numpy as np
import pytest

from compiled import called
from veil.model.scales import Scale, column_scale, table_scale, weighted_quantiles


def test_weighted_quantiles_are_those_of_duplicated_values():
    rng = np.random.default_rng(0)
    for _ in range(50):
        count = int(rng.integers(1, 12))
        values, weights = np.round(rng.normal(size=count), 1), rng.integers(0, 4, count).astype(float)
        weights[0] += 1
        levels = tuple(rng.random(3))
        found = weighted_quantiles(values, weights, levels)
        repeated = np.repeat(values, weights.astype(int))
        np.testing.assert_array_equal(found, np.quantile(repeated, levels, method="inverted_cdf"))


def test_scales_of_ordinary_columns():
    rng = np.random.default_rng(0)
    shift, scale = column_scale(5 + 3 * rng.normal(size=20_000), np.ones(20_000))
    assert abs(shift - 5) < 0.1
    assert abs(scale - 3) < 0.1


@pytest.mark.parametrize(
    ("column", "shift", "scale"),
    [([7.0] * 5, 7.0, 7.0), ([0.0] * 5, 0.0, 1.0), ([1e-300] * 3, 1e-300, 1e-300), ([-2.0], -2.0, 2.0)],
)
def test_constant_columns(column, shift, scale):
    assert column_scale(np.array(column), np.ones(len(column))) == (shift, scale)


def test_an_outlier_does_not_set_the_scale():
    column = np.append(np.linspace(-1, 1, 101), 1e30)
    shift, scale = column_scale(column, np.ones(102))
    assert abs(shift) < 0.05
    assert 0.6 < scale < 0.75


def test_mostly_one_value_uses_the_standard_deviation():
    column = np.array([0.0] * 9 + [10.0])
    shift, scale = column_scale(column, np.ones(10))
    assert (shift, scale) == (0.0, np.sqrt(10.0))


def test_missing_entries_and_empty_columns_do_not_count():
    query = np.array([[1.0, 0.0], [2.0, 0.0], [99.0, 0.0]])
    observed = np.array([[True, False], [True, False], [False, False]])
    found = table_scale(query, np.ones(3), observed, False)
    np.testing.assert_array_equal(found.shift, [1.0, 0.0])
    np.testing.assert_array_equal(found.scale, [0.5, 1.0])


def test_isotropic_scales_have_one_scale():
    rng = np.random.default_rng(0)
    found = table_scale(rng.normal(size=(500, 2)) * [1, 100], np.ones(500), None, True)
    assert found.scale[0] == found.scale[1]


def test_a_scale_and_its_inverse():
    rng = np.random.default_rng(0)
    y, scale = rng.normal(size=(5, 2)), Scale(np.array([1e6, -3.0]), np.array([1e-3, 40.0]))
    there = scale.exactly(y)
    np.testing.assert_allclose(there, (y - scale.shift) / scale.scale)
    np.testing.assert_allclose(scale.inverse().exactly(there), y, atol=1e-8)
    np.testing.assert_allclose(scale.inverse().inverse().exactly(y), there, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_on_the_device_many_values_at_once():
    rng = np.random.default_rng(0)
    y, scale = rng.normal(size=(4, 5, 2)), Scale(np.array([3.0, -3.0]), np.array([1e-3, 40.0]))
    there = called(lambda y: scale.standard(y), jnp.array(y))
    np.testing.assert_allclose(there, scale.exactly(y), rtol=1e-12)
    np.testing.assert_allclose(called(lambda y: scale.back(y), there), y, rtol=1e-9)
