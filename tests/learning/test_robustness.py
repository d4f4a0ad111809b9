"""EM on data that break naive EM: never NaN, never an error, never a falling likelihood, and notes say what is odd."""

import equinox as eqx
import jax
import numpy as np
import pytest

import veil
from cases import STRUCTURES, quiet_fit
from veil import Data, Linear, LinearGaussian, Mixture
from veil.parts import heads

COUNT, SIZE = 24, 2  # one shape for most, so that a structure compiles once


def nasty():
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(COUNT, SIZE))
    constant = plain.copy()
    constant[:, 1] = 7.0
    outlier = plain.copy()
    outlier[3] = [1e30, -1e30]
    line = np.repeat(plain[:, :1], 2, 1)
    yield "duplicated rows", np.repeat(plain[:3], COUNT // 3, 0)
    yield "one value", np.full((COUNT, SIZE), 3.0)
    yield "constant column", constant
    yield "on a line", line
    yield "scale 1e-6", plain * 1e-6
    yield "scale 1e6", plain * 1e6
    yield "both scales", plain * [1e-6, 1e6]
    yield "mean 1e6", plain + 1e6
    yield "outlier 1e30", outlier
    yield "ties", np.round(plain)
    yield "two clusters far apart", plain + 1e5 * (np.arange(COUNT) < 9)[:, None]


def nasty_with_gaps():
    rng = np.random.default_rng(1)
    plain = rng.normal(size=(COUNT, SIZE))
    rows, column, most = plain.copy(), plain.copy(), plain.copy()
    rows[:6] = np.nan
    column[:, 1] = np.nan
    most[rng.random(most.shape) < 0.8] = np.nan
    most[0] = plain[0]
    yield "missing rows", rows
    yield "missing column", column
    yield "mostly missing", most
    yield "missing and far", rows * 1e-6 + 1e6


CASES = {**dict(nasty()), **dict(nasty_with_gaps())}
FEW = {"one point": np.array([[1.0, 2.0]]), "two points": np.array([[1.0, 2.0], [3.0, 5.0]])}


def check(result, y, precision):
    values = result.history.value
    assert len(values) > 0
    assert np.all(np.isfinite(values))
    assert all(np.all(np.isfinite(np.asarray(leaf))) for leaf in jax.tree.leaves(result.model))
    scores = veil.log_prob(result.model, Data(y))
    assert not np.any(np.isnan(scores))
    slack = 1e-9 if precision == "float64" else 2e-5
    assert np.all(np.diff(values) >= -slack * np.maximum(1, np.abs(values[:-1]))), np.diff(values).min()
    assert np.all(np.isfinite(veil.sample(result.model, 5, key=jax.random.key(1)).query))


def run(structure, y, precision, components=3):
    with jax.enable_x64(precision == "float64"):
        model = Mixture(LinearGaussian(STRUCTURES[structure]), components)
        result = quiet_fit(model, Data(y), key=jax.random.key(0), steps=40)
        check(result, y, precision)
    return result


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_nasty_data(structure, precision):
    for name, y in CASES.items():
        try:
            run(structure, y, precision)
        except Exception as error:
            raise AssertionError(f"{structure}, {precision}, {name}: {error}") from error


@pytest.mark.parametrize("structure", ["full", "tied-diagonal"])
@pytest.mark.parametrize("name", FEW)
def test_fewer_points_than_components(name, structure):
    run(structure, FEW[name], "float32")


@pytest.mark.parametrize("structure", ["full", "diagonal", "spherical"])
def test_a_collapsed_component_is_named(structure):
    y = np.concatenate([np.random.default_rng(0).normal(size=(COUNT - 8, 2)), np.full((8, 2), 9.0)])
    model = Mixture(LinearGaussian(STRUCTURES[structure]), 2)
    with pytest.warns(UserWarning, match=r"component \d collapsed onto 8 data"):
        result = veil.fit(model, Data(y), key=jax.random.key(0))
    (note,) = result.status.notes
    tight = int(np.argmin(np.asarray(result.model.experts.covariance.dense_covariance())[:, 0, 0]))
    assert note.startswith(f"component {tight} collapsed")
    np.testing.assert_allclose(result.model.experts.mean[tight], 9.0, rtol=1e-3)


NUMBERS = np.random.default_rng(0).normal(size=(40, 3))


@pytest.mark.parametrize(
    ("query", "evidence", "flat"),
    [
        (NUMBERS[:3], None, True),  # three rows span a plane of the three columns
        (np.repeat(NUMBERS[:3], 2, axis=0), None, True),
        (NUMBERS @ np.diag([1.0, 1.0, 0.0]) + NUMBERS[:, :2].sum(1)[:, None] * [0.0, 0.0, 1.0], None, True),
        (NUMBERS, None, False),
        (NUMBERS[:, 1:2], NUMBERS[:, :1], False),
    ],
)
def test_one_gaussian_that_the_data_do_not_bound_is_named(query, evidence, flat):
    fit = quiet_fit(veil.density(LinearGaussian()), Data(query, evidence=evidence), key=jax.random.key(0))
    notes = [note for note in fit.status.notes if f"leaves nothing of {len(query)} data in some direction" in note]
    assert len(notes) == flat == len(fit.status.notes)


def test_duplicate_components_are_named():
    """Two components that start alike stay alike, step after step."""
    y = np.random.default_rng(0).normal(size=(COUNT, 2))
    one = quiet_fit(Mixture(components=3), Data(y), key=jax.random.key(0), steps=2).model
    twin = eqx.tree_at(
        lambda m: (m.experts.weight, m.experts.covariance.factor),
        one,
        replace_fn=lambda leaf: leaf.at[2].set(leaf[0]),
    )
    result = quiet_fit(twin, Data(y), key=jax.random.key(0), steps=3)
    assert any("component 2 is a duplicate of component 0" in note for note in result.status.notes)


def test_constant_and_missing_columns_are_named():
    y = np.random.default_rng(0).normal(size=(COUNT, 3))
    y[:, 1], y[:, 2] = 4.0, np.nan
    data = Data(y, query_names=("a", "b", "c"))
    notes = quiet_fit(Mixture(components=1), data, key=jax.random.key(0), steps=5).status.notes
    assert any("column b is constant (4)" in note for note in notes)
    assert any("column c is missing in every row" in note for note in notes)


def test_ordinary_data_give_no_notes():
    result = veil.fit(Mixture(components=2), veil.data.load("faithful"), key=jax.random.key(0))
    assert result.status.notes == ()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_units_do_not_matter(scale, shift):
    """An affine map of the data maps the fit: log-likelihood falls by Σ log scale."""
    y = veil.data.load("faithful").query
    plain = veil.evaluate(veil.fit(Mixture(components=2), Data(y), key=jax.random.key(0)).model, y)
    with jax.enable_x64(True):
        moved = y * scale + shift * scale
        model = veil.fit(Mixture(components=2), Data(moved), key=jax.random.key(0)).model
        found = veil.evaluate(model, moved)
    difference = found.log_likelihood_per_datum - (plain.log_likelihood_per_datum - 2 * np.log(scale))
    assert abs(difference) < 1e-4


@pytest.mark.parametrize(
    ("head", "y"),
    [
        (heads.Bernoulli(), np.ones((COUNT, 2))),
        (heads.Poisson(), np.zeros((COUNT, 2))),
        (heads.Poisson(), np.full((COUNT, 2), 1e6)),
        (heads.Categorical(3), np.zeros((COUNT, 2))),
        (heads.Bernoulli(), np.where(np.arange(2 * COUNT).reshape(COUNT, 2) % 5 == 0, np.nan, 1.0)),
    ],
    ids=["all ones", "no counts", "large counts", "one category", "ones with gaps"],
)
def test_degenerate_discrete_data(head, y):
    result = quiet_fit(Mixture(Linear(head), 3), Data(y), key=jax.random.key(0), steps=30)
    check(result, y, "float32")


def test_numbers_that_no_fit_can_hold_are_refused_by_column_and_row():
    y = np.random.default_rng(0).normal(size=(COUNT, 2))
    y[4, 1] = 1e200
    with pytest.raises(ValueError, match=r"query: .*column y1 has 1e\+200 in row 4"):
        veil.fit(Mixture(components=2), Data(y), key=jax.random.key(0))


@pytest.mark.parametrize("size", [1e-38, 3e-40, 1e38, 1e200])
@pytest.mark.parametrize("role", ["query", "evidence"])
def test_columns_that_float32_does_not_hold_are_refused(size, role):
    plain = np.random.default_rng(0).normal(size=(COUNT, SIZE))
    parts = {"query": plain, "evidence": plain[:, :1], role: plain[:, :1] * [[size]]}
    for some in (
        parts,
        {**parts, role: np.concatenate([[[1.0]], parts[role][1:]])},
    ):  # one row does not help the others
        with pytest.raises(ValueError, match=rf"{role}: .*column .* (is|has) .*: rescale (it|the column)"):
            veil.fit(Mixture(components=2), Data(**some), key=jax.random.key(0))


def test_what_float32_holds_is_fitted_although_its_square_is_not_held():
    plain = np.random.default_rng(0).normal(size=(COUNT, SIZE))
    fits = [quiet_fit(veil.PPCA(1), plain * size, key=jax.random.key(0)) for size in (1.0, 1e-33, 1e36)]
    found = [veil.log_prob(fit.model, plain * size) for fit, size in zip(fits, (1.0, 1e-33, 1e36), strict=True)]
    for each, size in zip(found[1:], (1e-33, 1e36), strict=True):
        np.testing.assert_allclose(each + SIZE * np.log(size), found[0], atol=1e-3)
