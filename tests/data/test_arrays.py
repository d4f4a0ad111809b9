import re
from dataclasses import FrozenInstanceError

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from veil.data import Data

NAN = float("nan")


def refuses(kind: type[Exception], *words: str):
    """The error has the words, in this order."""
    return pytest.raises(kind, match="(?s)" + ".*".join(re.escape(word) for word in words))


def rows(count: int, width: int = 2) -> np.ndarray:
    return np.arange(float(count * width)).reshape(count, width)


class TestWhatIsAccepted:
    def test_a_vector_becomes_a_column(self):
        data = Data([1.0, 2.0, 3.0], evidence=[4, 5, 6])
        assert data.query.shape == data.evidence.shape == (3, 1)
        assert (data.query_shape, data.evidence_shape, len(data)) == ((1,), (1,), 3)
        assert (data.query_names, data.evidence_names) == (("y0",), ("x0",))
        assert data.observed is None
        assert list(data.fields()) == ["query", "evidence"]

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("float64", "float64"),
            ("float32", "float32"),
            ("float16", "float32"),
            ("int64", "float64"),
            ("int32", "float64"),
            ("uint8", "float32"),
            ("int16", "float32"),
            ("bool", "float32"),
            (">f8", "float64"),
        ],
    )
    def test_numbers_become_floats(self, given, kept):
        query = Data(np.array([[0, 1], [1, 1]], given)).query
        assert query.dtype == np.dtype(kept)
        np.testing.assert_array_equal(query, [[0, 1], [1, 1]])

    def test_float_arrays_are_shared(self):
        array = rows(3)
        assert Data(array).query is array

    def test_jax_arrays(self):
        data = Data(jnp.ones((3, 2)), evidence=jnp.arange(3), weight=jnp.ones(3), observed=jnp.ones((3, 2), bool))
        assert all(type(array) is np.ndarray for array in data.fields().values())
        assert data.query.dtype == np.float32
        assert Data(jnp.ones(2, jnp.bfloat16)).query.dtype == np.float32

    def test_frames_bring_their_names(self):
        frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3, 4], "c": [True, False]})
        data = Data(frame[["a", "b"]], evidence=frame["c"], weight=pd.Series([1.0, 2.0]))
        assert (data.query_names, data.evidence_names) == (("a", "b"), ("c",))
        np.testing.assert_array_equal(data.query, [[1, 3], [2, 4]])
        np.testing.assert_array_equal(data.evidence, [[1], [0]])
        assert data.total_weight == 3.0

    def test_names_that_are_given_win(self):
        assert Data(pd.DataFrame({"a": [1.0]}), query_names=("z",)).query_names == ("z",)

    def test_nullable_frames_have_missing_entries(self):
        frame = pd.DataFrame(
            {"a": pd.array([1, None], "Int64"), "b": [0.5, NAN], "c": pd.Series([None, 2], dtype=object)}
        )
        data = Data(frame)
        np.testing.assert_array_equal(data.observed, [[True, True, False], [False, False, True]])
        np.testing.assert_array_equal(data.query, [[1, 0.5, 0], [0, 0, 2]])

    def test_arrow_tables(self):
        data = Data(pa.table({"a": pa.array([1, None]), "b": [1.5, 2.5]}))
        assert data.query_names == ("a", "b")
        np.testing.assert_array_equal(data.observed, [[True, True], [False, True]])

    def test_more_axes(self):
        data = Data(np.zeros((4, 3, 2)), evidence=np.zeros((4, 5, 6)))
        assert (data.query_shape, data.evidence_shape, data.query_names) == ((3, 2), (5, 6), ("y0", "y1"))
        assert repr(data) == "Data('data': N=4, query [3, 2], evidence [5, 6])"

    def test_it_is_frozen(self):
        with pytest.raises(FrozenInstanceError):
            Data([1.0]).name = "other"


