"""Shuffled batches of streams: what an epoch holds, shares, and going on from any state."""

import json
import sys
from collections import Counter

import numpy as np
import pytest

from veil.data import Data, Stream, stream, write
from veil.data.formats import shuffling

pytest.importorskip("grain")

ROWS = 203  # prime to all batch sizes here


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """Several windows an epoch, of several chunks each."""
    monkeypatch.setattr(shuffling, "CHUNKS", (2, 5))


def table(first: int, count: int) -> dict[str, np.ndarray]:
    """Rows that can be told apart, and evidence and weight that belong to them."""
    number = np.arange(first, first + count, dtype=np.float64)
    return {"a": number, "b": number**2, "w": number / 100}


KINDS = ["csv", "parquet", "npy", "npz", "npz-compressed", "npz-roles", "function", "one-file"]


def make(folder, kind: str) -> Stream:
    """ROWS data in four files (or one, or none)."""
    if kind == "function":
        whole = table(0, ROWS)
        data = Data(whole["a"], evidence=whole["b"], weight=whole["w"])
        return Stream(lambda: data.blocks(20))
    if kind == "one-file":
        write(folder / "t.parquet", table(0, ROWS))
        return stream(folder / "t.parquet", "a", "b", "w")
    first = 0
    for shard, count in enumerate((60, 1, 100, 42)):
        part = table(first, count)
        if kind == "npz-compressed":
            np.savez_compressed(folder / f"{shard}.npz", **part)
        elif kind == "npz-roles":
            np.savez(folder / f"{shard}.npz", query=part["a"], evidence=part["b"], weight=part["w"])
        else:
            write(folder / f"{shard}.{kind}", part)
        first += count
    if kind == "npz-roles":
        return stream(folder)
    return stream(folder, *(("column0", "column1", "column2") if kind == "npy" else ("a", "b", "w")))


