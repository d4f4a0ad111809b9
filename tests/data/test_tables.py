import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from veil.data import Data, DataWarning, Stream, read, stream, write

NAN = float("nan")


def refuses(kind: type[Exception], *words: str):
    """The error has the words, in this order."""
    return pytest.raises(kind, match="(?s)" + ".*".join(re.escape(word) for word in words))


def same(ours: Data, other: Data) -> None:
    assert ours.query_names == other.query_names
    assert ours.evidence_names == other.evidence_names
    assert list(ours.fields()) == list(other.fields())
    for field, array in ours.fields().items():
        assert array.dtype == other.fields()[field].dtype
        np.testing.assert_array_equal(array, other.fields()[field])


def whole(source: Stream) -> Data:
    """A stream's data at once."""
    blocks = list(source)
    assert {len(block) for block in blocks[:-1]} <= {source.rows}
    fields = [field for field in blocks[0].fields() if field != "observed"]
    arrays = {field: np.concatenate([getattr(block, field) for block in blocks]) for field in fields}
    if any(block.observed is not None for block in blocks):
        masks = [np.ones(block.query.shape, bool) if block.observed is None else block.observed for block in blocks]
        arrays["observed"] = np.concatenate(masks)
    names = {"query_names": source.query_names, "evidence_names": source.evidence_names, "name": source.name}
    return Data(**{**arrays, **names})


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=40_000) for name in "abcd"}
    columns["c"][[3, 39_999]] = NAN
    columns["d"] = np.abs(columns["d"])
    return columns


class TestRoundTrips:
    @pytest.mark.parametrize("ending", ["csv", "parquet", "npz"])
    @pytest.mark.parametrize(
        "roles",
        [
            {},
            {"query": ["c", "a"]},
            {"evidence": "b"},
            {"query": "c", "evidence": ["b", "a"], "weight": "d"},
            {"weight": 3},
        ],
    )
    def test_files_with_names(self, tmp_path, table, ending, roles):
        path = tmp_path / f"numbers.{ending}"
        write(path, table)
        data = read(path, **roles)
        query = [roles["query"]] if isinstance(roles.get("query"), str) else roles.get("query")
        used = {*roles.get("evidence", ()), *({"d"} if "weight" in roles else ())}
        query = query or [name for name in table if name not in used]
        np.testing.assert_array_equal(
            np.where(data.observed, data.query, NAN), np.stack([table[name] for name in query], axis=1)
        )
        assert data.query_names == tuple(query)
        assert data.name == "numbers"
        if roles.get("evidence"):
            np.testing.assert_array_equal(data.evidence, np.stack([table[n] for n in roles["evidence"]], axis=1))
        if roles.get("weight"):
            np.testing.assert_array_equal(data.weight, table["d"])
        # 40,000 rows are several chunks of the file and are not a multiple of the block
        same(whole(stream(path, **roles, rows=7_000)), data)

    @pytest.mark.parametrize("ending", ["npy", "npz"])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_arrays_without_names(self, tmp_path, table, ending, order):
        array = np.asarray(np.stack(list(table.values()), axis=1), order=order)
        path = tmp_path / f"numbers.{ending}"
        np.save(path, array) if ending == "npy" else np.savez(path, array)
        data = read(path, query=[2, "0"], evidence=1)
        assert data.query_names == ("column2", "column0")
        assert data.evidence_names == ("column1",)
        np.testing.assert_array_equal(data.query[:, 1], table["a"])
        same(whole(stream(path, query=[2, "0"], evidence=1, rows=7_000)), data)
        if ending == "npz":
            np.savez_compressed(path, array)
            same(read(path, query=[2, "0"], evidence=1), data)
            if order == "F":
                with refuses(ValueError, "Fortran order", "ascontiguousarray"):
                    stream(path)

    def test_write_npy(self, tmp_path):
        write(tmp_path / "a.npy", {"a": [1, 2], "b": np.array([[3.0, 4.0], [5.0, 6.0]])})
        np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), [[1, 3, 4], [2, 5, 6]])
        assert read(tmp_path / "a.npy").query_names == ("column0", "column1", "column2")

    @pytest.mark.parametrize("ending", ["npy", "npz"])
    def test_images(self, tmp_path, ending):
        images = np.random.default_rng(0).integers(0, 256, (9000, 4, 5)).astype(np.uint8)
        path = tmp_path / f"images.{ending}"
        np.save(path, images) if ending == "npy" else np.savez_compressed(path, images)
        data = read(path)
        assert (data.query_shape, data.query.dtype) == ((4, 5), np.float32)
        np.testing.assert_array_equal(data.query, images)
        same(whole(stream(path, rows=1000)), data)
        with refuses(ValueError, "evidence", "more than two axes", "npz"):
            read(path, evidence=0)

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_arrays_by_role(self, tmp_path, table, save):
        path = tmp_path / "roles.npz"
        query = np.stack([table["a"], table["c"]], axis=1)
        fields = {"evidence": table["b"], "weight": table["d"], "observed": query > -1, "index": np.arange(len(query))}
        save(path, query=query, **fields)
        data = read(path)
        same(data, Data(query, **fields))
        same(whole(stream(path, rows=7_000)), data)
        same(read(path, query="y0", evidence="x0"), data.select("y0", "x0"))
        same(whole(stream(path, query="y0", evidence="x0", rows=7_000)), data.select("y0", "x0"))
        with refuses(ValueError, "weight", "by role", "named weight"):
            read(path, weight="x0")

    def test_columns_of_an_array(self, tmp_path):
        write(tmp_path / "a.npz", {"a": np.arange(2.0), "b": np.arange(4.0).reshape(2, 2)})
        assert read(tmp_path / "a.npz").query_names == ("a", "b0", "b1")

    def test_every_digit_of_a_csv(self, tmp_path):
        for dtype in (np.float64, np.float32):
            array = (np.random.default_rng(0).normal(size=1000) * 10.0 ** np.arange(-30, 30).repeat(17)[:1000]).astype(
                dtype
            )
            write(tmp_path / "a.csv", {"a": array})
            np.testing.assert_array_equal(read(tmp_path / "a.csv").query[:, 0].astype(dtype), array)

    def test_other_columns_in_a_csv(self, tmp_path):
        write(
            tmp_path / "a.csv",
            {"yes": np.array([True, False]), "text, quoted": np.array(['a "b"', "c,d"]), "n": [1, -2]},
        )
        assert (tmp_path / "a.csv").read_text() == 'yes,"text, quoted",n\n1,"a ""b""",1\n0,"c,d",-2\n'
        np.testing.assert_array_equal(read(tmp_path / "a.csv", query=["yes", "n"]).query, [[1, 1], [0, -2]])

    def test_a_lone_missing_cell(self, tmp_path):
        write(tmp_path / "a.csv", {"a": [1.0, NAN, 3.0]})
        np.testing.assert_array_equal(read(tmp_path / "a.csv").observed[:, 0], [True, False, True])


