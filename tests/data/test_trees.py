"""Queries and evidence that are trees: every operation does to each leaf what it does to an array alone."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from veil.data import Data, Stream, episodes, grouped, read, steps, stream, windows, write
from veil.data.core import trees
from veil.data.core.arrays import block, concatenate, labels, unchecked
from veil.data.core.checks import every_mask
from veil.data.core.episodes import ragged

NAN = float("nan")
N, T = 6, 5
LENGTHS = (5, 2, 4, 1, 5, 3)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def leaf_shapes() -> dict[str, Any]:
    return {"frame": (4, 3, 2), "reward": (1,), "joints": (3,)}


def array(lead: tuple[int, ...]) -> np.ndarray:
    return numbers(*lead, 3)


def flat(lead: tuple[int, ...]) -> dict[str, Any]:
    return {name: numbers(*lead, *shape, seed=i) for i, (name, shape) in enumerate(leaf_shapes().items())}


def nested(lead: tuple[int, ...]) -> dict[str, Any]:
    made = flat(lead)
    return {"camera": {"left": made["frame"]}, "body": {"joints": made["joints"], "touch": {"foot": made["reward"]}}}


def holed(tree: Any) -> Any:
    """Missing entries in the last leaf alone."""
    *_, (last, _) = trees.leaves(tree)

    def holes(leaf: np.ndarray, path: tuple[str, ...]) -> np.ndarray:
        leaf = leaf.copy()
        if path == last:
            leaf[(0, *[0] * (leaf.ndim - 1))] = leaf[(3, *[0] * (leaf.ndim - 1))] = NAN
        return leaf

    return trees.map(holes, tree, trees.paths(tree))


QUERIES = {"array": array, "flat": flat, "nested": nested}
EVIDENCE: dict[str, Callable[..., Any]] = {
    "array": lambda lead: numbers(*lead, 2, seed=7),
    "flat": lambda lead: {"action": numbers(*lead, 2, seed=8)},
    "nested": lambda lead: {"action": {"left": numbers(*lead, 1, seed=9), "right": numbers(*lead, 2, seed=9)}},
}


def rows(kind: str, missing: bool) -> Data:
    query = QUERIES[kind]((N,))
    return Data(
        holed(query) if missing else query, EVIDENCE[kind]((N,)), np.arange(1.0, N + 1), index=np.arange(N) + 10
    )


def sequences(kind: str, missing: bool) -> Data:
    """Padded by hand: whatever stands in the padding is nobody's."""
    query = QUERIES[kind]((N, T))
    mask = np.arange(T)[None] < np.array(LENGTHS)[:, None]
    reset = np.zeros((N, T), bool)
    reset[2, 2] = True
    evidence, weight = EVIDENCE[kind]((N, T)), np.arange(1.0, N + 1)
    return Data(holed(query) if missing else query, evidence, weight, mask=mask, reset=reset)


CASES = [
    pytest.param(make, kind, missing, id=f"{make.__name__}-{kind}{'-missing' if missing else ''}")
    for make in (rows, sequences)
    for kind in QUERIES
    for missing in (False, True)
]
cases = pytest.mark.parametrize(("make", "kind", "missing"), CASES)


def leaf_data(data: Data) -> list[Data]:
    """Each leaf of the query alone, with each leaf of the evidence: what trees must agree with."""
    rest = {name: getattr(data, name) for name in ("weight", "index", "mask", "reset")}
    masks = dict(trees.leaves(data.observed))
    return [
        unchecked({"query": query, "evidence": evidence, "observed": masks.get(path), **rest}, ((), (), ""))
        for path, query in trees.leaves(data.query)
        for _, evidence in trees.leaves(data.evidence)
    ]


def same(one: Data, other: Data) -> None:
    """Equal fields, leaf by leaf, in the same order, and equal names."""
    for name in ("query", "evidence", "observed", "weight", "index", "mask", "reset"):
        left, right = trees.leaves(getattr(one, name)), trees.leaves(getattr(other, name))
        assert [path for path, _ in left] == [path for path, _ in right], name
        for (path, a), (_, b) in zip(left, right, strict=True):
            assert (a.dtype, type(a)) == (b.dtype, np.ndarray), (name, path)
            np.testing.assert_array_equal(a, b, err_msg=f"{name} {path}")
    assert labels(one)[:2] == labels(other)[:2]


