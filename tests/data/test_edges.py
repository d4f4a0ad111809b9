"""What tables and arrays mean at their edges: row indices, truth values, ids, times, masks, tensors, names."""

import gzip
import re
import warnings
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import scipy.sparse

import veil
from veil.data import Data, DataWarning, Stream, episodes, grouped, read, stream
from veil.learning.preprocessing import known_values

NAN = float("nan")
A, B = 864691135341199281, 864691135341199290  # one float


def made(folder: Path, content, name: str = "t.csv") -> Path:
    path = folder / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(content.encode()))
    elif name.endswith("sv"):
        path.write_text(content, newline="")
    elif name.endswith("npz"):
        np.savez(path, **content)
    else:
        (feather.write_feather if name.endswith("feather") else pq.write_table)(pa.table(content), path)
    return path


@pytest.mark.parametrize(
    ("name", "content", "left"),
    [
        ("t.csv", ",a,b\n0,1,2\n1,3,4\n", "column0"),
        ("t.csv", '"","a","b"\n"1",1,2\n"2",3,4\n', "column0"),
        ("t.csv", "Unnamed: 0.1,Unnamed: 0,a,b\n0,0,1,2\n1,1,3,4\n", r"Unnamed: 0\.1, Unnamed: 0"),
        ("t.csv", "a,b,\n1,2,\n3,4,\n", "column2"),
        ("t.tsv", "\ta\tb\r\nx\t1\t2\r\ny\t3\t4\r\n", "column0"),
        ("t.csv.gz", ",a,b\n0,1,2\n1,3,4", "column0"),
        ("t.parquet", {"a": [1, 3], "b": [2.0, 4.0], "__index_level_0__": [5, 6]}, "__index_level_0__"),
        ("t.parquet", {"": [5, 6], "a": [1, 3], "b": [2.0, 4.0]}, "''"),
        ("t.npz", {"Unnamed: 0": [0, 1], "a": [1, 3], "b": [2.0, 4.0]}, "Unnamed: 0"),
        ("t.feather", {"Unnamed: 0": [0, 1], "a": [1, 3], "b": [2.0, 4.0]}, "Unnamed: 0"),
    ],
)
def test_the_row_index_is_left_out_with_a_word(tmp_path, name, content, left):
    path = made(tmp_path, content, name)
    for verb in (read, lambda path: next(iter(stream(path)))):
        with pytest.warns(DataWarning, match=f"left out what is a row index or empty: {left}"):
            data = verb(path)
        assert (data.query_names, data.name) == (("a", "b"), "t")
        np.testing.assert_array_equal(data.query, [[1, 2], [3, 4]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(path, query=["a", "b"]).query_names == ("a", "b")


def test_frames_and_arrow_tables_leave_it_out_as_well():
    frame = pd.DataFrame({"Unnamed: 0": [0, 1], "a": [1.0, 2.0]})
    for given in (frame, pa.table(frame)):
        with pytest.warns(DataWarning, match="row index: 'Unnamed: 0'"):
            assert Data(given).query_names == ("a",)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet", "t.feather"])
def test_truth_values_are_alike(tmp_path, name):
    if name.endswith("sv"):
        content = "yes,y\nTRUE,1.5\nfalse,2\n,3\nTrue,4\n".replace(",", "," if name == "t.csv" else "\t")
    else:
        content = {"yes": [True, False, None, True], "y": [1.5, 2.0, 3.0, 4.0]}
    data = read(made(tmp_path, content, name))
    np.testing.assert_array_equal(np.where(data.observed, data.query, NAN), [[1, 1.5], [0, 2], [NAN, 3], [1, 4]])
    assert read(tmp_path / name, "yes").query.dtype == np.float32


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b,c\n1,2,3,\n4,5,6,\n", "line 2: 4 cells in place of 3.*the end of a row"),
        ("# made by a logger\na,b\n1,2\n3,4\n", "line 2: 2 cells in place of 1.*comment lines"),
        ("a,b\n1,2,3\n4,5,6\n", "line 2: 3 cells in place of 2"),
        ("a,b\n1,2\n\n3\n", "line 4: 1 cells in place of 2"),
        (",0\n0,1.5\n1,2.5\n", "the first row counts"),  # an index, and a column that nobody named
        ("yes\ntrue\n0.5\n", "line 3: column 'yes': '0.5' is not true or false"),
        ("a,a\n1,2\n", "two columns named 'a'"),
        ('a,b\n1,"2\n3,4\n', "line 2: a quoted cell is never closed"),
    ],
)
def test_messages_are_true(tmp_path, content, words):
    with pytest.raises(ValueError, match=f"(?s)t.csv.*{words}"):
        read(made(tmp_path, content))