class TestMissing:
    def test_nan_is_marked_and_filled(self):
        given = np.array([[1, NAN], [3, 4]])
        data = Data(given)
        np.testing.assert_array_equal(data.query, [[1, 0], [3, 4]])
        np.testing.assert_array_equal(data.observed, [[True, False], [True, True]])
        assert np.isnan(given[0, 1]), "the caller's array stays as it was"

    def test_a_mask_is_combined_and_hides_anything(self):
        data = Data([[1, NAN], [np.inf, 4]], observed=[[1, 1], [0, 1]])
        np.testing.assert_array_equal(data.observed, [[True, False], [False, True]])
        np.testing.assert_array_equal(data.query, [[1, 0], [0, 4]])

    def test_a_mask_that_excludes_nothing_is_dropped(self):
        assert Data(rows(3), observed=np.ones((3, 2), bool)).observed is None

    def test_a_vector_of_a_mask(self):
        np.testing.assert_array_equal(Data([1.0, 2.0], observed=[True, False]).observed, [[True], [False]])

    def test_sums_that_overflow_are_not_taken_for_infinite(self):
        assert Data(np.full((4, 1), 1e308)).observed is None

    def test_subsets_keep_the_mask(self):
        data = Data([[1.0], [NAN]])
        np.testing.assert_array_equal(data[:1].observed, [[True]])
        assert [block.observed is not None for block in data.blocks(1)] == [True, True]

    def test_repr(self):
        assert repr(Data([[1.0, NAN]], name="holes")) == "Data('holes': N=1, query (y0, y1), 1 of 2 entries missing)"


class TestRefused:
    def test_infinite_query(self):
        frame = pd.DataFrame({"a": [1.0, 2.0], "b": [0.0, -np.inf]})
        with refuses(ValueError, "query must be finite", "'b'", "row 1", "-inf", "NaN"):
            Data(frame)

    @pytest.mark.parametrize("bad", [NAN, np.inf])
    def test_incomplete_evidence(self, bad):
        with refuses(ValueError, "evidence must be complete", "'x1', row 2", str(bad), "jointly"):
            Data(rows(3), evidence=[[0, 0], [0, 0], [0, bad]])

    @pytest.mark.parametrize("field", ["evidence", "weight", "observed", "index"])
    def test_lengths(self, field):
        with refuses(ValueError, f"query and {field}", "query has 3", f"{field} has 2"):
            Data(rows(3), **{field: np.ones(2, int)})

    @pytest.mark.parametrize("empty", [[], np.zeros((0, 3)), np.zeros((3, 0)), pd.DataFrame()])
    def test_empty(self, empty):
        with refuses(ValueError, "query must have at least one"):
            Data(empty)

    def test_single_value(self):
        with refuses(ValueError, "query must have one row per datum", "3.0"):
            Data(3.0)

    def test_ragged(self):
        with refuses(ValueError, "query must be a rectangular array"):
            Data([[1.0, 2.0], [3.0]])

    def test_nothing_observed(self):
        with refuses(ValueError, "query must have at least one observed entry"):
            Data([NAN, NAN])

    def test_text(self):
        with refuses(TypeError, "query must hold real numbers", "b, row 1", "'large'", "encode"):
            Data(pd.DataFrame({"a": [1, 2], "b": pd.Series([1.0, "large"], dtype=object)}))
        with refuses(TypeError, "query must hold real numbers"):
            Data(np.array(["a", "b"]))

    def test_complex_and_dates(self):
        with refuses(TypeError, "query must hold real numbers", "complex128"):
            Data(np.ones(3, complex))
        with refuses(TypeError, "evidence column 'when' must hold real numbers", "datetime64"):
            Data([1.0], evidence=pd.DataFrame({"when": pd.to_datetime(["2020-01-01"])}))

    @pytest.mark.parametrize("bad", [-1.0, NAN, np.inf])
    def test_weight_values(self, bad):
        with refuses(ValueError, "weight must be finite and not negative", "row 1", str(bad)):
            Data(rows(2), weight=[1.0, bad])

    def test_weight_sum_and_shape(self):
        with refuses(ValueError, "weight must have a positive sum"):
            Data(rows(2), weight=[0, 0])
        with refuses(ValueError, "weight must have shape [N]", "(2, 2)"):
            Data(rows(2), weight=rows(2))

    def test_observed(self):
        with refuses(ValueError, "observed must have the shape of query, (2, 2)", "(2, 1)"):
            Data(rows(2), observed=[True, False])
        with refuses(ValueError, "observed must hold True"):
            Data(rows(2), observed=[[0.5, 1], [1, 1]])

    def test_index(self):
        with refuses(TypeError, "index must hold integers", "float64"):
            Data(rows(2), index=[0.0, 1.0])
        with refuses(ValueError, "index must not be negative", "-1"):
            Data(rows(2), index=[0, -1])

    def test_names(self):
        with refuses(ValueError, "query_names must name the 2 columns", "got 1", "'a'"):
            Data(rows(2), query_names=("a",))
        with refuses(ValueError, "evidence_names must differ", "'a' comes twice"):
            Data([1.0], evidence=[[1, 2]], evidence_names=("a", "a"))
        with refuses(ValueError, "evidence_names", "without evidence"):
            Data([1.0], evidence_names=("a",))