def agrees(data: Data, function: Callable[[Data], Data]) -> None:
    """`function` of the tree is, leaf by leaf, `function` of data with that leaf alone."""
    found = leaf_data(function(data))
    for whole, alone in zip(found, map(function, leaf_data(data)), strict=True):
        for name in ("query", "evidence", "observed", "weight", "index", "mask", "reset"):
            a, b = getattr(whole, name), getattr(alone, name)
            if name == "observed":  # a leaf alone has no mask where nothing of it is missing
                a, b = every_mask(whole.query, a), every_mask(alone.query, b)
            assert (a is None) == (b is None), name
            np.testing.assert_array_equal(a, b, err_msg=name)


@cases
def test_what_is_held(make: Callable[..., Data], kind: str, missing: bool) -> None:
    data = make(kind, missing)
    lead = (N,) if make is rows else (N, T)
    assert len(data) == N
    assert not data.mapped
    assert data.total_weight == 21.0
    given = QUERIES[kind](lead)
    assert trees.same(data.query, given)
    assert data.query_shape == trees.map(lambda leaf: leaf.shape[1:], given)
    assert data.evidence_shape == trees.map(lambda leaf: leaf.shape[1:], EVIDENCE[kind](lead))
    assert type(data.query) is (np.ndarray if kind == "array" else dict)
    assert (data.observed is not None) == missing
    if missing:
        assert data.query_shape == trees.map(lambda mask: mask.shape[1:], data.observed)
        assert sum(np.sum(~mask) for _, mask in trees.leaves(data.observed)) == 2
        assert all(np.isfinite(leaf).all() for _, leaf in trees.leaves(data.query))
    for part in leaf_data(data):
        if data.mask is not None:
            assert not part.query[~data.mask].any()
            assert part.observed is None or part.observed[~data.mask].all()


@cases
def test_every_operation_does_the_same_to_each_leaf(make: Callable[..., Data], kind: str, missing: bool) -> None:
    data = make(kind, missing)
    for pick in (slice(1, 4), [3, 0, 0], np.arange(N) % 2 == 0, -1):
        agrees(data, lambda each, pick=pick: each[pick])
    agrees(data, lambda each: each.split(0.5, np.random.default_rng(0))[1])
    agrees(data, lambda each: list(each.blocks(4))[1])
    agrees(data, lambda each: concatenate([each[:2], each[2:]]))
    same(concatenate(list(data.blocks(4))), data)
    same(unchecked(data.fields(), labels(data)), data)
    same(block(data.fields(), labels(data), 0), data)
    same(Data(**data.fields(), query_names=data.query_names, evidence_names=data.evidence_names), data)
    assert data.numbered().index.tolist() == (data.index if make is rows else np.arange(N)).tolist()
    same(data[:3].numbered()[[1]], data.numbered()[[1]])
    if make is rows:
        agrees(data, lambda each: grouped(Data(each.query, each.evidence, None, each.observed), list("abaabb")))
    else:
        agrees(data, steps)
        agrees(data, lambda each: windows(each, 2))
        agrees(data, lambda each: windows(each, 3, 2, marked=True))
        cut = steps(Data(data.query, data.evidence, None, data.observed, mask=data.mask))
        again = ragged(LENGTHS, cut.query, cut.evidence, cut.observed, data.weight, labels(cut))
        same(again, Data(**{name: tree for name, tree in data.fields().items() if name != "reset"}))


@cases
def test_streams_give_the_same(make: Callable[..., Data], kind: str, missing: bool) -> None:
    data = make(kind, missing)
    made = Stream(lambda: data.blocks(4), rows=5)
    assert (made.query_shape, made.evidence_shape) == (data.query_shape, data.evidence_shape)
    assert (made.query_names, made.dtype) == (data.query_names, np.float64)
    same(concatenate(list(made)), data)
    batches = made.batches(N, seed=0)
    batch = next(batches)
    order = np.argsort(batch.weight)
    same(batch[order], data)
    batches.close()