def test_a_packed_file_that_is_cut_off(tmp_path):
    whole = made(tmp_path, "a\n" + "1\n" * 1000, "t.csv.gz")
    assert len(read(whole)) == 1000
    whole.write_bytes(whole.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"t.csv.gz is not a whole .gz file"):
        read(whole)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (f"{A},0,1\n{A},1,2\n{B},0,3\n", [[1, 2], [3, 0]]),
        ("99999999999999999999999,0,1\n99999999999999999999998,0,2\n", [[1], [2]]),  # beyond 64 bits
        ("18446744073709551615,0,1\n18446744073709551614,0,2\n", [[1], [2]]),
        ("b,1382016600011617672,2\nb,1382016600011617669,1\n", [[1, 2]]),  # nanoseconds
        ("b,2026-01-01T00:00Z,2\nb,2026-01-01T00:30+02:00,1\n", [[1, 2]]),
        ("b,9999-12-31,3\nb,1066-10-14,1\nb,2026-01-01 00:00:00.000000001,2\n", [[1, 2, 3]]),
    ],
)
def test_ids_and_times_stay_exact(tmp_path, rows, expected):
    data = read(made(tmp_path, "who,when,y\n" + rows), query="y", episode="who", time="when")
    assert data.query[..., 0].tolist() == expected


def test_time_alone_orders_one_sequence(tmp_path):
    path = made(tmp_path, "when,y\n2,20\n1,10\n10,30\n")
    assert read(path, query="y", time="when").query.ravel().tolist() == [10, 20, 30]
    assert grouped(Data([2.0, 1.0]), time=["10", "9"]).query.ravel().tolist() == [1, 2]


DATES = np.array(["2026-01-03", "NaT", "2026-01-01"], "M8[s]")


@pytest.mark.parametrize(
    "missing",
    [
        DATES,
        pd.Series(DATES),
        pd.Series(DATES).dt.tz_localize("UTC"),
        pa.array(DATES),
        ["a", None, "b"],
        ["a", NAN, "b"],
        [1, pd.NA, 2],
        np.array([1.0, NAN, 2.0]),
        np.ma.masked_array([1, 2, 3], mask=[0, 1, 0]),
        pd.array([1, None, 2], "Int64"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_missing_name_or_time_is_refused(missing):
    rows = Data([3.0, 99.0, 1.0])
    for arguments in ((missing,), (None, missing)):
        with pytest.raises(ValueError, match=r"must be known for every row; in row 1"):
            grouped(rows, *arguments)


def test_masks_of_masked_arrays():
    hole = np.ma.masked_array([[1.0], [1e4]], mask=[[0], [1]])
    for given in (hole, [hole[0], hole[1]], hole.astype(np.int32)):
        data = Data(given)
        np.testing.assert_array_equal(data.observed, [[True], [False]])
        np.testing.assert_array_equal(data.query, [[1], [0]])
    np.testing.assert_array_equal(episodes([hole]).observed[0], [[True], [False]])
    assert Data({"a": hole}).observed["a"].tolist() == [[True], [False]]
    assert type(Data(np.ma.masked_array([1.0, 2.0])).query) is np.ndarray
    for field, word in (("evidence", "complete"), ("weight", "finite"), ("observed", "mask hides"), ("index", "mask")):
        with pytest.raises(ValueError, match=f"{field} must .*{word}"):
            Data([1.0, 2.0], **{field: np.ma.masked_array([1, 1], mask=[0, 1])})


def test_matrices_are_arrays():
    matrix = lambda values: np.array(values).view(np.matrix)  # noqa: E731
    data = Data(matrix([[1.0, 2.0], [3.0, 4.0]]), evidence=matrix([[1], [2]]), weight=matrix([[1.0], [3.0]]))
    assert [type(field) for field in (data.query, data.evidence, data.weight)] == [np.ndarray] * 3
    assert data.weight.tolist() == [1, 3]


def test_padding_is_nothing_observed():
    with pytest.raises(ValueError, match="query must have at least one observed entry"):
        episodes([[NAN, NAN], [NAN]])


class Tensor:
    """What matters of torch's: numpy refuses it while it has a gradient."""

    def __init__(self, value, gradient=True):
        self.value, self.gradient = np.asarray(value), gradient
        self.ndim = self.value.ndim

    def __array__(self, dtype=None, copy=None):
        if self.gradient:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        return self.value

    def detach(self):
        return Tensor(self.value, False)

    def cpu(self):
        return self


def test_tensors():
    batch = [Tensor(np.ones((4, 2))), Tensor(np.arange(4.0))]
    data = Data(batch[0], evidence=batch[1])
    assert (data.query.shape, data.evidence.ravel().tolist()) == ((4, 2), [0, 1, 2, 3])
    assert len(next(iter(Stream(lambda: (Data(*each) for each in [batch, batch]), rows=8)))) == 8
    for given in (batch, batch[:1]):
        with pytest.raises(TypeError, match=r"list of tensors, as a batch of a PyTorch DataLoader"):
            Data(given)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: Data(scipy.sparse.eye(3).tocsr()), TypeError, "query is a sparse matrix.*query.toarray()"),
        (lambda: Data([1.0], scipy.sparse.coo_array([[1.0]])), TypeError, "evidence is a sparse matrix"),
        (lambda: Data(iter([1.0])), ValueError, "Batches that come one after the other make a veil.data.Stream"),
        (lambda: Data(pd.DataFrame([[1.0, 2.0]], columns=["a", "a"])), ValueError, "two columns named 'a'"),
    ],
)
def test_what_is_no_array(make, kind, words):
    with pytest.raises(kind, match=words):
        make()


