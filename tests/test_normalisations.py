"""Ways to measure units: against numpy, constant entries, steps of chunks, and kept by fits and saved policies."""

import jax
import numpy as np
import pytest

import veil
from veil import Data, Units, units
from veil.model.scales import Scale
from veil.parts import heads

KEY = jax.random.key(0)
WAYS = {
    "robust": units.Robust(),
    "deviation": units.Deviation(),
    "quantiles": units.Quantiles(),
    "range": units.Range(),
}


def table(count=400, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.normal(5, 2, count), rng.exponential(100, count), np.full(count, 0.3)], 1)


def test_each_is_what_numpy_says():
    x = table()
    ends = {name: np.quantile(x, levels, axis=0, method="inverted_cdf") for name, levels in
            {"robust": (0.16, 0.84), "quantiles": (0.01, 0.99), "range": (0, 1)}.items()}  # fmt: skip
    wanted = {name: ((low + high) / 2, (high - low) / 2) for name, (low, high) in ends.items()}
    wanted["robust"] = np.quantile(x, 0.5, axis=0, method="inverted_cdf"), wanted["robust"][1]
    wanted["deviation"] = x.mean(0), x.std(0)
    for name, way in WAYS.items():
        found = way(x, np.ones(len(x)), None, False)
        np.testing.assert_allclose(found.shift, wanted[name][0], rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(found.scale[:2], wanted[name][1][:2], rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("name", WAYS)
def test_weights_are_repeated_rows_and_missing_entries_are_not_there(name):
    x, rng = table(60), np.random.default_rng(1)
    weights = rng.integers(0, 4, 60).astype(float)
    way = WAYS[name]
    one, other = (
        way(x, weights, None, False),
        way(x.repeat(weights.astype(int), 0), np.ones(int(weights.sum())), None, False),
    )
    seen = np.repeat((weights > 1)[:, None], 3, 1)
    there, missing = way(x[weights > 1], np.ones(seen[:, 0].sum()), None, False), way(x, np.ones(60), seen, False)
    for a, b in ((one, other), (there, missing)):
        np.testing.assert_allclose(a.shift, b.shift, rtol=1e-9)
        np.testing.assert_allclose(a.scale, b.scale, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:column y1 is constant")
@pytest.mark.parametrize("name", WAYS)
def test_a_constant_action_dimension_does_no_harm(name):
    """Its units are those of its size: it comes back as it is, and noise of the last digit stays small."""
    x = table()
    for constant in (0.3, 0.0, -7.0, 1e6):
        x[:, 2] = constant
        scale = WAYS[name](x, np.ones(len(x)), None, False)
        standard = scale.exactly(x)
        assert np.all(np.abs(standard[:, 2]) < 1e-9)
        assert np.max(np.abs(scale.exactly(np.nextafter(x, np.inf))[:, 2])) < 1e-12
    data = Data(table()[:, 1:], evidence=table()[:, :1])
    model = veil.density(veil.Linear(heads.DiagonalGaussian()))
    fit = veil.fit(model, data, key=KEY, steps=50, units=Units.of(data, model, by=WAYS[name]))
    drawn = veil.sample(fit.model, 1, key=KEY, evidence=data.evidence[:5]).query
    assert np.all(np.isfinite(drawn))
    np.testing.assert_allclose(drawn[..., 1], 0.3, atol=0.1)


def test_a_scale_of_almost_nothing_would_do_harm(monkeypatch):
    """The fault planted: a constant divided by its spread, plus a little."""
    x = table()
    monkeypatch.setattr("veil.units.normalisations.harmless", lambda column, weights, shift, scale: scale + 1e-300)
    scale = WAYS["deviation"](x, np.ones(len(x)), None, False)
    assert np.max(np.abs(scale.exactly(np.nextafter(x, np.inf))[:, 2])) > 1e-3


def test_steps_of_chunks_have_units_of_their_own_or_share_them():
    rng = np.random.default_rng(0)
    chunks = rng.normal(size=(300, 4, 2)) * (1 + np.arange(4.0))[None, :, None] + [0.0, 50.0]
    own = Units.of(Data(chunks), by=units.Deviation()).query
    np.testing.assert_allclose(own.scale, chunks.std(0))
    shared = Units.of(Data(chunks), by=units.AlongSteps(units.Deviation())).query
    np.testing.assert_allclose(shared.scale, np.broadcast_to(chunks.reshape(-1, 2).std(0), (4, 2)))
    np.testing.assert_allclose(shared.shift, np.broadcast_to(chunks.reshape(-1, 2).mean(0), (4, 2)))
    flat = Data(rng.normal(size=(50, 2)))
    one, other = (Units.of(flat, by=way).query for way in (units.Robust(), units.AlongSteps()))
    np.testing.assert_array_equal(one.scale, other.scale)


@pytest.mark.filterwarnings("ignore:collapse")
def test_a_fit_keeps_them_and_so_does_what_is_saved(tmp_path):
    data = Data(table()[:, :1], evidence=table()[:, 1:2])
    model = veil.VAE(1, decoder=veil.MLP((4,)))
    kept = Units.of(data, model, by=units.Range())
    fit = veil.fit(model, data, key=KEY, steps=5, units=kept)
    same(fit.model.units, kept)
    loaded = veil.load(veil.save(tmp_path / "run", fit))
    same(loaded.model.units, kept)
    same(loaded.posterior.units, kept)
    shifted = Data(data.query + 1000, evidence=data.evidence)
    more = veil.fit(loaded, shifted, key=KEY, steps=5)  # goes on in the units it began with
    same(more.model.units, kept)
    again = veil.fit(loaded, shifted, key=KEY, steps=5, units=kept)
    np.testing.assert_array_equal(again.history.value, more.history.value)
    with pytest.raises(ValueError, match="units: model or posterior were learned in others"):
        veil.fit(loaded, data, key=KEY, steps=1, units=Units.of(data, model))


def same(found, wanted):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_mixture_comes_to_the_same_whatever_its_units():
    data = veil.data.load("faithful")
    model = veil.Mixture(components=2)
    found = [veil.fit(model, data, key=KEY, units=Units.of(data, model, by=way)) for way in (None, units.Range())]
    one, other = (veil.evaluate(fit, data).log_likelihood_per_datum for fit in found)
    assert one == pytest.approx(other, abs=1e-3)


def test_bad_arguments_are_named():
    data = Data(table())
    with pytest.raises(TypeError, match="by: expected a normalisation"):
        Units.of(data, by="range")
    with pytest.raises(TypeError, match="units: expected veil"):
        veil.fit(veil.VAE(1), data, key=KEY, units=Scale(np.zeros(3), np.ones(3)))
    with pytest.raises(ValueError, match="low: expected shares"):
        units.Quantiles(0.5, 0.5)