@cases
def test_files_keep_trees(make: Callable[..., Data], kind: str, missing: bool, tmp_path: Path) -> None:
    data = make(kind, missing)
    write(tmp_path / "data.npz", data.fields())
    with np.load(tmp_path / "data.npz") as file:
        assert ("query/frame" in file.files) == (kind == "flat")
        assert ("evidence/action/left" in file.files) == (kind == "nested")
    same(read(tmp_path / "data.npz"), data)
    for part in range(2):
        write(tmp_path / f"part{part}.npz", data[3 * part : 3 * part + 3].fields())
    made = stream(f"{tmp_path}/part*.npz", rows=4)
    assert made.count == N
    same(concatenate(list(made)), data)
    skipping = stream(f"{tmp_path}/part*.npz", rows=4, bad="skip")
    same(concatenate(list(skipping)), data)
    pytest.importorskip("grain")
    batches = made.batches(N, seed=1)
    batch = next(batches)
    same(batch[np.argsort(batch.weight)], data)
    batches.close()


# -- sequences ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["flat", "nested"])
def test_episodes_of_dictionaries_and_dictionaries_of_lists(kind: str) -> None:
    data = sequences(kind, missing=True)
    full = sequences(kind, missing=False)
    query = trees.map(lambda leaf, mask: np.where(mask, leaf, NAN), full.query, data.observed)
    cut = [trees.map(lambda leaf, n=n, size=size: leaf[n, :size], query) for n, size in enumerate(LENGTHS)]
    inputs = [trees.map(lambda leaf, n=n, size=size: leaf[n, :size], data.evidence) for n, size in enumerate(LENGTHS)]
    expected = Data(data.query, data.evidence, data.weight, data.observed, mask=data.mask)
    same(episodes(cut, inputs, data.weight), expected)
    of_lists = trees.map(lambda *each: list(each), *cut)
    same(episodes(of_lists, inputs, data.weight), expected)
    assert episodes(cut).query_names == data.query_names


def test_sequences_of_one_length_know_their_columns() -> None:
    """Without a mask nothing in the arrays says that [2, 4, 3] are steps of vectors and not images."""
    made = episodes([{"body": np.ones((4, 3)), "frame": np.ones((4, 2, 2)), "reward": np.ones(4)}] * 2)
    assert made.mask is None
    assert made.query_shape == {"body": (4, 3), "frame": (4, 2, 2), "reward": (4, 1)}
    assert made.query_names == ("body0", "body1", "body2", "frame", "reward")
    assert Data(**made.fields()).query_names == ("body", "frame", "reward")
    for cut in (windows(made, 2), steps(made), made[:1], made.numbered()):
        assert cut.query_names == made.query_names


def test_files_of_steps_one_after_the_other(tmp_path: Path) -> None:
    data = sequences("nested", missing=True)
    rows_ = steps(data)
    parts = {name: getattr(rows_, name) for name in ("query", "evidence", "observed")}
    expected = Data(data.query, data.evidence, data.weight, data.observed, mask=data.mask)
    write(tmp_path / "steps.npz", {**parts, "episode": np.repeat(np.arange(N), LENGTHS), "weight": rows_.weight})
    same(read(tmp_path / "steps.npz"), expected)
    lengths = {"lengths": np.array(LENGTHS), "weight": data.weight}
    np.savez(tmp_path / "l.npz", **{"/".join(path): leaf for path, leaf in trees.leaves(parts)}, **lengths)
    same(read(tmp_path / "l.npz"), expected)
    with pytest.raises(ValueError, match="which are read whole"):
        stream(tmp_path / "l.npz")