def test_frames_go_together_by_position_only_with_the_same_index():
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [4.0, 5.0, 6.0]})
    some = frame[frame.a > 1]
    assert len(Data(some[["a"]], some[["b"]], weight=some.b)) == 2
    assert len(Data(some[["a"]], frame[["b"]][:2].to_numpy())) == 2
    for other in ({"evidence": frame[["b"]][:2]}, {"weight": frame.b[:2]}, {"evidence": {"b": frame.b[:2]}}):
        with pytest.raises(ValueError, match=r"frames with different indices.*\.loc\[query\.index\]"):
            Data(some[["a"]], **other)


def test_what_stands_in_for_a_missing_entry_comes_from_its_own_column():
    data = Data([[3.7, NAN, NAN], [1.2, 0.5, NAN], [0.1, 0.7, NAN]])
    np.testing.assert_array_equal(known_values(data)[:, :2], [[3.7, 0.5], [1.2, 0.5], [0.1, 0.7]])
    assert np.isin(known_values(data)[:, 2], data.query[:, 0]).all()


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.normal(size=60), "smoker": rng.random(60) < 0.3})
    frame["weight"] = 2 * frame.age - 5 * frame.smoker + rng.normal(size=60)
    frame["height"] = frame.weight + rng.normal(size=60)
    data = Data(frame[["weight", "height"]], frame[["age", "smoker"]])
    return frame, data, veil.fit(veil.density(veil.LinearGaussian()), data, key=jax.random.key(0), progress=False)


class TestColumnsByName:
    def test_order_is_mended(self, fitted, tmp_path):
        frame, data, fit = fitted
        assert (fit.query_names, fit.evidence_names) == (("weight", "height"), ("age", "smoker"))
        mean, scores = veil.predict(fit, frame[["age", "smoker"]]).mean, veil.log_prob(fit, data)
        swapped = Data(frame[["height", "weight"]], frame[["smoker", "age"]])
        again = veil.load(veil.save(tmp_path, fit))
        blocks = Stream(lambda: swapped.blocks(30))
        for model in (fit, fit.model, again, again.model):
            for evidence in (frame[["smoker", "age"]], frame, pa.table(frame), data.evidence):
                np.testing.assert_array_equal(veil.predict(model, evidence).mean, mean)
            for given in (swapped, blocks, frame, frame[frame.columns[::-1]]):
                np.testing.assert_allclose(veil.log_prob(model, given), scores, rtol=1e-6)
        holes = Data(np.where([[True, False]], NAN, swapped.query), swapped.evidence, query_names=swapped.query_names)
        holes = Data(holes.query, frame[["age", "smoker"]], observed=holes.observed, query_names=holes.query_names)
        mirrored = Data(holes.query[:, ::-1], holes.evidence, observed=holes.observed[:, ::-1])
        np.testing.assert_allclose(veil.log_prob(fit, holes), veil.log_prob(fit, mirrored), rtol=1e-6)

    @pytest.mark.parametrize(
        ("columns", "words"),
        [
            ((["weight", "age"], ["age", "smoker"]), "query: the model was fitted .* no 'height'"),
            ((["weight", "height"], ["age", "height"]), "evidence: the model was fitted .* no 'smoker'"),
        ],
    )
    def test_absence_is_refused(self, fitted, columns, words):
        frame, _, fit = fitted
        query, evidence = columns
        with pytest.raises(ValueError, match=words):
            veil.log_prob(fit.model, Data(frame[query], frame[evidence]))
        if "smoker" in words:
            with pytest.raises(ValueError, match=words):
                veil.predict(fit, frame[evidence])

    def test_arrays_go_by_position(self, fitted):
        _, data, fit = fitted
        plain = Data(data.query, data.evidence)
        np.testing.assert_array_equal(veil.log_prob(fit, plain), veil.log_prob(fit, data))
        assert re.fullmatch("y0 y1", " ".join(plain.query_names))
