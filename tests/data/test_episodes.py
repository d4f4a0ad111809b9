"""Sequences of different lengths: padding, masks, resets, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

import veil
from veil.data import Data, episodes, steps


def test_padding_is_marked_and_zero() -> None:
    data = episodes([[[1.0, 2.0]] * 3, [[5.0, np.nan]]], [[1.0, 2.0, 3.0], [4.0]], weight=[1.0, 2.0])
    assert data.query.shape == (2, 3, 2)
    assert data.evidence.shape == (2, 3, 1)
    np.testing.assert_array_equal(data.mask, [[True, True, True], [True, False, False]])
    np.testing.assert_array_equal(data.query[1, 1:], 0.0)
    np.testing.assert_array_equal(
        data.observed[1], [[True, False], [True, True], [True, True]]
    )  # padding is not missing
    rows = steps(data)
    np.testing.assert_array_equal(rows.query, [[1.0, 2.0]] * 3 + [[5.0, 0.0]])
    np.testing.assert_array_equal(rows.evidence[:, 0], [1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(rows.weight, [1.0, 1.0, 1.0, 2.0])
    assert episodes([[1.0, 2.0], [3.0, 4.0]]).mask is None
    np.testing.assert_array_equal(data[1].mask, [[True, False, False]])
    assert [len(part) for part in data.blocks(1)] == [1, 1]


def test_whatever_stands_in_the_padding_is_nobodys() -> None:
    query = np.ones((1, 3, 1))
    query[0, 2] = np.inf
    evidence = np.ones((1, 3, 1))
    evidence[0, 2] = np.nan
    data = Data(query, evidence, mask=[[1, 1, 0]])
    np.testing.assert_array_equal(data.query[0, :, 0], [1.0, 1.0, 0.0])
    np.testing.assert_array_equal(data.evidence[0, :, 0], [1.0, 1.0, 0.0])


def test_files_keep_masks_and_resets(tmp_path: Path) -> None:
    data = episodes([[1.0, 2.0, 3.0], [4.0]])
    reset = np.array([[False, True, False], [False, False, False]])
    np.savez(tmp_path / "data.npz", query=data.query, mask=data.mask, reset=reset)
    again = veil.data.read(tmp_path / "data.npz")
    np.testing.assert_array_equal(again.mask, data.mask)
    np.testing.assert_array_equal(again.reset, reset)
    block = next(iter(veil.data.stream(tmp_path / "data.npz")))
    np.testing.assert_array_equal(block.mask, data.mask)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: episodes([]), "at least one sequence"),
        (lambda: episodes("abc"), "query: expected a list of arrays"),
        (lambda: episodes([[1.0], []]), "at least one step in each"),
        (lambda: episodes([np.ones((2, 1)), np.ones((2, 3))]), "may differ in length only"),
        (lambda: episodes([[1.0, 2.0]], [[1.0]]), "each of the same length"),
        (lambda: Data(np.ones((2, 3)), mask=np.ones((2, 3))), r"mask is for sequences, whose query has the shape"),
        (lambda: Data(np.ones((2, 3, 1)), mask=np.ones((2, 2))), r"mask must have shape \(2, 3\)"),
        (lambda: Data(np.ones((1, 3, 1)), mask=[[1, 0, 1]]), "padding comes behind"),
        (lambda: Data(np.ones((1, 3, 1)), mask=[[0, 0, 0]]), "at least one step"),
        (lambda: Data(np.ones((1, 3, 1)), reset=[[0, 2, 0]]), "reset must hold True"),
        (lambda: Data(np.ones((1, 3, 1)), np.ones((1, 2)), reset=[[0, 1, 0]]), "evidence of sequences must have shape"),
    ],
)
def test_what_is_wrong_is_named(make: object, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()
