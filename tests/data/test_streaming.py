import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from veil.data import Data, Stream

NAN = float("nan")


def example(count: int = 10) -> Data:
    values = np.arange(2.0 * count).reshape(count, 2)
    return Data(values, evidence=values[:, 0], weight=np.arange(count), index=np.arange(count), name="numbers")


@pytest.mark.parametrize("sizes", [[10], [1] * 10, [3, 3, 3, 1], [1, 8, 1]])
@pytest.mark.parametrize("rows", [1, 3, 4, 10, 11])
def test_blocks_have_exactly_the_rows_asked_for(sizes, rows):
    data = example()
    starts = np.cumsum([0, *sizes])

    def source():
        return (data[a:b] for a, b in pairwise(starts))

    stream = Stream(source, rows=rows)
    for _ in range(2):
        blocks = list(stream)
        assert [len(block) for block in blocks[:-1]] == [rows] * (len(blocks) - 1)
        for field, array in data.fields().items():
            np.testing.assert_array_equal(np.concatenate([getattr(block, field) for block in blocks]), array)
    assert [len(block) for block in stream.blocks(7)] == [7, 3]


def test_what_is_known_from_the_first_block():
    stream = Stream(lambda: example().blocks(4), rows=4, count=10)
    assert (stream.name, stream.query_names, stream.evidence_names) == ("numbers", ("y0", "y1"), ("x0",))
    assert (stream.query_shape, stream.evidence_shape, stream.dtype) == ((2,), (1,), np.float64)
    assert repr(stream) == "Stream('numbers': N=10, query [2], evidence [1], blocks of 4)"
    assert Stream(lambda: example().blocks(4), name="other").name == "other"
    assert {block.name for block in Stream(lambda: example().blocks(4), name="other")} == {"other"}


def test_construction_reads_one_block():
    read = []

    def source():
        for number, block in enumerate(example().blocks(2)):
            read.append(number)
            yield block

    Stream(source)
    assert read == [0]


def test_blocks_with_and_without_missing_entries():
    parts = [Data([1.0, 2.0]), Data([NAN, 4.0]), Data([5.0, 6.0])]
    blocks = list(Stream(lambda: parts, rows=3))
    np.testing.assert_array_equal(blocks[0].observed, [[True], [True], [False]])
    assert blocks[1].observed is None
    np.testing.assert_array_equal(blocks[1].query, [[4], [5], [6]])


def test_later_blocks_take_the_first_ones_dtype():
    parts = [Data(np.float32([1.0])), Data([2.0])]
    assert {block.query.dtype for block in Stream(lambda: parts, rows=1)} == {np.dtype(np.float32)}


def test_mapped_blocks_are_read_in_parts(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(10, dtype=np.float16))

    def source():
        yield Data(np.load(tmp_path / "a.npy", mmap_mode="r"))

    stream = Stream(source, rows=4)
    assert [len(block) for block in stream] == [4, 4, 2]
    assert not any(block.mapped for block in stream)
    assert stream.dtype == np.float32


def test_map():
    joint = Stream(lambda: example().blocks(3), rows=5, count=10).map(Data.joint)
    assert (joint.query_names, joint.count) == (("x0", "y0", "y1"), 10)
    assert [len(block) for block in joint] == [5, 5]


def test_a_source_that_is_no_function_is_refused():
    # In a process of its own: here the executed annotations would be first to complain.
    script = """
from veil.data import Data, Stream
data = Data([1.0])
for source in (data.blocks(1), [data], data):
    try:
        Stream(source)
    except TypeError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all(re.match("source must be a function.*several passes", line) for line in lines)
    assert "a generator, which can be read only once" in lines[0]
    assert "only once" not in lines[1]


def test_the_same_iterator_again_is_refused():
    once = example().blocks(2)
    stream = Stream(lambda: once)
    with pytest.raises(ValueError, match="same iterator twice"):
        list(stream)


def test_empty():
    with pytest.raises(ValueError, match="source gave no data"):
        Stream(lambda: iter(()))
    left = [[example()]]
    stream = Stream(lambda: iter(left.pop() if left else []))
    with pytest.raises(ValueError, match="no data in a later pass"):
        list(stream)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            Data(np.ones((1, 3)), evidence=[1.0]),
            "block 1 (from 0) has query of shape (3,); the first block has (2,)",
        ),
        (Data(np.ones((1, 2)), evidence=[[1, 2]]), "block 1 (from 0) has evidence of shape (2,)"),
        (Data(np.ones((1, 2))), "block 1 (from 0) has evidence of shape None"),
        (
            Data(np.ones((1, 2)), evidence=[1.0], query_names=("b", "a")),
            "block 1 (from 0) has query columns ('b', 'a')",
        ),
        (
            Data(np.ones((1, 2)), evidence=[1.0], weight=[1.0]),
            "block 1 (from 0) has fields: a given weight, no index; the first block has no weight, no index",
        ),
    ],
)
def test_blocks_that_differ(other, message):
    first = Data(np.ones((2, 2)), evidence=[1.0, 2.0])
    stream = Stream(lambda: [first, other])
    with pytest.raises(ValueError, match=re.escape(message)):
        list(stream)


def test_blocks_that_are_no_data():
    with pytest.raises(TypeError, match=r"block 0 \(from 0\) is ndarray"):
        Stream(lambda: [np.ones(3)])


def test_rows():
    with pytest.raises(ValueError, match="rows must be a positive integer"):
        Stream(lambda: [example()], rows=0)