# -- columns into leaves -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".npz"])
def test_columns_into_leaves(ending: str, tmp_path: Path) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    x, y, r, u = numbers(4, 6).reshape(4, 6)
    x[2] = NAN
    path = tmp_path / f"table{ending}"
    write(path, {"x": x, "y": y, "r": r, "u": u, "w": np.arange(1.0, 7), "who": np.array([1, 1, 2, 2, 2, 1])})
    roles: dict[str, Any] = {"query": {"place": ["x", "y"], "end": {"reward": "r"}}, "evidence": {"action": "u"}}
    expected = Data(
        {"place": np.stack([x, y], 1), "end": {"reward": r}}, {"action": u}, np.arange(1.0, 7), name="table"
    )
    same(read(path, **roles, weight="w"), expected)
    assert expected.query_names == ("place0", "place1", "end.reward")
    made = stream(path, **roles, weight="w", rows=4)
    same(concatenate(list(made)), expected)
    assert repr(made).endswith("query {place [2], end.reward [1]}, evidence {action [1]}, blocks of 4)")
    found = read(path, **roles, episode="who")
    same(found, grouped(Data(expected.query, expected.evidence, None, expected.observed), [1, 1, 2, 2, 2, 1]))
    same(
        read(path, ["x", "y", "r"], "u", "w").select({"place": ["x", "y"], "end": {"reward": "r"}}, roles["evidence"]),
        expected,
    )