def first_column(batches, count: int) -> np.ndarray:
    return np.concatenate([next(batches).query[:, 0] for _ in range(count)])


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_once_an_epoch(tmp_path, kind):
    made = make(tmp_path, kind)
    batches = made.batches(10, seed=3)
    found = [next(batches) for _ in range(2 * ROWS // 10 + 1)]
    for batch in found:
        assert len(batch) == 10
        np.testing.assert_allclose(batch.evidence, batch.query**2, rtol=1e-6)  # rows stay together
        np.testing.assert_allclose(batch.weight, batch.query[:, 0] / 100, rtol=1e-6)
    numbers = np.concatenate([batch.query[:, 0] for batch in found])
    one, two = numbers[:ROWS], numbers[ROWS : 2 * ROWS]
    for epoch in (one, two):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(ROWS))
        assert np.any(np.diff(epoch[:20]) < 0)
    assert np.any(one != two)
    again = make(tmp_path, kind).batches(10, seed=3)
    np.testing.assert_array_equal(first_column(again, len(found)), numbers)
    other = make(tmp_path, kind).batches(10, seed=4)
    assert np.any(first_column(other, 3) != numbers[:30])
    for each in (batches, again, other):
        each.close()


@pytest.mark.parametrize("kind", KINDS)
def test_going_on_from_any_state(tmp_path, kind):
    made = make(tmp_path, kind)
    size, steps = 7, 75  # two and a half epochs
    batches = made.batches(size, seed=11)
    states, found = [batches.state()], []
    for _ in range(steps):
        found.append(next(batches).fields())
        states.append(batches.state())
    rng = np.random.default_rng(0)
    for position in [0, 1, steps - 3, *rng.integers(0, steps - 2, 9)]:
        state = json.loads(json.dumps(states[position]))
        resumed = make(tmp_path, kind).batches(size, seed=11, state=state)
        assert resumed.state() == states[position]
        for step in range(position, min(position + 12, steps)):
            fields = next(resumed).fields()
            assert fields.keys() == found[step].keys()
            for name, array in fields.items():
                np.testing.assert_array_equal(array, found[step][name], strict=True)
            assert resumed.state() == states[step + 1]
        resumed.close()


def test_the_state_does_not_count_what_was_read_ahead(tmp_path):
    made = make(tmp_path, "npy")
    batches = made.batches(5, seed=0)
    assert (batches.state()["window"], batches.state()["row"]) == (0, 0)
    next(batches)
    assert (batches.state()["window"], batches.state()["row"]) == (0, 5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("processes", [2, 3])
def test_shares(tmp_path, kind, processes):
    made = make(tmp_path, kind)
    shares = [made.share(process, processes) for process in range(processes)]
    passed = [np.concatenate([block.query[:, 0] for block in share]) for share in shares]
    np.testing.assert_array_equal(np.sort(np.concatenate(passed)), np.arange(ROWS))
    assert min(len(each) for each in passed) > 0
    for share, rows, process in zip(shares, passed, range(processes), strict=True):
        assert share.count in (None, len(rows))
        assert share.query_names == made.query_names
        batches = made.batches(len(rows), seed=5, process=process, processes=processes)
        for _ in range(2):  # two epochs of exactly one batch each
            np.testing.assert_array_equal(np.sort(next(batches).query[:, 0]), np.sort(rows))
        batches.close()


def test_one_process_has_all(tmp_path):
    made = make(tmp_path, "npy")
    assert made.share(0, 1) is made


def test_rows_are_mixed_across_chunks_and_evenly(monkeypatch):
    """Where a row comes within an epoch: over many seeds its mean is the middle, for first and last rows alike."""
    monkeypatch.setattr(shuffling, "CHUNKS", (2, 16))
    data = Data(np.arange(192.0))
    places, near = [], Counter()
    for seed in range(60):
        windows = shuffling.chunk_windows(lambda chunk: data[3 * chunk : 3 * chunk + 3], [3] * 64, 1, (seed,))
        batches = shuffling.Batches(windows, 192, (seed,), {}, None)
        order = next(batches).query[:, 0].astype(int)
        batches.close()
        places.append(np.argsort(order))
        near.update(order[:-1] // 3 == order[1:] // 3)  # neighbours from one chunk of three rows
    mean = np.mean(places, axis=0)
    assert abs(mean[:20].mean() - 95.5) < 6  # one place has standard deviation 55.4, 1200 of them together 1.6
    assert abs(mean[-20:].mean() - 95.5) < 6
    # in windows of 48 rows a neighbour has the same chunk with probability 2 / 47, unshuffled 2 / 3
    assert near[True] / near.total() == pytest.approx(2 / 47, abs=0.012)


def test_map_keeps_random_access(tmp_path):
    made = make(tmp_path, "parquet").map(Data.joint)
    batches = made.batches(ROWS, seed=0)
    batch = next(batches)
    assert batch.query_names == ("b", "a")
    np.testing.assert_array_equal(np.sort(batch.query[:, 1]), np.arange(ROWS))
    assert batches.state()["rows"] == ROWS
    batches.close()


def test_missing_entries(tmp_path):
    values = np.arange(60.0).reshape(30, 2)
    values[4, 1] = np.nan
    np.save(tmp_path / "a.npy", values)
    batches = stream(tmp_path / "a.npy").batches(3, seed=0)
    masked = 0
    for _ in range(10):
        batch = next(batches)
        if batch.observed is not None:
            masked += 1
            row = np.flatnonzero(~batch.observed[:, 1])
            np.testing.assert_array_equal(batch.query[row, 0], [8])
    assert masked == 1
    batches.close()


def test_batches_larger_than_the_data(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(4.0))
    batches = stream(tmp_path / "a.npy").batches(10, seed=0)
    found = next(batches).query[:, 0]
    for epoch in (found[:4], found[4:8]):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(4))
    batches.close()


def test_refused(tmp_path):
    made = make(tmp_path, "npy")
    with pytest.raises(ValueError, match="batch_size must be a positive integer"):
        made.batches(0, seed=0)
    with pytest.raises(ValueError, match="seed must be an integer that is not negative; got -1"):
        made.batches(1, seed=-1)
    for arguments in ({"process": 2, "processes": 2}, {"process": -1, "processes": 2}, {"process": 0, "processes": 0}):
        with pytest.raises(ValueError, match="process must be a number from 0 to processes - 1"):
            made.batches(1, seed=0, **arguments)
        with pytest.raises(ValueError, match="process must be a number from 0 to processes - 1"):
            made.share(**arguments)
    with pytest.raises(ValueError, match=r"52 chunks, which cannot be shared by 1000 processes.*row_group_size"):
        made.share(0, 1000)
    state = made.batches(1, seed=0).state()
    with pytest.raises(ValueError, match="it was made with seed 0, and here it is 1"):
        made.batches(1, seed=1, state=state)
    with pytest.raises(ValueError, match="it was made with processes 1, and here it is 2"):
        made.batches(1, seed=0, processes=2, state=state)
    with pytest.raises(ValueError, match="it has no 'window'"):
        made.batches(1, seed=0, state={"epoch": 3})
    np.save(tmp_path / "0.npy", np.zeros((58, 3)))
    with pytest.raises(ValueError, match="it was made with rows 203, and here it is 201"):
        stream(tmp_path).batches(1, seed=0, state=state)


def test_chunks_that_are_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr("veil.data.formats.files.LARGEST", 10)
    np.savez_compressed(tmp_path / "a.npz", query=np.arange(11.0))
    made = stream(tmp_path)
    assert sum(len(block) for block in made) == 11  # in order it can be read
    with pytest.raises(ValueError, match=r"a\.npz can be read on its own only in pieces of 11 rows.*row groups"):
        made.batches(1, seed=0)


def test_written_parquet_has_row_groups(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write(tmp_path / "small.parquet", {"a": np.arange(160.0)})
    write(tmp_path / "large.parquet", {"a": np.zeros((300_000, 64), np.float32)})
    groups = [parquet.ParquetFile(tmp_path / f"{name}.parquet").metadata for name in ("small", "large")]
    assert [(each.num_row_groups, each.row_group(0).num_rows) for each in groups] == [(16, 10), (19, 16384)]


def test_without_grain(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ModuleNotFoundError, match=r"need grain; install it with: pip install 'veil\[scale\]'"):
        make(tmp_path, "npy").batches(1, seed=0)
    assert len(next(make(tmp_path, "function").batches(2, seed=0))) == 2