class TestParquet:
    def test_types(self, tmp_path):
        half = pa.array(np.array([1, 2], np.float16))
        columns = {"half": half, "yes": [True, None], "small": pa.array([1, None], pa.int16()), "none": [None, None]}
        pq.write_table(pa.table({**columns, "label": ["u", "v"]}), tmp_path / "a.parquet")
        data = read(tmp_path / "a.parquet", query=list(columns))
        assert data.query.dtype == np.float32
        np.testing.assert_array_equal(data.query, [[1, 1, 1, 0], [2, 0, 0, 0]])
        np.testing.assert_array_equal(data.observed, [[1, 1, 1, 0], [1, 0, 0, 0]])
        pq.write_table(pa.table({**columns, "large": [1, 2**60 + 1]}), tmp_path / "a.parquet")
        assert read(tmp_path / "a.parquet").query.dtype == np.float64

    def test_names_with_dots(self, tmp_path):
        pq.write_table(pa.table({"a.b": [1.0], "a": [2.0]}), tmp_path / "a.parquet")
        np.testing.assert_array_equal(read(tmp_path / "a.parquet", query=["a", "a.b"]).query, [[2, 1]])

    def test_text(self, tmp_path):
        pq.write_table(pa.table({"a": [1.0, 2.0], "b": [None, "x"]}), tmp_path / "a.parquet")
        with pytest.warns(DataWarning, match=r"a.parquet: left out what is not numeric: b\."):
            assert read(tmp_path / "a.parquet").query_names == ("a",)
        with refuses(ValueError, "'b' holds string", "row 1", "'x'"):
            read(tmp_path / "a.parquet", query="b")

    def test_bad_files(self, tmp_path):
        (tmp_path / "a.parquet").write_text("a,b\n1,2\n")
        with refuses(ValueError, "is not a readable Parquet file"):
            read(tmp_path / "a.parquet")
        pq.write_table(pa.table({"a": pa.array([], pa.float64())}), tmp_path / "a.parquet")
        with refuses(ValueError, "0 rows and 1 columns"):
            read(tmp_path / "a.parquet")

    def test_without_pyarrow(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        (tmp_path / "a.parquet").touch()
        with refuses(ModuleNotFoundError, "pip install 'veil[tables]'"):
            read(tmp_path / "a.parquet")
        with refuses(ModuleNotFoundError, "pip install 'veil[tables]'"):
            write(tmp_path / "b.parquet", {"a": [1.0]})
        assert not list(tmp_path.glob("*b.parquet*"))


def csv(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "t.csv"
    path.write_text(text, encoding)
    return path


class TestCsv:
    def test_missing_cells(self, tmp_path):
        data = read(csv(tmp_path, "a,b\n,NA\nNaN,nan\nnull, 1.5 \nn/a,-2e3\n7,0\n"))
        np.testing.assert_array_equal(data.observed, [[0, 0], [0, 0], [0, 1], [0, 1], [1, 1]])
        np.testing.assert_array_equal(data.query, [[0, 0], [0, 0], [0, 1.5], [0, -2000], [7, 0]])

    def test_quotes_blank_lines_and_byte_order_mark(self, tmp_path):
        data = read(csv(tmp_path, '"a","b, with ""quotes"""\n\n"1",2\n\n3,"4"\n', "utf-8-sig"))
        assert data.query_names == ("a", 'b, with "quotes"')
        np.testing.assert_array_equal(data.query, [[1, 2], [3, 4]])

    def test_without_a_header(self, tmp_path):
        data = read(csv(tmp_path, "5.1,3.5\n4.9,\n"))
        assert data.query_names == ("column0", "column1")
        assert len(data) == 2
        assert read(tmp_path / "t.csv", query="1").query_names == ("column1",)

    def test_ambiguous_headers(self, tmp_path):
        with refuses(ValueError, "cannot tell whether the first row is a header", "'setosa'", "'5.1'"):
            read(csv(tmp_path, "5.1,setosa\n4.9,setosa\n"))
        with refuses(ValueError, "the first row counts 0, 1, 2"):
            read(csv(tmp_path, "0,1,2\n4.9,3,2\n"))
        with refuses(ValueError, "two columns named 'a'"):
            read(csv(tmp_path, "a,a\n1,2\n"))
        with refuses(ValueError, "not separated by commas", "'a;b'"):
            read(csv(tmp_path, "a;b\n1;2\n"))

    def test_text_columns(self, tmp_path):
        path = csv(tmp_path, "a,kind,b,place\n1,,2,x\n3,u,4,y\n")
        for verb in (read, stream):
            with pytest.warns(DataWarning, match=r"t.csv: left out what is not numeric: kind, place\."):
                assert verb(path).query_names == ("a", "b")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read(path, query=["a", "b"]).query_names == ("a", "b")
        with refuses(ValueError, "line 2: column 'place'", "'x' is not a number", "naming the query"):
            read(path, evidence="a")
        with refuses(ValueError, "no numeric column"):
            read(csv(tmp_path, "a,b\nx,y\n"))

    @pytest.mark.parametrize("cell", ["12;5", "?", "1_000", "0x10"])
    def test_a_typing_error_is_not_skipped(self, tmp_path, cell):
        with refuses(ValueError, "t.csv, line 4: column 'b'", repr(cell)):
            read(csv(tmp_path, f"a,b\n1,2\n3,4\n5,{cell}\n"))

    def test_lines_are_right_after_quoted_line_breaks(self, tmp_path):
        with refuses(ValueError, "line 5"):
            read(csv(tmp_path, 'a,b\n1,"x\ny"\n\n?,z\n'), query="a")

    def test_errors_in_later_blocks(self, tmp_path, monkeypatch):
        monkeypatch.setattr("veil.data.formats.delimited.BLOCK", 1 << 16)
        lines = [f"{i},{i}\n" for i in range(50_000)]
        lines[45_000] = "1,oops\n"
        path = csv(tmp_path, "a,b\n" + "".join(lines))
        blocks = iter(stream(path, rows=1000))
        assert len(next(blocks)) == 1000
        with refuses(ValueError, "line 45002: column 'b'", "'oops'"):
            list(blocks)
        lines[45_000] = "1,inf\n"
        path = csv(tmp_path, "a,b\n" + "".join(lines))
        for verb in (read, lambda path: list(stream(path))):
            with refuses(ValueError, "query must be finite", "'b', row 45000"):
                verb(path)
        with refuses(ValueError, "evidence must be complete", "'b', row 45000"):
            list(stream(path, evidence="b"))

    def test_bad_files(self, tmp_path):
        with refuses(ValueError, "line 3", "3 cells", "2. The first row is a, b"):
            read(csv(tmp_path, "a,b\n1,2\n1,2,3\n"))
        with refuses(ValueError, "is empty"):
            read(csv(tmp_path, "\n"))
        with refuses(ValueError, "no rows of data"):
            read(csv(tmp_path, "a,b\n"))
        with refuses(ValueError, "not UTF-8 text"):
            read(csv(tmp_path, "größe\n1\n", "latin-1"))


class TestRefused:
    def test_paths(self, tmp_path):
        with refuses(FileNotFoundError, "path: there is no file", "none.csv"):
            read(tmp_path / "none.csv")
        with refuses(
            ValueError, "path must end in .csv, .tsv, .csv.gz, .tsv.gz, .parquet, .feather, .npy, .npz", "'a.xlsx'"
        ):
            read(tmp_path / "a.xlsx")

    def test_columns(self, tmp_path):
        path = csv(tmp_path, "Height,weight,age\n1,2,3\n")
        with refuses(
            ValueError, "query", "no column 'heigth'", "did you mean 'Height'? Available: Height, weight, age"
        ):
            read(path, query="heigth")
        with refuses(ValueError, "evidence", "no column 3", "3 columns, counted from 0"):
            stream(path, evidence=3)
        with refuses(ValueError, "weight", "no column 'w'"):
            read(path, weight="w")
        with refuses(ValueError, "'age' is both weight and evidence"):
            read(path, evidence="age", weight="age")
        with refuses(ValueError, "'age' is in both query and evidence"):
            read(path, query=["age", "weight"], evidence="age")
        with refuses(ValueError, "no column is left"):
            read(path, evidence=[0, 1, 2])

    def test_missing_weight(self, tmp_path):
        for verb in (read, lambda *a, **k: list(stream(*a, **k))):
            with refuses(ValueError, "weight must be finite", "row 1"):
                verb(csv(tmp_path, "a,w\n1,2\n3,\n"), weight="w")

    def test_python_objects(self, tmp_path):
        objects = np.array([{"a": 1}], dtype=object)
        np.save(tmp_path / "a.npy", objects, allow_pickle=True)
        np.savez(tmp_path / "a.npz", query=objects)
        for verb in (read, stream):
            with refuses(ValueError, "a.npy", "never loaded"):
                verb(tmp_path / "a.npy")
            with refuses(ValueError, "a.npz", "'query' holds Python objects", "never loaded"):
                verb(tmp_path / "a.npz")

    def test_numpy_files(self, tmp_path):
        for name in ("a.npy", "a.npz"):
            (tmp_path / name).write_text("1,2")
            with refuses(ValueError, name, "is not a"):
                read(tmp_path / name)
        np.save(tmp_path / "b.npy", np.zeros((0, 3)))
        with refuses(ValueError, "positive number of rows", "[0, 3]"):
            read(tmp_path / "b.npy")
        np.savez(tmp_path / "b.npz", a=np.zeros(3), b=np.zeros(2))
        with refuses(ValueError, "same, positive number of rows", "a [3], b [2]"):
            read(tmp_path / "b.npz")
        np.savez(tmp_path / "b.npz", a=np.zeros(3), b=np.zeros((3, 4, 5)))
        with refuses(ValueError, "'b' has shape [3, 4, 5]", "query"):
            read(tmp_path / "b.npz")
        np.savez_compressed(tmp_path / "b.npz", query=np.asfortranarray(np.ones((3, 4))))
        with refuses(ValueError, "Fortran order", "ascontiguousarray"):
            stream(tmp_path / "b.npz")
        assert len(read(tmp_path / "b.npz")) == 3


class TestWrite:
    def test_refused(self, tmp_path):
        with refuses(ValueError, "path must end in", "'a.txt'"):
            write(tmp_path / "a.txt", {"a": [1]})
        with refuses(FileNotFoundError, "the folder", "does not exist"):
            write(tmp_path / "no" / "a.csv", {"a": [1]})
        with refuses(ValueError, "at least one column"):
            write(tmp_path / "a.csv", {})
        with refuses(ValueError, "same number of rows", "a has 1, b has 2"):
            write(tmp_path / "a.csv", {"a": [1], "b": [1, 2]})
        with refuses(ValueError, "'a' has shape (1, 2, 3)"):
            write(tmp_path / "a.csv", {"a": np.zeros((1, 2, 3))})
        with refuses(ValueError, "'a' is a single value"):
            write(tmp_path / "a.csv", {"a": 1.0})
        with refuses(ValueError, "two columns named 'a0'"):
            write(tmp_path / "a.csv", {"a": np.zeros((1, 1)), "a0": [1]})
        with refuses(TypeError, "'a' holds Python objects"):
            write(tmp_path / "a.npz", {"a": np.array([None])})
        assert not list(tmp_path.iterdir())

    def test_a_failure_leaves_what_was_there(self, tmp_path):
        write(tmp_path / "a.npy", {"a": [1.0]})
        with refuses(TypeError, "'a' holds <U1"):
            write(tmp_path / "a.npy", {"a": np.array(["x"])})
        assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]
        assert read(tmp_path / "a.npy").query[0, 0] == 1.0


PASS = """
import sys
from pathlib import Path
from veil.data import stream

def peak():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024

for path in sys.argv[1:]:
    total = sum(block.query.shape[0] for block in stream(path, rows=8192))
    print(total, peak())
"""

SHUFFLED = """
from veil.data.core import chunks
from veil.data.formats import shuffling
chunks.CHUNK, shuffling.WINDOW = chunks.CHUNK // 8, shuffling.WINDOW // 8
for path in sys.argv[1:]:
    made = stream(path)
    batches, total = made.batches(512, seed=0), 0
    while total < made.count:
        total += len(next(batches))
    batches.close()
    print(total, peak())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of the memory from /proc")
@pytest.mark.parametrize("ending", ["npy", "npz", "parquet", "csv"])
def test_memory_does_not_grow_with_the_file(tmp_path, ending):
    """A pass over a small file pays for imports, pools and buffers; one over 100 MB must add almost nothing."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{size}.{ending}" for size in ("small", "large")]
    rows = (100_000, 1_300_000)
    if ending == "csv":  # 16 MB: a CSV is slow to write
        rows = (20_000, 80_000)
    for path, count in zip(paths, rows, strict=True):
        columns = {f"c{i}": column for i, column in enumerate(rng.normal(size=(10, count)))}
        if ending == "npz":
            np.savez(path, query=np.stack(list(columns.values()), axis=1))
        else:
            write(path, columns)
    assert paths[1].stat().st_size > (15e6 if ending == "csv" else 100e6)
    command = [sys.executable, "-c", PASS, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    small, large = (line.split() for line in done.stdout.splitlines())
    assert (int(small[0]), int(large[0])) == rows
    assert float(large[1]) - float(small[1]) < (10 if ending == "csv" else 40), "MB"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of the memory from /proc")
@pytest.mark.parametrize("ending", ["npy", "npz", "parquet"])
def test_memory_of_shuffled_batches_does_not_grow_with_the_data(tmp_path, ending):
    """Windows an eighth of the usual size: the smaller data hold three of them, the larger twenty times as many."""
    pytest.importorskip("grain")
    rng = np.random.default_rng(0)
    paths = [tmp_path / "small", tmp_path / "large"]
    rows = 25_000
    part = rng.normal(size=(rows, 8)).astype(np.float32)
    for path, files in zip(paths, (8, 160), strict=True):
        path.mkdir()
        first = path / f"0.{ending}"
        write(first, {"query": part} if ending == "npz" else {f"c{i}": part[:, i] for i in range(8)})
        for number in range(1, files):
            (path / f"{number}.{ending}").hardlink_to(first)  # many files for the disk space of one
    script = PASS[: PASS.index("for path")] + SHUFFLED
    done = subprocess.run([sys.executable, "-c", script, *map(str, paths)], capture_output=True, text=True, check=True)
    small, large = (line.split() for line in done.stdout.splitlines())
    assert [int(small[0]) // rows, int(large[0]) // rows] == [8, 160]
    assert float(large[1]) - float(small[1]) < 25  # MB; the larger data have 120 MB more