def test_a_tree_becomes_columns(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", {"query": {"place": np.ones((2, 2)), "end": {"reward": np.zeros(2)}}, "n": [1, 2]})
    assert (tmp_path / "t.csv").read_text().split()[0] == "query.place0,query.place1,query.end.reward,n"


# -- small things ------------------------------------------------------------------------------------------------------


def test_names_and_text() -> None:
    data = Data({"frame": np.ones((2, 4, 4, 3)), "arm": {"joints": np.ones((2, 2)), "on": [1, NAN]}}, {"u": [[1], [2]]})
    assert data.query_names == ("frame", "arm.joints0", "arm.joints1", "arm.on")
    assert data.evidence_names == ("u",)
    text = "N=2, query {frame [4, 4, 3], arm.joints [2], arm.on [1]}, evidence {u [1]}, 1 of 102 entries missing"
    assert repr(data) == f"Data('data': {text})"
    assert Data({"a": [1.0], "b": [2.0]}, query_names=("one", "other")).query_names == ("one", "other")
    assert list(data.fields()) == ["query", "evidence", "observed"]


def test_dtypes_are_those_of_each_leaf() -> None:
    query = {"byte": np.array([[1], [2]], np.uint8), "half": np.ones((2, 1), np.float16), "long": [1, 2]}
    data = Data({**query, "exact": np.ones((2, 1), np.float32)})
    assert {name: str(leaf.dtype) for name, leaf in data.query.items()} == {
        "byte": "float32",
        "half": "float32",
        "long": "float64",
        "exact": "float32",
    }


def test_arrays_are_shared_and_dictionaries_are_not() -> None:
    given = {"a": np.ones((2, 1)), "b": {"c": np.ones((2, 2))}}
    data = Data(given)
    assert data.query["b"]["c"] is given["b"]["c"]
    given["b"]["d"] = np.zeros((2, 1))
    assert list(data.query["b"]) == ["c"]


@pytest.mark.parametrize("observed", [{"a": [True, False]}, {"a": [1, 0], "b": None}, {"a": [1, 0], "b": {"c": None}}])
def test_what_observed_leaves_out_is_there(observed: Any) -> None:
    data = Data({"a": [1.0, np.inf], "b": {"c": np.ones((2, 2))}}, observed=observed)
    assert data.observed["a"].tolist() == [[True], [False]]
    assert data.observed["b"]["c"].all()
    assert data.query["a"].tolist() == [[1.0], [0.0]]
    assert Data({"a": [1.0], "b": [2.0]}, observed={"a": [True]}).observed is None


def test_memory_mapped_leaves_are_read_row_by_row(tmp_path: Path) -> None:
    large = numbers(6, 4).astype(np.float16)
    large[4, 1] = NAN
    np.save(tmp_path / "a.npy", large)
    data = Data({"large": np.load(tmp_path / "a.npy", mmap_mode="r"), "small": np.arange(6)})
    assert data.mapped
    assert data[1:].mapped
    assert data.observed is None
    assert repr(data).endswith("memory-mapped)")
    first, second = data.blocks(4)
    assert first.observed is None
    assert second.observed["large"].tolist() == [[True, False, True, True], [True] * 4]
    assert second.observed["small"].all()
    assert (second.query["large"].dtype, type(second.query["large"])) == (np.float32, np.ndarray)


# -- what is wrong is named --------------------------------------------------------------------------------------------


def tree(**leaves: Any) -> dict[str, Any]:
    return {"a": np.ones((3, 2)), **leaves}


STEPS = np.ones((2, 3, 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Data({}), "query: expected arrays by name; got an empty dictionary"),
        (lambda: Data(tree(b={})), "query['b']: expected arrays by name; got an empty dictionary"),
        (lambda: Data(tree(b=[1, 2])), "must have the same number of rows; query['a'] has 3 and query['b'] has 2"),
        (lambda: Data(tree(b={"c": [1, 2]})), "query['b']['c'] has 2"),
        (lambda: Data(np.ones(3), {"u": [1]}), "query and evidence['u'] must have the same number"),
        (lambda: Data(tree(), weight=[1.0]), "query['a'] and weight must have the same number of rows"),
        (lambda: Data({1: [1.0]}), "query: expected text as keys; got 1"),
        (lambda: Data({"": [1.0]}), "query: expected keys of at least one letter without '/'"),
        (lambda: Data(tree(b={"c/d": [1.0]})), "query['b']: expected keys of at least one letter"),
        (lambda: Data(tree(b=None)), "query['b']: expected an array; got None"),
        (lambda: Data(tree(b=[[1], [1, 2], [3]])), "query['b'] must be a rectangular array"),
        (lambda: Data(tree(b="three")), "query['b'] must"),
        (lambda: Data(tree(b=["x", "y", "z"])), "query['b'] must hold real numbers"),
        (lambda: Data(tree(b=3.0)), "query['b'] must have one row per datum"),
        (lambda: Data(tree(b=np.zeros((3, 0)))), "query['b'] must have at least one row"),
        (lambda: Data(tree(b=[1, np.inf, 2])), "query['b'] must be finite; column 'b', row 1"),
        (lambda: Data(tree(b=np.array([[0, np.inf]] * 3))), "query['b'] must be finite; column 'b1', row 0"),
        (
            lambda: Data([1.0], {"u": {"v": [NAN]}}),
            "evidence['u']['v'] must be complete and finite; column 'u.v', row 0",
        ),
        (lambda: Data({"a": [NAN], "b": [NAN]}), "query must have at least one observed entry"),
        (lambda: Data(tree(), observed=np.ones((3, 2))), "observed: expected a dictionary with the keys of query, a"),
        (lambda: Data(tree(), observed={"c": [1, 1, 1]}), "observed: query has no 'c'; it has a"),
        (
            lambda: Data(tree(b={"c": [1, 2, 3]}), observed={"b": [1, 1, 1]}),
            "observed['b']: expected a dictionary with the keys of query['b'], c",
        ),
        (lambda: Data(tree(), observed={"a": {"b": [1]}}), "observed['a']: expected an array, as query['a'] is one"),
        (lambda: Data(np.ones((3, 2)), observed={"a": [1]}), "observed: expected an array, as query is one"),
        (
            lambda: Data(tree(), observed={"a": np.ones((3, 1))}),
            "observed['a'] must have the shape of query['a'], (3, 2); got (3, 1)",
        ),
        (lambda: Data(tree(), observed={"a": np.full((3, 2), 0.5)}), "observed['a'] must hold True"),
        (lambda: Data(tree(), query_names=["a"]), "query_names must name the 2 columns of query (of its leaves"),
        (lambda: Data({"a0": [1.0], "a": [[1.0, 2.0]]}), "query_names must differ from each other; 'a0' comes twice"),
        (
            lambda: Data(tree()).select("a0"),
            "columns need a query of shape [N, columns]; this one is a dictionary with a",
        ),
        (lambda: Data(tree()).joint(), "columns need a query of shape"),
        (
            lambda: Data({"a": STEPS, "b": np.ones((2, 3))}, mask=np.ones((2, 3))),
            "mask is for sequences, whose query['b'] has the shape [N, T, ...]",
        ),
        (
            lambda: Data({"a": STEPS, "b": np.ones((2, 4, 1))}, mask=np.ones((2, 3))),
            "of sequences must have shape [N, T, ...], one entry for each step of query['a'], [2, 3]; got [2, 4",
        ),
        (
            lambda: Data({"a": STEPS}, {"u": np.ones((2, 2, 1))}, reset=np.zeros((2, 3))),
            "evidence['u'] of sequences must have shape",
        ),
        (lambda: windows(Data(tree()), 2), "data: expected sequences, query [N, T, ...]; got query['a'] [3, 2]"),
        (lambda: windows(Data({"a": STEPS, "b": np.ones((2, 4, 1))}), 2), "data: expected sequences"),
        (lambda: steps(Data(tree())), "data: expected sequences"),
        (
            lambda: episodes([{"a": [1.0]}, {"b": [1.0]}]),
            "must have the same arrays; sequence 1 (from 0) has b, and sequence 0 has a",
        ),
        (lambda: episodes([{"a": [1.0]}, [1.0]]), "query: every sequence must have the same arrays"),
        (
            lambda: episodes({"a": [[1.0, 2.0]], "b": [[1.0]]}),
            "query['b']: expected as many sequences as query['a'] has, each of the same length",
        ),
        (lambda: episodes([[1.0]], [{"u": [1.0, 2.0]}]), "evidence['u']: expected as many sequences as query has"),
        (lambda: episodes({"a": "abc"}), "query['a']: expected a list of arrays"),
        (lambda: episodes({}), "query: expected arrays by name"),
        (
            lambda: ragged([2], {"a": np.ones((2, 1)), "b": np.ones((3, 1))}),
            "lengths: they add up to 2 steps, and query['b'] has 3",
        ),
    ],
)
def test_what_is_wrong_is_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"a": np.ones((3, 2))}, "block 1 (from 0) has query of shape {'a': (2,)}; the first block has"),
        ({"a": np.ones((3, 2)), "b": np.ones((3, 2))}, "has query of shape {'a': (2,), 'b': (2,)}"),
        ({"b": np.ones((3, 1)), "a": np.ones((3, 2))}, "has query columns ('b', 'a0', 'a1'); the first block has"),
        (np.ones((3, 3)), "has query of shape (3,)"),
    ],
)
def test_blocks_of_a_stream_are_alike(second: Any, message: str) -> None:
    first = Data({"a": np.ones((3, 2)), "b": np.ones((3, 1))})
    with pytest.raises(ValueError, match=re.escape(message)):
        list(Stream(lambda: iter([first, Data(second)])))