class TestRows:
    data = Data(
        [[0, 1], [2, NAN], [4, 5], [6, 7]], evidence=[0, 1, 2, 3], weight=[0.0, 1.0, 2.0, 3.0], index=[10, 11, 12, 13]
    )

    @pytest.mark.parametrize(
        ("rows", "expected"),
        [
            (slice(1, 3), [1, 2]),
            (slice(None, None, -1), [3, 2, 1, 0]),
            ([3, 0, 0], [3, 0, 0]),
            (np.array([-1]), [3]),
            (2, [2]),
            (np.array([True, False, True, False]), [0, 2]),
        ],
    )
    def test_indexing_takes_all_fields(self, rows, expected):
        part = self.data[rows]
        for name, array in self.data.fields().items():
            np.testing.assert_array_equal(getattr(part, name), array[expected])
        assert part.query_names == self.data.query_names

    def test_zero_weights_may_be_selected(self):
        assert self.data[:1].total_weight == 0.0

    def test_bad_rows(self):
        with refuses(IndexError, "row 4 is out of range", "4 rows"):
            self.data[[0, 4]]
        with refuses(IndexError, "mask", "(4,)", "(2,)"):
            self.data[np.array([True, False])]
        with refuses(IndexError, "float64"):
            self.data[[0.5]]
        with refuses(IndexError, "1-D", "(1, 1)"):
            self.data[[[0]]]
        with refuses(ValueError, "data[5:]", "none of the 4 rows"):
            self.data[5:]
        with refuses(ValueError, "none of the 4 rows"):
            self.data[[]]

    def test_blocks(self):
        blocks = list(self.data.blocks(3))
        assert [len(block) for block in blocks] == [3, 1]
        np.testing.assert_array_equal(np.concatenate([block.index for block in blocks]), self.data.index)
        with refuses(ValueError, "rows must be a positive integer", "0"):
            self.data.blocks(0)

    def test_split(self):
        first, second = self.data.split(0.5, np.random.default_rng(1))
        assert sorted([*first.index, *second.index]) == [10, 11, 12, 13]
        assert list(first.index) == sorted(first.index)
        again, _ = self.data.split(0.5, np.random.default_rng(1))
        np.testing.assert_array_equal(first.index, again.index)
        assert [len(part) for part in self.data.split(0.999, np.random.default_rng(0))] == [3, 1]
        for fraction in (0.0, 1.0, 80):
            with refuses(ValueError, "fraction must be strictly between 0 and 1", str(fraction)):
                self.data.split(float(fraction), np.random.default_rng(0))
        with refuses(ValueError, "at least 2 data"):
            Data([1.0]).split(0.5, np.random.default_rng(0))


