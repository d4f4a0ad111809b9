"""Sequences in files: padded, one after the other, and as tables with a column of episodes. All are the same data."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from veil.data import Data, episodes, grouped, read, stream

LENGTHS = (3, 1, 4)
NAMES = ("b", "a", "c")  # in order of appearance, which is not that of the alphabet


def parts() -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    query = [rng.normal(size=(length, 2)) for length in LENGTHS]
    query[2][1, 0] = np.nan
    return query, [rng.normal(size=(length, 1)) for length in LENGTHS]


def same(found: Data, weight: bool = False) -> None:
    expected = episodes(*parts(), weight=[1.0, 2.0, 3.0] if weight else None)
    for field in ("query", "evidence", "observed", "mask", "weight"):
        one, other = getattr(found, field), getattr(expected, field)
        assert (one is None) == (other is None), field
        np.testing.assert_array_equal(one, other, err_msg=field)


def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All steps mixed up: query, evidence, episode, time, weight."""
    query, evidence = map(np.concatenate, parts())
    names = np.repeat(NAMES, LENGTHS)
    time = np.concatenate([np.arange(length) for length in LENGTHS])
    order = np.array([2, 3, 5, 0, 7, 1, 4, 6])  # b comes first, then a, then c
    weight = np.repeat([1.0, 2.0, 3.0], LENGTHS)
    return query[order], evidence[order], names[order], time[order], weight[order]


def test_arrays_of_lengths_or_episodes(tmp_path: Path) -> None:
    query, evidence = map(np.concatenate, parts())
    np.savez(tmp_path / "l.npz", query=query, evidence=evidence, lengths=LENGTHS, weight=[1.0, 2.0, 3.0])
    same(read(tmp_path / "l.npz"), weight=True)
    y, x, name, time, weight = rows()
    np.savez(tmp_path / "e.npz", query=y, evidence=x, episode=name, time=time, weight=weight)
    same(read(tmp_path / "e.npz"), weight=True)
    chosen = read(tmp_path / "e.npz", "y1", "x0")
    np.testing.assert_array_equal(chosen.query, read(tmp_path / "e.npz").query[..., 1:])
    # images are steps as well
    np.savez(tmp_path / "i.npz", query=np.ones((3, 4, 5)), lengths=[1, 2])
    assert read(tmp_path / "i.npz").query_shape == (2, 4, 5)


@pytest.mark.parametrize("kind", ["text", "number"])
@pytest.mark.parametrize("ending", [".csv", ".parquet", ".npz"])
def test_tables_with_episodes(tmp_path: Path, ending: str, kind: str) -> None:
    if (ending, kind) == (".npz", "text"):
        pytest.skip("columns of an .npz are numbers")
    y, x, name, time, weight = rows()
    ids = name if kind == "text" else np.array([NAMES.index(each) * 10 - 3 for each in name])
    columns = {"a": y[:, 0], "b": y[:, 1], "u": x[:, 0], "w": weight, "trial": ids, "t": time}
    path = tmp_path / f"data{ending}"
    if ending == ".npz":
        np.savez(path, **columns)
    elif ending == ".csv":
        cells = [[("" if each != each else str(each)) for each in column] for column in columns.values()]
        path.write_text("\n".join([",".join(columns), *map(",".join, zip(*cells, strict=True))]) + "\n")
    else:
        pytest.importorskip("pyarrow.parquet").write_table(pytest.importorskip("pyarrow").table(columns), path)
    found = read(path, evidence="u", weight="w", episode="trial", time="t")
    same(found, weight=True)
    assert found.query_names == ("a", "b")
    # without time the rows of an episode are in the order of the file
    plain = read(path, query=["t"], evidence="u", episode="trial")
    expected = [time[name == each] for each in NAMES]
    np.testing.assert_array_equal(plain.query[..., 0][plain.mask], np.concatenate(expected))


def test_dates_order_steps(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("y,who,day\n2,x,2026-10-01\n1,x,2026-02-28\n5,z,2020-01-01\n")
    np.testing.assert_array_equal(
        read(tmp_path / "d.csv", "y", episode="who", time="day").query[..., 0], [[1.0, 2.0], [5.0, 0.0]]
    )


def test_rows_in_memory_by_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"y": [1.0, 2.0, 3.0], "who": ["b", "a", "b"]})
    data = grouped(Data(frame[["y"]]), frame["who"])
    np.testing.assert_array_equal(data.query[..., 0], [[1.0, 3.0], [2.0, 0.0]])


def csv(folder: Path, text: str) -> Path:
    path = folder / "t.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("y,e\n1,a\n2,\n", {"query": "y", "episode": "e"}, r"episode: .* in row 1 \(from 0\) it is missing"),
        ("y,e\n1,a\n2,b\n", {"episode": "trial"}, "episode: there is no column 'trial'"),
        ("y,e\n1,a\n2,b\n", {"query": "y", "time": "e"}, "time: expected numbers or dates"),
        ("y,e\n1,1\n2,2\n", {"query": ["y", "e"], "episode": "e"}, "a column has one role"),
        ("y,e\n1,1\n2,2\n", {"query": "y", "episode": "e", "time": "e"}, "a column has one role"),
        (
            "y,e,t\n1,1,0\n2,1,0\n",
            {"episode": "e", "time": "t"},
            r"row 1 \(from 0\) has the same time, 0, as another",
        ),
        ("y,e,t\n1,1,x\n2,1,z\n", {"query": "y", "episode": "e", "time": "t"}, "time: expected numbers or dates"),
        ("y,e,w\n1,1,1\n2,1,2\n", {"episode": "e", "weight": "w"}, "weight: all rows of an episode"),
        ("y,x,e\n1,1,1\n2,,1\n", {"evidence": "x", "episode": "e"}, "evidence must be complete"),
        ("y,e\n1,1\ninf,1\n", {"episode": "e"}, "query must be finite"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(tmp_path: Path, text: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(csv(tmp_path, text), **options)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"query": np.ones(3), "lengths": [1, 1]}, "lengths: they add up to 2 steps, and query has 3"),
        ({"query": np.ones(3), "lengths": [3, 0]}, r"sequence 1 \(from 0\) has 0"),
        ({"query": np.ones(3), "lengths": [1.5, 1.5]}, "lengths: expected integers"),
        ({"query": np.ones(3), "lengths": [3], "time": np.ones(3)}, "sequences with lengths are in order"),
        ({"query": np.ones(3), "lengths": [2, 1], "weight": np.ones(3)}, "query and weight must have the same number"),
        ({"query": np.ones(3), "evidence": np.ones(2), "lengths": [2, 1]}, "the same, positive number of rows"),
    ],
)
def test_what_is_wrong_in_an_npz_is_named(tmp_path: Path, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.npz")


def test_where_there_are_no_columns(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", query=np.ones((2, 3, 1)))
    with pytest.raises(ValueError, match=r"episode: .* holds arrays, which have no columns"):
        read(tmp_path / "a.npz", episode="e")
    np.savez(tmp_path / "b.npz", query=np.ones(3), lengths=[3])
    with pytest.raises(ValueError, match="which are read whole: use"):
        stream(tmp_path / "b.npz")


def test_text_is_an_episode_without_a_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read(csv(tmp_path, "y,e\n1,a\n2,b\n3,b\n"), episode="e")) == 2