def test_what_is_wrong_in_a_file_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{"query": np.ones(3), "query/frame": np.ones(3)})
    with pytest.raises(ValueError, match="'query/frame' is an array, and a dictionary of arrays too"):
        read(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", **{"query/frame": np.ones(3), "query/reward": np.ones(2)})
    with pytest.raises(ValueError, match="the same, positive number of rows"):
        read(tmp_path / "b.npz")
    bad = np.ones((3, 1))
    bad[1] = np.inf
    np.savez(tmp_path / "c.npz", **{"query/frame": np.ones((3, 2)), "query/reward": bad})
    with pytest.raises(ValueError, match=r"query\['reward'\] must be finite; column 'reward', row 1"):
        list(stream(tmp_path / "c.npz"))
    skipping = stream(tmp_path / "c.npz", bad="skip", rows=3)
    with pytest.warns(match=r"row 1: query\['reward'\] is infinite"):
        (found,) = skipping
    assert {name: leaf.shape for name, leaf in found.query.items()} == {"frame": (2, 2), "reward": (2, 1)}
    (tmp_path / "t.csv").write_text("x,y\n1,2\n")
    for query, message in (
        ({"a": ["x"], "b": "x"}, "query: column 'x' is named twice"),
        ({"a": ["x"], "b": "z"}, r"query\['b'\]: there is no column 'z'"),
        ({"a": ["x"], "b": []}, r"query\['b'\]: expected at least one column; got none"),
        ({}, "query: expected arrays by name; got an empty dictionary"),
    ):
        with pytest.raises(ValueError, match=message):
            read(tmp_path / "t.csv", query)
