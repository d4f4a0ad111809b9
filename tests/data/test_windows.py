"""Windows of sequences: every step is in one, at its place, and where an episode begins is marked."""

import jax
import numpy as np
import pytest

import veil
from veil.data import Data, episodes, windows


def sequences() -> Data:
    rng = np.random.default_rng(0)
    lengths = (7, 3, 1, 10)
    query = [rng.normal(size=(length, 2)) for length in lengths]
    query[0][4, 1] = np.nan
    data = episodes(query, [rng.normal(size=(length, 1)) for length in lengths], weight=[1.0, 2.0, 3.0, 4.0])
    reset = np.zeros(data.mask.shape, bool)
    reset[3, 5] = True
    return Data(data.query, data.evidence, data.weight, data.observed, mask=data.mask, reset=reset)


@pytest.mark.parametrize(("length", "stride"), [(4, None), (4, 3), (1, None), (50, None), (4, 1)])
def test_windows_hold_every_step_at_its_place(length: int, stride: int | None) -> None:
    data = sequences()
    cut = windows(data, length, stride, marked=True)
    plain = windows(data, length, stride)
    hop = stride or length
    expected = []
    for n, size in enumerate(data.mask.sum(1)):
        begin = 0
        while True:
            expected.append((n, begin, min(length, size - begin)))
            begin += hop
            if begin - hop + length >= size:
                break
    assert len(cut) == len(expected)
    for w, (n, begin, size) in enumerate(expected):
        place = slice(begin, begin + size)
        np.testing.assert_array_equal(cut.query[w, :size], data.query[n, place])
        np.testing.assert_array_equal(cut.evidence[w, :size], data.evidence[n, place])
        np.testing.assert_array_equal(cut.observed[w, :size], data.observed[n, place])
        np.testing.assert_array_equal(cut.query[w, size:], 0.0)
        assert cut.observed[w, size:].all()
        assert cut.weight[w] == data.weight[n]
        assert (cut.mask is None and size == cut.query.shape[1]) or cut.mask[w].sum() == size
        starts = data.reset[n, place].copy()
        np.testing.assert_array_equal(plain.reset[w, :size], starts)
        starts[0] |= begin == 0
        np.testing.assert_array_equal(cut.reset[w, :size], starts)
        assert not cut.reset[w, size:].any()


def test_without_resets_there_are_none_unless_marked() -> None:
    data = episodes([[1.0, 2.0, 3.0], [4.0]])
    assert windows(data, 2).reset is None
    np.testing.assert_array_equal(windows(data, 2, marked=True).reset[:, 0], [True, False, True])


def test_a_window_as_long_as_the_sequences_changes_no_likelihood() -> None:
    data = episodes([[1.0, 2.0, 4.0], [3.0]])
    model = veil.fit(veil.LDS(latent=1), data, key=jax.random.key(0)).model
    whole = veil.evaluate(model, data).log_likelihood
    assert veil.evaluate(model, windows(data, 3)).log_likelihood == pytest.approx(whole, rel=1e-5)
    # cut in two, each part begins from p(z_1): the sum of the parts' own likelihoods
    parts = episodes([[1.0, 2.0], [4.0], [3.0]])
    assert veil.evaluate(model, windows(data, 2)).log_likelihood == pytest.approx(
        veil.evaluate(model, parts).log_likelihood, rel=1e-5
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: windows(Data(np.ones((3, 2))), 2), "data: expected sequences"),
        (lambda: windows(sequences(), 0), "length must be a positive integer"),
        (lambda: windows(sequences(), 2, 3), "stride must be at most length"),
    ],
)
def test_what_is_wrong_is_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