class TestRoles:
    data = Data([[1, 2], [3, 4]], evidence=[5, 6], weight=[1, 2], query_names=("a", "b"), evidence_names=("c",))

    def test_joint_puts_evidence_first(self):
        joint = self.data.joint()
        assert (joint.query_names, joint.evidence) == (("c", "a", "b"), None)
        np.testing.assert_array_equal(joint.query, [[5, 1, 2], [6, 3, 4]])
        np.testing.assert_array_equal(joint.weight, [1, 2])
        assert joint.joint() is joint

    def test_select_by_name_and_position(self):
        part = self.data.select(["b"], ["a", 0])
        assert (part.query_names, part.evidence_names) == (("b",), ("a", "c"))
        np.testing.assert_array_equal(part.query, [[2], [4]])
        np.testing.assert_array_equal(part.evidence, [[1, 5], [3, 6]])
        np.testing.assert_array_equal(part.weight, [1, 2])

    def test_the_query_is_the_rest(self):
        assert self.data.select(evidence="b").query_names == ("c", "a")
        assert self.data.select().query_names == ("c", "a", "b")

    def test_unchanged_arrays_are_shared(self):
        part = self.data.select(("a", "b"), ("c",))
        assert part.query is self.data.query
        assert part.evidence is self.data.evidence
        assert self.data.select(("a", "b")).evidence is None

    def test_missing_entries_move_along(self):
        data = Data([[1, NAN], [3, 4]], evidence=[5, 6])
        np.testing.assert_array_equal(data.joint().observed, [[True, True, False], [True, True, True]])
        np.testing.assert_array_equal(data.select(["y1", "x0"]).observed, [[False, True], [True, True]])
        with refuses(ValueError, "evidence must be complete", "'y1', row 0", "jointly"):
            data.select("y0", "y1")

    def test_refused(self):
        with refuses(ValueError, "query", "no column 'd'", "available: c, a, b"):
            self.data.select("d")
        with refuses(ValueError, "evidence", "no column 7", "3 columns"):
            self.data.select("a", 7)
        with refuses(ValueError, "'a' is in both query and evidence"):
            self.data.select("a", "a")
        with refuses(ValueError, "'a' is named twice"):
            self.data.select(["a", 1])
        with refuses(ValueError, "no column is left"):
            self.data.select(evidence=["a", "b", "c"])
        with refuses(ValueError, "columns need a query of shape [N, columns]", "(2, 3, 4)"):
            Data(np.zeros((2, 3, 4))).select("y0")
        with refuses(ValueError, "both have a column named 'a'"):
            Data([1.0], evidence=[2.0], query_names=("a",), evidence_names=("a",)).joint()


class TestMemoryMapped:
    @pytest.fixture
    def mapped(self, tmp_path):
        array = rows(6).astype(np.float16)
        array[4, 1] = NAN
        np.save(tmp_path / "a.npy", array)
        return np.load(tmp_path / "a.npy", mmap_mode="r")

    def test_nothing_is_read_at_first(self, mapped):
        data = Data(mapped, weight=np.arange(6.0))
        assert isinstance(data.query, np.memmap)
        assert np.shares_memory(data.query, mapped)
        assert data.observed is None
        assert (data.mapped, data[1:].mapped, data[[1]].mapped) == (True, True, False)
        assert repr(data).endswith("memory-mapped)")

    def test_a_vector_stays_mapped(self, tmp_path):
        np.save(tmp_path / "v.npy", np.arange(3.0))
        data = Data(np.load(tmp_path / "v.npy", mmap_mode="r"))
        assert isinstance(data.query, np.memmap)
        assert data.query.shape == (3, 1)

    def test_what_is_read_is_checked(self, mapped):
        data = Data(mapped, weight=np.arange(6.0))
        blocks = list(data.blocks(4))
        assert [type(block.query) for block in blocks] == [np.ndarray, np.ndarray]
        assert [block.query.dtype for block in blocks] == [np.float32, np.float32]
        assert blocks[0].observed is None
        np.testing.assert_array_equal(blocks[1].observed, [[True, False], [True, True]])
        assert data[[0]].total_weight == 0.0
        for part in (data[[4, 0]], data.select(["y1"])[[4, 0]], data.fields()):
            observed = part["observed"] if isinstance(part, dict) else part.observed
            assert not observed.all()

    def test_errors_count_rows_of_the_whole(self, tmp_path):
        array = rows(6)
        array[4, 1] = np.inf
        np.save(tmp_path / "b.npy", array)
        data = Data(np.load(tmp_path / "b.npy", mmap_mode="r"))
        with refuses(ValueError, "'y1', row 4"):
            list(data.blocks(3))
        with refuses(ValueError, "evidence must be complete", "row 4"):
            list(Data(rows(6), evidence=np.load(tmp_path / "b.npy", mmap_mode="r")).blocks(3))

    def test_joint_is_read_and_checked(self, mapped):
        joint = Data(mapped, evidence=np.arange(6.0)).joint()
        assert not joint.mapped
        assert not joint.observed[4, 2]

    def test_text_is_refused_at_once(self, tmp_path):
        np.save(tmp_path / "t.npy", np.array(["a", "b"]))
        with refuses(TypeError, "query must hold real numbers"):
            Data(np.load(tmp_path / "t.npy", mmap_mode="r"))
