"""What cannot be read: refused with its place, or skipped, counted and named; files that vanish or change."""

import gzip
import os
import re
import warnings

import numpy as np
import pytest

from veil.data import BadRecords, Data, DataWarning, Stream, read, stream, write
from veil.data.formats.delimited import DelimitedTable

NAN, INF = float("nan"), float("inf")


def csv(folder, lines: dict[int, str] | None = None, count: int = 100):
    """Rows i, 2 i from line 2 on, some of them replaced."""
    text = [f"{i},{2 * i}" for i in range(count)]
    for line, cells in (lines or {}).items():
        text[line - 2] = cells
    path = folder / "t.csv"
    path.write_text("\n".join(["a,b", *text, ""]), encoding="utf-8")
    return path


def skipped(made: Stream) -> tuple[np.ndarray, str]:
    """The query of a pass, and what is said at its end."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = np.concatenate([block.query for block in made])
    texts = [str(each.message) for each in caught if each.category is DataWarning]
    assert len(texts) <= 1
    return rows, "".join(texts)


def epoch(made: Stream, rows: int) -> np.ndarray:
    """The rows of an epoch in shuffled batches, sorted."""
    batches = made.batches(rows, seed=0)
    found = next(batches).query
    batches.close()
    return found[np.argsort(found[:, 0])]


class TestCsv:
    LINES = {5: "1,2,3", 40: "x,1", 41: "", 60: "58,inf", 80: "78"}  # noqa: RUF012

    def test_skip(self, tmp_path):
        made = stream(csv(tmp_path, self.LINES), bad="skip")
        rows, said = skipped(made)
        expected = np.array([[i, 2 * i] for i in range(100) if i + 2 not in self.LINES])
        np.testing.assert_array_equal(rows, expected)
        path = tmp_path / "t.csv"
        assert made.bad == BadRecords(
            4,  # a blank line is no record
            (
                f"{path}, line 5: 3 cells in place of 2",
                f"{path}, line 40: column 'a': 'x' is not a number",
                f"{path}, line 60: query is infinite",
                f"{path}, line 80: 1 cells in place of 2",
            ),
        )
        assert said.startswith("t: 4 records could not be read and were skipped")
        assert "line 60: query is infinite" in said
        assert skipped(made) == (pytest.approx(rows), "")  # said once
        assert made.bad.count == 4
        np.testing.assert_array_equal(epoch(made, 95), expected)
        assert made.count is None

    def test_a_warning_at_the_end_of_an_epoch(self, tmp_path):
        pytest.importorskip("grain")
        batches = stream(csv(tmp_path, self.LINES), bad="skip").batches(95, seed=1)
        next(batches)
        with pytest.warns(DataWarning, match="4 records"):
            next(batches)
        next(batches)
        batches.close()

    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            ({50: "1,2,3"}, r"t.csv, line 50: 3 cells in place of 2\."),
            ({40: "x,1"}, "t.csv, line 40: column 'a': 'x' is not a number"),
            ({60: "58,inf"}, r"t.csv(, rows 5\d to \d+)?: query must be finite; column 'b', row 58 \(from 0\) is inf"),
        ],
    )
    def test_refuse(self, tmp_path, monkeypatch, lines, message):
        pytest.importorskip("grain")
        monkeypatch.setattr("veil.data.formats.delimited.BLOCK", 200)  # the first part of a pass is good
        made = stream(csv(tmp_path, lines))
        batches = made.batches(100, seed=0)
        with pytest.raises(ValueError, match=message):
            next(batches)
        with pytest.raises(ValueError, match=message):
            list(made)

    def test_text_that_is_not_utf8(self, tmp_path):
        path = tmp_path / "t.csv"
        path.write_bytes(b"a,b\n1,2\n3,\xff\n5,6\n")
        with pytest.raises(ValueError, match="not UTF-8 text"):
            list(stream(path))
        made = stream(path, bad="skip")
        np.testing.assert_array_equal(skipped(made)[0], [[1, 2], [5, 6]])
        assert made.bad.first == (f"{path}, line 3: column 'b': '\\udcff' is not a number",)

    def test_a_quote_that_is_never_closed(self, tmp_path):
        text = "".join(f"{i},{i}\n" for i in range(40_000))
        path = tmp_path / "t.csv"
        path.write_text('a,b\n1,2\n3,4\n5,"6\n' + text)
        made = stream(path, bad="skip")
        rows, said = skipped(made)
        np.testing.assert_array_equal(rows, [[1, 2], [3, 4]])
        assert made.bad.count == 1
        assert "nothing after it was read" in said

    def test_quoted_line_breaks_blank_lines_and_a_byte_order_mark(self, tmp_path):
        pytest.importorskip("grain")
        path = tmp_path / "t.csv"
        lines = [f'{i},"line\nbreak",{2 * i}\r\n' + "\n" * (i % 3) for i in range(50)]
        path.write_text("\ufeffa,text,b\n\n" + "".join(lines), encoding="utf-8", newline="")
        made = stream(path, ["a", "b"])
        expected = np.array([[i, 2 * i] for i in range(50)])
        np.testing.assert_array_equal(epoch(made, 50), expected)
        shares = [np.concatenate([block.query for block in made.share(i, 3)]) for i in range(3)]
        np.testing.assert_array_equal(np.sort(np.concatenate(shares), axis=0), expected)

    @pytest.mark.parametrize("gap", ["", "\n\r\n"])
    def test_the_index_finds_every_row(self, tmp_path, gap):
        path = tmp_path / "t.csv"
        path.write_text(
            f"{gap}a,b\n" + "".join(f"{i},{2 * i}\n{gap if i % 7 == 3 else ''}" for i in range(1000)), newline=""
        )
        table, text = DelimitedTable(path), path.read_bytes()
        assert (table.rows(), table.broken) == (1000, "")
        ranges = list(table.ranges(1))
        for start, stop in ranges:
            np.testing.assert_array_equal(table.load(start, stop, [0, 1]), [[i, 2 * i] for i in range(start, stop)])
        for place, line, row in table._places:
            assert text[:place].count(b"\n") + 1 == line
            assert text[place:].count(b",") == 1000 - row
        assert 50 < len(ranges) < 80
        assert stop == 1000


def shards(folder, ending: str, broken: int = 1) -> list[np.ndarray]:
    """Three files of 30 rows, one of which is cut off; the values in them."""
    parts = []
    for shard in range(3):
        values = np.arange(30.0)[:, None] + 100 * shard + np.array([0, 0.5])
        path = folder / f"{shard}.{ending}"
        write(path, {"a": values[:, 0], "b": values[:, 1]})
        if shard == broken:
            os.truncate(path, path.stat().st_size // 2)
        parts.append(values)
    return parts


@pytest.mark.parametrize("ending", ["npy", "npz", "parquet"])
def test_a_file_that_is_cut_off(tmp_path, ending):
    pytest.importorskip("grain")
    parts = shards(tmp_path, ending)
    with pytest.raises(ValueError, match=rf"1\.{ending}"):
        stream(tmp_path)
    made = stream(tmp_path, bad="skip")
    rows, said = skipped(made)
    np.testing.assert_array_equal(rows, np.concatenate([parts[0], parts[2]]))
    assert made.bad.count == 1
    assert str(tmp_path / f"1.{ending}") in made.bad.first[0]
    assert "1 records could not be read" in said
    np.testing.assert_array_equal(epoch(made, 60), rows)


@pytest.mark.parametrize("ending", ["npy", "npz", "parquet", "feather", "csv.gz"])
def test_changed_bits_are_told_with_the_file(tmp_path, ending):
    """Whatever a decoder says; bits that no format checks give as many rows."""
    path, values = tmp_path / f"t.{ending}", np.random.default_rng(0).normal(size=60)
    if ending == "npz":
        np.savez_compressed(path, query=values)
    elif ending == "feather":
        pytest.importorskip("pyarrow.feather").write_feather(pytest.importorskip("pyarrow").table({"a": values}), path)
    elif ending == "csv.gz":
        path.write_bytes(gzip.compress("\n".join(["a", *map(str, values)]).encode()))
    else:
        write(path, {"a": values})
    content, refused = path.read_bytes(), 0
    for place in range(0, len(content), max(1, len(content) // 150)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x44]) + content[place + 1 :])
        words = ""
        try:
            rows = len(read(path))
        except ValueError as error:
            rows, words, refused = 60, str(error), refused + 1
        assert rows == 60
        assert "\n" not in words
        assert not words or str(path) in words or words.startswith("query")
    assert refused > 5


def test_no_file_can_be_read(tmp_path):
    shards(tmp_path, "npy")
    with pytest.raises(ValueError, match=r"none of the 1 files can be read: .*1\.npy"):
        stream([tmp_path / "1.npy"], bad="skip")


def test_a_broken_row_group(tmp_path):
    pytest.importorskip("grain")
    parquet = pytest.importorskip("pyarrow.parquet")
    values = np.random.default_rng(0).normal(size=(400, 1))
    path = tmp_path / "a.parquet"
    write(path, {"a": values[:, 0]})
    middle = parquet.ParquetFile(path).metadata.row_group(8).column(0)
    with path.open("r+b") as file:  # the header of a page
        file.seek(middle.dictionary_page_offset or middle.data_page_offset)
        file.write(b"\xff" * 20)
    with pytest.raises(ValueError, match=r"a\.parquet"):
        list(stream(path))
    made = stream(path, bad="skip")
    rows, said = skipped(made)
    np.testing.assert_array_equal(rows, np.delete(values, np.s_[200:225], axis=0))
    assert made.bad.count == 25
    assert f"{path}, rows 200 to 224" in said


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"query": np.ones((3, 4))}, "the arrays query [4]; the first file"),
        ({"query": np.ones((3, 2)), "weight": np.ones(3)}, "the arrays query [2], weight []"),
        ({"a": np.ones(3), "b": np.ones(3)}, ""),
    ],
)
def test_other_shapes(tmp_path, other, message):
    np.savez(tmp_path / "0.npz", query=np.ones((5, 2)))
    np.savez(tmp_path / "1.npz", **other)
    with pytest.raises(ValueError, match=r"1\.npz.*" + re.escape(message)):
        stream(tmp_path)
    made = stream(tmp_path, bad="skip")
    assert len(skipped(made)[0]) == 5
    assert made.bad.count == 1


def test_other_columns_and_columns_in_another_order(tmp_path):
    write(tmp_path / "0.parquet", {"a": [1.0], "b": [2.0]})
    write(tmp_path / "1.parquet", {"b": [4.0], "a": [3.0]})
    block = next(iter(stream(tmp_path, "a", "b")))
    assert (block.query.ravel().tolist(), block.evidence.ravel().tolist()) == ([1, 3], [2, 4])
    write(tmp_path / "2.parquet", {"b": [4.0], "c": [3.0]})
    with pytest.raises(ValueError, match=r"2\.parquet has 2 columns \(b, c\); the first file.*2 columns \(a, b\)"):
        stream(tmp_path, "a", "b")


def test_another_dtype(tmp_path):
    np.save(tmp_path / "0.npy", np.ones((4, 2)))
    np.save(tmp_path / "1.npy", np.array([["x", "y"]]))
    with pytest.raises(ValueError, match=r"1\.npy: query must hold real numbers; got <U1"):
        list(stream(tmp_path))
    made = stream(tmp_path, bad="skip")
    assert len(skipped(made)[0]) == 4
    assert made.bad == BadRecords(1, (f"{tmp_path / '1.npy'}, rows 0 to 0: query must hold real numbers; got <U1",))


def test_rows_that_data_may_not_have(tmp_path):
    query = np.arange(20.0).reshape(10, 2)
    evidence, weight = np.ones((10, 1)), np.ones(10)
    query[1, 0], query[2, 1], evidence[3], weight[4], weight[5] = INF, NAN, NAN, -1, INF
    np.savez(tmp_path / "a.npz", query=query, evidence=evidence, weight=weight)
    made = stream(tmp_path / "a.npz", bad="skip")
    with pytest.warns(DataWarning, match="4 records"):
        (block,) = made
    np.testing.assert_array_equal(block.query[:, 0], query[[0, 2, 6, 7, 8, 9], 0])
    assert not block.observed[1, 1]  # a missing entry is not a bad record
    reasons = [re.sub(r".*npz, ", "", each) for each in made.bad.first]
    assert reasons == [
        "row 1: query is infinite",
        "row 3: evidence is not finite",
        "row 4: weight is not finite or negative",
        "row 5: weight is not finite or negative",
    ]


def test_all_rows_are_bad(tmp_path):
    np.save(tmp_path / "a.npy", np.full((10, 2), INF))
    with pytest.warns(DataWarning, match="10 records"), pytest.raises(ValueError, match="gave no data"):
        stream(tmp_path / "a.npy", bad="skip")


def test_policy(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(ValueError, match=r"bad must be 'refuse'.*got 'ignore'"):
        stream(tmp_path / "a.npy", bad="ignore")
    assert stream(tmp_path / "a.npy").bad == BadRecords(0, ())
    assert Stream(lambda: [Data([1.0])]).bad == BadRecords(0, ())


class TestVanished:
    @pytest.mark.parametrize("bad", ["refuse", "skip"])
    @pytest.mark.parametrize("ending", ["npy", "npz", "parquet", "csv"])
    def test_between_passes_and_batches(self, tmp_path, ending, bad):
        pytest.importorskip("grain")
        parts = shards(tmp_path, ending, broken=-1)
        made = stream(tmp_path, bad=bad)
        batches = made.batches(10, seed=0)
        next(batches)
        state = batches.state()
        path = tmp_path / f"1.{ending}"
        path.rename(tmp_path / "away")
        message = rf"1\.{ending} was there when the stream was made, and is gone.*can be resumed"
        with pytest.raises(FileNotFoundError, match=message):
            list(made)
        fresh = made.batches(90, seed=0)
        with pytest.raises(FileNotFoundError, match=message):
            next(fresh)
        assert fresh.state()["row"] == 0
        (tmp_path / "away").rename(path)  # the same file again: the same iterator goes on, or one from the state
        np.testing.assert_array_equal(np.sort(next(fresh).query[:, 0]), np.concatenate(parts)[:, 0])
        resumed = made.batches(10, seed=0, state=state)
        np.testing.assert_array_equal(next(resumed).query, next(batches).query)
        for each in (batches, fresh, resumed):
            each.close()

    def test_during_a_pass(self, tmp_path):
        values = np.arange(400_000.0)
        np.save(tmp_path / "a.npy", values)
        blocks = iter(stream(tmp_path / "a.npy", rows=1000))
        next(blocks)
        (tmp_path / "a.npy").unlink()
        with pytest.raises(FileNotFoundError, match=r"a\.npy was there when the stream was made"):
            list(blocks)

    def test_changed(self, tmp_path):
        np.save(tmp_path / "a.npy", np.ones(10))
        made = {bad: stream(tmp_path / "a.npy", bad=bad) for bad in ("refuse", "skip")}
        np.save(tmp_path / "a.npy", np.ones(11))
        for each in made.values():
            with pytest.raises(OSError, match=r"a\.npy has changed since the stream was made.*resume"):
                list(each)
