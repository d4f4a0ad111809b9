"""What a fit learns of its data: all rows count, also those of streams beyond the sample."""

import jax
import numpy as np
import pytest

import veil
from veil.data import Data, Stream
from veil.learning import preprocessing
from veil.learning.preprocessing import Extent, preprocess
from veil.model.scales import Scale
from veil.units import Units

MODEL = veil.Mixture(components=2)


def extent_of(*blocks: Data) -> Extent:
    extent = Extent(MODEL)
    for block in blocks:
        extent.add(block)
    return extent


def test_log_scale_counts_observed_entries_only():
    units = Units(Scale(np.zeros(2), np.array([2.0, 10.0])))
    np.testing.assert_allclose(extent_of(Data(np.ones((3, 2)))).log_scale(units), np.log(20.0))
    first, second = Data([[1.0, np.nan]], weight=[3]), Data([[1.0, 1.0]], weight=[1])
    np.testing.assert_allclose(extent_of(first, second).log_scale(units), np.log(2) + np.log(10) / 4)
    assert extent_of(first).log_scale(Units()) == 0


def test_the_largest_number_is_that_of_all_blocks():
    units = Units(Scale(np.array([1.0, 0.0]), np.array([1.0, 10.0])))
    extent = extent_of(Data([[1.0, 5.0]]), Data([[-2.0, 200.0]]))
    assert extent.largest(units) == 20
    with_evidence = extent_of(Data([[1.0, 5.0]], evidence=[[3.0]]), Data([[-2.0, 200.0]], evidence=[[-900.0]]))
    assert with_evidence.largest(units) == 900
    assert with_evidence.largest(Units(units.query, Scale(np.array([0.0]), np.array([100.0])))) == 20


def test_a_stream_is_looked_at_beyond_its_sample(monkeypatch):
    monkeypatch.setattr(preprocessing, "SAMPLE", 50)
    rng = np.random.default_rng(0)
    y = rng.normal(size=(400, 2))

    def blocks(y):
        return Stream(lambda: iter([Data(y[:200]), Data(y[200:])]))

    seen = preprocess(MODEL, blocks(y), np.random.default_rng(0))
    assert len(seen.sample) == 50
    assert seen.total == 400
    exact = np.abs((y - np.asarray(seen.units.query.shift)) / np.asarray(seen.units.query.scale)).max()
    np.testing.assert_allclose(seen.largest, exact)
    spoilt = y.copy()
    spoilt[399, 1] = 1e200
    with pytest.raises(ValueError, match=r"query: expected numbers up to 1e\+150 .* column y1"):
        preprocess(MODEL, blocks(spoilt), np.random.default_rng(0))


def test_data_on_disk_are_those_in_memory(tmp_path, monkeypatch):
    """Where a NaN is no number yet: found block by block."""
    monkeypatch.setattr(preprocessing, "SAMPLE", 7)
    y = np.random.default_rng(0).poisson(3, (20, 2)).astype(float)
    y[[2, 9, 9], [0, 0, 1]] = np.nan
    np.save(tmp_path / "y.npy", y)
    mapped = Data(np.load(tmp_path / "y.npy", mmap_mode="r"))
    for model in (MODEL, veil.density(veil.Linear(veil.parts.heads.Poisson()))):
        seen, other = (preprocess(model, data, np.random.default_rng(0)) for data in (mapped, Data(y)))
        assert (seen.total, seen.missing) == (20, True)
        np.testing.assert_allclose([seen.log_scale, seen.largest], [other.log_scale, other.largest])
        np.testing.assert_array_equal(seen.sample.query, other.sample.query)
    np.save(tmp_path / "y.npy", np.full((20, 2), np.nan))
    for wrong, words in ((mapped, "one observed entry"), (Data(y)[9:10], "one observed entry")):
        with pytest.raises(ValueError, match=f"query must have at least {words}"):
            preprocess(MODEL, wrong, np.random.default_rng(0))
    zeros = Stream(lambda: (part for part in Data(y, weight=np.arange(20.0)).blocks(1) if part.weight[0] == 0))
    with pytest.raises(ValueError, match="weight must have a positive sum"):
        preprocess(MODEL, zeros, np.random.default_rng(0))


def test_the_sample_of_a_stream_is_uniform(monkeypatch):
    monkeypatch.setattr(preprocessing, "SAMPLE", 100)
    y = np.arange(1000.0)
    means = []
    for seed in range(100):
        stream = Stream(lambda: (Data(part) for part in np.split(y, [90, 100, 600])))
        means.append(preprocess(MODEL, stream, np.random.default_rng(seed)).sample.query.mean())
    # the mean of 100 of 1000 without replacement has this standard deviation
    deviation = y.std() / 10 * np.sqrt(900 / 999)
    assert abs(np.mean(means) - y.mean()) < 4 * deviation / np.sqrt(100)
    assert 0.8 < np.std(means) / deviation < 1.2


def test_em_scores_held_out_data_and_goes_on():
    data = veil.data.load("faithful")
    result = veil.fit(MODEL, data, key=jax.random.key(0), held_out=0.3)
    steps, values = result.history.held_out.T
    assert steps[-1] == result.status.steps
    assert result.status.reason == "converged"
    assert np.all(np.isfinite(values))
